"""Name the levels that would narrow the gap around each knee; an empty list when all are narrow enough."""

import argparse

from essential_sparsity import cli, files, tables
from essential_sparsity.study import refinement


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--width", required=True, type=float, help="widest gap between two levels around a knee")
    parser.add_argument("--out", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if not args.width > 0:
        raise ValueError("There is nothing to refine to: set `refine: {width: 0.02}` in the configuration.")
    levels = refinement.next_round(tables.read(args.runs, "runs"), tables.read(args.knees, "knees"), args.width)
    files.write_json(args.out, levels)


if __name__ == "__main__":
    cli.run(main)
