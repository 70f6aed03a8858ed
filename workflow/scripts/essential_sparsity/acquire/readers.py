"""Data sets as they are published -> frames, one reader per format. Files in, a frame out; nothing is unpickled.

A reader takes the folder of the data and the names below it that hold them, and opens each by its literal name. Its column
`item` is a text that stays with a row whatever the order of rows: the source's own id, or the place in its file. Labels are
text or categories, images the bytes of an image file. From a malformed file comes SourceError, or what a library raises
(`refusal.reading` names the file).
"""

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa

from essential_sparsity import files
from essential_sparsity.acquire import greys, grouping, imagefolders, parquets, saves, shards, splits, texts
from essential_sparsity.acquire.archives import SourceError
from essential_sparsity.acquire.frames import check_exact, concatenated, joined
from essential_sparsity.acquire.refusal import reading
from essential_sparsity.acquire.stated import NOTHING, Stated

Reader = Callable[
    ..., pd.DataFrame
]  # of a folder and names below it; of `SAYING`, and what the data set says of its splits
DEFINITION = ".yaml"  # of tasks of lm-eval
LEFT_OUT = "left_out"  # in a frame's `attrs`: reason -> rows of the source that the frame has not
MOST_RATING = 4
NO_SIDE = "a rating between -1 and 1 takes no side"
GOES_ON = b"\xff" * 4  # before each part of an Arrow stream, as all but the oldest versions write it
END = GOES_ON + bytes(4)
NOT_PUBLISHED = -1  # the class number with which the `datasets` library marks a label that is not published


def ratings_tsv(folder: Path, names: list[str]) -> pd.DataFrame:
    """Lines of id, mean rating in -4…4, text. Ratings between -1 and 1 take no side: those lines are dropped."""
    path = folder / _only(names, "ratings-tsv")
    rows = [line.split("\t") for line in texts.text_of(path).split("\n") if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not abs(float(row[1])) <= MOST_RATING:
            raise SourceError(
                f"{path.name}, rating {number} ({files.some(row)[:60]!r}): expected three cells between tabs, an id, a rating from "
                f"-{MOST_RATING} to {MOST_RATING} and a text, as the format ratings-tsv has them."
            )
    ratings = pd.Series([float(row[1]) for row in rows])
    frame = pd.DataFrame(
        {
            "item": [row[0].strip() for row in rows],
            "text": [row[2].strip() for row in rows],
            "label": np.where(ratings > 0, "positive", "negative"),
            "rating": ratings,
        }
    )
    kept = frame[ratings.abs() >= 1].reset_index(drop=True)
    kept.attrs[LEFT_OUT] = {NO_SIDE: len(frame) - len(kept)}
    return kept


def word_pairs(folder: Path, names: list[str]) -> pd.DataFrame:
    """Lines of word, word, human similarity; `#` starts a comment. A pair can stand twice: the item is its place."""
    text = texts.text_of(folder / _only(names, "word-pairs"))
    rows = [line.removesuffix("\r").split("\t") for line in text.split("\n") if line.strip() and line[0] != "#"]
    for number, row in enumerate(rows, 1):
        if len(row) < 3:
            raise SourceError(
                f"{names[0]}, pair {number} ({files.some(row)[:60]!r}): expected three cells between tabs, two words and a rating, as the format "
                "word-pairs has them."
            )
    pairs = [(f"{index:04d}", row[0], row[1], float(row[2])) for index, row in enumerate(rows)]
    return pd.DataFrame(pairs, columns=["item", "text_a", "text_b", "target"])


def summaries_json(folder: Path, names: list[str]) -> pd.DataFrame:
    """{title: {extract, topic}}. `Uncategorized` says that there is no topic: the text stays, its label is null."""
    path = folder / _only(names, "summaries-json")
    entries = json.loads(texts.text_of(path), object_pairs_hook=texts.once(path.name))
    rows = [
        (title, title, entry["extract"], None if entry["topic"] == "Uncategorized" else entry["topic"])
        for title, entry in entries.items()
    ]
    return pd.DataFrame(rows, columns=["item", "title", "text", "label"])


def _only(names: list[str], format_name: str) -> str:
    if len(names) > 1:
        raise SourceError(
            f"The format {format_name} is one file, but there are {len(names)}: {files.some(names)}. Name one in the column id."
        )
    return names[0]


def tables(
    folder: Path, names: list[str], said: Stated, format_name: str, read: Callable[[Path], pd.DataFrame]
) -> pd.DataFrame:
    """Tables, each file read by `read`; all columns are kept. A column `split` where the data set or the names of its files tell them.

    Class numbers become the names that the data set gives them (an unknown class, -1: null), as categories in the data
    set's own order, which categories of the file keep as well; images become encoded bytes.
    """
    frames = {}
    for split, found in said.grouped(names, SUFFIXES[format_name]).items():
        parts = {name: read(folder / name) for name in found}
        if empty := [name for name, part in parts.items() if part.empty]:
            raise SourceError(f"{empty[0]} has no rows. Take it out of the folder, or fill it.")
        for name, part in parts.items():
            _check_own_split(part, name, split)
        first, *others = parts
        for name in others:
            if set(parts[name]) != set(parts[first]):
                differing = sorted(set(parts[name]) ^ set(parts[first]))
                raise SourceError(
                    f"{first} and {name} have other columns ({files.some(differing)} in one of them only), so they are not parts "
                    f"of one table. {grouping.NAME_THE_FOLDER}"
                )
        frames[split] = concatenated(parts)
    return joined(frames)


def _check_own_split(part: pd.DataFrame, name: str, split: str) -> None:
    """Refuse a column `split` that says another split than the name of its file. Raises SourceError."""
    if split == splits.ALL or "split" not in part:
        return
    known = part["split"].astype(str).map(lambda value: splits.SPLIT_OF.get(value.strip().lower(), value.strip()))
    if other := sorted(set(part["split"][known != splits.SPLIT_OF.get(split.lower(), split)].astype(str))):
        raise SourceError(
            f"{name}: its name says the split {split}, but its column split holds {files.some([repr(value) for value in other], 3)}. "
            "Rename the file, or the column, or correct it."
        )


def saved(folder: Path, names: list[str], said: Stated = NOTHING) -> pd.DataFrame:
    """`tables` of Arrow files; where the records of `save_to_disk` lie beside them, just those that the records list."""
    placed = saves.listed(folder, names)
    said = said if placed is None else Stated(placed)
    return tables(folder, saves.unrecorded(names), said, "arrow", arrow)


def parquet(path: Path) -> pd.DataFrame:
    """A Parquet file as a frame of numbers, text, categories and bytes."""
    return plain(parquets.read(path), path.name)


def arrow(path: Path) -> pd.DataFrame:
    """An Arrow file or stream, as `save_to_disk` of the `datasets` library writes them; as `parquet`."""
    with reading(f"{path.name} is not readable as arrow"), pa.memory_map(str(path)) as source:
        try:
            table = pa.ipc.open_stream(source).read_all()
            _check_end(source, table, path.name)
        except pa.ArrowInvalid:
            source.seek(0)
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)  # places outside of the file are read where they point
        return plain(table, path.name)


