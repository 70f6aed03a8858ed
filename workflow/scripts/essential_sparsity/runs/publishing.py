"""A finished study as a folder that others load: its tables, the evaluated items behind them, what it was made of, and a data card.

The tables are the study's own files, byte for byte, but for what is not to go out; items are joined to one table, in as many files as they
need. What was written is read again by `datasets`, as others will, and compared value for value.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from essential_sparsity import errors, files, tables
from essential_sparsity.runs import datacard, folders, settled, traces
from essential_sparsity.runs.settled import Settled
from essential_sparsity.study import grid, records
from essential_sparsity.tables import crate, runs

CARD, CONFIGURATION = "README.md", "configuration.json"
SHARD = 1 << 20  # rows of items in a file
LEFT_OUT = {
    "costs": "times and memory on the machines that computed it, which differ between two equal studies",
    "explorer.html": "it quotes logs of missing runs; what it draws is in the tables",
}
LOGS = "It is in the study's own table: texts of logs are not published."  # in the place of a reason
# Letters of an identifier, of most, and words of most: titles and names of files are identifiers too.
LONGEST, USUAL, MOST_WORDS = 255, 60, 8


@dataclass(frozen=True)
class Published:
    """Where it lies; rows of each table by name, items as `items`; files of items; bytes in all; what a person is told, as sentences."""

    folder: Path
    rows: dict[str, int]
    item_files: int
    size: int
    said: list[str]


def place(name: str) -> Path:
    """The folder that a study is published in."""
    return Path(grid.folder(name)) / "publish"


def publish(config: dict[str, Any], licence: str, commit: Mapping[str, Any]) -> Published:
    """Write the folder of a study, whole or not at all; the same study gives the same bytes.

    `licence`: of the tables, as the hub writes it; `commit`: of the workflow that writes it. Raises UserError for a study that is not
    finished, damaged, stale or of several calls, for what tells of this machine, and where the folder holds anything but this.
    """
    found = settled.read(config)
    target = place(found.study.name)
    with folders.alone(target), folders.whole(target) as part:
        folders.check(target, _key(found))
        packed = _tables(found, part)
        packed["items"] = list(_items(found, part / "items"))
        rows = {name: sum(pq.read_metadata(path).num_rows for path in paths) for name, paths in packed.items()}
        pages, said = _pages(found, part)
        files.write_json(part / CONFIGURATION, traces.without_folders(json.loads(found.study.deciding())))
        manifests = _manifests(found)
        datacard.write(part / CARD, found, rows, packed, licence, manifests, commit)
        listed = [*(path for paths in packed.values() for path in paths), *pages, part / CONFIGURATION, part / CARD]
        files.write_json(part / crate.NAME, _crate(found.crate, part, listed))
        traces.refuse(part)
        _verify(part, {name: paths for name, paths in packed.items() if rows[name]})
        folders.seal(part, {"key": _key(found), "rows": rows})
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
    told = []
    if count := len(found.missing):
        told = [
            f"{count:,} of the study's {count + len(found.grid):,} runs are missing; of these, keys alone: reasons quote logs."
        ]
    told += records.not_compared(found.study)
    told += [*found.said, *(f"Left out: {name} ({why})." for name, why in LEFT_OUT.items()), *said]
    return Published(target, rows, len(packed["items"]), size, told)


def _key(found: Settled) -> dict[str, Any]:
    return {"study": found.study.name}


def _tables(found: Settled, part: Path) -> dict[str, list[Path]]:
    """Table -> its file in the folder."""
    packed = {}
    for name in (name for name in found.names if name not in LEFT_OUT):
        path = part / f"tables/{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        if name == "missing_runs":
            tables.write(found.missing.assign(log=None, reason=LOGS), name, path)
        else:
            shutil.copyfile(found.path(name), path)
        packed[name] = [path]
    return packed


def _items(found: Settled, folder: Path) -> Iterator[Path]:
    """The items of the tabulated runs in their order, in files of SHARD rows; no more than a curve and a file is held at a time."""
    read, held, count, number = runs.items(found.grid), [], 0, 0
    for _, own in found.runs.groupby(["model", "task", "pattern"], sort=True):
        curve = read(own).merge(own[runs.KEY].drop_duplicates(), on=runs.KEY)
        _refuse_texts(curve)
        held.append(curve.sort_values(tables.key("items")))
        count += len(curve)
        while count >= SHARD:
            rows = pd.concat(held)
            yield _shard(rows[:SHARD], folder, number)
            held, count, number = [rows[SHARD:]], count - SHARD, number + 1
    if count or not number:
        yield _shard(pd.concat(held) if held else tables.empty("items"), folder, number)


def _shard(rows: pd.DataFrame, folder: Path, number: int) -> Path:
    path = folder / f"items-{number:05d}.parquet"
    tables.write(rows, "items", path)
    return path


def _refuse_texts(items: pd.DataFrame) -> None:
    """UserError where what names the items looks like their texts: data sets have licences of their own."""
    names = items["item"].drop_duplicates()
    lengths, words = names.str.len(), names.str.count(r"\s+") + 1
    broken = names.str.contains(r"[\r\n]")
    if broken.any() or lengths.max() > LONGEST or lengths.median() > USUAL or words.median() > MOST_WORDS:
        shown = names[broken].iloc[0] if broken.any() else names[lengths.idxmax()]
        raise errors.UserError(
            f"The task {items['task'].iloc[0]} names its items by what looks like their text ({shown[:40]!r}…), and texts of data sets "
            "are not published. Give its data a column item with identifiers, or leave that column out, and run the study again."
        )


def _pages(found: Settled, part: Path) -> tuple[list[Path], list[str]]:
    """The pages of the study that its provenance names, copied; what is said of the others."""
    listed = {entity["@id"]: entity.get("sha256") for entity in found.crate["@graph"]}
    pages, others = [], []
    for path in sorted(path for path in found.folder.glob("*.html") if path.name not in LEFT_OUT):
        if listed.get(path.name) == files.sha256_file(path):
            shutil.copyfile(path, part / path.name)
            pages.append(part / path.name)
        else:
            others.append(path.name)
    if not others:
        return pages, []
    return pages, [f"Left out: {', '.join(others)} ({crate.NAME} does not say of which tables they are)."]


def _manifests(found: Settled) -> list[dict[str, Any]]:
    """Of the checkpoints and data sets of the study, those that are there."""
    asked = found.study
    paths = [Path(grid.STORE) / f"checkpoints/{name}/manifest.json" for name in asked.named_models]
    paths += [Path(grid.STORE) / f"datasets/{name}/manifest.json" for name in asked.used_datasets]
    return [files.read_json(path) for path in paths if path.is_file()]


def _crate(said: Mapping[str, Any], part: Path, listed: list[Path]) -> dict[str, Any]:
    """The RO-Crate of the study with the files of the folder in the place of its own, and without folders of the machine."""
    entities = {entity["@id"]: traces.without_folders(entity) for entity in said["@graph"] if entity["@type"] != "File"}
    settings = entities["#configuration"]
    settings["text"] = json.dumps(traces.without_folders(json.loads(settings["text"])), sort_keys=True)
    for path in sorted(listed):
        name = path.relative_to(part).as_posix()
        entities[name] = {"@id": name, "@type": "File", **crate.of_file(path)}
    names = [{"@id": path.relative_to(part).as_posix()} for path in sorted(listed)]
    entities["./"]["hasPart"] = entities["#study"]["result"] = names
    return {**said, "@graph": list(entities.values())}


def _verify(part: Path, packed: Mapping[str, list[Path]]) -> None:
    """What `datasets` reads of the folder are the values that were written. RuntimeError: that would be a fault of this program."""
    import datasets

    datasets.disable_progress_bars()
    cache = part.with_suffix(".cache")
    shutil.rmtree(cache, ignore_errors=True)  # of a call that was killed
    try:
        for name, paths in packed.items():
            found = datasets.load_dataset(str(part), name, split="train", cache_dir=str(cache)).data.table
            start = 0
            for path in paths:
                written = pq.read_table(path)
                own = found.slice(start, written.num_rows)
                if own.schema.types != written.schema.types or tables.digest(own) != tables.digest(written):
                    raise RuntimeError(f"{path}: `datasets` reads other values than were written: please report this")
                start += written.num_rows
            if start != found.num_rows:
                raise RuntimeError(
                    f"{part}: `datasets` reads other rows of {name} than were written: please report this"
                )
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def lines(made: Published) -> list[str]:
    """What was published, for a person."""
    others = len(made.rows) - 1
    where = "1 file" if made.item_files == 1 else f"{made.item_files} files"
    return [
        f"{made.folder}: {others} tables and {made.rows['items']:,} evaluated items in {where}, {made.size / 1e6:,.1f} MB",
        *made.said,
    ]
