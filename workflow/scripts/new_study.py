"""Look at a checkpoint and at a task or data of one's own, and write the study that prunes the one on the other.

    make study MODEL=my-checkpoint DATA=my-reviews.csv
    python workflow/scripts/new_study.py --model PATH_OR_HUB_ID_OR_ROW (--task TASK | --data PATH) [--study NAME]

It says what it saw, adds a row to the models table and one to the tasks table, writes config/{study}.yaml, and says what
to type next. What it cannot tell it asks for in words.
"""

import argparse
import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from essential_sparsity import cli, errors, tasks
from essential_sparsity.acquire import looking, refusal
from essential_sparsity.checkpoints import vocabulary
from essential_sparsity.study import configuration, opening, proposal, tsv

OF_DATA = ("task_name", "columns", "protocol")  # options that say something of data alone
OF_MODEL = ("name", "type", "allow_pickle")  # options that a row of the models table says itself
HEADS = {  # protocol -> what becomes of a head that the checkpoint has
    "probe": "a logistic regression is fitted to its features; a head of its own is not used",
    "knn": "the nearest neighbours of its features decide; a head of its own is not used",
    "finetune": "a new head is trained with it; one of its own is not used",
}
ALONE = ("masked-lm", "perplexity")  # kinds that read texts and nothing beside them


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", metavar="PLACE", help="folder or file of weights, hub id owner/name, or a row of the models table"
    )
    parser.add_argument(
        "--name", help="of the model in tables and figures (default: the part of its place that tells it)"
    )
    parser.add_argument("--type", choices=["encoder", "decoder", "vision"], help="where it cannot be told")
    parser.add_argument(
        "--allow-pickle", choices=["true", "false"], help="whether to take weights that only a pickle holds"
    )
    parser.add_argument("--task", help="a row of the tasks table")
    parser.add_argument(
        "--data", metavar="PATH", help="a file or folder: csv, tsv, json, parquet, or folders of images"
    )
    parser.add_argument("--task-name", help="of the data in tables and figures (default: as for --name)")
    parser.add_argument("--columns", help="what its columns are: text=…,label=… or text_a=…,text_b=…,target=…")
    parser.add_argument("--protocol", help="probe, knn, finetune, zero-shot: what the data's kind of task has")
    parser.add_argument("--study", help="name of the study (default: model and task)")
    args = parser.parse_args(argv)
    check(args)
    base = configuration.read_config("config/config.yaml")
    if (model := _row(args, base["models"])) is None:
        seen = looking.checkpoint(args.model, args.type, args.allow_pickle == "true")
        model = proposal.model_row(args.name or looking.name_of(args.model, "name"), seen)
        rows = {"models": model}
    else:
        said = f"{base['models']} has the model {model['model']}"
        seen, rows = looking.Checkpoint(model, [said], looking.most_of(model, f"{said}, but ")), {}
    print(*seen.said, f"{model['model']}: of type {model['type']}", sep="\n")
    if args.data:
        data = looking.data(args.data, args.columns)
        task = proposal.task_row(args.task_name or looking.name_of(args.data, "task-name"), data, seen, args.protocol)
        rows["tasks"] = task
        print(*data.said, f"{task['task']}: {task['kind']}, {task['protocol']}", sep="\n")
        if task["protocol"] in HEADS:
            print(f"  {HEADS[task['protocol']]}")
        if task.get("image_size"):
            print(
                f"  images are resized whole to {task['image_size']} × {task['image_size']} pixels (column image_size)"
            )
        if "windows" in task:
            print(f"  {task['windows']:,} windows of {task['context']:,} tokens (columns windows, context)")
        if "n_train" in task and "n_eval" in task:
            rows_there = sum(data.n_rows.values())
            print(f"  {task['n_train']:,} rows to train, {task['n_eval']:,} to evaluate, of {rows_there:,}")
            if task["protocol"] != "finetune":
                print("  (each seed draws its own of the rows that may train, at most four fifths of them)")
        if task["kind"] in ALONE and (others := set(data.columns) - {"item", "text", "split"}):
            how = refusal.option("columns", "text=…,label=…")
            print(f"  of its columns {', '.join(sorted(others))} is not read; to name one of labels: {how}")
        rehearse(seen, data, task)
    else:
        known = tsv.read_table(base["tasks"], "tasks", "task")
        task = next((row for row in known if row["task"] == args.task), None)
        if task is None:
            hint = configuration.hint(args.task, [row["task"] for row in known]) or "."
            raise errors.UserError(
                f"{base['tasks']} has no task {args.task!r}{hint} Data of your own: {refusal.option('data')}."
            )
        proposal.suiting(task, model["type"], known)
        if folder := here(seen):
            _fitting(folder, model, task)
    name = args.study or f"{model['model']}-{task['task']}"
    opening.check_name(name, refusal.option("study", name))
    path = Path("config") / f"{name}.yaml"
    print(*proposal.write(proposal.study_file(name, model["model"], task), rows, path), sep="\n")
    print(
        f"\nWhat it takes: make estimate CONFIG={path} GPUS=0    (on processors; GPUS=8: on so many cards)\n"
        f"Now: make demo CONFIG={path}    (on a cluster: snakemake --profile slurm --configfile {path}, add -n to look first)"
    )


