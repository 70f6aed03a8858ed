"""Read the essential sparsity off the curves of one model and task, with intervals, from their runs in the store.

Only these runs are collected, so that another curve's re-run nothing here. What was made of something else than the
configuration asks for is refused by name; or it is left out and told in a table, with `--missing skip`.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, errors, tables
from essential_sparsity.curves import agreement, knees
from essential_sparsity.study import opening, series
from essential_sparsity.tables import missing, runs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument("--digest", required=True, help="digest of the part of the grid that is asked for")
    parser.add_argument(
        "--epsilon",
        type=float,
        help="tolerance on the fitted scale of the task's headline metric; else the metric's own",
    )
    parser.add_argument("--logs", type=Path, required=True, help="folder of the programs' logs, by rule")
    parser.add_argument("--missing", choices=["stop", "skip"], default="stop", help="what runs do that are not there")
    parser.add_argument(
        "--other", nargs="*", default=[], help="manifests and tickets of something else than is asked for"
    )
    parser.add_argument("--runs", required=True, help="table of the runs of these curves, to write")
    parser.add_argument("--missing-runs", required=True, help="table of those that are not there, to write")
    parser.add_argument("--knees", required=True, help="table to write")
    parser.add_argument("--resamples", required=True, help="table of what comparing the curves takes, to write")
    args = parser.parse_args(argv)
    asked = opening.read(args.study, looking=False)
    jobs = asked.jobs_of(args.model, args.task)
    if asked.digest(jobs) != args.digest:
        raise errors.UserError(
            f"The configuration, its tables, the code or the runs of {args.model} on {args.task} in results/store changed "
            "while the workflow was running. Run again."
        )
    grid = pd.DataFrame(asked.rows(jobs))
    made = {model: name for name, models in series.made_here(asked.models, [args.model]).items() for model in models}
    there, lost = missing.parted(grid, args.logs, args.missing == "skip", args.other, made)
    found = runs.collect(there, mixed=None)  # that their versions agree is looked at where all runs are collected
    epsilon = {} if args.epsilon is None else {args.task: args.epsilon}
    read, resamples = knees.table(found, agreement.checked(runs.items(grid)), epsilon, asked=grid)
    tables.write(found, "runs", args.runs)
    tables.write(lost, "missing_runs", args.missing_runs)
    tables.write(read, "knees", args.knees)
    tables.write(resamples, "resamples", args.resamples)


if __name__ == "__main__":
    cli.run(main)
