"""Labels of classification tasks: which there are, new heads and probes for them, and metrics; shared by its kinds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity import tasks
from essential_sparsity.curves.chance import chance_level
from essential_sparsity.tasks import Outcome, Prepared, TaskError

# One value for all tasks and sparsities, chosen on rows that are never evaluated: weaker regularisation overfits 384
# features of 1,400 reviews, stronger loses digits.
PROBE_C = 0.03
PROBE_ITERATIONS = 1000
NOTHING = -1  # stands for the index of a label where a broken model predicts none
NEIGHBOURS = 20  # of protocol knn, as DINO's evaluation (Caron et al. 2021)


def labelled(data: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, list]:
    """Rows of the splits in use that have a label, with `target` = its index, and the labels.

    The order of the labels is that of the data set (its class names; a categorical column), else sorted. Raises
    TaskError for the label -1, with which data sets mark labels that are not published.
    """
    if "split" in data:
        name = tasks.evaluated_split(data, settings)
        data = data[data["split"].isin(["train", name])]
        if name in set(data["split"]) - set(data["split"][data["label"].notna()]):
            raise TaskError(
                f"Task {settings.get('task')!r}: the labels of the split {name!r} of data set {settings.get('dataset')!r} are "
                "not published. Choose another split in the column eval_split."
            )
    data = data[data["label"].notna()]
    occurring = set(data["label"])
    named = isinstance(data["label"].dtype, pd.CategoricalDtype)
    labels = [label for label in data["label"].cat.categories if label in occurring] if named else sorted(occurring)
    if -1 in occurring:
        raise TaskError(
            f"Task {settings.get('task')!r}: rows of data set {settings.get('dataset')!r} have the label -1, which marks a "
            "label that is not published. Choose another split in the column eval_split."
        )
    target = data["label"].map({label: index for index, label in enumerate(labels)}).astype(np.int64)
    return data.assign(target=target), labels


def head_options(labels: list) -> dict[str, Any]:
    """Configuration of a new classification head for these labels."""
    names = [str(label) for label in labels]
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "single_label_classification",
    }


def probe(protocol: str, features: np.ndarray, targets: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
    """Label indices predicted for `evaluated` from frozen `features` (n x d) and their `targets` (n).

    `probe`: a logistic regression on standardised features. `knn`: the majority of the nearest by cosine (of equally
    many, the first label). A model pruned to ruin can emit NaN or infinity; such a feature counts as 0, not as an error.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def finite(array: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(array), array, 0.0).astype(np.float64)

    if len(np.unique(targets)) < 2:
        raise TaskError("The training subset holds one label only: a probe needs two. Raise n_train.")
    if protocol == "probe":
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=PROBE_ITERATIONS))
    elif len(targets) < NEIGHBOURS:
        raise TaskError(f"n_train = {len(targets)}, but knn asks {NEIGHBOURS} neighbours. Raise n_train.")
    else:
        classifier = KNeighborsClassifier(NEIGHBOURS, metric="cosine", algorithm="brute")
    return classifier.fit(finite(features), targets).predict(finite(evaluated))


def best(logits: np.ndarray) -> np.ndarray:
    """Index of the largest of each row's logits (n, labels) -> (n); NOTHING where one of them is not finite."""
    return np.where(np.isfinite(logits).all(axis=1), np.argmax(logits, axis=1), NOTHING)


def classified(prepared: Prepared, predicted: np.ndarray, outputs: np.ndarray) -> Outcome:
    """The metrics of predicted label indices (n), read from the model's `outputs` (rows of any number and width).

    `prepared.reference`: the labels. NOTHING counts as a label of its own, which is wrong. Accuracy is the share of right
    items; also corrected for chance, one over the labels, where more than one occurs; `f1`, of two labels, takes the
    second as the positive class. Matthews' correlation is 0 for a constant prediction, and F1 where no positive is found;
    they are None where the targets leave them undefined: all are alike, or none is positive and none predicted to be.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    predicted, targets = np.asarray(predicted, dtype=np.float64), np.asarray(prepared.targets, dtype=np.float64)
    correct = (predicted == targets).astype(np.float64)
    found, chance = {"accuracy": float(correct.mean())}, chance_level(prepared.targets)
    if chance < 1:
        found["chance_corrected_accuracy"] = float((correct.mean() - chance) / (1 - chance))
    varied = len(np.unique(targets)) > 1
    found["matthews"] = float(matthews_corrcoef(targets, predicted)) if varied else None
    if len(prepared.reference) == 2:
        defined = 1 in predicted or 1 in targets
        found["f1"] = float(f1_score(targets == 1, predicted == 1, zero_division=0)) if defined else None
    collapsed = tasks.not_finite(outputs)
    if collapsed is None and varied and len(np.unique(predicted)) == 1:
        collapsed = "one class is predicted for all items"
    return Outcome(found, tasks.items_frame(prepared.items, correct, targets, prediction=predicted), collapsed)


def check_positive(settings: Mapping[str, Any], labels: Sequence) -> None:
    """Refuse F1 where there is no one positive class."""
    if "f1" in (settings.get("metrics") or "").split(",") and len(labels) != 2:
        raise TaskError(
            f"Task {settings.get('task')!r}: the metric f1 needs two labels, the second of which is the positive class, but "
            f"data set {settings.get('dataset')!r} has {len(labels)} ({', '.join(map(str, labels[:5]))}). Leave it out of metrics."
        )
