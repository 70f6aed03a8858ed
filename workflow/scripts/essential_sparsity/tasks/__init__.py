"""Tasks: data and metric, one kind per module. Data become model inputs once; a model is then scored as it stands.

A kind's module offers
- `AUTO_CLASS`: protocol -> name of the transformers auto class that the protocol needs;
- `prepare(folder, data, settings, seed) -> Prepared`: tokenise or index everything that does not depend on the weights;
- `run(model, prepared, settings, seed, device) -> Outcome`: evaluate. It never changes the model.

`settings` is one row of the task table as a dict (numbers parsed, blanks None or absent).
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import files, memory
from essential_sparsity.metrics import chance_level


class TaskError(ValueError):
    """A task row, or the data that it names, cannot be used as written."""


@dataclass(frozen=True)
class Outcome:
    """What one evaluation found.

    `metrics`: metric name -> value, None where the metric is undefined. `items`: one row per evaluated item with
    `item` (id), `score` (accuracy: 1.0 or 0.0; perplexity: summed negative log-likelihood in nats; similarity: the
    model's own similarity), `target` (similarity: the human rating; accuracy: the index of the right label; else None) and `weight`
    (perplexity: predicted tokens; else 1).
    """

    metrics: dict[str, float | None]
    items: pd.DataFrame


@dataclass(frozen=True)
class Prepared:
    """Model inputs of one task, shared by all sparsity levels of a job.

    `inputs[i]` belongs to `items[i]` and `targets[i]` (label index, human rating, or predicted tokens); `train` holds
    the training subset in the same form with its labels inside. `collate` turns a list of inputs into a batch of
    tensors; `model_options` are passed on to the model's configuration when it is loaded.
    """

    items: list[str]
    inputs: Sequence[Mapping[str, Any]]
    targets: np.ndarray
    collate: Callable[[list], dict[str, Any]]
    train: Sequence[Mapping[str, Any]] = ()
    train_targets: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    model_options: dict[str, Any] = field(default_factory=dict)


def kinds() -> list[str]:
    """The kinds that exist: `text-similarity` is module text_similarity.py; names with a leading `_` are helpers."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))


def load(kind: str) -> ModuleType:
    """The module of a kind. By name, so that a run depends on the code of its own kind only."""
    if kind not in kinds():
        raise TaskError(f"Task kind {kind!r} does not exist. Write one of: {', '.join(kinds())}.")
    return importlib.import_module(f"{__name__}.{kind.replace('-', '_')}")


def auto_class(settings: Mapping[str, Any]) -> str:
    """Name of the transformers auto class for this task's kind and protocol."""
    offered = load(settings["kind"]).AUTO_CLASS
    if settings["protocol"] not in offered:
        raise TaskError(
            f"Task {settings.get('task')!r}: kind {settings['kind']!r} has no protocol {settings['protocol']!r}. "
            f"Write one of: {', '.join(sorted(offered))}."
        )
    return offered[settings["protocol"]]


def required(settings: Mapping[str, Any], key: str) -> Any:
    """A setting that this kind and protocol cannot do without."""
    value = settings.get(key)
    if value is None:
        raise TaskError(
            f"Task {settings.get('task')!r}: column {key!r} is empty, but kind {settings['kind']!r} with protocol "
            f"{settings['protocol']!r} needs it."
        )
    return value


def check_columns(data: pd.DataFrame, settings: Mapping[str, Any], *names: str) -> None:
    """Refuse data that lack a column, by name."""
    missing = [name for name in names if name not in data]
    if missing:
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} has no column {', '.join(missing)} "
            f"(it has {', '.join(map(str, data.columns))}). Kind {settings['kind']!r} cannot use this data set."
        )


