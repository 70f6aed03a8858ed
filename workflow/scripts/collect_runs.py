"""Collect the runs of a grid into one table; what their jobs kept in case they end badly is then cleared.

A run that was made of something else than the configuration asks for is refused by name.
"""

import argparse
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.runs import finished
from essential_sparsity.tables import runs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--work", type=Path, required=True, help="folder of what the programs keep")
    parser.add_argument(
        "--mixed", choices=["stop", "warn"], default="stop", help="what runs of other versions or devices do"
    )
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    grid = tables.read(args.grid, "grid")
    tables.write(runs.collect(grid, args.mixed), "runs", args.out)
    finished.clear(args.work, [*(f"prune_eval/{job}" for job in grid["job"].unique()), *iterations(args.work, grid)])


def iterations(work: Path, grid: pd.DataFrame) -> list[str]:
    """The work folders of the tickets of a grid and of the iterations before each."""
    found = []
    for ticket in grid["ticket"].dropna().unique():
        last = work / "find_ticket" / ticket.partition("/tickets/")[2].removesuffix(".sha256")
        found += [path.relative_to(work).as_posix() for path in last.parent.glob("*") if path.name <= last.name]
    return sorted(set(found))


if __name__ == "__main__":
    cli.run(main)
