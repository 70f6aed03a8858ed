"""Perplexity of a causal language model over windows of tokens. Data: item, text. Metric: perplexity.

Protocol (the one of published wikitext-2 tables): texts joined with a blank line, tokenised once, windows of `context`
tokens without overlap, tail dropped, mean loss over the `context` - 1 tokens that each window predicts. Context length
is part of the number: compare only perplexities of one context. Not lm-eval's `wikitext`, which is per word.

Windows are text from their first token on. A model whose row says `add_bos_token` has its BOS token before each, and one token of text
less: some (Gemma) give no sensible numbers without it. `check` refuses a dense model that the other way would suit far better.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from essential_sparsity import tasks
from essential_sparsity.checkpoints import vocabulary
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _language, _text, tokens

KIND = {
    "models": ["decoder"],
    "protocols": {"zero-shot": {"auto_class": "AutoModelForCausalLM"}},
    "columns": ["context", "windows"],
    "further_columns": ["eval_split"],
    "metrics": ["perplexity"],
    "cost": {"scored_at_once": 1, "language_logits": True},
}
LOOKED_AT, LONGEST = 4, 256  # windows that are read with and without a BOS token, and tokens of each
MUCH = 0.5  # nats a token: a perplexity 1.6 times as large
SURE = 4  # standard errors of the mean over these tokens: of few, in short windows, much may be chance
CHARACTERS, ROOM = 5, 100  # usual characters a token; tokens to the cut at which its effect has ended


class Windows(Sequence):
    """A row per window, made of token ids (windows, tokens) when it is asked for; each has the tokens of `begin` before its own."""

    def __init__(self, ids: np.ndarray, begin: Sequence[int] = ()):
        self.ids, self.begin = ids, list(begin)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, list[int]]:
        return {"input_ids": [*self.begin, *self.ids[row].tolist()]}


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
    begin = _text.begin(tokenizer, settings)
    own = context - len(begin)
    ids = token_ids(tokenizer, data["text"], int(settings.get("windows") or 0) * own, cache, special=not begin)
    _text.check_ids(folder, tokenizer, np.concatenate([ids, np.array(begin, dtype=np.int64)]), settings)
    available = len(ids) // own
    windows = int(settings.get("windows") or available)
    if windows > available or available == 0:
        raise TaskError(
            f"Task {settings.get('task')!r}: the {len(ids)} tokens of data set {settings.get('dataset')!r} fill "
            f"{available} windows of {own}, fewer than windows = {windows or 1}. Lower windows or context."
        )
    bos, rows = tokenizer.bos_token_id, vocabulary.room(folder).rows
    known = bos if bos is None or rows is None or bos < rows else None  # the model's, not the tokenizer's alone
    print(f"{windows:,} windows of {context} tokens, {available:,} in the text that was tokenised.", flush=True)
    inputs = Windows(ids[: windows * own].reshape(windows, own), begin)
    return Prepared(
        items=[f"window{index:06d}" for index in range(windows)],
        inputs=inputs,
        targets=np.full(windows, context - 1),
        collate=lambda rows: {"input_ids": torch.tensor([row["input_ids"] for row in rows])},
        documents=lambda: (
            data["item"].iloc[: texts_of(tokenizer, data["text"], windows * own, special=not begin)].tolist()
        ),
        check=functools.partial(check, inputs=inputs, bos=known),
    )


@torch.inference_mode()
def check(
    model: torch.nn.Module, settings: Mapping[str, Any], device: torch.device | str, inputs: Windows, bos: int | None
) -> None:
    """Refuse a dense model that predicts the same tokens far better with its BOS token before a window, where that is not there, or
    without it, where it is; say in the log that it is worse than guessing. `inputs`: the windows; `bos`: the tokenizer's, None: it has none. Raises TaskError.
    """
    rows = [row for row in inputs.ids if row[0] != bos]
    # tokens of text that a window holds both ways
    size = min(len(rows[0]) - (not inputs.begin), LONGEST) if rows else 0
    if size < 2:
        return
    losses = []
    for begin in ([bos], []) if bos is not None else ([],):
        found = []
        for place in np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).astype(int)):
            ids = torch.tensor([[*begin, *rows[place][:size].tolist()]], device=device)
            logits = model(input_ids=ids).logits[0, len(begin) : -1].float()
            own = ids[0, len(begin) + 1 :].to(logits.device)
            found.append(torch.nn.functional.cross_entropy(logits, own, reduction="none").cpu().double().numpy())
        losses.append(np.concatenate(found))
    mean = losses[0 if inputs.begin else -1].mean()
    if mean > np.log(logits.shape[-1]):
        print(
            f"warning: Task {settings.get('task')!r}: the dense model predicts the tokens of {min(len(rows), LOOKED_AT)} windows with perplexity "
            f"{np.exp(min(mean, 700)):.4g}, worse than guessing among its {logits.shape[-1]:,} tokens: it is not trained, its weights are damaged, or "
            "its tokenizer is another model's. There is no quality that pruning could cost it.",
            flush=True,
        )
    if bos is None:
        return
    after, bare = losses
    gain = after - bare if inputs.begin else bare - after  # no number is not more
    error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.inf
    if gain.mean() > max(MUCH, SURE * error):
        with_, without = (f"{np.exp(min(loss.mean(), 700)):.4g}" for loss in losses)
        advice = "leave its column add_bos_token blank" if inputs.begin else "write true in its column add_bos_token"
        raise TaskError(
            f"Task {settings.get('task')!r}: the dense model predicts the same tokens of {min(len(rows), LOOKED_AT)} windows with perplexity {with_} "
            f"where each begins with its BOS token (id {bos}), and {without} where it does not. What is measured is not what the model can: "
            f"{advice} (table of models)."
        )


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: pd.Series, enough: int, cache: Path | None = None, special: bool = True
) -> np.ndarray:
    """Token ids of the joined texts; where `enough` > 0 of them do, of a beginning that holds them with room to spare.

    `special`: with those special tokens that the tokenizer puts around a text, this one long text.

    Tokens far before a cut between two texts do not depend on what follows it, so the result is the same, only sooner.
    """

    def ids(some: pd.Series) -> np.ndarray:
        joined = [_text.SEPARATOR.join(some)]
        options = {} if special else {"add_special_tokens": False}
        found = tokens.cached(
            tokenizer, cache, options, [joined], lambda _, part: tokenizer(part, verbose=False, **options)
        )
        return found.values("input_ids")

    if enough and len(found := ids(_beginning(texts, enough))) >= enough + ROOM:
        return found
    return ids(texts)


def texts_of(tokenizer: PreTrainedTokenizerBase, texts: pd.Series, count: int, special: bool = True) -> int:
    """How many of the texts, from the first on, the first `count` tokens of the joined ones (`token_ids`) are made of.

    Where the tokenizer does not say which characters a token stands for (one written in Python), rather more than too few.
    """
    for some in (_beginning(texts, count), texts):
        joined, places = _text.SEPARATOR.join(some), tokenizer.is_fast
        found = tokenizer(joined, return_offsets_mapping=places, add_special_tokens=special, verbose=False)
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
