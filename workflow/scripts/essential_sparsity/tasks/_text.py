"""Tokenising and pooling, shared by the text kinds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, BatchEncoding, DataCollatorWithPadding, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from essential_sparsity import files
from essential_sparsity.acquire.frames import unseen
from essential_sparsity.checkpoints import vocabulary
from essential_sparsity.tasks import TaskError, _lengths, tokens
from essential_sparsity.tasks.tokens import Tokens

# Shares of unknown tokens: a tokenizer has hardly any in texts like those that it was made from (bytes: none; pieces of
# words: below 1 %); one in twenty is worth a word, and with one in five a text has lost its sense.
TOLD_UNKNOWN, MOST_UNKNOWN = 0.05, 0.20
CUT = "cut"  # beside the tokens of a text: 1 where it is longer than what was kept of it
SEPARATOR = "\n\n"  # a blank line, between texts that are read as one
DEFAULT_MAX_LENGTH = 256  # tokens; the released code of the paper


def begin(tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]) -> list[int]:
    """The BOS token that each text begins with where the model's row asks for it (`add_bos_token`), else nothing. TaskError: there is none."""
    if not settings.get("add_bos_token"):
        return []
    if tokenizer.bos_token_id is None:
        raise TaskError(
            f"Task {settings.get('task')!r}: the model's row says add_bos_token, but its tokenizer has no BOS token. Leave the column blank."
        )
    return [tokenizer.bos_token_id]


def check(rows: pd.DataFrame, settings: Mapping[str, Any], *columns: str, empty: bool = False) -> None:
    """Refuse rows whose texts are missing or no text, by data set, column and item; and, but for `empty`, items without any (a zero-width
    space is none).

    One empty text of a pair is said in the log.
    """
    place = f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}"
    blank = pd.DataFrame(index=rows.index)
    for column in columns:
        is_text = rows[column].map(lambda value: isinstance(value, str)).astype(bool)
        if not is_text.all():
            wrong = rows[~is_text]
            found = wrong[column].iloc[0]
            told = (
                "is missing" if pd.api.types.is_scalar(found) and pd.isna(found) else f"is {str(found)[:40]!r}, no text"
            )
            raise TaskError(
                f"{place}, item {wrong['item'].iloc[0]!r}: the column {column!r} {told} ({len(wrong):,} of {len(rows):,} rows in use: "
                f"{files.some(wrong['item'].tolist(), 3)}). Correct these rows, or leave them out of the data."
            )
        if not empty:
            blank[column] = rows[column].map(unseen).astype(bool)
    if empty or not columns:
        return
    if (nothing := blank.all(axis=1)).any():
        items = rows["item"][nothing].tolist()
        raise TaskError(
            f"{place}, item {items[0]!r}: the text is empty (column {', '.join(columns)}; {len(items):,} of {len(rows):,} rows in "
            f"use: {files.some(items, 3)}). Leave these rows out of the data."
        )
    if (some := blank.any(axis=1)).any():
        items = rows["item"][some].tolist()
        print(
            f"{place}: one of the texts is empty in {len(items):,} of {len(rows):,} rows: {files.some(items, 3)}.",
            flush=True,
        )


def tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The model's own tokenizer, whole, padding on the right, with a padding token, masking what it pads."""
    return vocabulary.load(folder, vocabulary.room(folder))


