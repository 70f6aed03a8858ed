"""Parquet files as tables, in little more memory than their rows take, and never out of all proportion to the file."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from essential_sparsity.acquire.archives import bomb, most_bytes
from essential_sparsity.acquire.refusal import reading

PIECE = 1024  # rows that are read at once
TOGETHER = 1 << 24  # bytes of pieces that are put together
ALWAYS = 1 << 30  # bytes that any file may become
ROWS = 1 << 24  # that any file may have
ROWS_OF_BYTE = 4  # that a byte of one may stand for


def read(path: Path) -> pa.Table:
    """The table of a Parquet file, read in pieces until it becomes out of all proportion. Raises SourceError."""
    most = max(most_bytes(path.stat().st_size), ALWAYS)
    with reading(f"{path.name} is not readable as parquet"), pq.ParquetFile(path) as file:
        if file.metadata.num_rows > max(ROWS, path.stat().st_size * ROWS_OF_BYTE):
            raise bomb(path.name, most)
        return pa.Table.from_batches(_together(_pieces(file, path.name, most)), _wide_schema(file.schema_arrow))


def _pieces(file: pq.ParquetFile, name: str, most: int) -> Iterator[pa.RecordBatch]:
    """The rows of a file, some at a time. Raises SourceError after more than `most` bytes of them.

    Row groups are read apart: a reader of all keeps the bytes of those that it is done with.
    """
    held, known = 0, {}
    for group in range(file.num_row_groups):
        for piece in file.iter_batches(PIECE, [group]):
            columns = [_sharing(_wide(column), known, number) for number, column in enumerate(piece.columns)]
            held += sum(size + _spelt_out(column) for column, size in columns)
            if held > most:
                raise bomb(name, most)
            yield pa.RecordBatch.from_arrays([column for column, _ in columns], schema=_wide_schema(piece.schema))


def _together(pieces: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small pieces copied into larger ones, a few at a time: many small buffers take a quarter more than they hold.

    Large pieces stay as they are, and so do those with dictionaries: each would get one of all of them.
    """
    gathered, size = [], 0
    for piece in pieces:
        alone = piece.nbytes >= TOGETHER or any(pa.types.is_dictionary(kind) for kind in piece.schema.types)
        if gathered and (alone or size >= TOGETHER):
            yield pa.concat_batches(gathered)
            gathered, size = [], 0
        if alone:
            yield piece
        else:
            gathered.append(piece)
            size += piece.nbytes
    if gathered:
        yield pa.concat_batches(gathered)


def _wide(column: pa.Array) -> pa.Array:
    """A column of texts as a frame holds it; at once, since the places of all texts are held twice otherwise."""
    return column.cast(pa.large_string()) if pa.types.is_string(column.type) else column


def _wide_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema(
        [field.with_type(pa.large_string()) if pa.types.is_string(field.type) else field for field in schema],
        schema.metadata,
    )


def _sharing(column: pa.Array, known: dict[int, pa.Array], number: int) -> tuple[pa.Array, int]:
    """A piece of a column with the dictionary of the piece before, where it has the same; and the bytes that it adds.

    Each piece that is read brings a copy of the whole dictionary. `known`: number of a column -> its last dictionary.
    """
    if not pa.types.is_dictionary(column.type):
        return column, column.nbytes
    if number in known and column.dictionary.equals(known[number]):
        shared = pa.DictionaryArray.from_arrays(column.indices, known[number], ordered=column.type.ordered)
        return shared, column.indices.nbytes
    known[number] = column.dictionary
    return column, column.nbytes


def _spelt_out(column: pa.Array) -> int:
    """Bytes of the texts of a column that names them by their numbers in a dictionary; 0 of another column."""
    if not pa.types.is_dictionary(column.type):
        return 0
    kind = column.type.value_type
    if not any(known(kind) for known in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        return 0
    return pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