def _row(args: argparse.Namespace, table: str) -> dict[str, Any] | None:
    """The row of the models table that is named; None where something else is. UserError for options that it says itself."""
    rows = {row["model"]: row for row in tsv.read_table(table, "models", "model")}
    if Path(args.model).exists() or args.model not in rows:
        return None
    if given := [name for name in OF_MODEL if getattr(args, name) is not None]:
        raise errors.UserError(
            f"{refusal.option(given[0].replace('_', '-'))} is about a checkpoint that is no row yet: {table} has {args.model!r} and says it."
        )
    return rows[args.model]


def _fitting(folder: Path, model: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    """Refuse what runs of a task would refuse of a checkpoint that lies here, before they read data. UserError."""
    if model["type"] != "vision":
        vocabulary.describe(folder)
    elif image_size := getattr(tasks.load(task["kind"]), "image_size", None):
        image_size(AutoConfig.from_pretrained(folder, local_files_only=True), task)


def check(args: argparse.Namespace) -> None:
    """Refuse options that are missing, blank, or say nothing beside the others. UserError."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    if blank := next((name for name, value in given.items() if not value.strip()), None):
        raise errors.UserError(f"{refusal.option(blank.replace('_', '-'), '')} is blank.")
    if "model" not in given:
        raise errors.UserError(
            f"Name a checkpoint: {refusal.option('model')}, a folder, a GGUF file or owner/name of the hub."
        )
    if ("task" in given) == ("data" in given):
        task, data = refusal.option("task"), refusal.option("data")
        raise errors.UserError(
            f"Name one thing to evaluate: {task}, a row of the tasks table, or {data}, a file or folder."
        )
    if "task" in given and (idle := [name for name in OF_DATA if name in given]):
        raise errors.UserError(
            f"{refusal.option(idle[0].replace('_', '-'))} is about data of your own: with {refusal.option('task')} the row of the "
            "tasks table says it."
        )
    for name in {"name", "task_name"} & given.keys():
        proposal.check_name(given[name], name.replace("_", "-"))


def here(seen: looking.Checkpoint) -> Path | None:
    """The folder of a checkpoint that lies here as a run reads it; None of one that is fetched or converted first."""
    row = seen.row
    return Path(row["id"]).expanduser() if (row["source"], row["format"]) == ("path", "transformers") else None


def rehearse(seen: looking.Checkpoint, data: looking.Data, task: Mapping[str, Any]) -> None:
    """Go as far as runs go before they read a weight, for what they would refuse then: labels, splits, texts, tokens. Seeds draw other rows;
    what is said of them is alike."""
    if folder := here(seen):
        row = {**dict.fromkeys(tsv.load_schema("tasks")["properties"]), **task}
        for seed in proposal.SEEDS:
            with contextlib.redirect_stdout(io.StringIO()) if seed else contextlib.nullcontext():
                tasks.load(task["kind"]).prepare(folder, data.frame, row, seed)


if __name__ == "__main__":
    cli.run(main)
