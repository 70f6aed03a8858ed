"""Measure how much better each pattern is than one-shot global pruning, with paired 95 % intervals."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.curves import differences
from essential_sparsity.study import grid, iterations
from essential_sparsity.tables import items


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help="JSON: the grid, as grid.expand takes it")
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--items", required=True, help="folder of the evaluated items")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    chained = {(job.model, job.task) for job in grid.expand(**args.grid) if iterations.found_by_training(job.pattern)}
    runs = tables.read(args.runs, "runs")
    of_chains = [pair in chained for pair in zip(runs["model"], runs["task"], strict=True)]
    tables.write(differences.table(runs[of_chains], items.reader(args.grid, args.items)), "differences", args.out)


if __name__ == "__main__":
    cli.run(main)
