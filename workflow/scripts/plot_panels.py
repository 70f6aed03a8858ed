"""Draw many curves at one glance: a panel per task."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.figures import panels, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--missing-runs", required=True, help="table of the runs that are not there")
    parser.add_argument(
        "--shown", required=True, type=json.loads, help='JSON: {"lines": [[MODEL, PATTERN]], "tasks": [TASK]}'
    )
    parser.add_argument(
        "--labels", required=True, type=json.loads, help='JSON: {"models": {ID: name}, "tasks": {ID: name}}'
    )
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    runs, knees = tables.read(args.runs, "runs"), tables.read(args.knees, "knees")
    missing = tables.read(args.missing_runs, "missing_runs")
    lines = [tuple(line) for line in args.shown["lines"]]
    style.save(panels.panels(runs, knees, lines, args.shown["tasks"], args.labels, missing), args.out)


if __name__ == "__main__":
    cli.run(main)
