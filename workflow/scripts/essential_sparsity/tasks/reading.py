"""Rows of a data set's file, read in pieces: a frame without its pictures, then the pictures of the rows that are used.

A file of pictures can be larger than memory; what a job needs of it are the rows that it draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

BUFFER = 1 << 20  # bytes of a column read at once
PICTURES = 256  # rows of bytes at once


@dataclass(frozen=True, slots=True)
class Stored:
    """A value that is still in its file: the row of a column that holds bytes."""

    path: Path
    row: int

    def __repr__(self) -> str:
        return "bytes"  # as messages show it


def read(path: Path) -> pd.DataFrame:
    """The frame of a Parquet file, in which columns of bytes hold a `Stored` per row; `loaded` reads those of some rows."""
    schema = pq.read_schema(path)
    bytes_ = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)]
    frame = pd.read_parquet(path, columns=[name for name in schema.names if name not in bytes_])
    stored = pd.Series([Stored(path, row) for row in range(len(frame))] if bytes_ else [], dtype=object)
    return frame.assign(**dict.fromkeys(bytes_, stored))[schema.names]


def loaded(*frames: pd.DataFrame) -> list[pd.DataFrame]:
    """Frames of one file with the bytes of their rows, read in one pass for all of them; others stay as they are."""
    names = [name for name in frames[0] if len(frames[0]) and isinstance(frames[0][name].iloc[0], Stored)]
    for name in names:
        places = [np.array([stored.row for stored in frame[name]], dtype=np.int64) for frame in frames]
        wanted = np.unique(np.concatenate(places))
        path = frames[0][name].iloc[0].path
        values = np.empty(len(wanted), dtype=object)
        values[:] = [value for piece in pieces(path, [name], wanted, PICTURES) for value in piece[name].to_pylist()]
        frames = [
            frame.assign(**{name: values[np.searchsorted(wanted, rows)]})
            for frame, rows in zip(frames, places, strict=True)
        ]
    return list(frames)


def pieces(
    path: str | Path, columns: Sequence[str], wanted: np.ndarray | None = None, at_once: int = 10_000
) -> Iterator[pa.RecordBatch]:
    """Columns of a Parquet file, up to `at_once` rows at a time; of the rows `wanted` (numbers, ascending), or of all.

    Memory holds one piece. Row groups that hold no wanted row are not read.
    """
    with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
        start = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            end = start + rows
            if wanted is None:
                yield from file.iter_batches(at_once, row_groups=[group], columns=list(columns))
            elif np.searchsorted(wanted, start) < np.searchsorted(wanted, end):
                for piece in file.iter_batches(at_once, row_groups=[group], columns=list(columns)):
                    first, last = np.searchsorted(wanted, [start, start + len(piece)])
                    if first < last:
                        yield piece.take(pa.array(wanted[first:last] - start))
                    start += len(piece)
                    if last == len(wanted):
                        return
            start = end
