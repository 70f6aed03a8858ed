"""Data of any source as one table: `data.parquet`, first column `item`, with its manifest."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from essential_sparsity import files
from essential_sparsity.acquire import (
    cards,
    classes,
    imagefolders,
    listing,
    options,
    pictures,
    readers,
    reports,
    saves,
    shards,
    sources,
    splits,
    stated,
)
from essential_sparsity.acquire.refusal import reading
from essential_sparsity.acquire.sources import SourceError

ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")  # describe data, are none
ABOUT_DATA = "about the data"
OF_MODEL = "beside weights, in a folder of checkpoints"
CHECKPOINTS = re.compile(r"(checkpoint|ckpt|model|weight|output|run)s?([-_]?\d+)?", re.I)  # a folder that holds
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx")
PLAIN = (*reports.CONTENT, "label", "target", "item", "split")  # columns that hold one value a row
BESIDE_TEXT = ("image", "question", "context")
AT_ONCE = 1 << 17  # rows whose items are made at once
OTHER_FORMS = {
    ".xlsx",
    ".xls",
    ".ods",
    ".feather",
    ".zip",
    ".tar",
    ".tgz",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
    ".lz4",
    ".7z",
    ".rar",
    ".ndjson",
    ".tab",
    ".pq",
    ".orc",
    ".avro",
    ".pkl",
    ".npy",
    ".npz",
    ".h5",
    ".hdf5",
}
DATA = tuple(sorted({suffix for found in readers.SUFFIXES.values() for suffix in found} | OTHER_FORMS))


def fetch_dataset(dataset: str, settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """Fetch one data set, write it to `work/files/data.parquet`, return its manifest. Raises SourceError.

    `settings`: source, id, revision, format, columns, packages. `columns` renames, as `text=sentence,label=gold`.
    """
    name = settings["format"]
    left_out: dict[str, str] = {}
    fetched = sources.obtain(settings, work, partial(_chosen, settings, left_out), "dataset", _beside(name))
    folder, names = fetched.folder, [file for file in fetched.names if file not in cards.BESIDE]
    inside = settings["id"].partition(":")[2].strip("/") if settings["source"] == "hub" else ""
    inside = f"{inside}/" if inside and all(file.startswith(f"{inside}/") for file in names) else ""
    whole = [] if inside or _is_one_file(settings, names) else [*fetched.names, *left_out]
    ordered: dict[str, tuple[str, list[str]]] = {}
    said: tuple[stated.Stated, ...] = ()
    saying = name in readers.SAYING and not _is_local_file(settings)  # whose content counts, no card beside it
    with reading(f"{files.some(list(left_out))}, beside the data of {dataset}, cannot be read"):
        if saying:
            data = saves.unrecorded(names)
            options.check(folder, data)
            said = (stated.of(folder, data, inside, _unread(left_out), whole),)
        if name == "imagefolder" and settings["source"] == "path":
            imagefolders.check_tables(folder, names, list(left_out))
        if saying and name != "imagefolder":
            ordered = classes.said(folder, data)
    folder, names = folder / inside, [file.removeprefix(inside) for file in names]
    if said and said[0].left_out:
        left_out |= dict.fromkeys(said[0].left_out, stated.UNNAMED)
        names = [file for file in names if file not in left_out]
    with reading(
        f"{files.some(names)} of {dataset} cannot be read as {name}", "Correct the file, or the column format."
    ):
        frame = readers.READERS[name](folder, names, *said)
    rows_left_out = frame.attrs.pop(readers.LEFT_OUT, {})
    if frame.empty:
        raise SourceError(f"{dataset} has no rows.")
    frame = renamed(classes.classed(frame, ordered), settings.get("columns"), dataset)
    check_plain(frame, dataset)
    if "split" in frame and name != "lm-eval":  # whose suites tell dev from validation
        frame = named_splits(frame, dataset)
    report = reports.describe(frame, names, left_out, rows_left_out)  # before there are items: a corpus just fits
    frame = tidy(frame, dataset)
    if "image" in frame:
        for item, encoded in zip(frame["item"], frame["image"], strict=True):
            if isinstance(encoded, bytes):
                pictures.check(encoded, f"{dataset}: the image {item}")
    reports.check(dataset, report, name)
    write_frame(frame, work / "files" / "data.parquet")
    counts = frame["split"].value_counts() if "split" in frame else {"all": len(frame)}
    return {
        "manifest_version": sources.MANIFEST_VERSION,
        "dataset": dataset,
        "source": settings["source"],
        "id": settings["id"],
        "revision": fetched.revision,
        "package": fetched.package,
        "format": name,
        "folder": "files",
        "files": listing.entries(work / "files", ["data.parquet"]),
        "n_rows": {str(key): int(count) for key, count in counts.items()},
        "columns": list(frame.columns),
        "report": report,
    }


def size(settings: dict[str, Any]) -> int | None:
    """Bytes of the files that a data set of a hub is fetched as, as the hub lists them; None of another source. Raises SourceError."""
    return sources.size(settings, partial(_chosen, settings, {}), "dataset", _beside(settings["format"]))


def _beside(format_name: str) -> tuple[str, ...]:
    """Files of the whole source that are seen wherever in it the data lie."""
    return cards.BESIDE if format_name in readers.SAYING else ()


def _chosen(settings: dict[str, Any], left_out: dict[str, str], names: list[str]) -> list[str]:
    """Of a source's file names those that are fetched; `left_out` takes the others, with the reason. Raises SourceError."""
    name = settings["format"]
    if name not in readers.READERS:
        raise SourceError(f"format is {name!r}; a data set's format is one of {', '.join(readers.READERS)}.")
    found, others = data_files(names, name)
    if settings["source"] != "path":  # a stranger's definitions of tasks can run code
        others |= dict.fromkeys(filter(readers.is_definition, found), "defines tasks: read from a local folder alone")
        found = [file for file in found if not readers.is_definition(file)]
    left_out.update(others)
    recorded = any(PurePosixPath(file).name in saves.RECORDS for file in found)
    if name != "imagefolder" and not recorded and not _is_one_file(settings, names):
        shards.check_shards(found)
        shards.check_parts(found)
    return found


