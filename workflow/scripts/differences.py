"""Measure how much better each pattern is than one-shot global pruning, with paired 95 % intervals."""

import argparse
import json

import pandas as pd

from essential_sparsity import chains, cli, differences, grid, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help="JSON: the grid, as grid.expand takes it")
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--items", required=True, help="folder of the evaluated items")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    jobs = grid.expand(**args.grid)
    chained = {(job.model, job.task) for job in jobs if job.pattern == chains.PATTERN}
    paths = {
        (job.model, job.task, job.pattern, level, job.seed): f"{args.items}/{job.path}.parquet"
        for job in jobs
        for level in job.levels
    }

    def items(runs: pd.DataFrame) -> pd.DataFrame:
        rows = runs[["model", "task", "pattern", "sparsity", "seed"]].itertuples(index=False)
        wanted = {(row.model, row.task, row.pattern, grid.level(row.sparsity), row.seed) for row in rows}
        return tables.collect(sorted({paths[row] for row in wanted}), "items")

    runs = tables.read(args.runs, "runs")
    of_chains = [pair in chained for pair in zip(runs["model"], runs["task"], strict=True)]
    tables.write(differences.table(runs[of_chains], items), "differences", args.out)


if __name__ == "__main__":
    cli.run(main)