def with_places(folder: str | Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """As `tokenizer`, of those that say which characters a token stands for. Raises TaskError for one written in Python."""
    loaded = tokenizer(folder)
    if not loaded.is_fast:
        raise TaskError(
            f"Task {settings.get('task')!r}: the tokenizer in {folder} ({type(loaded).__name__}) is written in Python and does not say which "
            f"characters its tokens stand for; kind {settings['kind']!r} needs a fast one (tokenizer.json). Use another model."
        )
    return loaded


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
    vocabulary.check_size(loaded, vocabulary.room(folder), folder)
    check_row(
        folder,
        loaded,
        int(ids.max(initial=0)),
        settings,
        f"the texts of data set {settings.get('dataset')!r} have the token",
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


def check_row(
    folder: str | Path, loaded: PreTrainedTokenizerBase, token: int, settings: Mapping[str, Any], words: str
) -> None:
    """Refuse a token (its id) that has no row in the model's embedding; `words`: where it stands. Raises TaskError."""
    rows = vocabulary.room(folder).rows
    if rows is not None and token >= rows:
        raise TaskError(
            f"Task {settings.get('task')!r}: {words} {loaded.convert_ids_to_tokens(token)!r} with id {token}, but the embedding of the model "
            f"in {folder} has {rows} rows; its tokenizer has {len(loaded)} tokens. Use the tokenizer that the model was trained with, or the "
            "model whose embedding was resized to it."
        )


def max_length(folder: str | Path, settings: Mapping[str, Any], loaded: PreTrainedTokenizerBase) -> int:
    """Tokens per text: the task's `max_length`, checked against what the model can take."""
    limit = min(loaded.model_max_length, position_limit(folder) or loaded.model_max_length)
    wanted = settings.get("max_length")
    if wanted and wanted > limit:
        raise TaskError(f"Task {settings.get('task')!r}: max_length = {wanted}, but the model's limit is {limit}.")
    length = int(wanted or min(DEFAULT_MAX_LENGTH, limit))
    _lengths.check(folder, length, settings)
    return length


def encode(
    loaded: PreTrainedTokenizerBase,
    length: int,
    texts: Sequence[str],
    seconds: Sequence[str] | None = None,
    cache: Path | None = None,
) -> Tokens:
    """Token ids without padding, one row per text or pair, `token_type_ids` included where the model has them.

    How long they are is said in the log. Raises TaskError where all texts are the same tokens, or all are cut.
    """
    pairs = () if seconds is None else ([separator(loaded) + text for text in seconds],)

    def some(start: int, *parts: Sequence[str]) -> Mapping[str, list]:
        return with_cut(loaded(*(list(part) for part in parts), truncation=True, max_length=length), length)

    return told(tokens.cached(loaded, cache, {"length": length}, (list(texts), *pairs), some), length)


def with_cut(encoded: BatchEncoding, length: int) -> dict[str, list]:
    """Tokens of texts, truncated to `length`, and of each whether it was cut (a tokenizer in Python: whether it is full)."""
    full = [len(ids) >= length for ids in encoded["input_ids"]]
    cut = [bool(text.overflowing) for text in encoded.encodings] if encoded.is_fast else full
    return {**encoded, CUT: [[int(one)] for one in cut]}


def told(found: Tokens, length: int) -> Tokens:
    """The tokens without what was cut, after saying how long they are. Raises TaskError for texts without a token, or that cannot be told apart."""
    offsets, ids = found.columns["input_ids"]
    lengths, cut = np.diff(offsets), found.columns[CUT][1]
    n = len(lengths)
    if none := int((lengths == 0).sum()):
        raise TaskError(
            f"The tokenizer makes no token of {none:,} of {n:,} texts (the first is number {int(lengths.argmin()) + 1} of them): it leaves out all "
            "signs that they hold. Leave these rows out of the data, or use another model."
        )
    if n > 1 and cut.all():
        raise TaskError(
            f"All {n:,} texts are longer than max_length = {length} tokens, and would be cut. Raise max_length."
        )
    if n > 1 and np.ptp(lengths) == 0 and (ids.reshape(n, -1) == ids[: lengths[0]]).all():
        raise TaskError(
            f"The tokenizer makes the same {lengths[0]} tokens ({files.some(ids[: lengths[0]].tolist())}) of all {n:,} texts. Compare "
            "its files with those of the publisher, and the column that is read as text."
        )
    if n:
        print(
            f"{n:,} texts of {lengths.min()} to {lengths.max()} tokens, half of them up to {int(np.median(lengths))}; {cut.sum():,} are "
            f"cut at {length} ({100 * cut.mean():.0f} %).",
            flush=True,
        )
    return found.without(CUT)


def separator(loaded: PreTrainedTokenizerBase) -> str:
    """What to put between two texts: a line break where the tokenizer itself puts nothing there (GPT-2, LLaMA)."""
    return "" if loaded.num_special_tokens_to_add(pair=True) > loaded.num_special_tokens_to_add(pair=False) else "\n"


def collator(loaded: PreTrainedTokenizerBase) -> DataCollatorWithPadding:
    """Pads a batch to its own longest text."""
    return DataCollatorWithPadding(loaded)


def padding_options(folder: str | Path, loaded: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Options of the configuration of a model that is trained: the padding token, behind which a decoder's head reads the last one.

    An encoder keeps its own, whatever its tokenizer pads with: RoBERTa and its kin count positions from it.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    own = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and getattr(config, "pad_token_id", None) is not None
    return {} if own else {"pad_token_id": loaded.pad_token_id}


def states(output: Any) -> torch.Tensor:
    """The last hidden states of the tokens (batch, tokens, width), in float32. Raises TaskError for a model that keeps them (DPR)."""
    hidden = getattr(output, "last_hidden_state", None)
    if hidden is None:
        raise TaskError(
            f"The model gives no states of its tokens ({', '.join(output)} alone), of which a text's vector is made here. Use "
            "another model."
        )
    return hidden.float()


def mean_pooled(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Mean of the last hidden states over the attention mask: (batch, width), summed in float32."""
    mask = batch["attention_mask"].unsqueeze(-1)
    hidden = states(output).masked_fill(mask == 0, 0.0)
    return hidden.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
