"""Draw quality against sparsity for all models of one task, under one ranking over all prunable weights."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.figures import curves, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--missing-runs", required=True, help="table of the runs that are not there")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument(
        "--labels", required=True, type=json.loads, help='JSON: {"models": {MODEL: name}, "task": name}'
    )
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    runs, knees = tables.read(args.runs, "runs"), tables.read(args.knees, "knees")
    missing = tables.read(args.missing_runs, "missing_runs")
    drawn = curves.models(runs, knees, args.task, "global", args.labels["models"], args.labels["task"], missing)
    style.save(drawn, args.out)


if __name__ == "__main__":
    cli.run(main)
