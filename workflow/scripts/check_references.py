"""Compare the runs of a study, dense and pruned, with what they should score, and write down what was found."""

import argparse

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.study import references


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="table of runs")
    parser.add_argument("--references", required=True, help="table of the values that runs are compared with")
    parser.add_argument(
        "--disagreement", choices=["stop", "warn"], required=True, help="what a dense disagreement does"
    )
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    runs = tables.read(args.runs, "runs")
    found = []
    for (model, task, seed), rows in runs.groupby(["model", "task", "seed"]):
        expected = references.rows(args.references, model, task)
        compared = references.check(f"{model} {task} seed {seed}", rows, expected, args.disagreement)
        found += [{"model": model, "task": task, "seed": seed, **row} for row in compared]
    tables.write(pd.DataFrame(found), "references", args.out)


if __name__ == "__main__":
    cli.run(main)
