"""Collect the tables of all runs of a grid into one table; what their jobs kept in case they end badly is then cleared."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, tables
from essential_sparsity.runs import kept
from essential_sparsity.study import grid, iterations


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help="JSON: the grid, as grid.expand takes it")
    parser.add_argument("--runs", required=True, help="folder of the runs")
    parser.add_argument(
        "--share", type=float, required=True, help="share of the weights that each iteration of a ticket prunes"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder of what the programs keep")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    jobs = grid.expand(**args.grid)
    tables.write(tables.collect([f"{args.runs}/{job.path}.parquet" for job in jobs], "runs"), "runs", args.out)
    chained = iterations.tickets(jobs, args.share)
    kept.clear(
        args.work, [f"prune_eval/{job.path}" for job in jobs] + [f"ticket/{iterations.path(made)}" for made in chained]
    )


if __name__ == "__main__":
    cli.run(main)
