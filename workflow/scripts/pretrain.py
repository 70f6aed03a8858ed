"""Pre-train one model from scratch, keep its checkpoints, log its loss. Killed, it goes on where it was."""

import argparse
import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
import transformers
from threadpoolctl import threadpool_limits

from essential_sparsity import cli, files, tables
from essential_sparsity.checkpoints import loading
from essential_sparsity.emergence import objectives, pretraining
from essential_sparsity.runs import finished
from essential_sparsity.training import devices, exactness, resume


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pretraining", required=True, help="row of the pre-training table")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: the row's columns")
    parser.add_argument("--code", required=True, help="digest of the code: a state of another one is not taken up")
    parser.add_argument("--data", required=True, help="manifest.json of the data set")
    parser.add_argument("--tokenizer", nargs="*", default=[], help="tokenizer.json that texts are cut with")
    parser.add_argument("--threads", type=int, default=1, help="processor threads; the last digits can depend on it")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto", help="what to compute on")
    parser.add_argument("--losses", required=True, type=Path, help="table of the loss over steps to write")
    parser.add_argument("--manifest", required=True, type=Path, help="manifest.json to write, beside the checkpoints")
    args = parser.parse_args(argv)
    device = devices.find(args.device)
    torch.set_num_threads(args.threads)
    exactness.ask()
    with threadpool_limits(args.threads):
        run(args, args.manifest.parent, device)


def run(args: argparse.Namespace, out: Path, device: str) -> None:
    """Train, then write the log of losses and, last of all, the manifest; or take both back where an attempt before had finished."""
    data = loading.verified_folder(args.data) / "data.parquet"
    tokenizer = None
    if args.tokenizer:
        tokenizer = transformers.AutoTokenizer.from_pretrained(Path(args.tokenizer[0]).parent, local_files_only=True)

    def side(folder: Path) -> None:
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        else:
            means = {"image_mean": objectives.IMAGE_MEAN, "image_std": objectives.IMAGE_STD}
            files.write_json(folder / "preprocessor_config.json", means)

    made = {**args.settings, "data": files.sha256_file(args.data), "threads": args.threads}
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    # each process draws the views of its own share of a batch: with another number of them other weights come out
    made |= {"code": args.code, "device": device, "bf16": pretraining.in_bf16(device), "processes": processes}
    made["tokenizer"] = [files.sha256_file(path) for path in args.tokenizer]
    outputs = {"losses": args.losses, "manifest": args.manifest}
    done = finished.Finished.of_job(out, made | resume.versions(device), outputs)
    first = os.environ.get("RANK", "0") == "0"
    if pretraining.is_whole(done, out):
        if first:
            done.take_back()
            shutil.rmtree(out / pretraining.STATE, ignore_errors=True)  # which it may not have had the time to delete
        return
    objective, samples, collate = pretraining.prepare(data, args.settings, tokenizer)
    losses = pretraining.train(objective, samples, collate, made, out, side, device, processes)
    if not first:
        return
    tables.write(losses.assign(pretraining=args.pretraining), "losses", args.losses)
    record = {"pretraining": args.pretraining, "settings": args.settings, "files": pretraining.kept(out)}
    files.write_json(args.manifest, record)
    done.keep()
    shutil.rmtree(out / pretraining.STATE)
    print(f"{args.pretraining}: {len(losses)} losses, the last {losses['loss'].iloc[-1]:.4f}")


if __name__ == "__main__":
    cli.run(main)
