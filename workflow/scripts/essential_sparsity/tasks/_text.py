"""Tokenising and pooling, shared by the text kinds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from essential_sparsity.checkpoints import vocabulary
from essential_sparsity.tasks import TaskError, tokens
from essential_sparsity.tasks.tokens import Tokens

# Shares of unknown tokens: a tokenizer has hardly any in texts like those that it was made from (bytes: none; pieces of
# words: below 1 %); one in twenty is worth a word, and with one in five a text has lost its sense.
TOLD_UNKNOWN, MOST_UNKNOWN = 0.05, 0.20
DEFAULT_MAX_LENGTH = 256  # tokens; the released code of the paper


def tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, whole, padding on the right, with a padding token, masking what it pads."""
    return vocabulary.load(folder, vocabulary.room(folder))


def position_limit(folder: str | Path) -> int | None:
    """The most tokens that the model has positions for; None where its configuration does not say."""
    return vocabulary.room(folder).positions


def check_ids(
    folder: str | Path, loaded: PreTrainedTokenizerBase, ids: np.ndarray, settings: Mapping[str, Any]
) -> None:
    """Refuse token ids (of all texts of a task, in one array) that the model or its tokenizer cannot mean.

    Raises CheckpointError for a tokenizer far smaller than the embedding, TaskError where an id has no row in the model's embedding, and where more than MOST_UNKNOWN of them are unknown
    (special tokens aside): these texts are not what the model reads. More than TOLD_UNKNOWN are said.
    """
    place = f"Task {settings.get('task')!r}: "
    room = vocabulary.room(folder)
    vocabulary.check_size(loaded, room, folder)
    rows, most = room.rows, int(ids.max(initial=0))
    if rows is not None and most >= rows:
        raise TaskError(
            f"{place}the texts of data set {settings.get('dataset')!r} have the token {loaded.convert_ids_to_tokens(most)!r} "
            f"with id {most}, but the embedding of the model in {folder} has {rows} rows; its tokenizer has {len(loaded)} "
            "tokens. Use the tokenizer that the model was trained with, or the model whose embedding was resized to it."
        )
    unknown = vocabulary.unknown_ids(loaded)
    if not unknown:
        return
    words = ids[~np.isin(ids, list(set(loaded.all_special_ids) - unknown))]
    share = float(np.isin(words, list(unknown)).mean()) if len(words) else 0.0
    told = (
        f"{place}{share:.0%} of the {len(words):,} tokens of data set {settings.get('dataset')!r} are unknown to the tokenizer "
        f"in {folder}"
    )
    if share > MOST_UNKNOWN:
        raise TaskError(
            f"{told}, more than {MOST_UNKNOWN:.0%}: the model would read gaps. Use a model for this language and script, or "
            "correct its tokenizer (lower case, a vocabulary cut short)."
        )
    if share > TOLD_UNKNOWN:
        print(f"warning: {told}.", flush=True)


def max_length(folder: str | Path, settings: Mapping[str, Any], loaded: PreTrainedTokenizerBase) -> int:
    """Tokens per text: the task's `max_length`, checked against what the model can take."""
    limit = min(loaded.model_max_length, position_limit(folder) or loaded.model_max_length)
    wanted = settings.get("max_length")
    if wanted and wanted > limit:
        raise TaskError(f"Task {settings.get('task')!r}: max_length = {wanted}, but the model's limit is {limit}.")
    return int(wanted or min(DEFAULT_MAX_LENGTH, limit))


def encode(
    loaded: PreTrainedTokenizerBase,
    length: int,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
    cache: Path | None = None,
) -> Tokens:
    """Token ids without padding, one row per text or pair, `token_type_ids` included where the model has them."""
    pairs = () if seconds is None else ([separator(loaded) + text for text in seconds],)

    def some(start: int, *parts: Sequence[str]) -> Mapping[str, list]:
        return loaded(*(list(part) for part in parts), truncation=True, max_length=length)

    return tokens.cached(loaded, cache, {"length": length}, (list(texts), *pairs), some)


def separator(loaded: PreTrainedTokenizerBase) -> str:
    """What to put between two texts: a line break where the tokenizer itself puts nothing there (GPT-2, LLaMA)."""
    return "" if loaded.num_special_tokens_to_add(pair=True) > loaded.num_special_tokens_to_add(pair=False) else "\n"


def collator(loaded: PreTrainedTokenizerBase) -> DataCollatorWithPadding:
    """Pads a batch to its own longest text."""
    return DataCollatorWithPadding(loaded)


def mean_pooled(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Mean of the last hidden states over the attention mask: (batch, width), summed in float32."""
    mask = batch["attention_mask"].unsqueeze(-1)
    hidden = output.last_hidden_state.float().masked_fill(mask == 0, 0.0)
    return hidden.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
