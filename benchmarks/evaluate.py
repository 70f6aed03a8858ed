"""Speed of fine-tuning and of evaluation, against the loop that one would write first, in the same run.

    python benchmarks/evaluate.py [--results FOLDER] [--json FILE] [--mnli] [--train 320] [--eval 640] [--levels 2]

MiniLM-L6 on movie reviews, both from the results of `make demo`; a GPU is used where there is one. Seconds are those of one
processor thread, or of the clock on a GPU. The peer's loop pads to max_length, in float32, with AdamW that is not fused,
and loads the model and tokenises the texts for every level.

finetune_…   training items a second (forward, backward, optimiser, batches), and all items of a whole job
evaluate_…   evaluated items a second
outside_…    share of a job's seconds that are neither forward nor backward nor the optimiser's step, in the peer's job and
             in ours; with --mnli that of a job of MNLI's size (392,702 pairs, three epochs, 9,815 evaluated): what is
             measured per job, per text and per batch, for that many of them
"""

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as in a job

import numpy as np
import pandas as pd
import torch
import transformers

from essential_sparsity import tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import masks
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import _labels
from essential_sparsity.training import finetuning, resume

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTH, BATCH, RATE = 128, 32, 2e-5  # 128: what run_glue.py of transformers pads to
PAIRS, EPOCHS, EVALUATED = 392_702, 3, 9_815  # MNLI


class Clock:
    """Seconds by what they were spent on."""

    def __init__(self):
        self.seconds = Counter()

    @contextlib.contextmanager
    def on(self, what):
        started = self.now()
        try:
            yield
        finally:
            self.seconds[what] += self.now() - started

    def timed(self, what, function):
        def call(*args, **kwargs):
            with self.on(what):
                return function(*args, **kwargs)

        return call

    @staticmethod
    def now():
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()  # on one thread, as a job has: what else the machine does then hardly matters


def settings(args, **changed):
    return {
        "task": "reviews", "dataset": "movie-reviews", "kind": "text-classification", "protocol": "finetune", "epochs": 1,
        "n_train": args.train, "n_eval": args.eval, "max_length": LENGTH, "batch_size": BATCH, "learning_rate": RATE,
    } | changed  # fmt: skip


def ours(manifests, levels, given, work):
    """Seconds of a job as `prune_eval.py` does it, but for the imports and the two tables."""
    clock = Clock()
    step = clock.timed("model", finetuning.Trainer.training_step)
    forward = clock.timed("evaluating", tasks.forward)
    prepare = clock.timed("preparing", tasks.load(given["kind"]).prepare)
    optimiser = clock.timed("model", torch.optim.AdamW.step)
    epoch = clock.timed("epochs", finetuning.Trainer._run_epoch)
    with (
        clock.on("job"),
        mock.patch.object(finetuning.Trainer, "training_step", lambda *args: step(*args)),
        mock.patch.object(torch.optim.AdamW, "step", lambda *args, **kwargs: optimiser(*args, **kwargs)),
        mock.patch.object(finetuning.Trainer, "_run_epoch", lambda *args, **kwargs: epoch(*args, **kwargs)),
        mock.patch.object(finetuning, "train_", clock.timed("training", finetuning.train_)),
        mock.patch.object(tasks, "forward", forward),
        mock.patch.object(tasks.load(given["kind"]), "prepare", prepare),
    ):
        folder, data = (loading.verified_folder(path) for path in manifests)
        frame = pd.read_parquet(data / "data.parquet")
        place = resume.Work.of_job(work, "benchmark", *manifests)
        cache = work / "tokens"  # empty: this is the first job of its task
        for _ in evaluation.evaluate(folder, frame, given, "global", levels, 0, DEVICE, None, place, cache):
            pass
        place.clear()
    return clock.seconds


def peer(manifests, levels, given):
    """Seconds of the same job by the plain loop; the same items, masks and steps."""
    clock = Clock()
    with clock.on("job"):
        for level in levels:
            with clock.on("preparing"):
                folder, data = (loading.verified_folder(path) for path in manifests)
                frame, _ = _labels.labelled(pd.read_parquet(data / "data.parquet"), given)
                train, evaluated = tasks.split(frame, given, 0)
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
                model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2).to(DEVICE)
                batches = [
                    list(batched(tokenizer(part["text"].tolist(), padding="max_length", truncation=True,
                                           max_length=LENGTH, return_tensors="pt"), part["target"].tolist()))
                    for part in (train, evaluated)
                ]  # fmt: skip
                plan = masks.plan("global", loading.prunable_parameters(model), [level], 0)
                pruned = dict(plan.masks(level))
                plan.prune_(level)
            with clock.on("training"):
                optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=False, foreach=False)
                schedule = transformers.get_linear_schedule_with_warmup(optimiser, 0, len(batches[0]))
                weights = loading.parameters(model)
                model.train()
                for batch in batches[0]:
                    batch = {key: value.to(DEVICE) for key, value in batch.items()}
                    with clock.on("model"):
                        model(**batch).loss.backward()
                        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                        optimiser.step()
                    schedule.step()
                    optimiser.zero_grad()
                    with torch.no_grad():
                        for name, mask in pruned.items():
                            weights[name].masked_fill_(mask, 0.0)
            with clock.on("evaluating"), torch.inference_mode():
                model.eval()
                for batch in batches[1]:
                    model(**{key: value.to(DEVICE) for key, value in batch.items()}).logits.argmax(dim=1).cpu()
    return clock.seconds


