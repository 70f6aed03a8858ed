"""Text files as tables, in one dialect: what a reader would have to guess is refused, with file and line.

UTF-8, with or without a byte-order mark, perhaps in gzip. Cells stay the text that stands in them: `NA`, `None`, `01` and
`1.0` are texts. `.csv`: cells between commas, in double quotes where they hold a comma, a quote (doubled) or a line break.
`.tsv`: cells between tabs, quotes are part of the text. `.json`, `.jsonl`: objects, one a line or in one list.
"""

import contextlib
import csv
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from essential_sparsity import files
from essential_sparsity.acquire import untrusted
from essential_sparsity.acquire.archives import SourceError, gunzipped
from essential_sparsity.acquire.frames import check_exact

UTF16 = (b"\xff\xfe", b"\xfe\xff")
SAVE_AS_UTF8 = "Save it as UTF-8 (in a spreadsheet: CSV UTF-8)."
CELLS = 1 << 24  # of any table
CELLS_OF_BYTE = 16  # of a table whose objects lack most keys
NOTE = re.compile('"?sep=.?"?,*', re.I)  # which Excel reads and does not show
HALF = re.compile("[\ud800-\udfff]")
BEHIND_BLANK = re.compile(r'[ \t]+".*"[ \t]*', re.DOTALL)  # which a CSV takes as text, quotes included
QUOTED = re.compile(r'"(?:[^"]|"")*"')  # as a CSV writes a cell


def text_of(path: Path) -> str:
    """The text of a file, unpacked where its name ends in `.gz`, without its byte-order mark. Raises SourceError."""
    data = gunzipped(path) if path.name.lower().endswith(".gz") else path.read_bytes()
    if data.startswith(untrusted.LFS_POINTER):
        raise SourceError(f"{path.name} is a pointer of Git LFS, not the data. {untrusted.FETCH_LFS}")
    if data.startswith(UTF16) or b"\0" in data:
        raise SourceError(f"{path.name} is no UTF-8 text: it is UTF-16, or no text at all. {SAVE_AS_UTF8}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{path.name}, line {line}: byte {data[error.start]:#x} is no UTF-8 text, but one of another encoding, such as "
            f"Latin-1. {SAVE_AS_UTF8}"
        ) from error


def delimited(path: Path) -> pd.DataFrame:
    """A `.csv` or `.tsv` file with a header, every cell as text. Raises SourceError.

    Blank lines are no rows. A row with more or fewer cells than the header is an error: nothing is filled in or shifted.
    """
    tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
    text = text_of(path)
    lines = list(_tabs(text) if tabs else _commas(text, path.name))
    if not lines:
        raise SourceError(f"{path.name} is empty; expected a header and rows, in the format csv.")
    if NOTE.fullmatch(text[: text.find("\n")].strip()):
        raise SourceError(
            f"{path.name}, line 1: {lines[0][1][0]!r} tells Excel how cells are separated, and is no header. Take that line out."
        )
    header, rows = _header(lines[0][1], path.name, tabs), lines[1:]
    for place, (line, cells) in enumerate(rows):
        if place and len(header) > 1 and [cell.strip().lstrip("\ufeff") for cell in cells] == header:
            raise SourceError(
                f"{path.name}, line {line}: the header ({files.some(header)}) stands there once more, as where files were joined, and would be "
                "a row. Take that line out."
            )
        if len(cells) != len(header):
            raise SourceError(
                f"{path.name}, line {line}: {len(cells)} cells under {len(header)} columns ({files.some(header)}). "
                + (
                    "Cells are separated by single tabs, and hold none."
                    if tabs
                    else "A cell that holds a comma stands in double quotes."
                )
            )
    if tabs:
        _refuse_quoting(lines, path.name)
    columns = list(zip(*(cells for _, cells in rows), strict=True)) if rows else [()] * len(header)
    for column, cells in zip(header, columns, strict=True):
        written = [cell for cell in cells if cell.strip()]
        if not tabs and written and all(map(BEHIND_BLANK.fullmatch, written)):
            raise SourceError(
                f"{path.name}: the cells of the column {column!r} are quoted behind a blank ({written[0][:40]}), so their quotes would be part of "
                "the text, and their commas would not. Take the blanks after the commas out."
            )
    return pd.DataFrame({name: list(cells) for name, cells in zip(header, columns, strict=True)})


