"""Tokenising and pooling, shared by the text kinds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, DataCollatorWithPadding, PreTrainedTokenizerBase

from essential_sparsity.tasks import TaskError, tokens
from essential_sparsity.tasks.tokens import Tokens

DEFAULT_MAX_LENGTH = 256  # tokens; the released code of the paper


def tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, padding on the right, with a padding token (the end token where it has none)."""
    loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if loaded.pad_token is None:
        if loaded.eos_token is None:
            raise TaskError(f"The tokenizer in {folder} has no padding and no end token: texts cannot be batched.")
        loaded.pad_token = loaded.eos_token
    loaded.padding_side = "right"
    return loaded


def position_limit(folder: str | Path) -> int | None:
    """The most tokens that the model has positions for; None where its configuration does not say."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return getattr(config, "max_position_embeddings", None)


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