def batched(encoded, labels):
    for start in range(0, len(labels), BATCH):
        part = slice(start, start + BATCH)
        yield {**{key: value[part] for key, value in encoded.items()}, "labels": torch.tensor(labels[part])}


def outside(seconds):
    return 1 - (seconds["model"] + seconds["evaluating"]) / seconds["job"]


def mnli(folder, given, seconds, args):
    """Estimated seconds of a fine-tuning of MNLI's size: (outside, job), and seconds to tokenise its pairs, measured."""
    draw = np.random.default_rng(0)
    words = np.array([word for word in transformers.AutoTokenizer.from_pretrained(folder).vocab if word.isalpha()])
    lengths = draw.integers(8, 32, PAIRS + EVALUATED), draw.integers(4, 16, PAIRS + EVALUATED)  # MNLI: about 20 and 10
    first, second = ([" ".join(draw.choice(words, length)) for length in part] for part in lengths)
    frame = pd.DataFrame({"item": np.arange(len(first)).astype(str), "text_a": first, "text_b": second,
                          "label": draw.choice(["a", "b", "c"], len(first))})  # fmt: skip
    clock, prepare = Clock(), tasks.load(given["kind"]).prepare
    with tempfile.TemporaryDirectory() as cache:
        for what in ("preparing", "prepared before"):
            with clock.on(what):
                prepared = prepare(folder, frame, given | {"n_train": PAIRS, "n_eval": EVALUATED}, 0, Path(cache))
    some = [prepared.train[i] for i in range(200 * BATCH)]
    with clock.on("batches"):
        for start in range(0, len(some), BATCH):
            prepared.collate([prepared.train[i] for i in range(start, start + BATCH)])
    with clock.on("order"):
        sampler = transformers.trainer_pt_utils.LengthGroupedSampler(BATCH, dataset=prepared.train)
        list(itertools.islice(sampler, 1))
    trained = args.train * args.levels
    tokens = {
        which: np.mean([len(row["input_ids"]) for row in rows])
        for which, rows in (("mnli", some), ("reviews", given["tokenised"]))
    }
    longer = tokens["mnli"] / tokens["reviews"]
    model = seconds["model"] / trained * PAIRS * EPOCHS * longer
    evaluating = seconds["evaluating"] / (args.eval * args.levels) * EVALUATED * longer
    steps = (seconds["epochs"] - seconds["model"]) / trained * PAIRS * EPOCHS
    once = (seconds["job"] - seconds["epochs"] - seconds["evaluating"] - seconds["preparing"]) / args.levels
    around = steps + clock.seconds["preparing"] + clock.seconds["order"] * EPOCHS + once
    print(
        f"MNLI: tokenised in {clock.seconds['preparing']:.0f} s (the first job; {clock.seconds['prepared before']:.0f} s in "
        f"later ones), ordered in {clock.seconds['order']:.1f} s an epoch, "
        f"{1000 * clock.seconds['batches'] / 200:.2f} ms to make a batch; model {model:.0f} s, scoring {evaluating:.0f} s, "
        f"around the steps {steps:.0f} s, once per level {once:.1f} s"
    )
    return around, around + model + evaluating


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results/store")
    parser.add_argument("--train", type=int, default=320, help="training items")
    parser.add_argument("--eval", type=int, default=640, help="evaluated items")
    parser.add_argument("--levels", type=int, default=2, help="sparsities in one job")
    parser.add_argument(
        "--mnli", action="store_true", help="a minute more: time what MNLI's size costs beside the model"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    manifests = [args.results / f"{part}/manifest.json" for part in ("checkpoints/minilm", "datasets/movie-reviews")]
    if not all(path.is_file() for path in manifests):
        sys.exit("Run `make demo` first: its checkpoint and data are used. Or say where they are: --results FOLDER.")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    given, levels = settings(args), [0.3 + 0.2 * i for i in range(args.levels)]
    warm = settings(args, n_train=BATCH, n_eval=BATCH)
    with tempfile.TemporaryDirectory() as work:
        ours(manifests, levels[:1], warm, Path(work))
        theirs = peer(manifests, levels, given)
        mine = ours(manifests, levels, given, Path(work))

    rows = []

    def row(name, ours, peer, higher=True):
        ratio = ours / peer if higher else peer / ours
        rows.append({"name": name, "ours": ours, "peer": peer, "ratio": ratio})
        print(f"{name:34} {ours:12.3f} {peer:12.3f} {ratio:8.2f}", flush=True)

    print(f"{'':34} {'ours':>12} {'peer':>12} {'ratio':>8}")
    trained, evaluated = args.train * args.levels, args.eval * args.levels
    row("finetune_items_per_s", trained / mine["training"], trained / theirs["training"])
    row("evaluate_items_per_s", evaluated / mine["evaluating"], evaluated / theirs["evaluating"])
    row("job_items_per_s", (trained + evaluated) / mine["job"], (trained + evaluated) / theirs["job"])
    row("outside_share", outside(mine), outside(theirs), higher=False)
    print("seconds, ours:", {key: round(value, 2) for key, value in sorted(mine.items())})
    print("seconds, peer:", {key: round(value, 2) for key, value in sorted(theirs.items())})
    if args.mnli:
        folder = loading.verified_folder(manifests[0])
        frame = pd.read_parquet(loading.verified_folder(manifests[1]) / "data.parquet")
        tokenised = tasks.load(given["kind"]).prepare(folder, frame, given, 0).train
        around, job = mnli(folder, given | {"tokenised": tokenised}, mine, args)
        rows.append({"name": "outside_share_mnli", "ours": around / job, "peer": None, "ratio": None})
        print(f"{'outside_share_mnli':34} {around / job:12.3f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
