"""Prune one checkpoint in one pattern at one or more sparsities and evaluate it on one task: runs and items tables."""

import argparse
import importlib
import json
import os
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # compute nodes have no network; files come from the manifests alone
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on CUDA

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from essential_sparsity import cli, files, tables
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation, finished
from essential_sparsity.tables import provenance
from essential_sparsity.training import resume

# Loaded by name: tickets decide the runs of tickets alone, references decide no number.
TICKETS, REFERENCES = "essential_sparsity.pruning.tickets", "essential_sparsity.study.references"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument("--pattern", required=True, help="dense, global, layerwise, random, erk, erk-random, nm4, …")
    parser.add_argument("--sparsities", required=True, help="levels joined by +, for instance 0.100+0.200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", required=True, help="JSON: the task's columns that decide numbers, and threads")
    parser.add_argument("--code", required=True, help="digest of the code, as the run's rows will name it")
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--data", required=True, help="manifest.json of the data set")
    parser.add_argument("--tickets", nargs="*", default=[], help="pattern lth: the ticket of each level, in order")
    parser.add_argument("--dense", nargs="*", default=[], help="the dense run, where it has to agree with references")
    parser.add_argument("--references", help="table of the values that dense runs have to agree with")
    parser.add_argument("--disagreement", choices=["stop", "warn"], default="stop", help="what a disagreement does")
    parser.add_argument("--allow-pickle", action="store_true", help="read a pickle checkpoint, with weights_only")
    parser.add_argument("--metrics", help="metrics that will be tabulated, joined by commas: refused where undefined")
    parser.add_argument("--work", type=Path, help="folder for what outlives a job that ends badly")
    parser.add_argument("--tokens", type=Path, help="folder of tokenised texts, found there or put there")
    parser.add_argument("--runs", required=True, type=Path, help="Parquet file to write: one row per level and metric")
    parser.add_argument("--items", required=True, type=Path, help="Parquet file to write: one row per level and item")
    args = parser.parse_args(argv)
    for dense in args.dense:
        check_dense(args, dense)
    settings = json.loads(args.settings)
    torch.set_num_threads(settings["threads"])
    torch.use_deterministic_algorithms(True, warn_only=True)
    made = made_of(args)
    done = work = None
    if args.work:
        done = finished.Finished.of_job(args.work, made, {"runs": args.runs, "items": args.items})
        work = resume.Work.of_job(args.work / "training", args.manifest, args.data)
    if not (done and (done.there(lambda: whole(args, made)) or done.take_back())):
        with threadpool_limits(settings["threads"]):
            runs, items = evaluate(args, settings, made, work)
        tables.write(items, "items", args.items)
        tables.write(runs.assign(items_sha256=files.sha256_file(args.items)), "runs", args.runs)
        if done:
            done.keep()
    if work:
        work.clear()
    if args.pattern == "dense" and args.references:
        check_dense(args, args.runs)


def made_of(args: argparse.Namespace) -> dict[str, dict[str, str | None]]:
    """Level -> what decides its run: its columns of table `runs`, `provenance.PARTS` and their digest."""
    parts = {
        "settings_sha256": provenance.of_settings(args.settings),
        "checkpoint_sha256": provenance.of_manifest(args.manifest),
        "data_sha256": provenance.of_manifest(args.data),
        "code_sha256": args.code,
        **resume.versions(resume.device()),
    }
    key = {"model": args.model, "task": args.task, "pattern": args.pattern, "seed": args.seed}
    levels, found = args.sparsities.split("+"), {}
    for level, ticket in zip(levels, args.tickets or [None] * len(levels), strict=True):
        of_level = parts | {"ticket_sha256": files.sha256_file(ticket) if ticket else None}
        found[level] = of_level | {"digest": provenance.digest(key | {"sparsity": level}, of_level)}
    return found


def whole(args: argparse.Namespace, made: dict[str, dict]) -> bool:
    """Whether the files that are there hold these levels, made of the same, with their own items."""
    try:
        runs = tables.read(args.runs, "runs")
        items_sha256 = files.sha256_file(args.items)
    except (ValueError, OSError):
        return False
    digests = {float(level): parts["digest"] for level, parts in made.items()}
    found = set(zip(runs["sparsity"], runs["digest"], strict=True))
    return found == set(digests.items()) and set(runs["items_sha256"]) == {items_sha256}


def evaluate(
    args: argparse.Namespace, settings: dict, made: dict[str, dict], work: resume.Work | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables, with one line of progress per level."""
    manifest = files.read_json(args.manifest)
    levels = {float(level): level for level in made}
    found = evaluation.evaluate(
        loading.verified_folder(args.manifest),
        pd.read_parquet(loading.verified_folder(args.data) / "data.parquet"),
        {**settings, "task": args.task, "metrics": args.metrics, "allow_pickle": args.allow_pickle},
        args.pattern,
        list(levels),
        args.seed,
        device=resume.device(),
        tickets=given_masks(args, list(levels), manifest["weights_sha256"]),
        work=work,
        cache=args.tokens,
    )
    key = {"model": args.model, "task": args.task, "pattern": args.pattern, "seed": args.seed}
    runs, items, started = [], [], time.monotonic()
    for level, outcome in found:
        rows = evaluation.run_rows(level, outcome, manifest, settings["protocol"])
        runs.append(rows.assign(**key, **made[levels[level.sparsity]]))
        items.append(outcome.items.assign(sparsity=level.sparsity, **key))
        values = ", ".join(
            f"{name} {'undefined' if value is None else f'{value:.4g}'}" for name, value in outcome.metrics.items()
        )
        seconds, started = time.monotonic() - started, time.monotonic()
        place = f"{args.model} {args.task} {args.pattern} {level.sparsity:.3f} seed {args.seed}"
        print(f"{place}: {values} ({seconds:.1f} s)", flush=True)
    return pd.concat(runs), pd.concat(items)


def given_masks(
    args: argparse.Namespace, levels: list[float], weights_sha256: str
) -> dict[float, dict[str, torch.Tensor]]:
    """Sparsity -> masks of the tickets given."""
    if not args.tickets:
        return {}
    read = importlib.import_module(TICKETS).read
    chain = {"model": args.model, "task": args.task, "seed": args.seed, "weights_sha256": weights_sha256}
    return {
        level: read(path, chain | {"sparsity": level}).masks() for level, path in zip(levels, args.tickets, strict=True)
    }


def check_dense(args: argparse.Namespace, runs: str | Path) -> None:
    """Compare the dense run with its references: sparse runs beside one that disagrees would mean nothing."""
    references = importlib.import_module(REFERENCES)
    place = f"{args.model} {args.task} seed {args.seed}"
    rows = references.rows(args.references, args.model, args.task)
    references.check(place, tables.read(runs, "runs"), rows, args.disagreement)


if __name__ == "__main__":
    cli.run(main)
