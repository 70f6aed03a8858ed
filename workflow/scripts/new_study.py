"""Look at a checkpoint and at a task or data of one's own, and write the study that prunes the one on the other.

    make study MODEL=my-checkpoint DATA=my-reviews.csv
    python workflow/scripts/new_study.py --model PATH_OR_HUB_ID (--task TASK | --data PATH) [--study NAME]

It says what it saw, adds a row to the models table and one to the tasks table, writes config/{study}.yaml, and says what
to type next. What it cannot tell it asks for in words.
"""

import argparse
from pathlib import Path

from essential_sparsity import cli, errors
from essential_sparsity.acquire import looking
from essential_sparsity.study import configuration, proposal, study, tsv


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", required=True, metavar="PLACE", help="folder or file of weights, or hub id owner/name"
    )
    parser.add_argument("--name", help="of the model in tables and figures (default: the last part of its place)")
    parser.add_argument("--type", choices=["encoder", "decoder", "vision"], help="where it cannot be told")
    parser.add_argument(
        "--allow-pickle",
        choices=["true", "false"],
        default="false",
        help="take weights that are stored as a pickle only",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--task", help="a row of the tasks table")
    what.add_argument("--data", metavar="PATH", help="a file or folder: csv, tsv, json, parquet, or folders of images")
    parser.add_argument("--task-name", help="of the data in tables and figures (default: as for --name)")
    parser.add_argument("--columns", help="what its columns are: text=…,label=… or text_a=…,text_b=…,target=…")
    parser.add_argument("--protocol", help="probe, knn, finetune, zero-shot: what the data's kind of task has")
    parser.add_argument("--study", help="name of the study (default: model and task)")
    args = parser.parse_args(argv)
    base = configuration.read_config("config/config.yaml")
    seen = looking.checkpoint(args.model, args.type, args.allow_pickle == "true")
    model = proposal.model_row(args.name or looking.name_of(args.model, "name"), seen)
    print(*seen.said, f"{model['model']}: of type {model['type']}", sep="\n")
    rows = {"models": model}
    if args.data:
        data = looking.data(args.data, args.columns)
        task = proposal.task_row(args.task_name or looking.name_of(args.data, "task-name"), data, seen, args.protocol)
        rows["tasks"] = task
        print(*data.said, f"{task['task']}: {task['kind']}, {task['protocol']}", sep="\n")
    else:
        known = tsv.read_table(base["tasks"], "tasks", "task")
        task = next((row for row in known if row["task"] == args.task), None)
        if task is None:
            hint = configuration.hint(args.task, [row["task"] for row in known])
            raise errors.UserError(
                f"{base['tasks']} has no task {args.task!r}{hint} Data of your own: {looking.option('data')}."
            )
        proposal.suiting(task, model["type"], known)
    name = args.study or f"{model['model']}-{task['task']}"
    study.check_name(name, looking.option("study"))
    path = Path("config") / f"{name}.yaml"
    print(*proposal.write(proposal.study_file(name, model["model"], task), rows, path), sep="\n")
    print(
        f"\nNow: make demo CONFIG={path}    (on a cluster: snakemake --profile slurm --configfile {path}, add -n to look first)"
    )


if __name__ == "__main__":
    cli.run(main)
