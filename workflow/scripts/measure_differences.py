"""Measure how much better each pattern is than one-shot global pruning, with paired 95 % intervals."""

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
    chained = grid.loc[grid["ticket"].notna(), ["model", "task"]].drop_duplicates()
    of_chains = found.merge(chained, on=["model", "task"])
    tables.write(differences.table(of_chains, runs.items(grid)), "differences", args.out)


if __name__ == "__main__":
    cli.run(main)
