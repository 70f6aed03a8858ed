"""Collect the runs of a grid into one table; what their jobs kept in case they end badly is then cleared.

A run that was made of something else than the configuration asks for is refused by name, and one that is not there as
well; or both are left out and told in a table, with `--missing skip`.
"""

import argparse
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from essential_sparsity import cli, errors, files, tables
from essential_sparsity.runs import finished
from essential_sparsity.tables import missing, runs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--digest", required=True, help="digest of the grid that is asked for")
    parser.add_argument("--work", type=Path, required=True, help="folder of what the programs keep")
    parser.add_argument("--logs", type=Path, required=True, help="folder of the programs' logs, by rule")
    parser.add_argument(
        "--mixed", choices=["stop", "warn"], default="stop", help="what runs of other versions or devices do"
    )
    parser.add_argument("--missing", choices=["stop", "skip"], default="stop", help="what runs do that are not there")
    parser.add_argument(
        "--other", nargs="*", default=[], help="manifests and tickets of something else than is asked for"
    )
    parser.add_argument(
        "--made",
        nargs="*",
        default=[],
        help="models that are checkpoints of a pre-training made here: model=pretraining",
    )
    parser.add_argument("--out", required=True, help="table to write")
    parser.add_argument("--missing-runs", required=True, help="table of the runs that are not there, to write")
    args = parser.parse_args(argv)
    grid = tables.read(args.grid, "grid")
    if files.sha256_rows(pq.read_table(args.grid).to_pylist()) != args.digest:
        raise errors.UserError(
            f"{args.grid} is not the grid of this configuration: it was copied or written by something else. Delete it and run "
            "again."
        )
    made = dict(pair.split("=") for pair in args.made)
    there, lost = missing.parted(grid, args.logs, args.missing == "skip", args.other, made)
    tables.write(runs.collect(there, args.mixed), "runs", args.out)
    tables.write(lost, "missing_runs", args.missing_runs)
    if len(lost):
        print(f"{len(lost):,} of {len(grid):,} runs are missing: {args.missing_runs} names them, with their logs")
    finished.clear(args.work, done(args.work, grid, there))


def done(work: Path, grid: pd.DataFrame, there: pd.DataFrame) -> list[str]:
    """The work folders of the jobs all of whose runs are there, and of the iterations behind their tickets."""
    jobs = sorted({*there["job"]} - {*grid.loc[grid.index.difference(there.index), "job"]})
    return [*(f"prune_eval/{job}" for job in jobs), *iterations(work, there)]


def iterations(work: Path, grid: pd.DataFrame) -> list[str]:
    """The work folders of the tickets of a grid and of the iterations before each."""
    found = []
    for ticket in grid["ticket"].dropna().unique():
        last = work / "find_ticket" / ticket.partition("/tickets/")[2].removesuffix(".sha256")
        found += [path.relative_to(work).as_posix() for path in last.parent.glob("*") if path.name <= last.name]
    return sorted(set(found))


if __name__ == "__main__":
    cli.run(main)
