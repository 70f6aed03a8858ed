"""Similarity of texts against human ratings. Data: item, text_a, text_b, target (the rating). Metrics: correlations.

`zero-shot` compares the cosine similarity of embeddings (means of the last hidden states, or what a checkpoint of
sentence-transformers says) with the ratings; `finetune` trains a head that reads both texts together to predict the rating (a
regression, as GLUE's STS-B is fine-tuned). What is read twice has the values of the first time, and cosines have twelve decimals:
equal ones tie, whatever else stands in their batches.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import pearsonr, spearmanr

from essential_sparsity import tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _pooling, _shared, _text
from essential_sparsity.tasks.tokens import Rows, Tokens

KIND = {
    "models": ["encoder", "decoder"],
    "protocols": {
        "zero-shot": {"auto_class": "AutoModel"},
        "finetune": {
            "auto_class": "AutoModelForSequenceClassification",
            "columns": ["n_train", "n_eval", "epochs", "learning_rate", "batch_size"],
        },
    },
    "columns": ["max_length"],
    "further_columns": ["n_eval", "eval_split", "held_out"],
    "metrics": ["spearman"],
    "further_metrics": ["pearson"],
}
DECIMALS = 12  # of a cosine: of a text with itself it is 1 to a few of float64's 1e-16
CONSTANT = {"zero-shot": 1e-12, "finetune": 1e-6}  # predictions closer than this differ by rounding: order is noise


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Tokenise: pairs to fine-tune on, or the first texts of all pairs followed by the second ones."""
    tasks.check_columns(data, settings, "item", "text_a", "text_b", "target")
    tasks.check_architecture(folder, settings)
    data = rated(data, settings).reset_index(drop=True)
    train, evaluation = tasks.split(data, settings, seed)
    used = pd.concat([train, evaluation])
    if settings["protocol"] == "finetune":
        _text.check(used, settings, "text_a", "text_b")
        _shared.tell(train, evaluation, "text_a", "text_b")
    else:
        for column in ("text_a", "text_b"):  # each is embedded alone
            _text.check(used, settings, column)
    ratings = evaluation["target"].to_numpy(dtype=np.float64)
    if np.ptp(ratings) == 0:
        raise TaskError(
            f"Task {settings.get('task')!r}: all evaluated ratings of data set {settings.get('dataset')!r} are "
            f"{ratings[0]:g}, as where they are not published. Choose another split in the column eval_split."
        )
    tokenizer = _text.tokenizer(folder)
    length = _text.max_length(folder, settings, tokenizer)
    common = {"items": evaluation["item"].tolist(), "targets": ratings, "collate": _text.collator(tokenizer)}
    if settings["protocol"] == "zero-shot":
        texts = evaluation["text_a"].tolist() + evaluation["text_b"].tolist()
        tokens = _text.encode(tokenizer, length, _pooling.as_read(folder, texts, length), cache=cache)
        _text.check_ids(folder, tokenizer, tokens.values("input_ids"), settings)
        rows = range(len(tokens))
        alike = _first_alike(tokens, rows), _pooling.pooling(folder)
        return Prepared(inputs=Rows(tokens, rows), reference=alike, **common)
    used = train.index.union(evaluation.index)
    tokens = _text.encode(tokenizer, length, data["text_a"][used], data["text_b"][used], cache)
    _text.check_ids(folder, tokenizer, tokens.values("input_ids"), settings)

    def inputs(rows: pd.DataFrame) -> Rows:
        return Rows(tokens, used.get_indexer(rows.index), labels=rows["target"].astype(float).tolist())

    return Prepared(
        inputs=inputs(evaluation),
        reference=(_first_alike(tokens, used.get_indexer(evaluation.index)), None),
        train=inputs(train),
        train_targets=train["target"].to_numpy(dtype=np.float64),
        model_options={"num_labels": 1, "problem_type": "regression", **_text.padding_options(folder, tokenizer)},
        **common,
    )


def _first_alike(tokens: Tokens, rows: Iterable[int]) -> list[int]:
    """For each of the rows of tokens the place of the first among them with the same."""
    first: dict[bytes, int] = {}
    return [first.setdefault(tokens.array("input_ids", row).tobytes(), place) for place, row in enumerate(rows)]


def rated(data: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Rows of the splits in use that have a rating, with `target` as a number; how many have none is said in the log. Raises TaskError."""
    place = f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}"
    name = tasks.evaluated_split(data, settings)
    if "split" in data:
        data = data[data["split"].isin(["train", name])]
    there = data["target"].notna() & (data["target"].astype(object) != "")
    if "split" in data and not there[data["split"] == name].any() and name in set(data["split"]):
        raise TaskError(
            f"{place}: the ratings of the split {name!r} are not published, or missing (every row has none). Choose another split in the column "
            "eval_split."
        )
    ratings = pd.to_numeric(data["target"][there], errors="coerce").astype(np.float64)
    if (wrong := ~np.isfinite(ratings)).any():
        row = data.loc[ratings.index[wrong][0]]
        raise TaskError(f"{place}, item {row['item']!r}: the rating (column target) {row['target']!r} is no number.")
    if not there.all():
        print(f"{place}: {(~there).sum():,} of {len(data):,} rows have no rating and are left out.", flush=True)
        if there.mean() < 0.5:
            raise TaskError(f"{place}: {(~there).sum():,} of {len(data):,} rows have no rating, more than half.")
    return data[there].assign(target=ratings)


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Correlations of cosine similarities (`zero-shot`) or of predicted ratings (`finetune`) with the ratings."""
    size, (alike, pool) = tasks.batch_size(settings), prepared.reference
    if settings["protocol"] == "finetune":
        logits = tasks.forward(model, prepared.inputs, prepared.collate, size, device, tasks.logits)
        predicted = logits[alike, 0].astype(np.float64)
    else:
        embedded = tasks.forward(model, prepared.inputs, prepared.collate, size, device, pool)
        predicted = cosine(*np.split(embedded[alike].astype(np.float64), 2))
    methods, rounding = {"spearman": spearmanr, "pearson": pearsonr}, CONSTANT[settings["protocol"]]
    metrics = {name: correlation(method, predicted, prepared.targets, rounding) for name, method in methods.items()}
    collapsed = collapse(predicted, rounding)
    if collapsed:  # the order of rounding errors would correlate by chance in a resample
        predicted = np.zeros(len(predicted))
    return Outcome(metrics, tasks.items_frame(prepared.items, predicted, prepared.targets), collapsed)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Row-wise cosine similarity of two (n, width) arrays, to DECIMALS; NaN where a vector is zero or not finite."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(all="ignore"):
        similarity = (first * second).sum(axis=1) / norms
    return np.where(np.isfinite(similarity), similarity.round(DECIMALS), np.nan)


def correlation(method: Callable, predicted: np.ndarray, target: np.ndarray, rounding: float) -> float | None:
    """`method` is scipy's; 0 where predictions are constant (to `rounding`) or one is not finite, None for a constant target."""
    if np.ptp(target) == 0:
        return None
    return 0.0 if collapse(predicted, rounding) else float(method(predicted, target).statistic)


def collapse(predicted: np.ndarray, rounding: float) -> str | None:
    """Why predictions (n) have no order, in words; None where they have one. `rounding` is relative beyond 1."""
    if broken := tasks.not_finite(predicted, "similarities"):
        return broken
    return "all similarities are equal" if np.ptp(predicted) <= rounding * max(1.0, np.abs(predicted).max()) else None
