"""Labels of classification tasks: which there are, new heads and probes for them, and metrics; shared by its kinds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity import files, tasks
from essential_sparsity.acquire.frames import as_seen, blank, ordered
from essential_sparsity.curves.chance import chance_level
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _shared

# One value for all tasks and sparsities, chosen on rows that are never evaluated: weaker regularisation overfits 384
# features of 1,400 reviews, stronger loses digits.
PROBE_C = 0.03
PROBE_ITERATIONS = 1000
NOT_PUBLISHED = (-1, "-1")  # where a whole split has this label, the data set marks that it has none
NOTHING = -1  # stands for the index of a label where a broken model predicts none
NEIGHBOURS = 20  # of protocol knn, as DINO's evaluation (Caron et al. 2021)
EQUAL = 1e-6  # distances of vectors of length 1 that differ by less do so by rounding: features are float32
ASKED_AT_ONCE = 256  # evaluated items whose distances to all training items are held


def labelled(data: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, list]:
    """Rows of the splits in use that have a label, with `target` = its index, and the labels.

    The order of the labels is that of the data set (its class names; a categorical column), else sorted, whole numbers by
    value. Rows without a label (null, or a blank text) are counted in the log. Raises TaskError, showing the labels, where
    they cannot be learned or scored: a split without any, one label only, labels that look alike, labels evaluated that no training row has, more
    than half of the rows without one.
    """
    place = f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}"
    name = tasks.evaluated_split(data, settings)
    in_use = [split for split in ("train", name) if "split" in data and split in set(data["split"])]
    if in_use:
        data = data[data["split"].isin(in_use)]
    there = data["label"].notna() & ~blank(data["label"])
    of_split = {split: data["label"][(data["split"] == split) & there] for split in dict.fromkeys(in_use)}
    for split, found in of_split.items():
        if found.empty or set(found) <= set(NOT_PUBLISHED):
            raise TaskError(
                f"Task {settings.get('task')!r}: the labels of the split {split!r} of data set {settings.get('dataset')!r} are not "
                "published, or missing (every row has "
                f"{f'the label {found.iloc[0]}' if len(found) else 'none'}). Choose another split in the column eval_split, or "
                "give its file the column label."
            )
    if not there.all():
        print(f"{place}: {(~there).sum():,} of {len(there):,} rows have no label and are left out.", flush=True)
        if there.mean() < 0.5:
            raise TaskError(
                f"{place}: {(~there).sum():,} of {len(there):,} rows have no label, more than half. Give them labels, or "
                "leave them out of the data."
            )
    data = data[there]
    occurring = set(data["label"])
    if isinstance(data["label"].dtype, pd.CategoricalDtype):
        labels = [label for label in data["label"].cat.categories if label in occurring]
    else:
        labels = _ordered(occurring, place)
    if len(labels) < 2:
        raise TaskError(
            f"{place} has one label only ({_counts(data['label'])}): there is nothing to tell apart. Correct the data, or the "
            "column that is read as label."
        )
    spelt = Counter(as_seen(str(label)) for label in labels)
    if twins := [label for label in labels if spelt[as_seen(str(label))] > 1]:
        raise TaskError(
            f"{place} has labels that look alike ({files.some([ascii(label) for label in twins])}) and would count as several: they differ in "
            "blanks, in signs that nobody sees, or in how an accent is written. Write each label in one way."
        )
    if name in of_split and "train" in of_split and name != "train":
        unknown = [label for label in labels if label in set(of_split[name]) - set(of_split["train"])]
        if unknown:
            raise TaskError(
                f"{place}: no row of train has the label {files.some([repr(label) for label in unknown])} of the split {name!r}. "
                f"Labels of train: {_counts(of_split['train'])}; of {name}: {_counts(of_split[name])}. Write them the same way "
                "in both, or choose another split in the column eval_split."
            )
    target = data["label"].map({label: index for index, label in enumerate(labels)}).astype(np.int64)
    return data.assign(target=target), labels


def _ordered(labels: set, place: str) -> list:
    try:
        return ordered(labels)
    except TypeError as error:
        shown = files.some([repr(label) for label in sorted(labels, key=repr)])
        raise TaskError(
            f"{place} has labels of several kinds ({shown}). Write them all as texts, or numbers."
        ) from error


def _counts(labels: pd.Series) -> str:
    """`'bad' (10), 'good' (12)`: the labels and how often each occurs, the most frequent first."""
    counts = labels.value_counts()
    return files.some([f"{label!r} ({count:,})" for label, count in counts[counts > 0].items()])


def check_drawn(
    train: pd.DataFrame, evaluation: pd.DataFrame, labels: list, settings: Mapping[str, Any], *content: str
) -> None:
    """Refuse a training subset of one label, or without those of most evaluated rows; say in the log which of theirs it lacks, and
    what it shares.

    `train`, `evaluation`: rows of `labelled` data; `content`: the columns that a model is given.
    """
    found = set(train["target"])
    if len(found) < 2:
        raise TaskError(
            f"Task {settings.get('task')!r}: the {len(train)} training rows hold one label only ({_counts(train['label'])}) of "
            f"{len(labels)}. Raise n_train."
        )
    if lacking := sorted(set(evaluation["target"]) - found):
        rows = evaluation["target"].isin(lacking).sum()
        names = files.some([repr(labels[index]) for index in lacking])
        if rows > len(evaluation) / 2:
            raise TaskError(
                f"Task {settings.get('task')!r}: {rows} of {len(evaluation)} evaluated rows of data set {settings.get('dataset')!r} have labels "
                f"that none of the {len(train)} training rows drawn has ({names}), so they cannot be right. Labels drawn: "
                f"{_counts(train['label'])}. Raise n_train, or correct the column that is read as label: numbers to predict are no classes."
            )
        print(
            f"{rows} evaluated rows have labels that none of the {len(train)} training rows drawn has: {names}.",
            flush=True,
        )
    _shared.tell(train, evaluation, *content)


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

    `probe`: a logistic regression on standardised features. `knn`: the nearest by cosine vote. A model pruned to ruin can
    emit NaN or infinity; such a feature counts as 0, not as an error.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def finite(array: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(array), array, 0.0).astype(np.float64)

    if len(np.unique(targets)) < 2:
        raise TaskError("The training subset holds one label only: a probe needs two. Raise n_train.")
    if protocol == "knn":
        return _voted(finite(features), targets, finite(evaluated))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=PROBE_ITERATIONS))
    return classifier.fit(finite(features), targets).predict(finite(evaluated))


def _voted(features: np.ndarray, targets: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
    """The label of most of each item's NEIGHBOURS by cosine; of labels with equally many votes, the first.

    Training items that are as near as the last neighbour, to EQUAL, share the votes that the nearer ones leave: which of
    them would be asked is a matter of rounding.
    """
    from sklearn.preprocessing import normalize

    if len(targets) < NEIGHBOURS:
        raise TaskError(f"n_train = {len(targets)}, but knn asks {NEIGHBOURS} neighbours. Raise n_train.")
    features, evaluated, found = normalize(features), normalize(evaluated), []
    for start in range(0, len(evaluated), ASKED_AT_ONCE):
        cosines = evaluated[start : start + ASKED_AT_ONCE] @ features.T
        for distances in np.sqrt(np.maximum(2 - 2 * cosines, 0)):
            last = np.partition(distances, NEIGHBOURS - 1)[NEIGHBOURS - 1]
            nearer, as_near = targets[distances < last - EQUAL], targets[np.abs(distances - last) <= EQUAL]
            votes, shared = (np.bincount(part, minlength=targets.max() + 1) for part in (nearer, as_near))
            found.append(np.argmax(votes * len(as_near) + shared * (NEIGHBOURS - len(nearer))))  # whole numbers
    return np.array(found)


def best(logits: np.ndarray) -> np.ndarray:
    """Index of the largest of each row's logits (n, labels) -> (n); NOTHING where one of them is not finite."""
    return np.where(np.isfinite(logits).all(axis=1), np.argmax(logits, axis=1), NOTHING)


def classified(prepared: Prepared, predicted: np.ndarray, outputs: np.ndarray) -> Outcome:
    """The metrics of predicted label indices (n), read from the model's `outputs` (rows of any number and width).

    `prepared.reference`: the labels. NOTHING counts as a label of its own, which is wrong. Accuracy is the share of right
    items; also corrected for chance, one over the labels of the data, where more than one is evaluated; `f1`, of two labels, takes the
    second as the positive class. Matthews' correlation is 0 for a constant prediction, and F1 where no positive is found;
    they are None where the targets leave them undefined: all are alike, or none is positive and none predicted to be.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    predicted, targets = np.asarray(predicted, dtype=np.float64), np.asarray(prepared.targets, dtype=np.float64)
    correct = (predicted == targets).astype(np.float64)
    found, varied = {"accuracy": float(correct.mean())}, len(np.unique(targets)) > 1
    if varied:
        chance = chance_level(prepared.targets, len(prepared.reference))
        found["chance_corrected_accuracy"] = float((correct.mean() - chance) / (1 - chance))
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
