"""Name the levels that would narrow the gaps that may hold a knee; an empty list when all are narrow enough."""

import argparse

from essential_sparsity import cli, errors, files, tables
from essential_sparsity.study import refinement


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--width", required=True, type=float, help="widest gap left where a knee may be")
    parser.add_argument("--rounds", type=int, default=6, help="most rounds that a curve has in all")
    parser.add_argument("--levels", type=int, default=20, help="most levels added to a curve in all")
    parser.add_argument("--protocols", nargs="+", default=refinement.CHEAP, help="of the tasks whose curves get levels")
    parser.add_argument("--before", required=True, help="file of the rounds so far")
    parser.add_argument("--out", required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    if not args.width > 0:
        raise errors.UserError("There is nothing to refine to: set `refine: {width: 0.05}` in the configuration.")
    runs, knees = tables.read(args.runs, "runs"), tables.read(args.knees, "knees")
    bounds = (args.width, args.rounds, args.levels, args.protocols)
    files.write_json(args.out, refinement.next_round(runs, knees, *bounds, refinement.read(args.before)))


if __name__ == "__main__":
    cli.run(main)