def _unread(left_out: Mapping[str, str]) -> dict[str, str]:
    """Of the files that are left out those that look like data, with the reason."""
    return {
        name: reason
        for name, reason in left_out.items()
        if reason != ABOUT_DATA and name.lower().endswith(DATA) and PurePosixPath(name).name not in imagefolders.TABLES
    }


def _is_one_file(settings: dict[str, Any], names: list[str]) -> bool:
    """Whether the column id names a file, and so perhaps one shard of several, as it is meant."""
    return _is_local_file(settings) or (settings["source"] == "hub" and settings["id"].partition(":")[2] in names)


def _is_local_file(settings: dict[str, Any]) -> bool:
    return settings["source"] == "path" and Path(settings["id"]).expanduser().is_file()


def beside_data(names: Iterable[str]) -> dict[str, str]:
    """Of a source's file names those that are no data in any format, with the reason: hidden, about the data, of a model."""
    paths = {name: PurePosixPath(name) for name in names}
    weights = [path for path in paths.values() if path.suffix.lower() in WEIGHTS]
    of_models = {folder for path in weights for folder in path.parents if CHECKPOINTS.fullmatch(folder.name)}
    found = {}
    for name, path in paths.items():
        if any(part.startswith(files.HIDDEN) for part in path.parts) or any(
            part.startswith("__") for part in path.parent.parts
        ):
            found[name] = stated.HIDDEN
        elif path.name in ABOUT:
            found[name] = ABOUT_DATA
        elif of_models.intersection(path.parents):
            found[name] = OF_MODEL
    return found