def _tabs(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the lines that are not blank."""
    if "\n" not in text:
        text = text.replace("\r", "\n")  # of old Macintoshes
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip("\r"):
            yield number, line.removesuffix("\r").split("\t")


def _commas(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    with _long_cells():
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        start = 1
        try:
            for cells in reader:
                if cells:
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error as error:
            raise SourceError(
                f"{name}, line {start}: not readable as csv ({error}). A cell in double quotes ends with one, and doubles those inside."
            ) from error


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _header(cells: list[str], name: str, tabs: bool) -> list[str]:
    header = [cell.strip() or f"Unnamed: {place}" for place, cell in enumerate(cells)]  # pandas writes an index so
    if repeated := [column for column, count in Counter(header).items() if count > 1]:
        raise SourceError(f"{name}: the column {repeated[0]!r} stands twice in the header. Leave one of them out.")
    if len(header) == 1:
        found = [sign for sign in (";", "|", "," if tabs else "\t") if sign in header[0]]
        if found:
            raise SourceError(
                f"{name}: the header {header[0]!r} is one cell, with {found[0]!r} in it. Cells of a {'.tsv' if tabs else '.csv'} "
                f"are separated by {'tabs' if tabs else 'commas'}: save it so."
            )
    return header


def _refuse_quoting(lines: list[tuple[int, list[str]]], name: str) -> None:
    """Refuse a file whose cells were quoted as in a CSV: read as they stand, they would carry those quotes."""
    for line, cells in lines:
        for cell in cells:
            quoted = QUOTED.fullmatch(cell) is not None
            if quoted and (line == lines[0][0] or '""' in cell[1:-1]):
                raise SourceError(
                    f"{name}, line {line}: the cell {cell[:40]} is quoted as in a .csv, but quotes in a .tsv are part of the "
                    "text. Save it without quotes, or as .csv."
                )


def records(path: Path) -> pd.DataFrame:
    """A `.json` or `.jsonl` file of objects, with a column for every key; what an object lacks is null. SourceError."""
    rows = objects(path)
    names = dict.fromkeys(name for _, row in rows for name in row)
    if len(names) * len(rows) > max(CELLS, CELLS_OF_BYTE * path.stat().st_size):
        raise SourceError(
            f"{path.name} holds {len(rows):,} objects with {len(names):,} keys in all, hardly one of them in two objects; the format json "
            "expects the same keys in each. Write what differs from object to object as a value."
        )
    columns = {}
    for name in names:
        values = [row.get(name) for _, row in rows]
        kinds = Counter(type(value).__name__ for value in values if value is not None)
        try:
            if len(kinds) > 1 and set(kinds) != {"int", "float"}:
                raise pa.ArrowInvalid("one column has one kind")
            columns[name] = pa.array(values)
        except UnicodeEncodeError as error:
            place = next(place for place, row in rows if HALF.search(json.dumps(row.get(name), ensure_ascii=False)))
            raise SourceError(
                f"{path.name}, {place}: the column {name!r} holds half a character ({error.object[error.start]!a}, of a pair of UTF-16), as where "
                "a text was cut within an emoji. Write the whole character, or take it out."
            ) from error
        except (pa.ArrowException, OverflowError) as error:
            rarest = min(kinds, key=kinds.get)
            place = next(
                place for (place, _), value in zip(rows, values, strict=True) if type(value).__name__ == rarest
            )
            raise SourceError(
                f"{path.name}, {place}: the column {name!r} holds values of several kinds ({', '.join(sorted(kinds))}; {error}), "
                "so it is not readable as json. Write them all as texts, or all as numbers."
            ) from error
    table = pa.table(columns)
    check_exact(table, path.name)
    return table.to_pandas()


def objects(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(place in the file, object) of a JSON list or of JSON lines. Raises SourceError."""
    text = text_of(path)
    if text.lstrip()[:1] == "[":
        found = [(f"object {index}", row) for index, row in enumerate(_parsed(text, path.name, ""), 1)]
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) > 1 and lines[0][1].strip() == "{":
            raise SourceError(
                f"{path.name} holds one object over many lines; the format json is a list of objects, or one object a line."
            )
        found = [(f"line {number}", _parsed(line, path.name, f", line {number}")) for number, line in lines]
    for place, row in found:
        if not isinstance(row, dict):
            raise SourceError(
                f"{path.name}, {place}: {str(row)[:40]!r} is no object; the format json expects objects, as "
                '{"text": "…", "label": "…"}.'
            )
    return found


def once(where: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """What `json.loads` is to make of an object's keys and values (`object_pairs_hook`); SourceError for a key that stands twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [key for key, _ in pairs]
        if len(set(names)) < len(names):
            raise SourceError(f"{where}: an object holds the key {Counter(names).most_common(1)[0][0]!r} twice.")
        return dict(pairs)

    return unique


def _parsed(text: str, name: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=once(f"{name}{place}"))
    except json.JSONDecodeError as error:
        raise SourceError(f"{name}{place}: not readable as json ({error}).") from error
    except RecursionError as error:
        raise SourceError(
            f"{name}{place}: not readable as json: lists or objects lie too deep in each other."
        ) from error
