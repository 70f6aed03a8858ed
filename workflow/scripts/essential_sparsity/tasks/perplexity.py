"""Perplexity of a causal language model over windows of tokens. Data: item, text. Metric: perplexity.

Protocol (the one of published wikitext-2 tables): texts joined with a blank line, tokenised once, windows of `context`
tokens without overlap, tail dropped, mean loss over the `context` - 1 tokens that each window predicts. Context length
is part of the number: compare only perplexities of one context. Not lm-eval's `wikitext`, which is per word.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from essential_sparsity import tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _language, _text, tokens

KIND = {
    "models": ["decoder"],
    "protocols": {"zero-shot": {"auto_class": "AutoModelForCausalLM"}},
    "columns": ["context", "windows"],
    "further_columns": ["eval_split"],
    "metrics": ["perplexity"],
    "cost": {"scored_at_once": 1, "language_logits": True},
}
CHARACTERS, ROOM = 5, 100  # usual characters a token; tokens to the cut at which its effect has ended


class Windows(Sequence):
    """A row per window, made of token ids (windows, context) when it is asked for."""

    def __init__(self, ids: np.ndarray):
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        return {"input_ids": self.ids[row].tolist()}


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Tokenise the joined text, in the order of the data, and cut it into windows."""
    tasks.check_columns(data, settings, "item", "text")
    tasks.check_architecture(folder, settings)
    _, data = tasks.parts(data, settings)
    _text.check(data, settings, "text", empty=True)  # a blank line of an article is a part of its text
    context = int(tasks.required(settings, "context"))
    tokenizer = _text.tokenizer(folder)
    limit = _text.position_limit(folder)
    if context < 2 or (limit and context > limit):
        raise TaskError(
            f"Task {settings.get('task')!r}: context = {context}, but a window holds at least 2 tokens and this model "
            f"takes at most {limit}."
        )
    ids = token_ids(tokenizer, data["text"], int(settings.get("windows") or 0) * context, cache)
    _text.check_ids(folder, tokenizer, ids, settings)
    available = len(ids) // context
    windows = int(settings.get("windows") or available)
    if windows > available or available == 0:
        raise TaskError(
            f"Task {settings.get('task')!r}: the {len(ids)} tokens of data set {settings.get('dataset')!r} fill "
            f"{available} windows of {context}, fewer than windows = {windows or 1}. Lower windows or context."
        )
    print(f"{windows:,} windows of {context} tokens, {available:,} in the text that was tokenised.", flush=True)
    return Prepared(
        items=[f"window{index:06d}" for index in range(windows)],
        inputs=Windows(ids[: windows * context].reshape(windows, context)),
        targets=np.full(windows, context - 1),
        collate=lambda rows: {"input_ids": torch.tensor([row["input_ids"] for row in rows])},
        documents=lambda: data["item"].iloc[: texts_of(tokenizer, data["text"], windows * context)].tolist(),
    )


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: pd.Series, enough: int, cache: Path | None = None
) -> np.ndarray:
    """Token ids of the joined texts; where `enough` > 0 of them do, of a beginning that holds them with room to spare.

    Tokens far before a cut between two texts do not depend on what follows it, so the result is the same, only sooner.
    """

    def ids(some: pd.Series) -> np.ndarray:
        joined = [_text.SEPARATOR.join(some)]
        found = tokens.cached(tokenizer, cache, {}, [joined], lambda _, part: tokenizer(part, verbose=False))
        return found.values("input_ids")

    if enough and len(found := ids(_beginning(texts, enough))) >= enough + ROOM:
        return found
    return ids(texts)


def texts_of(tokenizer: PreTrainedTokenizerBase, texts: pd.Series, count: int) -> int:
    """How many of the texts, from the first on, the first `count` tokens of the joined ones are made of.

    Where the tokenizer does not say which characters a token stands for (one written in Python), rather more than too few.
    """
    for some in (_beginning(texts, count), texts):
        found = tokenizer(_text.SEPARATOR.join(some), return_offsets_mapping=tokenizer.is_fast, verbose=False)
        if len(found["input_ids"]) >= count + ROOM:
            break
    if not tokenizer.is_fast:
        return len(some)
    end = max(last for _, last in found["offset_mapping"][:count])
    starts = (texts.str.len() + len(_text.SEPARATOR)).cumsum().shift(fill_value=0)
    return int(np.searchsorted(starts, end))


def _beginning(texts: pd.Series, count: int) -> pd.Series:
    """So many of the texts that `count` tokens are likely among them."""
    return texts[: int(np.searchsorted(texts.str.len().cumsum(), 2 * CHARACTERS * count)) + 1]


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """exp(mean loss in nats), each window's bounded."""
    size, predictions = tasks.batch_size(settings), _language.Predictions()

    def window_losses(output: Any, batch: dict[str, Any]) -> torch.Tensor:
        return summed(predictions, output.logits, batch["input_ids"])

    losses = tasks.forward(model, prepared.inputs, prepared.collate, size, device, window_losses).astype(np.float64)
    losses, broken = _language.bounded(losses, prepared.targets, "windows")
    value = _language.mean_perplexity(losses, prepared.targets)
    items = tasks.items_frame(prepared.items, losses, weight=prepared.targets)
    return Outcome({"perplexity": value}, items, broken or predictions.collapsed())


def summed(predictions: _language.Predictions, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Summed negative log-likelihood of each window in nats: (batch,); each token predicts the next one."""
    ids = ids[:, 1:]
    return predictions.losses(logits[:, :-1].flatten(0, 1), ids.flatten()).view(ids.shape).sum(dim=1)
