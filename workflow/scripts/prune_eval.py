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

from essential_sparsity import cli, codefiles, files, patterns, tables
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation, kept
from essential_sparsity.training import resume

TICKETS = "essential_sparsity.pruning.tickets"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table")
    parser.add_argument("--pattern", required=True, help="name in the registry: dense, global, nm4, …")
    parser.add_argument("--sparsities", required=True, help="levels joined by +, for instance 0.100+0.200")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: the task's columns, and allow_pickle")
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--data", required=True, help="manifest.json of the data set")
    parser.add_argument(
        "--tickets", nargs="*", default=[], help="where training found the masks: those of each level, in order"
    )
    parser.add_argument("--threads", type=int, default=1, help="processor threads; the last digits can depend on it")
    parser.add_argument("--work", type=Path, help="folder for what outlives a job that ends badly")
    parser.add_argument("--tokens", type=Path, help="folder of tokenised texts, found there or put there")
    parser.add_argument("--runs", required=True, help="Parquet file to write: one row per level and metric")
    parser.add_argument("--items", required=True, help="Parquet file to write: one row per level and evaluated item")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    done = finished(args) if args.work else None
    work = resume.Work.of_job(args.work / "training", args.manifest, args.data) if args.work else None
    if not (done and done.take_back()):
        with threadpool_limits(args.threads):
            runs, items = evaluate(args, work)
        tables.write(items, "items", args.items)
        tables.write(runs, "runs", args.runs)
        if done:
            done.keep()
    if work:
        work.clear()


def finished(args: argparse.Namespace) -> kept.Kept:
    """The results of this job as an attempt before may have left them."""
    by_name = [codefiles.task_module(args.settings["kind"]), *patterns.find(args.pattern).modules]
    by_name += [TICKETS] if args.tickets else []
    return kept.Kept.of_job(
        args,
        reads=("manifest", "data", "tickets"),
        writes=("runs", "items"),
        code=codefiles.digest(codefiles.program(__file__, *by_name)),
        schemas=codefiles.digest(tables.FOLDER / f"{name}.yaml" for name in ("runs", "items")),
        **resume.versions(resume.device()),
    )


def evaluate(args: argparse.Namespace, work: resume.Work | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables, with one line of progress per level."""
    manifest = files.read_json(args.manifest)
    found = evaluation.evaluate(
        loading.verified_folder(args.manifest),
        pd.read_parquet(loading.verified_folder(args.data) / "data.parquet"),
        {**args.settings, "task": args.task},
        args.pattern,
        [float(level) for level in args.sparsities.split("+")],
        args.seed,
        resume.device(),
        given_masks(args, manifest["weights_sha256"]),
        work,
        args.tokens,
    )
    key = {"model": args.model, "task": args.task, "pattern": args.pattern, "seed": args.seed}
    runs, items, started = [], [], time.monotonic()
    for level, outcome in found:
        runs.append(evaluation.run_rows(level, outcome, manifest, args.settings["protocol"]).assign(**key))
        items.append(outcome.items.assign(sparsity=level.sparsity, **key))
        values = ", ".join(
            f"{name} {'undefined' if value is None else f'{value:.4g}'}" for name, value in outcome.metrics.items()
        )
        seconds, started = time.monotonic() - started, time.monotonic()
        place = f"{args.model} {args.task} {args.pattern} {level.sparsity:.3f} seed {args.seed}"
        print(f"{place}: {values} ({seconds:.1f} s)", flush=True)
    return pd.concat(runs), pd.concat(items)


def given_masks(args: argparse.Namespace, weights_sha256: str) -> dict[float, dict[str, torch.Tensor]]:
    """Sparsity -> masks of the tickets given; their code is loaded by name, so that only runs of tickets depend on it."""
    if not args.tickets:
        return {}
    read = importlib.import_module(TICKETS).read
    chain = {"model": args.model, "task": args.task, "seed": args.seed, "weights_sha256": weights_sha256}
    levels = [float(level) for level in args.sparsities.split("+")]
    return {
        level: read(path, chain | {"sparsity": level}).masks() for level, path in zip(levels, args.tickets, strict=True)
    }


if __name__ == "__main__":
    cli.run(main)
