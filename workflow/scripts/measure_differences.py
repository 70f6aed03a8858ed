"""Measure how much better patterns are than their peers (tickets than one-shot masks, calibrated and random ones than magnitude)."""

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
    tickets = grid.loc[grid["ticket"].notna(), ["model", "task"]]
    chained = set(tickets.itertuples(index=False, name=None))
    tables.write(differences.table(found, runs.items(grid), chained), "differences", args.out)


if __name__ == "__main__":
    cli.run(main)
