"""Which runs of a grid are not there, and why: what their logs say, or the logs of what they wait for.

So a run that failed, was lost or is of something else keeps no other one from the tables (`missing_runs: skip`).
"""

import os
import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from essential_sparsity import files, tables
from essential_sparsity.logs import CHANGED, FOUND, last_line
from essential_sparsity.tables import runs

LONGEST = 300  # characters of a reason
OTHER = "Its file is of other "
AGAIN = " (delete it should the next run not compute it)."  # Snakemake takes it for new after an update that failed
DONE = re.compile(r" seed \d+: .*\(\d+\.\d s\)$")  # the line that ends the log of a run that went well
GONE = " is not there."
NOT_THERE = ""  # the reason of a file that is just not there: its log says more


def table(
    grid: pd.DataFrame, logs: Path, other: Collection[str] = (), made: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Table `missing_runs`: the rows of table `grid` that cannot be tabulated, each with a reason.

    Not there are runs without their file or that of their items, those whose files are damaged, and those that were made
    of something else than the configuration asks for now. `logs`: the folder of the logs of the store, by rule. `other`: the
    manifests and tickets that are of something else themselves (`records.of_other`); `made`: model -> pre-training made here,
    of the models that are its checkpoints.
    """
    told = _told(grid, other)
    lost = grid[told.notna()]
    dense = set(lost.loc[lost["pattern"] == "dense", ["model", "task", "seed"]].itertuples(index=False, name=None))
    rows = []
    for row, what in zip(lost.itertuples(), told[told.notna()], strict=True):
        log, reason = _why(row, what, logs, dense, made or {})
        rows.append({name: getattr(row, name) for name in (*runs.KEY, "run")} | {"log": log, "reason": reason})
    return pd.DataFrame(rows)


def parted(
    grid: pd.DataFrame,
    logs: Path,
    skip: bool,
    other: Collection[str] = (),
    made: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of table `grid` that are tabulated, and table `missing_runs` of the others: without `skip`, all are."""
    lost = table(grid, logs, other, made) if skip else tables.empty("missing_runs")
    return without(grid, lost), lost


def without(grid: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    """The rows of table `grid` that table `missing_runs` does not name."""
    if missing.empty:
        return grid
    named = pd.MultiIndex.from_frame(missing[runs.KEY])
    return grid[~pd.MultiIndex.from_frame(grid[runs.KEY]).isin(named)]


def _told(grid: pd.DataFrame, other: Collection[str] = ()) -> pd.Series:
    """What is wrong with each run of a grid, null where nothing is."""
    told = pd.Series(None, index=grid.index, dtype=object)
    for column in ("checkpoint", "dataset", "calibration", "ticket"):
        stale = told.isna() & grid[column].isin(list(other))
        told[stale] = "The file " + grid.loc[stale, column] + f" is {CHANGED}."
    there = cache(os.path.isfile)
    for column in ("run", "items", "checkpoint", "dataset", "calibration", "ticket"):
        gone = (
            told.isna() & grid[column].notna() & ~grid[column].map(lambda path: isinstance(path, str) and there(path))
        )
        told[gone] = NOT_THERE if column == "run" else "The file " + grid.loc[gone, column] + GONE
    found, broken = _readable(grid.loc[told.isna(), "run"].drop_duplicates())
    told = told.where(told.notna(), grid["run"].map(broken))
    left = grid[told.isna()]
    joined = runs.beside(left.assign(row=left.index), found).drop_duplicates("row").set_index("row")
    lacking = joined.index[joined["metric"].isna()]
    told[lacking] = "Its file has no run at this sparsity."
    joined = joined.drop(index=lacking)
    why = runs.differing(joined)
    told[why.index[why != ""]] = OTHER + why[why != ""] + AGAIN
    joined = joined[why == ""]
    damaged = joined["items"].map(cache(files.sha256_file)) != joined["items_sha256"]
    told[damaged.index[damaged]] = "The file " + joined.loc[damaged, "items"] + " is not the one of its run."
    return told


def outdated(grid: pd.DataFrame, other: Collection[str] = ()) -> dict[str, str]:
    """Jobs of table `grid` whose files are there, but were made of something else than is asked for, or are damaged: job -> why.

    Where a checkpoint or data are not there any more, nothing is compared.
    """
    told = _told(grid, other)
    known = told.notna() & ~told.str.endswith(GONE, na=False)
    return dict(zip(grid.loc[known, "job"], told[known].str.removesuffix(AGAIN), strict=True))


def _readable(paths: pd.Series) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of table `runs` in those of the files that are whole, and what is wrong with each of the others."""
    try:
        return tables.collect(paths, "runs"), {}
    except ValueError:
        broken = {path: said for path in paths if (said := _error(path))}
        if not broken:
            raise
    return tables.collect(paths[~paths.isin(broken)], "runs"), broken


def _error(path: str) -> str | None:
    try:
        tables.read(path, "runs")
    except ValueError as error:
        return str(error)
    return None


def _why(row: tuple, what: str, logs: Path, dense: set[tuple], made: Mapping[str, str]) -> tuple[str | None, str]:
    """The log that says why a run is not there, None where there is none, and the reason."""
    model, task, seed = row.model, row.task, row.seed
    training, of_dense = made.get(model), f"prune_eval/{model}/{task}/dense/0.000/seed{seed}"
    for said, log, waits in (
        (
            f"The pre-training {training} is not there",
            f"pretrain/{training}",
            lambda: training and not os.path.isfile(row.checkpoint) and not _trained(row.checkpoint, training),
        ),
        (f"The checkpoint {model} is not there", f"fetch_model/{model}", lambda: not os.path.isfile(row.checkpoint)),
        ("The data are not there", f"fetch_dataset/{_name(row.dataset)}", lambda: not os.path.isfile(row.dataset)),
        (
            "The data that it is calibrated on are not there",
            f"fetch_dataset/{_name(row.calibration) if isinstance(row.calibration, str) else ''}",
            lambda: isinstance(row.calibration, str) and not os.path.isfile(row.calibration),
        ),
        (
            "Its dense run is missing",
            of_dense,
            # a run that is there, of something else, waits for a dense one that failed, and not for one that is so too
            lambda: (
                row.pattern != "dense"
                and (model, task, seed) in dense
                and (what == NOT_THERE or _failed(_last_line(logs / f"{of_dense}.log")))
            ),
        ),
    ):
        if waits():
            line = _last_line(logs / f"{log}.log")
            return (f"{logs / log}.log", _cut(f"{said}: {line}")) if line else (None, f"{said}.")
    if isinstance(row.ticket, str) and not os.path.isfile(row.ticket):
        log = _of_chain(row.ticket, logs)
        return (
            (str(log), _cut(f"Its ticket is missing: {_last_line(log)}")) if log else (None, "Its ticket is missing.")
        )
    log = logs / f"prune_eval/{row.job}.log"
    line = _last_line(log)
    last = row.job.split("/")[3].rpartition("+")[2]  # of the levels that it walks one after another
    whole = FOUND in line or f": {model} {task} {row.pattern} {last} " in line
    if what == NOT_THERE and whole and not _failed(line):
        return str(log), "It was computed, as its log says, but its file is gone: the next run computes it again."
    told = " ".join(filter(None, [what, line]))
    return (str(log), _cut(told)) if line else (None, _cut(told or "It has no log: it was not started."))


def _failed(line: str) -> bool:
    """Whether the last line of a run's log is that of one that did not go well."""
    return bool(line) and not DONE.search(line) and FOUND not in line


def _trained(checkpoint: str, training: str) -> bool:
    """Whether a pre-training has ended, which lies in the same store as the checkpoint's manifest."""
    return (Path(checkpoint).parents[2] / f"pretraining/{training}/manifest.json").is_file()


def _name(manifest: str) -> str:
    return Path(manifest).parent.name


def _of_chain(ticket: str, logs: Path) -> Path | None:
    """The log of the first iteration of a lottery ticket that is not there, None where no iteration without result has one."""
    place = Path(ticket)
    own = logs / "find_ticket" / ticket.partition("/tickets/")[2]
    found = (log for log in sorted(own.parent.glob("*.log")) if log.stem <= place.stem and _last_line(log))
    return next((log for log in found if not (place.parent / f"{log.stem}.sha256").is_file()), None)


@cache
def _last_line(log: Path) -> str:
    """What the last line of a log says, without `error: `; empty where there is none."""
    line = last_line(log)
    return line.removeprefix("error: ") if line.startswith("error: ") or not line else f"its log ends: {line}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