def _check_end(source: pa.MemoryMappedFile, table: pa.Table, name: str) -> None:
    """Refuse a stream that ends between two of its parts, and one that goes on after its end: a reader stops there. SourceError."""
    end = source.tell()
    if end < source.size():
        told = "more after the end of its table"
    elif source.read_at(len(GOES_ON), 0) == GOES_ON and source.read_at(len(END), end - len(END)) != END:
        told = "no end of its table, as where it was cut short"
    else:
        return
    raise SourceError(
        f"{name} holds {table.num_rows:,} rows, and {told}: nothing else of it would be read. Save the data set again, each table into a "
        "file of its own."
    )


def plain(table: pa.Table, name: str) -> pd.DataFrame:
    """A table as a frame: classes by the names that its metadata give, images as bytes. `name` is the file's."""
    if twice := [column for column in table.column_names if table.column_names.count(column) > 1]:
        raise SourceError(f"{name}: the column {twice[0]!r} stands there twice. Leave one of them out.")
    features = _features(table)
    for place, field in enumerate(table.schema):
        if isinstance(
            field.type, pa.ExtensionType
        ):  # arrays of the `datasets` library, which pandas joins to no others
            table = table.set_column(place, field.name, table[place].cast(field.type.storage_type))
        elif pa.types.is_float16(field.type):  # of which pandas makes no index, as of labels
            table = table.set_column(place, field.name, table[place].cast(pa.float32()))
    check_exact(table, name)
    frame = table.to_pandas(ignore_metadata=True)
    for field in table.schema:
        column = field.name
        if column in features:
            codes = table[column].fill_null(NOT_PUBLISHED).to_numpy().astype(int)
            if wrong := sorted(set(codes) - set(range(NOT_PUBLISHED, len(features[column])))):
                raise SourceError(
                    f"{name}: the column {column!r} holds the class {wrong[0]}, but names {len(features[column])} classes, from 0 on."
                )
            frame[column] = pd.Categorical.from_codes(codes, features[column])
        elif pa.types.is_struct(field.type) and {part.name for part in field.type} == {"bytes", "path"}:
            frame[column] = [_bytes_of(value, name, column) for value in frame[column]]
    return frame


