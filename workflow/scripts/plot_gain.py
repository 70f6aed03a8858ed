"""Draw what calibration gains over magnitude, for one model and task."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.figures import gains, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--differences", required=True, help="table of differences")
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument("--labels", type=json.loads, default={}, help='JSON: {"model": …, "task": …} for the title')
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    table = tables.read(args.differences, "differences")
    style.save(gains.gain(table, args.model, args.task, args.labels), args.out)


if __name__ == "__main__":
    cli.run(main)
