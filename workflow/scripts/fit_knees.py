"""Read the essential sparsity off every curve of the runs table, with intervals, and compare curves."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.curves import comparisons, knees
from essential_sparsity.tables import runs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument(
        "--epsilon",
        type=json.loads,
        default={},
        help='JSON: {"TASK": tolerance on the fitted scale of its metric}; other tasks use the metric\'s own',
    )
    parser.add_argument("--compare", nargs="*", default=[], help="columns in which compared curves differ")
    parser.add_argument("--knees", required=True, help="table to write")
    parser.add_argument("--comparisons", required=True, help="table to write")
    args = parser.parse_args(argv)
    grid = tables.read(args.grid, "grid")
    found, curves = knees.table(tables.read(args.runs, "runs"), runs.items(grid), args.epsilon, asked=grid)
    tables.write(found, "knees", args.knees)
    tables.write(comparisons.table(curves, args.compare), "comparisons", args.comparisons)


if __name__ == "__main__":
    cli.run(main)
