"""Collect the tables of all runs of a grid into one table."""

import argparse
import json

from essential_sparsity import cli, grid, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help="JSON: the grid, as grid.expand takes it")
    parser.add_argument("--runs", required=True, help="folder of the runs")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    jobs = grid.expand(**args.grid)
    tables.write(tables.collect([f"{args.runs}/{job.path}.parquet" for job in jobs], "runs"), "runs", args.out)


if __name__ == "__main__":
    cli.run(main)
