"""Tokenised texts as flat arrays, made once and kept: all runs with the same tokenizer and texts read the same file.

A file is named by everything that decides its content (tokenizer, versions, code, options, texts), so that it is never stale,
whoever wrote it; two jobs that start together write the same bytes. It is read, not mapped into memory: on a network file
system a mapped file that is deleted or replaced takes the process with it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tokenizers
import transformers

from essential_sparsity import codefiles, files

CHUNK = 10_000  # texts tokenised at once: their tokens are Python lists for a moment, twenty times as large
Columns = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> (offsets of the rows, one more than rows; whole numbers)


class Tokens(Sequence):
    """Rows of a few lists of whole numbers each (`input_ids`, …); `tokens[i]` is a dict of lists, as a tokenizer gives it."""

    def __init__(self, columns: Columns):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))[0]) - 1

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {name: self.array(name, index).tolist() for name in self.columns}

    def array(self, name: str, index: int) -> np.ndarray:
        """One list of one row."""
        offsets, values = self.columns[name]
        return values[offsets[index] : offsets[index + 1]]

    def values(self, name: str) -> np.ndarray:
        """One list of all rows, one after the other."""
        return self.columns[name][1]

    def without(self, *names: str) -> "Tokens":
        """The same rows with some of their lists left out."""
        return Tokens({name: column for name, column in self.columns.items() if name not in names})


class Rows(Sequence):
    """Rows of `tokens` in an order of their own, each with what `beside` says of it: `Rows(tokens, [5, 2], labels=[0, 1])`."""

    def __init__(self, tokens: Tokens, index: Sequence[int], **beside: Sequence[Any]):
        self.tokens, self.index, self.beside = tokens, np.asarray(index), beside

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> dict[str, Any]:
        beside = {name: values[place] for name, values in self.beside.items()}
        return {**self.tokens[int(self.index[place])], **beside}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""
        return np.diff(self.tokens.columns["input_ids"][0])[self.index]


def cached(
    tokenizer: transformers.PreTrainedTokenizerBase,
    cache: Path | None,
    options: Mapping[str, Any],
    texts: Sequence[Sequence[str]],
    encode: Callable[..., Mapping[str, Sequence[Sequence[int]]]],
) -> Tokens:
    """What `encode` makes of `texts` (one sequence, or two of equal length), from the folder `cache` where it is there.

    `encode(start, first, …)` is given the texts of each sequence from `start` on, some at a time, and returns, by name, a
    list of whole numbers for each row; it must do nothing but what the tokenizer, `options` and the code of its module
    decide. Without a folder, and for the few tokenizers that cannot be told apart by their content (those written in
    Python), nothing is kept.
    """
    if cache is None or not tokenizer.is_fast:
        return Tokens(_columns(texts, encode))
    code = codefiles.digest_of(__name__, encode.__module__)
    path = Path(cache) / f"{_named(identity(tokenizer) | {'code': code, 'options': dict(options)}, texts)}.arrow"
    if path.is_file():
        try:
            return Tokens(read(path))
        except (OSError, ValueError, pa.ArrowException) as error:
            print(f"{path} is damaged ({error}): the texts are tokenised again.", flush=True)
    columns = _columns(texts, encode)
    try:
        write(path, columns)
    except OSError as error:
        print(f"The tokenised texts could not be kept in {path} ({error}); the next job tokenises again.", flush=True)
    return Tokens(columns)


def identity(tokenizer: transformers.PreTrainedTokenizerBase) -> dict[str, Any]:
    """What decides the tokens of a text beside the options of the call; not where the tokenizer lies."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    settings = [tokenizer.truncation_side, tokenizer.split_special_tokens]  # of tokenizer_config.json alone
    return {
        "tokenizer": {name: part for name, part in content.items() if name not in ("truncation", "padding")},
        "inputs": [type(tokenizer).__name__, tokenizer.model_input_names, *settings],
        "versions": [transformers.__version__, tokenizers.__version__],
    }


def write(path: Path, columns: Columns) -> None:
    """An Arrow file of one list column per name, whole or not at all; the same columns give the same bytes."""
    arrays = [
        pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)) for offsets, values in columns.values()
    ]
    table = pa.table(arrays, names=list(columns)).replace_schema_metadata({"sha256": _digest(columns)})
    with files.atomic(path) as temporary, pa.ipc.new_file(temporary, table.schema) as file:
        file.write_table(table)


def read(path: Path) -> Columns:
    """The columns of a file. Raises ValueError when they are not the ones that were written."""
    table = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
    arrays = {name: table[name].chunk(0) for name in table.column_names}
    columns = {name: (array.offsets.to_numpy(), array.values.to_numpy()) for name, array in arrays.items()}
    if (table.schema.metadata or {}).get(b"sha256") != _digest(columns).encode():
        raise ValueError("its SHA-256 differs")
    return columns


def _columns(texts: Sequence[Sequence[str]], encode: Callable) -> Columns:
    """Flat arrays in the smallest type that holds their numbers."""
    parts: dict[str, list] = {}
    for start in range(0, len(texts[0]), CHUNK):
        for name, rows in encode(start, *(part[start : start + CHUNK] for part in texts)).items():
            lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
            values = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
            parts.setdefault(name, []).append((lengths, _small(values)))
    columns = {}
    for name, chunks in parts.items():
        lengths, values = (np.concatenate(arrays) for arrays in zip(*chunks, strict=True))
        columns[name] = np.concatenate([[0], np.cumsum(lengths)]), _small(values)
    return columns


def _small(values: np.ndarray) -> np.ndarray:
    ends = (values.min(), values.max()) if len(values) else (0, 0)
    return values.astype(np.result_type(*(np.min_scalar_type(int(end)) for end in ends)))


def _digest(columns: Columns) -> str:
    """SHA-256 of names, types and numbers."""
    digest = hashlib.sha256()
    for name, arrays in columns.items():
        for array in arrays:
            digest.update(f"{name}\0{array.dtype}\0{array.size}\0".encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _named(identity: Mapping[str, Any], texts: Sequence[Sequence[str]]) -> str:
    """Hex name of what is tokenised; no two lists of texts have the same, however they are cut."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for part in texts:
        digest.update(f"\0{len(part)}\0".encode())
        for piece in _encoded(part):
            digest.update(piece)
    return digest.hexdigest()[:32]


def _encoded(part: Sequence[str]) -> Iterator[bytes]:
    for start in range(0, len(part), CHUNK):
        texts = [text.encode(errors="surrogatepass") for text in part[start : start + CHUNK]]
        yield np.array([len(text) for text in texts], dtype=np.int64).tobytes()
        yield b"".join(texts)
