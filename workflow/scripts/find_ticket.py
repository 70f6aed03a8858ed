"""One iteration of magnitude pruning: train under the previous iteration's mask, prune, store the mask."""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # as in prune_eval.py: a ticket is trained as it is evaluated
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
import transformers
from threadpoolctl import threadpool_limits

import essential_sparsity
from essential_sparsity import cli, errors, files
from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import tickets
from essential_sparsity.runs import finished, job, lottery
from essential_sparsity.tables import provenance
from essential_sparsity.tasks import reading
from essential_sparsity.training import devices, exactness, resume


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--task", required=True, help="row of the tasks table, of protocol finetune")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--sparsity", required=True, help="pruned after this iteration, for instance 0.300")
    parser.add_argument("--iteration", type=int, required=True, help="its number, from 1")
    parser.add_argument("--share", type=float, required=True, help="share of the original weights that each prunes")
    job.arguments(parser)
    parser.add_argument("--previous", nargs="*", default=[], help="ticket of the iteration before; none for the first")
    parser.add_argument("--out", required=True, type=Path, help="ticket to write: .safetensors")
    parser.add_argument("--digest", required=True, type=Path, help="file to write with its SHA-256, as sha256sum does")
    args = parser.parse_args(argv)
    args.device = devices.find(args.device)
    for dense in args.dense:
        job.check(args, dense)
    settings = json.loads(args.settings)
    torch.set_num_threads(settings["threads"])
    exactness.ask()
    done = work = None
    if args.work:
        done = finished.Finished.of_job(args.work, made_of(args), {"out": args.out, "digest": args.digest})
        work = resume.Work.of_job(args.work / "training", args.code, args.manifest, args.data)
    if not (done and (done.there(lambda: whole(args)) or done.take_back())):
        with threadpool_limits(settings["threads"]):
            masks, record = prune(args, settings, work)
        tickets.write(args.out, masks, record)
        with files.atomic(args.digest) as temporary:
            temporary.write_text(f"{files.sha256_file(args.out)}  {args.out.name}\n")
        if done:
            done.keep()
        place = f"{args.model} {args.task} seed {args.seed}, iteration {record['iteration']}"
        print(f"{place}: {record['k']:,} of {record['n']:,} weights are pruned")
        if record["diverged"]:
            print(f"The training of iteration {record['diverged']} diverged: runs with this ticket will say so.")
    if work:
        work.clear()


def made_of(args: argparse.Namespace) -> dict:
    """What decides the ticket."""
    return {
        **{name: getattr(args, name) for name in ("model", "task", "seed", "sparsity", "iteration", "share", "code")},
        "settings": json.loads(args.settings),
        "checkpoint": provenance.of_manifest(args.manifest),
        "data": provenance.of_manifest(args.data),
        "previous": [files.sha256_file(path) for path in args.previous],
        **resume.versions(args.device),
    }


def whole(args: argparse.Namespace) -> bool:
    """Whether the ticket that is there is whole, has the SHA-256 beside it, and was made of the same."""
    try:
        tickets.read(args.out, {"made_of": digest_of(args)})
        return provenance.of_ticket(args.digest) == files.sha256_file(args.out)
    except (ValueError, OSError):
        return False


def digest_of(args: argparse.Namespace) -> str:
    """SHA-256 of all that decides the ticket, as its provenance names it."""
    return files.sha256_text(json.dumps(made_of(args), sort_keys=True))


def prune(args: argparse.Namespace, settings: dict, work: resume.Work | None) -> tuple[lottery.Masks, dict]:
    """The masks after the iteration, and their provenance."""
    chain = {
        "model": args.model,
        "task": args.task,
        "seed": args.seed,
        "share": args.share,
        "settings": settings,
        "weights_sha256": job.manifest(args)["weights_sha256"],
    }
    if len(args.previous) != (args.iteration > 1):
        raise errors.UserError(
            f"Iteration {args.iteration} starts with {int(args.iteration > 1)} ticket, not {len(args.previous)}."
        )
    before = tickets.read(args.previous[0], chain | {"iteration": args.iteration - 1}) if args.previous else None
    masks, level, diverged = lottery.ticket(
        loading.verified_folder(args.manifest),
        reading.read(loading.verified_folder(args.data) / "data.parquet"),
        {**settings, **job.permissions(args)},
        before.masks() if before else {},
        float(args.sparsity),
        args.seed,
        args.device,
        work,
        args.tokens,
    )
    made = {"iteration": args.iteration, "sparsity": level.sparsity, "k": level.k, "n": level.n}
    made["diverged"] = (before and before.provenance["diverged"]) or (args.iteration if diverged else None)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return masks, chain | made | versions | {"workflow": essential_sparsity.__version__, "made_of": digest_of(args)}


if __name__ == "__main__":
    cli.run(main)
