"""How well an encoder fills in masked tokens. Data: item, text. Metrics: `pseudo_perplexity`, `masked_accuracy`.

Each position is masked alone, all others being visible; its loss is a term of the pseudo-log-likelihood (Salazar et al.
2020, "Masked language model scoring"), and exp of the mean loss the pseudo-perplexity of their section 2. `positions`
takes that many of each text, chosen by its item, the same for every seed and sparsity; blank takes all, as they do. The
accuracy is the share of these tokens that the model finds likeliest. Values of different tokenizers do not compare.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import files, tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _language, _text, tokens

KIND = {
    "models": ["encoder"],
    "protocols": {"zero-shot": {"auto_class": "AutoModelForMaskedLM"}},
    "columns": ["n_eval", "max_length"],
    "further_columns": ["eval_split", "positions"],
    "metrics": ["pseudo_perplexity", "masked_accuracy"],
    "cost": {"passes": "positions", "language_logits": True},  # each position is masked alone
}
SPECIAL = "special_tokens_mask"


class Masked(Sequence):
    """A row per masked position, made when it is asked for: its text, and as labels the position and the token that stood there."""

    def __init__(self, texts: tokens.Tokens, chosen: Sequence[np.ndarray], mask: int):
        """`chosen`: the positions of each text."""
        self.texts, self.mask, self.places = texts, mask, np.concatenate(chosen)
        self.index = np.repeat(np.arange(len(chosen), dtype=np.int32), [len(places) for places in chosen])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> dict[str, Any]:
        place, found = int(self.places[row]), self.texts[int(self.index[row])]
        right, found["input_ids"][place] = found["input_ids"][place], self.mask
        return found | {"labels": (place, right)}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.texts.columns["input_ids"][0])[self.index]


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """One input per masked position: the text with one mask, and as labels the position and the token that stood there."""
    tasks.check_columns(data, settings, "item", "text")
    tasks.check_architecture(folder, settings)
    _, evaluation = tasks.split(data, settings, seed)
    _text.check(evaluation, settings, "text")
    tokenizer = _text.tokenizer(folder)
    if tokenizer.mask_token_id is None:
        raise TaskError(
            f"The tokenizer in {folder} has no mask token: kind {settings['kind']!r} cannot use this model."
        )
    _text.check_row(folder, tokenizer, tokenizer.mask_token_id, settings, "texts are masked with the token")
    length = _text.max_length(folder, settings, tokenizer)

    def encode(start: int, texts: list[str]) -> Mapping[str, list]:
        found = tokenizer(texts, truncation=True, max_length=length, return_special_tokens_mask=True)
        return _text.with_cut(found, length)

    encoded = _text.told(
        tokens.cached(tokenizer, cache, {"length": length, "special": True}, [evaluation["text"].tolist()], encode),
        length,
    )
    _text.check_ids(folder, tokenizer, encoded.values("input_ids"), settings)
    chosen = []
    for index, item in enumerate(evaluation["item"]):
        words = np.flatnonzero(encoded.array(SPECIAL, index) == 0)
        if not len(words):
            raise TaskError(
                f"Task {settings.get('task')!r}: item {item!r} has no token to mask. Leave it out of the data."
            )
        drawn = files.rng(0, "masked positions", item).permutation(words)[: settings.get("positions")]
        chosen.append(np.sort(drawn).astype(np.int32))
    inputs = Masked(encoded.without(SPECIAL), chosen, tokenizer.mask_token_id)
    padded = _text.collator(tokenizer)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = padded([{key: value for key, value in row.items() if key != "labels"} for row in rows])
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}

    counts = np.array([len(places) for places in chosen])
    return Prepared(items=evaluation["item"].tolist(), inputs=inputs, targets=counts, collate=collate)


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Sums over the positions of each text, each position's loss bounded; one that is not finite predicts nothing."""
    size, predictions = tasks.batch_size(settings), _language.Predictions()

    def losses(output: Any, batch: dict[str, Any]) -> torch.Tensor:
        """Negative log-likelihood in nats, and 1 where it is the largest: (batch, 2)."""
        places, tokens = batch["labels"].unbind(dim=1)
        logits = output.logits[torch.arange(len(places), device=places.device), places].float()
        return torch.stack([predictions.losses(logits, tokens), (logits.argmax(dim=1) == tokens).float()], dim=1)

    found = tasks.forward(model, prepared.inputs, prepared.collate, size, device, losses).astype(np.float64)
    found[~np.isfinite(found[:, 0]), 1] = 0.0
    found[:, 0], broken = _language.bounded(found[:, 0], 1, "positions")
    first = np.concatenate([[0], np.cumsum(prepared.targets)[:-1]])
    loss, right = np.add.reduceat(found, first, axis=0).T
    metrics = {
        "pseudo_perplexity": _language.mean_perplexity(loss, prepared.targets),
        "masked_accuracy": float(right.sum() / prepared.targets.sum()),
    }
    items = tasks.items_frame(prepared.items, loss, weight=prepared.targets, second_score=right)
    return Outcome(metrics, items, broken or predictions.collapsed())
