"""The tokenizer of a checkpoint: its own, whole, and made for its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from essential_sparsity import files
from essential_sparsity.checkpoints.prunable import CheckpointError

FEWEST = 0.5  # tokens a row of the embedding; published models have 0.67 (ByT5) to 1, because rows are rounded up
# Files that hold a whole tokenizer; where none of them is there, all files that the tokenizer's class names are needed.
WHOLE = ("tokenizer.json", "tekken.json", "*.model", "*.tiktoken")


@dataclass(frozen=True)
class Room:
    """What a model takes of texts: `rows` of its token embedding, tokens of a text that have `positions`, and kinds of
    `segments` (of a pair); None where it does not say."""

    rows: int | None
    positions: int | None
    segments: int


def room(folder: str | Path) -> Room:
    """The room of the model that config.json describes; no weight is read, and a job works it out once."""
    return _room(str(folder), (Path(folder) / "config.json").read_bytes())


@lru_cache(maxsize=8)
def _room(folder: str, content: bytes) -> Room:
    """As `room`; `content`: of config.json, so that another one is looked at anew."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    text = config.get_text_config()
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    try:
        embedding = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # vision models need not have one
        embedding = None
    rows = embedding.num_embeddings if isinstance(embedding, torch.nn.Embedding) else None
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    said = (getattr(text, name, None) for name in names)
    positions = next((found for found in said if found and found > 0), None)  # XLNet says -1: any number
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    for table in (module for module in tables if isinstance(module, torch.nn.Embedding)):
        if positions == table.num_embeddings and table.padding_idx is not None:
            positions -= table.padding_idx + 1  # RoBERTa and its kin begin to count after the padding token
    # without a table of their own segments are none, or words: GPT-2 would add the embedding of token 0 to every token
    segments = getattr(text, "type_vocab_size", 2 if config.model_type == "xlnet" else 0)
    return Room(rows, positions, segments)


def load(folder: str | Path, room: Room) -> PreTrainedTokenizerBase:
    """The tokenizer that stands in the folder, which pads on the right and masks what it pads.

    transformers makes one up where files are missing, with the special tokens alone. Raises CheckpointError when it is
    not there, not whole, cannot be read, or says no length that a text can have.
    """
    folder = Path(folder)
    try:
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever the bytes lead its readers to
        there = any(next(folder.glob(pattern), None) for pattern in (*WHOLE, "*vocab*", "merges*"))
        if not there:
            raise CheckpointError(f"There is no tokenizer in {folder}. {_put([])}") from error
        problem = f"The tokenizer in {folder} cannot be read"
        if absent := _absent() if any(folder.glob("*.model")) else []:
            raise CheckpointError(
                f"{problem}: {' and '.join(absent)} must be installed to read {files.some(_names(folder, '*.model'))}, in the "
                "version of envs/requirements.txt."
            ) from error
        raise CheckpointError(f"{problem} ({_first(error)}). {_put([])}") from error
    named = [name for key, name in loaded.vocab_files_names.items() if key != "tokenizer_file"]
    missing = [name for name in named if not (folder / name).is_file()]
    whole = any(next(folder.glob(pattern), None) for pattern in WHOLE)
    if loaded.vocab_files_names and not named and not whole:
        raise CheckpointError(f"There is no tokenizer in {folder}. {_put([])}")
    if missing and not whole:
        raise CheckpointError(
            f"The tokenizer of {folder} is not whole: {', '.join(missing)} is missing, and so is tokenizer.json. "
            f"{_put(named)}"
        )
    most = loaded.model_max_length
    if isinstance(most, bool) or not isinstance(most, int | float) or not most >= 1:
        raise CheckpointError(
            f"The tokenizer in {folder} says model_max_length = {most!r} (tokenizer_config.json); expected a number of tokens. Correct it, or take it "
            "out."
        )
    names = [name for name in loaded.model_input_names if name != "token_type_ids" or room.segments > 1]
    loaded.model_input_names = names if "attention_mask" in names else [*names, "attention_mask"]
    loaded.padding_side = "right"
    _pad(loaded, room.rows, folder)
    return loaded


def check_size(loaded: PreTrainedTokenizerBase, room: Room, folder: str | Path) -> None:
    """Refuse a tokenizer that has tokens for hardly any row of the model's embedding: CheckpointError."""
    if room.rows and len(loaded) < FEWEST * room.rows:
        raise CheckpointError(
            f"The tokenizer in {folder} has {len(loaded):,} tokens, but the model's embedding has {room.rows:,} rows: it is "
            f"another model's, or a part of its files is missing. {_put([])}"
        )


def describe(folder: str | Path) -> dict[str, Any]:
    """What a manifest says of the tokenizer; no text is read. Raises CheckpointError as `load` and `check_size`."""
    found = room(folder)
    loaded = load(folder, found)
    check_size(loaded, found, folder)
    vocabulary = loaded.get_vocab() if loaded.vocab_files_names else {}
    return {
        "class": type(loaded).__name__,
        "tokens": len(loaded),
        "largest_id": max(vocabulary.values(), default=None),
        "embedding_rows": found.rows,
        "padding": loaded.pad_token,
        "unknown": loaded.unk_token,
        "positions": found.positions,
    }


def unknown_ids(loaded: PreTrainedTokenizerBase) -> set[int]:
    """Ids that stand for text without a token; none where the same token also frames texts (GPT-2, OPT: bytes)."""
    model = loaded.backend_tokenizer.model if loaded.is_fast else None
    named = {loaded.unk_token, getattr(model, "unk_token", None)}
    found = {loaded.convert_tokens_to_ids(token) for token in named if token} | {getattr(model, "unk_id", None)}
    frame = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id")
    return found - {getattr(loaded, name) for name in frame} - {None}


def _pad(loaded: PreTrainedTokenizerBase, rows: int | None, folder: Path) -> None:
    """A padding token that has a row: the model's own, else one that ends no text; what is padded is masked anyway."""
    fits = [
        token
        for token in (loaded.pad_token, loaded.eos_token, loaded.bos_token, loaded.cls_token, loaded.unk_token)
        if token is not None and (rows is None or loaded.convert_tokens_to_ids(token) < rows)
    ]
    if not fits:
        raise CheckpointError(
            f"The tokenizer in {folder} has no padding token and no end token within the {rows} rows of the model's "
            "embedding: texts cannot be batched. Name a pad_token in its tokenizer_config.json."
        )
    if fits[0] != loaded.pad_token:
        loaded.pad_token = fits[0]


def _absent() -> list[str]:
    """The packages that read models of sentencepiece, without those that are installed."""
    absent = []
    for name in ("sentencepiece", "protobuf"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
    return absent


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def _put(named: Sequence[str]) -> str:
    """What to do; `named`: the files of this class of tokenizer beside tokenizer.json."""
    wanted = "tokenizer.json" + (f", or {' and '.join(named)}" if named else "")
    return f"Put the files of the tokenizer that the model was trained with ({wanted}) beside its config.json."


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.:') if lines else 'no reason given'}"
