"""Classify texts or pairs of texts. Data: item, text (or text_a), optionally text_b, label.

Metrics: accuracy, also corrected for chance, Matthews' correlation, and F1 where there are two labels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _labels, _text
from essential_sparsity.tasks.tokens import Rows

KIND = {
    "models": ["encoder", "decoder"],
    "protocols": {
        "probe": {"auto_class": "AutoModel"},
        "knn": {"auto_class": "AutoModel"},
        "finetune": {
            "auto_class": "AutoModelForSequenceClassification",
            "columns": ["epochs", "learning_rate", "batch_size"],
        },
    },
    "columns": ["n_train", "n_eval", "max_length"],
    "further_columns": ["eval_split", "held_out"],
    "metrics": ["accuracy", "chance_corrected_accuracy"],
    "further_metrics": ["matthews", "f1"],
}


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Split by item and seed, and tokenise."""
    tasks.check_architecture(folder, settings)
    first = _first(data, settings)
    tasks.check_columns(data, settings, "item", first, "label")
    data, labels = _labels.labelled(data, settings)
    _labels.check_positive(settings, labels)
    data = data.reset_index(drop=True)
    train, evaluation = tasks.split(data, settings, seed)
    columns = [first, *(["text_b"] if "text_b" in data else [])]
    _text.check(pd.concat([train, evaluation]), settings, *columns)
    _labels.check_drawn(train, evaluation, labels, settings, *columns)
    tokenizer = _text.tokenizer(folder)
    length = _text.max_length(folder, settings, tokenizer)
    used = train.index.union(evaluation.index)  # in the order of the data: the same file for every seed that takes all
    seconds = data["text_b"][used] if "text_b" in data else None
    tokens = _text.encode(tokenizer, length, data[first][used], seconds, cache)
    _text.check_ids(folder, tokenizer, tokens.values("input_ids"), settings)

    def inputs(rows: pd.DataFrame) -> Rows:
        return Rows(tokens, used.get_indexer(rows.index), labels=rows["target"].tolist())

    options = _labels.head_options(labels) | _text.padding_options(folder, tokenizer)
    return Prepared(
        items=evaluation["item"].tolist(),
        inputs=inputs(evaluation),
        targets=evaluation["target"].to_numpy(),
        train=inputs(train),
        train_targets=train["target"].to_numpy(),
        collate=_text.collator(tokenizer),
        model_options=options if settings["protocol"] == "finetune" else {},
        reference=labels,
    )


def _first(data: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """The column of the text, or of the first of two. Raises TaskError where both are there."""
    if {"text", "text_a"} <= set(data):
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} has a column text and a column text_a; a text or a "
            "pair is read. Name one in the column columns, as text=text, or text_a=text_a,text_b=text_b: the other is then left out."
        )
    return "text" if "text" in data else "text_a"


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Accuracy of the model's own head (`finetune`) or of a classifier of mean-pooled features (`probe`, `knn`)."""
    size = tasks.batch_size(settings)
    if settings["protocol"] == "finetune":
        logits = tasks.forward(model, prepared.inputs, prepared.collate, size, device, tasks.logits)
        return _labels.classified(prepared, _labels.best(logits), logits)
    features, evaluated = (
        tasks.forward(model, inputs, prepared.collate, size, device, _text.mean_pooled)
        for inputs in (prepared.train, prepared.inputs)
    )
    predicted = _labels.probe(settings["protocol"], features, prepared.train_targets, evaluated)
    return _labels.classified(prepared, predicted, np.concatenate([features, evaluated]))