def split(data: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(train, evaluation) rows.

    Rows are ordered by a hash of their item id; the first `n_eval` are evaluated, the same for every seed. The training
    subset of `n_train` is drawn from the others by the seed. Where the data carry a `split` column, rows marked `train`
    train and the others evaluate. A blank number means all that there are.
    """
    if not data["item"].is_unique:
        raise TaskError(f"Data set {settings.get('dataset')!r}: item ids are not unique.")
    order = np.argsort([files.sha256_text(f"split\0{item}") for item in data["item"]])
    data = data.iloc[order]
    n_train, n_eval = settings.get("n_train"), settings.get("n_eval")
    trains = settings["protocol"] != "zero-shot"
    if "split" in data:
        rest, evaluation = data[data["split"] == "train"], data[data["split"] != "train"]
        evaluation = evaluation.iloc[: int(n_eval or len(evaluation))]
    elif trains or n_eval:
        n_eval = int(required(settings, "n_eval"))
        evaluation, rest = data.iloc[:n_eval], data.iloc[n_eval:]
    else:
        evaluation, rest = data, data.iloc[:0]
    n_train = int(n_train or len(rest)) if trains else 0
    if len(evaluation) < int(n_eval or 1) or len(rest) < max(n_train, int(trains)):
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} has {len(data)} usable rows, too few "
            f"for n_eval = {n_eval} and n_train = {n_train or 'at least 1'}. Lower one of them."
        )
    drawn = files.rng(seed, "train", str(settings.get("dataset"))).permutation(len(rest))[:n_train]
    return rest.iloc[drawn], evaluation


def labelled(data: pd.DataFrame) -> tuple[pd.DataFrame, list]:
    """Rows that have a label, with `target` = its index, and the labels: sorted, from the data, never assumed."""
    data = data[data["label"].notna()]
    labels = sorted(data["label"].unique().tolist())
    return data.assign(target=data["label"].map({label: index for index, label in enumerate(labels)})), labels


def head_options(labels: list) -> dict[str, Any]:
    """Configuration of a new classification head for these labels."""
    names = [str(label) for label in labels]
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "single_label_classification",
    }


def forward(
    model: torch.nn.Module,
    inputs: Sequence[Mapping[str, Any]],
    collate: Callable[[list], dict[str, Any]],
    batch_size: int,
    device: torch.device | str,
    read: Callable[[Any, dict[str, Any]], torch.Tensor],
) -> np.ndarray:
    """`read(model output, batch)` (batch first) for every input, in the order of `inputs`; float32.

    Texts run in order of length, so that a batch holds hardly any padding; labels are left out of the batch. Where memory
    does not suffice for `batch_size` of them, half as many go through at once from there.
    """
    lengths = [len(row["input_ids"]) for row in inputs] if isinstance(inputs, list) else [0] * len(inputs)
    order = np.argsort([-length for length in lengths], kind="stable")

    def score(indices: np.ndarray) -> np.ndarray:
        rows = [inputs[i] for i in indices]
        batch = collate([{key: value for key, value in row.items() if key != "labels"} for row in rows])
        batch = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
        return read(model(**batch), batch).float().cpu().numpy()

    model.eval()
    parts, start = [], 0
    with torch.inference_mode():
        while start < len(order):
            try:
                parts.append(score(order[start : start + batch_size]))
                start += batch_size
                continue
            except RuntimeError as error:
                if batch_size == 1 or not memory.ran_out(error):
                    raise
            batch_size = (batch_size + 1) // 2
            print(f"Out of memory: {batch_size} items at once from here.", flush=True)
            memory.free()
    stacked = np.concatenate(parts)
    result = np.empty_like(stacked)
    result[order] = stacked
    return result


def logits(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """What `forward` reads from a classifier: (batch, labels)."""
    return output.logits


def probe(features: np.ndarray, targets: np.ndarray, evaluated: np.ndarray) -> np.ndarray:
    """Label indices predicted for `evaluated` by a logistic regression on standardised frozen `features` (n x d).

    A model pruned to ruin can emit NaN or infinity. Such a feature says nothing: it counts as 0, not as an error.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def finite(array: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(array), array, 0.0).astype(np.float64)

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_C, max_iter=PROBE_ITERATIONS))
    if len(np.unique(targets)) < 2:
        raise TaskError("The training subset holds one label only: a probe needs two. Raise n_train.")
    return classifier.fit(finite(features), targets).predict(finite(evaluated))


# One value for all tasks and sparsities, chosen on rows that are never evaluated: weaker regularisation overfits 384
# features of 1,400 reviews, stronger loses digits.
PROBE_C = 0.03
PROBE_ITERATIONS = 1000


def accuracy(prepared: Prepared, predicted: np.ndarray) -> Outcome:
    """Share of items whose predicted label index is the target, also corrected for chance: one over the labels."""
    correct = (np.asarray(predicted) == prepared.targets).astype(np.float64)
    metrics, chance = {"accuracy": float(correct.mean())}, chance_level(prepared.targets)
    if chance < 1:
        metrics["chance_corrected_accuracy"] = float((correct.mean() - chance) / (1 - chance))
    return Outcome(metrics, items_frame(prepared.items, correct, prepared.targets))


def items_frame(items: Sequence[str], score: np.ndarray, target=None, weight=1.0) -> pd.DataFrame:
    """The `items` frame of an Outcome."""
    frame = pd.DataFrame({"item": list(items), "score": np.asarray(score, dtype=np.float64)})
    frame["target"] = (
        np.full(len(frame), math.nan)
        if target is None
        else np.broadcast_to(np.asarray(target, dtype=np.float64), len(frame))
    )
    frame["weight"] = np.broadcast_to(np.asarray(weight, dtype=np.float64), len(frame))
    return frame
