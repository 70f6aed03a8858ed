"""Collect Snakemake's benchmark files (wall time, CPU time, memory of each job) into the table of costs."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, costs, grid, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help='JSON: {"grid": blocks, "levels_per_job": {…}}')
    parser.add_argument("--benchmarks", required=True, type=Path, help="folder of the benchmark files, by rule")
    parser.add_argument(
        "--others", nargs="*", type=Path, default=[], help="benchmark files of other rules than prune_eval"
    )
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    jobs = grid.expand(args.grid["grid"], args.grid["levels_per_job"])
    runs = [args.benchmarks / "prune_eval" / f"{job.path}.tsv" for job in jobs]
    tables.write(costs.table([*runs, *args.others], args.benchmarks), "costs", args.out)


if __name__ == "__main__":
    cli.run(main)