def data_files(names: list[str], format_name: str) -> tuple[list[str], dict[str, str]]:
    """Of a source's file names those that are read in this format (data, and the records of `save_to_disk`), and the others,
    each with the reason.

    Raises SourceError when there are none, and for a file that is left out although its name says a split of its own.
    """
    suffixes = readers.SUFFIXES[format_name]
    found, records, left_out, beside = [], [], {}, beside_data(names)
    for name in names:
        if format_name == "arrow" and beside.get(name) == ABOUT_DATA and PurePosixPath(name).name in saves.RECORDS:
            records.append(name)
        elif name in beside:
            left_out[name] = beside[name]
        elif format_name == "arrow" and PurePosixPath(name).name.startswith("cache-"):
            left_out[name] = "a cache of the datasets library"
        elif name.lower().endswith(suffixes):
            found.append(name)
        else:
            left_out[name] = f"no {' or '.join(suffixes)}"
    if not found:
        lost = next((name for name in left_out if name.lower().endswith(suffixes)), None)
        raise SourceError(
            f"There is no file {' or '.join(suffixes)} for the format {format_name} among {files.some(names)}."
            + (
                f" {lost} is left out: {left_out[lost]}. Name its folder in the column id, or rename it."
                if lost
                else ""
            )
        )
    known, places = splits.all_in(found), {PurePosixPath(name).parent for name in found}
    for name, reason in left_out.items():
        other = (
            splits.KNOWN.splits_in(PurePosixPath(name).name) - known if PurePosixPath(name).parent in places else None
        )
        if known and other and reason.startswith("no ") and name.lower().endswith(DATA):
            raise SourceError(
                f"{name} is not read as {format_name} ({reason}), but its name says a split that {files.some(found, 3)} has not. "
                "Save it in the same form, or take it out of the folder."
            )
    if format_name == "imagefolder":
        _refuse_vanished(found, [name for name, reason in left_out.items() if reason.startswith("no ")])
    return found + records, left_out


def _refuse_vanished(found: list[str], left_out: list[str]) -> None:
    """Refuse a folder of a label, or of a split, in which no file is read as an image. Raises SourceError."""
    labels = {PurePosixPath(name).parent for name in found}
    depths = {len(label.parts) for label in labels}
    beside = {label.parent for label in labels}
    lost: dict[PurePosixPath, list[PurePosixPath]] = {}
    for name in map(PurePosixPath, left_out):
        folders = {PurePosixPath(*name.parts[:depth]) for depth in depths if 0 < depth < len(name.parts)}
        if not folders & labels:
            for folder in folders:
                if folder.parent in beside or splits.KNOWN.splits_in(folder.parts[0]):
                    lost.setdefault(folder, []).append(name)
    for folder, names in lost.items():
        suffixes = files.some(sorted({name.suffix or name.name for name in names}))
        raise SourceError(
            f"No file of the folder {folder} is read as an image ({suffixes}), so its label would be missing. Save them as PNG or JPEG, "
            "or take the folder out."
        )


