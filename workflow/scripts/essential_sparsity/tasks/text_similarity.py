"""Similarity of texts against human ratings. Data: item, text_a, text_b, target. Metric: Spearman correlation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from essential_sparsity import tasks
from essential_sparsity.tasks import Outcome, Prepared, _text

AUTO_CLASS = {"zero-shot": "AutoModel"}
EVAL_BATCH_SIZE = 32


def prepare(folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> Prepared:
    """Tokenise every text of every pair: inputs are the first texts followed by the second ones."""
    tasks.check_columns(data, settings, "item", "text_a", "text_b", "target")
    _, evaluation = tasks.split(data[data["target"].notna()], settings, seed)
    tokenizer = _text.tokenizer(folder)
    texts = evaluation["text_a"].tolist() + evaluation["text_b"].tolist()
    return Prepared(
        items=evaluation["item"].tolist(),
        inputs=_text.encode(tokenizer, _text.max_length(folder, settings, tokenizer), texts),
        targets=evaluation["target"].to_numpy(dtype=np.float64),
        collate=_text.collator(tokenizer),
    )


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Spearman correlation of cosine similarities with the ratings."""
    size = int(settings.get("eval_batch_size") or EVAL_BATCH_SIZE)
    embedded = tasks.forward(model, prepared.inputs, prepared.collate, size, device, _text.mean_pooled)
    first, second = np.split(embedded.astype(np.float64), 2)
    similarity = cosine(first, second)
    return Outcome(
        {"spearman": spearman(similarity, prepared.targets)},
        tasks.items_frame(prepared.items, similarity, prepared.targets),
    )


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Row-wise cosine similarity of two (n, width) arrays; NaN where a vector is zero or not finite."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(all="ignore"):
        similarity = (first * second).sum(axis=1) / norms
    return np.where(np.isfinite(similarity), similarity, np.nan)


def spearman(predicted: np.ndarray, target: np.ndarray) -> float | None:
    """Spearman rank correlation; None, not 0, where it is undefined: NaN, or a side that is constant (to rounding)."""
    if len(predicted) < 2 or np.isnan(predicted).any() or np.ptp(target) == 0 or np.ptp(predicted) <= CONSTANT:
        return None
    return float(spearmanr(predicted, target).statistic)


CONSTANT = 1e-12  # cosines closer than this differ by rounding only; their order would be noise
