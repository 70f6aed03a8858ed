"""Measure how much better patterns are than their peers (tickets than one-shot masks, calibrated ones than magnitude)."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.curves import differences
from essential_sparsity.tables import runs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    grid, found = tables.read(args.grid, "grid"), tables.read(args.runs, "runs")
    chained, calibrated = (
        set(grid.loc[grid[column].notna(), ["model", "task"]].itertuples(index=False, name=None))
        for column in ("ticket", "calibration")
    )
    wanted = [curve in chained | calibrated for curve in zip(found["model"], found["task"], strict=True)]
    tables.write(differences.table(found[wanted], runs.items(grid), chained), "differences", args.out)


if __name__ == "__main__":
    cli.run(main)