def renamed(frame: pd.DataFrame, columns: str | None, dataset: str) -> pd.DataFrame:
    """Rename by `new=old,new=old`; a column that had a new name already gives way. Raises SourceError.

    So does a text of the data's own beside a pair that is named, and a pair of their own beside a text that is: it would be
    read in their place.
    """
    parts = [pair.strip() for pair in columns.split(",")] if columns else []
    if wrong := [pair for pair in parts if not all(pair.partition("="))]:
        raise SourceError(
            f"{dataset}: {wrong[0]!r} in the column columns renames nothing; write new=old pairs, as text=sentence,label=gold."
        )
    for place, side in enumerate(("new", "old")):
        names = [pair.split("=", 1)[place] for pair in parts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise SourceError(
                f"{dataset}: the {side} name {twice[0]!r} stands twice in the column columns ({columns}), where only one can count. Take one "
                "of them out."
            )
    pairs = dict(pair.split("=", 1) for pair in parts)
    if missing := [old for old in pairs.values() if old not in frame]:
        raise SourceError(
            f"{dataset} has no column {missing[0]!r}, which its `columns` name; it has {files.some(list(frame))}. Correct them, "
            "in the command or in its row (tasks.tsv, or calibrations.tsv for what patterns are calibrated on)."
        )
    own_pair = "text_a" in frame and "text_a" not in pairs
    instead = {"text": ["text_a", "text_b"] if own_pair else [], "text_a": ["text"]}
    giving_way = {name for new in pairs for name in (new, *instead.get(new, ()))} - set(pairs.values())
    frame = frame.drop(columns=[name for name in frame if name in giving_way])
    return frame.rename(columns={old: new for new, old in pairs.items()})


def check_plain(frame: pd.DataFrame, dataset: str) -> None:
    """Refuse lists, mappings and bytes where one text or number is meant, and images that are no bytes. Raises SourceError.

    Beside a text, an image, a question and a context are what no task reads: addresses of images, lists of passages.
    """
    if "target" in frame and frame["target"].dtype.kind in "mM":
        raise SourceError(
            f"{dataset}: the column 'target' holds {frame['target'].dtype}, as dates and durations are; expected ratings, a number a row. Name the "
            "column of the ratings in the column columns (target=score)."
        )
    unread = BESIDE_TEXT if {"text", "text_a"} & set(frame) else ()
    for column in (name for name in PLAIN if name in frame and name not in unread):
        if column != "image" and not isinstance(frame[column].dtype, pd.CategoricalDtype | np.dtypes.ObjectDType):
            continue
        for row, value in enumerate(frame[column].astype(object)):
            one = pd.api.types.is_scalar(value)
            if not (one and (pd.isna(value) or isinstance(value, bytes) == (column == "image"))):
                raise SourceError(_not_plain(frame, dataset, column, row))


def _not_plain(frame: pd.DataFrame, dataset: str, column: str, row: int) -> str:
    value, item = frame[column].iloc[row], frame["item"].iloc[row] if "item" in frame else f"{row:07d}"
    words = {bytes: "bytes", str: repr(str(value)[:40]), dict: "a mapping", list: "a list", np.ndarray: "a list"}
    if column == "image":
        expected = (
            "the bytes of an image file, as PNG. Store them so, or use the format imagefolder for files of images"
        )
    else:
        expected = "one text or number. Write it so"
    return (
        f"{dataset}: item {item}: the column {column!r} holds {words.get(type(value), type(value).__name__)}; expected {expected}; "
        f"what no task reads can be renamed in the column columns (unread={column})."
    )


def tidy(frame: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """`item` as unique text in the first column; without one, the place within the split. Raises SourceError."""
    if "item" in frame:
        wrong = frame["item"][frame["item"].isna() | frame["item"].duplicated()].astype(str).unique()
        if len(wrong):
            raise SourceError(f"{dataset}: each row needs its own item; repeated or empty: {files.some(list(wrong))}.")
        frame = frame.assign(item=frame["item"].astype(str))
    elif "split" in frame:
        of_row = frame["split"].astype(str)
        frame = frame.assign(item=of_row + "-" + _padded(of_row.groupby(of_row).cumcount().to_numpy()))
    else:
        frame = frame.assign(item=_padded(range(len(frame))))
    return frame[["item", *frame.columns.drop("item")]]


def _padded(places: Sequence[int] | np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Places as texts of seven digits; many rows at once, not all, since a corpus has tens of millions."""
    pieces = [places[start : start + AT_ONCE] for start in range(0, len(places), AT_ONCE)]
    texts = [pc.utf8_lpad(pa.array(piece).cast(pa.string()), 7, "0") for piece in pieces]
    return pa.chunked_array(texts, pa.string()).to_pandas().array


def named_splits(frame: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """The column split in one spelling (`dev` and `Validation` are `validation`); without it where all rows are of one."""
    if (missing := frame["split"].isna() | (frame["split"].astype(str).str.strip() == "")).any():
        raise SourceError(
            f"{dataset}: {missing.sum():,} rows have no value in the column split. Give each row its split."
        )
    cells = frame["split"].astype(str)
    words = {cell: cell.strip().lower() for cell in cells.unique()}
    words = {cell: word if word in splits.SPLIT_OF else cell for cell, word in words.items()}
    spelt = splits.spelt(set(words.values()))
    names = cells.map({cell: spelt[word] for cell, word in words.items()})
    return frame.drop(columns="split") if (names == names.iloc[0]).all() else frame.assign(split=names)


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as parquet: the same frame gives the same bytes."""
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except pa.ArrowException as error:
        raise SourceError(f"A column holds values of several kinds ({error}). Write them all the same way.") from error
    if nothing := [field.name for field in table.schema if _is_nothing(field.type)]:
        raise SourceError(
            f"The column {nothing[0]!r} holds mappings without a key ({{}}) throughout, which cannot be kept. Leave it out of the data."
        )
    with files.atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _is_nothing(kind: pa.DataType) -> bool:
    """Whether values of this type are, or hold, mappings without a key."""
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_is_nothing(field.type) for field in kind)
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_nothing(kind.value_type)
