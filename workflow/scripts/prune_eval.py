"""Prune one checkpoint in one pattern at one or more sparsities and evaluate it on one task: runs and items tables."""

import argparse
import dataclasses
import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # compute nodes have no network; files come from the manifests alone
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on CUDA

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from essential_sparsity import cli
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation, job
from essential_sparsity.tasks import reading
from essential_sparsity.training import devices, exactness, resume

TICKETS = "essential_sparsity.pruning.tickets"  # loaded by name: it decides the runs of tickets alone


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument("--pattern", required=True, help="dense, global, layerwise, random, erk, erk-random, nm4, …")
    parser.add_argument("--sparsities", required=True, help="levels joined by +, for instance 0.100+0.200")
    parser.add_argument("--seed", type=int, default=0)
    job.arguments(parser)
    parser.add_argument(
        "--gpus", type=int, default=1, help="GPUs over which a model is spread that is not trained here"
    )
    parser.add_argument("--tickets", nargs="*", default=[], help="pattern lth: the ticket of each level, in order")
    parser.add_argument("--calibration", help="patterns that need calibration: manifest.json of its data set")
    parser.add_argument("--runs", required=True, type=Path, help="Parquet file to write: one row per level and metric")
    parser.add_argument("--items", required=True, type=Path, help="Parquet file to write: one row per level and item")
    args = parser.parse_args(argv)
    device = devices.find(args.device)
    settings = json.loads(args.settings)
    torch.set_num_threads(settings["threads"])
    exactness.ask()
    read = [args.manifest, args.data, *filter(None, [args.calibration])]
    work = resume.Work.of_job(args.work / "training", args.code, *read) if args.work else None
    with threadpool_limits(settings["threads"]):
        job.run(args, resume.versions(device), lambda made: evaluate(args, settings, made, device, work))
    if work:
        work.clear()


def evaluate(
    args: argparse.Namespace, settings: dict, made: job.Made, device: str, work: resume.Work | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables, with one line of progress per level."""
    manifest = job.manifest(args)
    levels = {float(level): level for level in made}
    hardware = devices.hardware(device, args.gpus)
    hardware = work.hardware(hardware) if work else hardware
    tickets = given_tickets(args, list(levels), manifest["weights_sha256"])
    found = evaluation.evaluate(
        loading.verified_folder(args.manifest),
        given_data(args.data),
        {**settings, **job.permissions(args)},
        args.pattern,
        list(levels),
        args.seed,
        device=device,
        tickets={level: ticket.masks() for level, ticket in tickets.items()},
        work=work,
        cache=args.tokens,
        gpus=args.gpus,
        calibration=given_data(args.calibration) if args.calibration else None,
    )
    key = job.key(args)
    runs, items, started = [], [], time.monotonic()
    for level, outcome in found:
        if ticket := tickets.get(level.sparsity):
            told = "; ".join(filter(None, [ticket.collapsed, outcome.collapsed]))
            outcome = dataclasses.replace(outcome, collapsed=told or None)
        rows = evaluation.run_rows(level, outcome, manifest, settings["protocol"])
        runs.append(rows.assign(**key, **made[levels[level.sparsity]], hardware=hardware))
        items.append(outcome.items.assign(sparsity=level.sparsity, **key))
        values = ", ".join(
            f"{name} {'undefined' if value is None else f'{value:.4g}'}" for name, value in outcome.metrics.items()
        )
        seconds, started = time.monotonic() - started, time.monotonic()
        place = f"{args.model} {args.task} {args.pattern} {level.sparsity:.3f} seed {args.seed}"
        flag = f"; collapsed: {outcome.collapsed}" if outcome.collapsed else ""
        print(f"{place}: {values}{flag} ({seconds:.1f} s)", flush=True)
    return pd.concat(runs), pd.concat(items)


def given_data(manifest: str) -> pd.DataFrame:
    """The frame of a data set."""
    return reading.read(loading.verified_folder(manifest) / "data.parquet")


def given_tickets(args: argparse.Namespace, levels: list[float], weights_sha256: str) -> dict[float, Any]:
    """Sparsity -> the ticket given, of `pruning.tickets`."""
    if not args.tickets:
        return {}
    read = importlib.import_module(TICKETS).read
    chain = {"model": args.model, "task": args.task, "seed": args.seed, "weights_sha256": weights_sha256}
    return {level: read(path, chain | {"sparsity": level}) for level, path in zip(levels, args.tickets, strict=True)}


if __name__ == "__main__":
    cli.run(main)
