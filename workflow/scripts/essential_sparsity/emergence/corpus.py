"""The samples that a pre-training is given, read from the data set's file in pieces.

Memory holds what training visits: two bytes per token (four for a vocabulary above 65,536), three per pixel; never the texts
or pictures themselves, which can be many times as much.
"""

import array
import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from essential_sparsity import errors, files
from essential_sparsity.acquire.frames import blank
from essential_sparsity.emergence import objectives
from essential_sparsity.tasks import image_classification, reading

LEADING = 8  # bytes of a hash that order the rows: more than one row with the same are ordered by all of it


class PretrainingError(errors.UserError):
    """A pre-training cannot be done as its row says."""


class Corpus:
    """A random share of the training rows of a Parquet file; a smaller one is part of a larger one, whatever the seed."""

    def __init__(self, path: str | Path, fraction: float = 1.0):
        self.path = path
        self.rows = chosen(path, fraction)
        if not len(self):
            raise PretrainingError(
                f"{path} has no row of the split train, which pre-trainings read. Name another data set in the column dataset."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def pieces(self, *columns: str, at_once: int = 10_000) -> Iterator[pa.RecordBatch]:
        """Columns of these rows in the order of the file, up to `at_once` at a time. Raises PretrainingError where one is missing."""
        there = pq.read_schema(self.path).names
        if missing := [name for name in columns if name not in there]:
            raise PretrainingError(
                f"{self.path} has no column {missing[0]} (it has {', '.join(there)}); pre-trainings read the column text, or image and "
                "label. Name another data set in the column dataset, or rename one in the column columns of the tasks table."
            )
        return reading.pieces(self.path, columns, self.rows, at_once)

    def texts(self) -> Iterator[list[str]]:
        """The texts, some at a time. Raises PretrainingError, by the item, after the last where one is missing."""
        missing = []
        for piece in self.pieces("item", "text"):
            found = piece["text"].to_pylist()
            items = zip(piece["item"].to_pylist(), found, strict=True)
            missing += [item for item, text in items if not isinstance(text, str)]
            if not missing:
                yield found
        if missing:
            raise PretrainingError(
                f"Item {missing[0]!r} of the data has no text (column text; {len(missing):,} of {len(self):,} rows: "
                f"{files.some(missing, 3)}). Leave these rows out."
            )

    def labels(self) -> list[Any]:
        """The label of each row; None where there is none, or a blank text."""
        found = pd.Series(
            [label for piece in self.pieces("label") for label in piece["label"].to_pylist()], dtype=object
        )
        return [None if none else label for label, none in zip(found, found.isna() | blank(found), strict=True)]

    def items(self) -> list[str]:
        """The item of each row."""
        return [item for piece in self.pieces("item") for item in piece["item"].to_pylist()]


def chosen(path: str | Path, fraction: float) -> np.ndarray:
    """The numbers of the rows, ascending: of those of the split train, the share whose items have the smallest SHA-256."""
    split = "split" in pq.read_schema(path).names
    trained, keys = [], []
    for piece in reading.pieces(path, ["item", "split"] if split else ["item"]):
        is_train = np.array([name == "train" for name in piece["split"].to_pylist()]) if split else True
        trained.append(np.broadcast_to(is_train, len(piece)))
        if fraction < 1:
            leading = b"".join(_digest(item)[:LEADING].ljust(8, b"\0") for item in piece["item"].to_pylist())
            keys.append(np.frombuffer(leading, ">u8").astype(np.uint64))
    rows = np.flatnonzero(np.concatenate(trained))
    count = max(1, math.floor(fraction * len(rows) + 0.5))
    if count >= len(rows):
        return rows
    key = np.concatenate(keys)[rows]
    bound = np.partition(key, count - 1)[count - 1]
    taken, even = key < bound, np.flatnonzero(key == bound)
    if len(even) > (lacking := count - int(taken.sum())):
        items = [item for piece in reading.pieces(path, ["item"], rows[even]) for item in piece["item"].to_pylist()]
        even = even[sorted(range(len(even)), key=lambda place: _digest(items[place]))[:lacking]]
    taken[even] = True
    return rows[taken]


def _digest(item: str) -> bytes:
    return hashlib.sha256(f"fraction\0{item}".encode()).digest()


class TextSamples(torch.utils.data.Dataset):
    """Token ids, int64 (length): the texts in their order, joined by [SEP], cut into pieces that start with [CLS]."""

    def __init__(self, texts: Iterator[list[str]], tokenizer: Any, length: int):
        self.ids, self.length, self.first = token_ids(texts, tokenizer), length - 1, tokenizer.cls_token_id
        if not len(self):
            raise PretrainingError(
                f"The data hold {len(self.ids)} tokens, fewer than one sequence of {length}. Take more of them."
            )

    def __len__(self) -> int:
        return len(self.ids) // self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        found = torch.empty(self.length + 1, dtype=torch.int64)
        found[0] = self.first
        found[1:] = torch.from_numpy(self.ids[index * self.length : (index + 1) * self.length].astype(np.int64))
        return found


def token_ids(texts: Iterator[list[str]], tokenizer: Any) -> np.ndarray:
    """The tokens of all texts, each followed by [SEP], one after the other: uint16, or uint32 for a large vocabulary."""
    kind = "H" if max(tokenizer.get_vocab().values()) < 1 << 16 else "I"
    found = array.array(kind)  # it grows in place
    for some in texts:
        encoded = tokenizer(
            some, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        for row in encoded["input_ids"]:
            found.extend(row)
            found.append(tokenizer.sep_token_id)
    return np.frombuffer(found, dtype=kind)


class ImageSamples(torch.utils.data.Dataset):
    """Pixels, float32 (3, size, size), as the pre-trained models expect them; kept as bytes."""

    def __init__(self, corpus: Corpus, size: int):
        self.pixels, start = torch.empty(len(corpus), 3, size, size, dtype=torch.uint8), 0
        for piece in corpus.pieces("item", "image", at_once=reading.PICTURES):
            for item, image in zip(piece["item"].to_pylist(), piece["image"].to_pylist(), strict=True):
                self.pixels[start] = image_classification.pixels(image, size, item)
                start += 1

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> torch.Tensor:
        shift, scale = objectives.IMAGE_MEAN[0], objectives.IMAGE_STD[0]
        return self.pixels[index].float().div_(255).sub_(shift).div_(scale)
