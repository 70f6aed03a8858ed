"""Read the essential sparsity off every curve of the runs table."""

import argparse
import json

from essential_sparsity import cli, knees, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument(
        "--epsilon",
        type=json.loads,
        default={},
        help='JSON: {"TASK": tolerance on the fitted scale of its metric}; other tasks use the metric\'s own',
    )
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    tables.write(knees.table(tables.read(args.runs, "runs"), args.epsilon), "knees", args.out)


if __name__ == "__main__":
    cli.run(main)
