"""One evaluation job around the evaluation itself: what decides it, whether it is done already, what it may start after.

Nothing heavy is imported: what computes is handed in.
"""

import argparse
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from essential_sparsity import errors, files, tables
from essential_sparsity.runs import finished
from essential_sparsity.tables import provenance

REFERENCES = "essential_sparsity.study.references"  # loaded by name: they decide no number

Made = dict[str, dict[str, str | None]]  # level -> its `provenance.PARTS` and their digest


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options that an evaluation and an iteration of a ticket share; from `--dense` on they decide no number."""
    parser.add_argument("--settings", required=True, help="JSON: the task's columns that decide numbers, and threads")
    parser.add_argument("--code", required=True, help="digest of the code, as the results will name it")
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--data", required=True, help="manifest.json of the data set")
    parser.add_argument("--dense", nargs="*", default=[], help="the dense run, where it has to agree with references")
    parser.add_argument("--references", help="table of the values that runs are compared with")
    parser.add_argument("--disagreement", choices=["stop", "warn"], default="stop", help="what a disagreement does")
    parser.add_argument("--allow-pickle", action="store_true", help="read a pickle checkpoint, with weights_only")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto", help="what to compute on")
    parser.add_argument("--metrics", help="metrics that will be tabulated, joined by commas: refused where undefined")
    parser.add_argument("--work", type=Path, help="folder for what outlives a job that ends badly")
    parser.add_argument("--tokens", type=Path, help="folder of tokenised texts, found there or put there")


def run(
    args: argparse.Namespace, versions: Mapping[str, str], evaluate: Callable[[Made], tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    """Write the tables of a job, computed by `evaluate` (rows of runs but for `items_sha256`, rows of items) if need be.

    `args`: those of prune_eval; `versions`: what computes (`resume.versions`). Raises ValueError where a dense run
    disagrees with its references: a sparse run is not evaluated then, a dense one is kept but not written.
    """
    for dense in args.dense:
        check(args, dense)
    made = made_of(args, versions)
    outputs = {"runs": args.runs, "items": args.items}
    done = finished.Finished.of_job(args.work, identity(args, made), outputs) if args.work else None
    if not (done and (done.there(lambda: whole(args, made)) or done.take_back())):
        runs, items = evaluate(made)
        with files.atomic(
            args.items
        ) as own:  # read before it is in its place, where a second copy of this job may put another
            tables.write(items, "items", own)
            digest = files.sha256_file(own)
        tables.write(runs.assign(items_sha256=digest), "runs", args.runs)
        if done:
            done.keep()
    check(args, args.runs)


def key(args: argparse.Namespace) -> dict[str, str | int]:
    """The columns that all rows of a job share."""
    return {"model": args.model, "task": args.task, "pattern": args.pattern, "seed": args.seed}


def manifest(args: argparse.Namespace) -> dict[str, Any]:
    """The manifest of a job's checkpoint. UserError where it is that of another model."""
    found = files.read_json(args.manifest)
    if (model := found.get("model", args.model)) != args.model:
        raise errors.UserError(
            f"{args.manifest} is the manifest of {model}, not of {args.model}. Delete {Path(args.manifest).parent} and run again."
        )
    return found


def permissions(args: argparse.Namespace) -> dict[str, Any]:
    """What an evaluation is told beside the task's settings: its name, and what the model's manifest says of reading it."""
    said = of_manifest(files.read_json(args.manifest))
    return {"task": args.task, "metrics": args.metrics, "allow_pickle": args.allow_pickle} | said


def of_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of how its model is read; `add_bos_token`, which decides numbers, is part of its digest (`provenance.of_manifest`)."""
    return {
        "allow_unused": tuple(manifest.get("allow_unused", ())),
        "add_bos_token": bool(manifest.get("add_bos_token")),
    }


def made_of(args: argparse.Namespace, versions: Mapping[str, str]) -> Made:
    """What decides the run of each level."""
    parts = {
        "settings_sha256": provenance.of_settings(args.settings),
        "checkpoint_sha256": provenance.of_manifest(args.manifest),
        "data_sha256": provenance.of_manifest(args.data),
        "code_sha256": args.code,
        "calibration_sha256": provenance.of_manifest(args.calibration) if args.calibration else None,
        **versions,
    }
    levels, found = args.sparsities.split("+"), {}
    for level, ticket in zip(levels, args.tickets or [None] * len(levels), strict=True):
        of_level = parts | {"ticket_sha256": files.sha256_file(ticket) if ticket else None}
        found[level] = of_level | {"digest": provenance.digest(key(args) | {"sparsity": level}, of_level)}
    return found


def identity(args: argparse.Namespace, made: Made) -> dict[str, object]:
    """What decides all levels of a job, by the names that a person reads when it is another one than before."""
    parts = {name: [of_level.get(column) for of_level in made.values()] for column, name in provenance.PARTS.items()}
    return key(args) | {"sparsities": args.sparsities} | parts


def whole(args: argparse.Namespace, made: Made) -> bool:
    """Whether the files that are there hold these levels, made of the same, with their own items."""
    try:
        runs = tables.read(args.runs, "runs")
        items_sha256 = files.sha256_file(args.items)
    except (ValueError, OSError):
        return False
    digests = {float(level): parts["digest"] for level, parts in made.items()}
    found = set(zip(runs["sparsity"], runs["digest"], strict=True))
    return found == set(digests.items()) and set(runs["items_sha256"]) == {items_sha256}


def check(args: argparse.Namespace, runs: str | Path) -> None:
    """Compare runs with their references: sparse runs beside a dense one that disagrees would mean nothing. ValueError."""
    if not args.references:
        return
    references = importlib.import_module(REFERENCES)
    place = f"{args.model} {args.task} seed {args.seed}"
    rows = references.rows(args.references, args.model, args.task)
    references.check(place, tables.read(runs, "runs"), rows, args.disagreement)
