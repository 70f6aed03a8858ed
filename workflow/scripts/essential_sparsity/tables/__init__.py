"""The tables of `results/`: how they are checked, written, read and collected.

What a table holds (columns, types, units, key, version) stands in workflow/schemas/tables/{name}.yaml, one file per
table, so that a change to one table is no change to the code that the expensive jobs depend on. It is checked on every
write and every read: a wrong frame or a damaged file stops the job that made or met it. Rows are sorted by the key and
nothing that varies between runs is added: the same frame gives the same bytes. Each file carries a digest of its rows, so that a
value that was changed afterwards is noticed, by whatever means it was.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from essential_sparsity import errors, files

# Beside the programs, in the repository; an installed package has them in itself (setup.py).
PLACES = [Path(__file__).parents[above] / "schemas" / "tables" for above in (3, 1)]
FOLDER = next(filter(Path.is_dir, PLACES), PLACES[0])
TYPES = {"text": pa.string(), "whole number": pa.int64(), "number": pa.float64(), "yes or no": pa.bool_()}
BATCH = 500  # files collected at a time: a small table in memory is mostly its own schema
DIGEST = b"rows_sha256"  # in the metadata of a file
PART = 1 << 16  # rows that are turned into text at a time
WORDS = {kind: word for word, kind in TYPES.items()}


@cache
def _described(name: str) -> dict:
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise ValueError(f"There is no table {name!r}; known are {known}.")
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def schema(name: str) -> pa.Schema:
    """Arrow schema of table `name`: `unit` and `description` in each field's metadata, `version` in the schema's."""
    fields = [
        pa.field(
            column,
            TYPES[said["type"]],
            nullable=said.get("nullable", False),
            metadata={"unit": said.get("unit", ""), "description": said["description"]},
        )
        for column, said in _described(name)["columns"].items()
    ]
    return pa.schema(fields, metadata={"table": name, "version": str(_described(name)["version"])})


def key(name: str) -> list[str]:
    """Columns that together identify a row of table `name`, and the order its rows are sorted in."""
    return list(_described(name)["key"])


def empty(name: str) -> pd.DataFrame:
    """Table `name` without rows."""
    return _frame(schema(name).empty_table())


def write(frame: pd.DataFrame, name: str, path: str | os.PathLike) -> None:
    """Check `frame` against table `name`, sort it by the key and write it as Parquet, whole or not at all.

    Column order and row order of `frame` do not matter; `pd.DataFrame([])` is a table without rows. Raises ValueError
    naming table, column and row for a missing or unknown column, a null where none may stand, a value of another type,
    and two rows with the same key.
    """
    expected, keys = schema(name), key(name)
    if frame.shape == (0, 0):
        frame = empty(name)
    missing = [column for column in expected.names if column not in frame.columns]
    extra = [str(column) for column in frame.columns if column not in expected.names]
    if missing or extra:
        told = [f"{what}: {', '.join(found)}" for what, found in (("missing", missing), ("unknown", extra)) if found]
        raise ValueError(f"Table {name!r} cannot be written to {path}: columns {'; '.join(told)}.")
    frame = frame.reset_index(drop=True)
    table = pa.table([_column(frame, name, field) for field in expected], schema=expected)
    repeated = frame.duplicated(keys, keep=False)
    if repeated.any():
        raise ValueError(f"Table {name!r}: more than one row with the key {_row(frame, name, repeated.idxmax())}.")
    table = table.sort_by([(column, "ascending") for column in keys])
    table = table.replace_schema_metadata({**table.schema.metadata, DIGEST: digest(table)})
    with files.atomic(path) as temporary:
        # snappy, no statistics: a run is a file of a few rows, and collecting ten thousand of them should take seconds
        pq.write_table(table, temporary, compression="snappy", write_statistics=False, version="2.6")


def read(path: str | os.PathLike, name: str) -> pd.DataFrame:
    """Read a file written by `write`; nullable integers come back as pandas `Int64`, other nulls as NaN.

    Raises UserError naming the file when it is not Parquet, is cut short, holds another table or version or rows that were
    changed after they were written, and FileNotFoundError when it is not there.
    """
    return _frame(_read(path, name))


def digest(table: pa.Table) -> str:
    """SHA-256 of the names and values of a table's columns in the order of its rows, however they are stored."""
    found = hashlib.sha256()
    for start in range(0, max(table.num_rows, 1), PART):
        found.update(json.dumps(table.slice(start, PART).to_pydict()).encode())
    return found.hexdigest()


