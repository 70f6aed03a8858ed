"""Collect Snakemake's benchmark files (wall time, CPU time, memory of each job) into the table of costs."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, tables
from essential_sparsity.study import grid
from essential_sparsity.tables import costs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help="JSON: the grid, as grid.expand takes it")
    parser.add_argument("--benchmarks", required=True, type=Path, help="folder of the benchmark files, by rule")
    parser.add_argument("--others", nargs="*", default=[], help="jobs of other rules than prune_eval: rule/name")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    jobs = grid.expand(**args.grid)
    names = [*(f"prune_eval/{job.path}" for job in jobs), *args.others]
    paths = [path for name in names if (path := args.benchmarks / f"{name}.tsv").is_file()]
    if len(paths) < len(names):
        print(
            f"{len(names) - len(paths)} of {len(names)} jobs left no benchmark file; their costs are not in the table"
        )
    tables.write(costs.table(paths, args.benchmarks), "costs", args.out)


if __name__ == "__main__":
    cli.run(main)
