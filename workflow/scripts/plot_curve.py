"""Draw quality against sparsity for every pattern of one model and task."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.figures import curves, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--missing-runs", required=True, help="table of the runs that are not there")
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument("--labels", type=json.loads, default={}, help='JSON: {"model": …, "task": …} for the title')
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    runs, knees = tables.read(args.runs, "runs"), tables.read(args.knees, "knees")
    missing = tables.read(args.missing_runs, "missing_runs")
    style.save(curves.curve(runs, knees, args.model, args.task, args.labels, missing), args.out)


if __name__ == "__main__":
    cli.run(main)
