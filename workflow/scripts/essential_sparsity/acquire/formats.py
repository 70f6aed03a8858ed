"""Data of any source as one table: `data.parquet`, first column `item`, with its manifest."""

from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from essential_sparsity import files
from essential_sparsity.acquire import readers, sources
from essential_sparsity.acquire.sources import SourceError

ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")  # describe data, are none


def fetch_dataset(dataset: str, settings: dict[str, Any], work: Path) -> dict[str, Any]:
    """Fetch one data set, write it to `work/files/data.parquet`, return its manifest. Raises SourceError.

    `settings`: source, id, revision, format, columns, packages. `columns` renames, as `text=sentence,label=gold`.
    """
    name = settings["format"]
    if name not in readers.READERS:
        raise SourceError(f"format is {name!r}; a data set's format is one of {', '.join(readers.READERS)}.")
    fetched = sources.obtain(settings, work, partial(data_files, format_name=name), repo_type="dataset")
    try:
        frame = readers.READERS[name]([fetched.folder / file for file in fetched.names], work)
    except SourceError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, EOFError) as error:
        raise SourceError(f"{files.some(fetched.names)} of {dataset} cannot be read as {name} ({error!r}).") from error
    frame = tidy(renamed(frame, settings.get("columns"), dataset), dataset)
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
        "files": sources.listing(work / "files", ["data.parquet"]),
        "n_rows": {str(key): int(count) for key, count in counts.items()},
        "columns": list(frame.columns),
    }


def data_files(names: list[str], format_name: str) -> list[str]:
    """Those of a source's file names that hold its data in this format. Raises SourceError when there are none."""
    suffixes = readers.SUFFIXES[format_name]
    found = [name for name in names if name.endswith(suffixes) and PurePosixPath(name).name not in ABOUT]
    if not found:
        raise SourceError(
            f"There is no file {' or '.join(suffixes)} for the format {format_name} among {files.some(names)}."
        )
    return found


def renamed(frame: pd.DataFrame, columns: str | None, dataset: str) -> pd.DataFrame:
    """Rename by `new=old,new=old`; a column that had a new name already gives way. Raises SourceError."""
    pairs = dict(pair.split("=", 1) for pair in columns.split(",")) if columns else {}
    if missing := [old for old in pairs.values() if old not in frame]:
        raise SourceError(f"{dataset} has no column {missing[0]!r} to rename; it has {files.some(list(frame))}.")
    frame = frame.drop(columns=[new for new in pairs if new in frame and new not in pairs.values()])
    return frame.rename(columns={old: new for new, old in pairs.items()})


def tidy(frame: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """`item` as unique text in the first column; without one, the place within the split. Raises SourceError."""
    if frame.empty:
        raise SourceError(f"{dataset} has no rows.")
    if "item" not in frame:
        splits = frame["split"].astype(str) if "split" in frame else pd.Series("", index=frame.index)
        places = splits.groupby(splits).cumcount().map("{:07d}".format)
        frame = frame.assign(item=(splits + "-" + places).str.removeprefix("-"))
    wrong = frame["item"][frame["item"].isna() | frame["item"].duplicated()].astype(str).unique()
    if len(wrong):
        raise SourceError(f"{dataset}: each row needs its own item; repeated or empty: {files.some(list(wrong))}.")
    frame = frame.assign(item=frame["item"].astype(str))
    return frame[["item", *frame.columns.drop("item")]]


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as parquet: the same frame gives the same bytes."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    with files.atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