def _features(table: pa.Table) -> dict[str, list[str]]:
    """Column -> names of its classes, as the `datasets` library writes them into a file's metadata."""
    import datasets

    if b"huggingface" not in (table.schema.metadata or {}):
        return {}
    features = datasets.Features.from_arrow_schema(table.schema)
    return {column: part.names for column, part in features.items() if isinstance(part, datasets.ClassLabel)}


def _bytes_of(value: dict | None, name: str, column: str) -> bytes | None:
    if value is not None and value["bytes"] is None:
        raise SourceError(
            f"{name}: the column {column!r} names the image {value['path']!r} without holding it. Store the images in the file, "
            "or use the format imagefolder."
        )
    return value and value["bytes"]


def is_definition(name: str) -> bool:
    """Whether a file defines tasks of lm-eval, which can run code while a suite is built."""
    return name.lower().endswith(DEFINITION)


def documents(folder: Path, names: list[str]) -> pd.DataFrame:
    """The documents of lm-eval's tasks as they are: `{config}/{split}….parquet` or `.json(l)`, one JSON text a document.

    Splits keep their names, since a suite tells `dev` from `validation`. Definitions of tasks (`.yaml`) come with them,
    as rows of the split `yaml`.
    """
    frames = []
    of_split: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if not is_definition(name):
            of_split.setdefault((PurePosixPath(name).parent.name, _split_of_suite(name)), []).append(name)
    for found in of_split.values():
        shards.check_one_set(found)
    for path in sorted(folder / name for name in names):
        name, suffix = _split_of_suite(path.name), path.suffix.lower()
        if suffix == ".parquet":
            rows = parquets.read(path).to_pylist()
        elif is_definition(path.name):
            name, rows = "yaml", [texts.text_of(path)]
        else:
            rows = [row for _, row in texts.objects(path)]
        config = path.parent.name
        written = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        items = [f"{config}/{path.name.split('.')[0]}-{index:07d}" for index in range(len(written))]
        frames.append(pd.DataFrame({"item": items, "config": config, "split": name, "document": written}))
    return pd.concat(frames, ignore_index=True)


def _split_of_suite(name: str) -> str:
    return shards.SHARD.sub("", PurePosixPath(name).name.split(".")[0])


def _tables(format_name: str, read: Callable[[Path], pd.DataFrame]) -> Reader:
    return lambda folder, names, said=NOTHING: tables(folder, names, said, format_name, read)


SAYING = (
    "parquet",
    "arrow",
    "csv",
    "json",
    "imagefolder",
)  # formats of data sets that can say what their splits and classes are
READERS: dict[str, Reader] = {
    "parquet": _tables("parquet", parquet),
    "arrow": saved,
    "csv": _tables("csv", texts.delimited),
    "json": _tables("json", texts.records),
    "imagefolder": imagefolders.read,
    "lm-eval": documents,
    "ratings-tsv": ratings_tsv,
    "word-pairs": word_pairs,
    "summaries-json": summaries_json,
    "pixels-csv": greys.pixels_csv,
    "digits-json": greys.digits_json,
    "idx": greys.idx,
}
SUFFIXES: dict[str, tuple[str, ...]] = {  # of the files that hold a format's data, in any spelling
    "parquet": (".parquet",),
    "arrow": (".arrow",),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "json": (".json", ".jsonl", ".json.gz", ".jsonl.gz"),
    "lm-eval": (".parquet", ".json", ".jsonl", DEFINITION),
    "imagefolder": imagefolders.SUFFIXES,
    "ratings-tsv": (".txt", ".tsv"),
    "word-pairs": (".txt", ".tsv"),
    "summaries-json": (".json",),
    "pixels-csv": greys.TABLES,
    "digits-json": (".json",),
    "idx": ("-ubyte", "-ubyte.gz"),
}