def collect(paths: Iterable[str | os.PathLike], name: str) -> pd.DataFrame:
    """Read many files of one table into one frame, in the order given. No files give an empty frame.

    Raises what `read` raises, and ValueError naming both files when two of them hold the same key.
    """
    paths = list(paths)
    rows, parts = [], [schema(name).empty_table()]
    # Opening small files on a network file system is mostly waiting, and pyarrow releases the lock while decoding.
    with ThreadPoolExecutor(max_workers=8) as pool:
        for first in range(0, len(paths), BATCH):
            batch = list(pool.map(lambda path: _read(path, name), paths[first : first + BATCH]))
            rows += [table.num_rows for table in batch]
            parts.append(pa.concat_tables(batch).combine_chunks())
    frame = _frame(pa.concat_tables(parts))
    keys = key(name)
    repeated = frame.duplicated(keys)
    if repeated.any():
        second = int(repeated.idxmax())
        same = (frame[keys] == frame.loc[second, keys]).all(axis=1)
        owner = [path for path, count in zip(paths, rows, strict=True) for _ in range(count)]
        raise errors.UserError(
            f"{owner[int(same.idxmax())]} and {owner[second]} hold the same row of table {name!r}: "
            f"{_row(frame, name, second)}. Delete the one that does not belong there and run again."
        )
    return frame


def _column(frame: pd.DataFrame, name: str, field: pa.Field) -> pa.Array:
    """One checked column as an Arrow array of the field's type."""
    values = frame[field.name]
    try:
        array = _array(values, field.type)
    except (pa.ArrowException, OverflowError) as error:
        bad = next((row for row in range(len(values)) if not _fits(values.iloc[[row]], field.type)), None)
        told = str(error) if bad is None else f"{values[bad]!r} in row {bad} ({_row(frame, name, bad)})"
        raise errors.UserError(
            f"Table {name!r}, column {field.name!r}: a {WORDS[field.type]} expected, got {told}."
        ) from error
    if array.null_count and not field.nullable:
        bad = array.is_null().to_pylist().index(True)
        raise errors.UserError(
            f"Table {name!r}, column {field.name!r}: no value in row {bad} ({_row(frame, name, bad)}); "
            "this column may not be empty."
        )
    return array


def _array(values: pd.Series, kind: pa.DataType) -> pa.Array:
    """Arrow's own conversion would turn "1" and True into 1, and 2 into True, without a word."""
    text = isinstance(values.dtype, pd.StringDtype) and values.notna().any()
    truth = pd.api.types.is_bool_dtype(values.dtype) and len(values)
    number = pd.api.types.is_numeric_dtype(values.dtype) and not truth and values.notna().any()
    if (
        (text and kind != pa.string())
        or (truth and kind not in (pa.string(), pa.bool_()))
        or (number and kind == pa.bool_())
    ):
        raise pa.ArrowTypeError(f"a column of type {values.dtype}")
    return pa.Array.from_pandas(values, type=kind, safe=True)


def _fits(values: pd.Series, kind: pa.DataType) -> bool:
    try:
        _array(values, kind)
    except (pa.ArrowException, OverflowError):
        return False
    return True


def _row(frame: pd.DataFrame, name: str, index: int) -> str:
    return ", ".join(f"{column}={frame.loc[index, column]}" for column in key(name))


def _read(path: str | os.PathLike, name: str) -> pa.Table:
    expected = schema(name)
    again = "Delete it and run again to make it anew."
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there: the table {name!r} should have been written to it.")
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise errors.UserError(f"{path} is not a whole Parquet file ({str(error).strip()}). {again}") from error
    told = dict(table.schema.metadata or {})
    written = told.pop(DIGEST, b"").decode()
    table = table.replace_schema_metadata(told)
    # what is said of a column may be reworded; what it is may not
    if _meant(table.schema) == _meant(expected):
        if written != digest(table):
            raise errors.UserError(
                f"{path}: its rows are not those that were written (SHA-256): it was changed or damaged afterwards. {again}"
            )
        return table.cast(expected)
    found = {entry.decode(): value.decode() for entry, value in (table.schema.metadata or {}).items()}
    if found.get("table") != name:
        raise errors.UserError(f"{path} does not hold the table {name!r} but {found.get('table')!r}. {again}")
    if found.get("version") != (version := str(_described(name)["version"])):
        raise errors.UserError(
            f"{path} is version {found.get('version')} of the table {name!r}, but version {version} is read. {again}"
        )
    differing = sorted({column[0] for column in set(_columns(table.schema)) ^ set(_columns(expected))}) or [
        "their order"
    ]
    raise errors.UserError(
        f"{path}: columns of the table {name!r} differ from its schema: {', '.join(differing)}. {again}"
    )


def _meant(of: pa.Schema) -> tuple:
    """Table, version and columns of a schema."""
    whole = of.metadata or {}
    return whole.get(b"table"), whole.get(b"version"), _columns(of)


def _columns(of: pa.Schema) -> list[tuple]:
    """Name, type, whether it may be empty, and unit of each column."""
    return [(field.name, field.type, field.nullable, (field.metadata or {}).get(b"unit")) for field in of]


def _frame(table: pa.Table) -> pd.DataFrame:
    whole = [field.name for field in table.schema if field.nullable and pa.types.is_integer(field.type)]
    frame = table.drop_columns(whole).to_pandas() if whole else table.to_pandas()
    for column in whole:
        frame[column] = table[column].to_pandas(types_mapper=lambda _: pd.Int64Dtype())
    return frame[table.schema.names]
