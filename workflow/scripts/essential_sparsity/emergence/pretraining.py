"""Pre-training from scratch with a checkpoint every n steps, taken up again where it was killed.

`transformers.Trainer` trains (AdamW, linear warm-up and decay). Everything random about an item (which sample, which
tokens are masked) follows from its place in the training, the rest from torch's generator, whose state is saved: a
training that was killed ends with the bits that it would have had.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tokenizers
import torch
import transformers

from essential_sparsity import files, markers
from essential_sparsity.acquire import listing
from essential_sparsity.emergence import corpus, objectives
from essential_sparsity.emergence.corpus import PretrainingError
from essential_sparsity.runs import finished
from essential_sparsity.training import exactness
from essential_sparsity.training.finetuning import seed32

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
WEIGHT_DECAY = 0.01  # of AdamW, where the row does not say
STATE = "state"  # folder of what a training goes on from, and of what its checkpoints are
LOGS = 5  # of the loss, between two checkpoints, at least


def train_tokenizer(texts: Iterable[str | list[str]], size: int, folder: Path) -> None:
    """Train a lower-case WordPiece tokenizer as BERT's and save it where `AutoTokenizer` reads it."""
    pieces = tokenizers.BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=size, min_frequency=2, special_tokens=list(SPECIAL.values()))
    pieces = tokenizers.BertWordPieceTokenizer(vocab=pieces.get_vocab(), lowercase=True)
    transformers.PreTrainedTokenizerFast(tokenizer_object=pieces._tokenizer, **SPECIAL).save_pretrained(folder)


class Visits(torch.utils.data.Dataset):
    """Sample number `visit(i)` at place i of the training: pass after pass, each in an order of its own."""

    def __init__(self, samples: torch.utils.data.Dataset, labels: torch.Tensor | None, length: int, seed: int):
        self.samples, self.labels, self.length, self.seed = samples, labels, length, seed
        self.orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> dict[str, Any]:
        turn, index = divmod(place, len(self.samples))
        if turn not in self.orders:
            self.orders = {turn: files.rng(self.seed, "pre-training order", str(turn)).permutation(len(self.samples))}
        index = int(self.orders[turn][index])
        if self.labels is None:
            return {"input_ids": self.samples[index], "place": place}
        return {"pixel_values": self.samples[index], "labels": self.labels[index]}


def masking(tokenizer: Any, rate: float, seed: int) -> Callable[[list[dict]], dict[str, torch.Tensor]]:
    """Collate with transformers' masking (80 % mask, 10 % random, 10 % kept), drawn anew at each place of the training."""
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate, seed=0)

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        drawn = files.named_seed(seed, "masked tokens", str(rows[0]["place"])) % 2**63
        collator.generator = torch.Generator().manual_seed(drawn)
        return collator([{"input_ids": row["input_ids"]} for row in rows])

    return collate


def prepare(
    path: str | Path, settings: Mapping[str, Any], tokenizer: Any
) -> tuple[objectives.Objective, Visits, Callable[[list], dict]]:
    """The model to train, its samples (of the Parquet file at `path`) and how they are batched.

    Initial weights depend on seed and shape alone.
    """
    data = corpus.Corpus(path, settings["data_fraction"])
    length, seed = settings["steps"] * settings["batch_size"], settings["seed"]
    transformers.set_seed(seed32(seed, "initial weights"))
    if settings["objective"] == "masked-lm":
        samples = corpus.TextSamples(data.texts(), tokenizer, settings["max_length"])
        tokens = {"size": len(tokenizer), "pad": tokenizer.pad_token_id}
        collate = masking(tokenizer, settings["mask_rate"], seed)
        return objectives.MaskedLM(settings, tokens), Visits(samples, None, length, seed), collate
    found = data.labels()
    if settings["objective"] == "supervised" and None in found:
        items = [item for item, label in zip(data.items(), found, strict=True) if label is None]
        raise PretrainingError(
            f"Item {items[0]!r} and {len(items) - 1:,} more of the data have no label. Leave them out."
        )
    names = sorted(set(found) - {None})
    if settings["objective"] == "supervised" and len(names) < 2:
        raise PretrainingError(
            f"The {len(found):,} rows of the data that are read have one label only ({names[0]!r}): there is nothing to tell apart. Raise "
            "data_fraction, correct the column label, or choose another objective."
        )
    places = {label: place for place, label in enumerate(names)}
    labels = torch.tensor([places.get(label, -1) for label in found])
    make = {
        "supervised": lambda: objectives.Supervised(settings, len(names)),
        "masked-autoencoding": lambda: objectives.MaskedAutoencoding(settings),
        "self-distillation": lambda: objectives.SelfDistillation(settings),
    }[settings["objective"]]
    samples = Visits(corpus.ImageSamples(data, settings["image_size"]), labels, length, seed)
    return make(), samples, torch.utils.data.default_collate


class Trainer(transformers.Trainer):
    """Tries a step again where an operation has no deterministic form (`exactness.give_in`)."""

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        before = exactness.Before(model, self.args.device)
        try:
            return super().training_step(model, inputs, num_items_in_batch)
        except RuntimeError as error:
            if not exactness.give_in(error):
                raise
        before.restore()
        return super().training_step(model, inputs, num_items_in_batch)


class Keep(transformers.TrainerCallback):
    """Saves the backbone every n steps, each folder whole or absent, and marks states that can be resumed from."""

    def __init__(self, objective: objectives.Objective, every: int, out: Path, side: Callable[[Path], None]):
        self.objective, self.every, self.out, self.side = objective, every, out, side

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.save(0, state)

    def on_step_end(self, args, state, control, **kwargs):
        self.objective.after_step(state.global_step / state.max_steps)
        if state.global_step % self.every == 0:
            self.save(state.global_step, state)

    def on_save(self, args, state, control, **kwargs):
        if args.world_size > 1:
            torch.distributed.barrier()  # each process writes the state of its own generators
        if state.is_world_process_zero:
            markers.write(Path(args.output_dir) / f"checkpoint-{state.global_step}", {"step": state.global_step})

    def save(self, step: int, state) -> None:
        if not state.is_world_process_zero:
            return
        target = self.out / f"step-{step}"
        work = self.out / f".step-{step}.tmp"
        shutil.rmtree(work, ignore_errors=True)
        self.objective.backbone().save_pretrained(work)
        self.side(work)
        names = [f"{target.name}/{path.name}" for path in work.iterdir()]
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
        files.write_json(self.out / STATE / f"{target.name}.json", listing.entries(self.out, names))


def train(
    objective: objectives.Objective,
    samples: Visits,
    collate: Callable[[list], dict],
    settings: Mapping[str, Any],
    out: Path,
    side: Callable[[Path], None],
    device: str = "cpu",
    processes: int = 1,
) -> pd.DataFrame:
    """Train; write `out/step-{n}`; return the loss log: columns step, loss, learning_rate.

    The state of an interrupted training lies in `out/state`. It is used when it is of the same `settings` (with all else
    that decides the weights: data, code, device) and libraries and whole, as the checkpoints up to it are; else it is deleted. `side(folder)` adds tokenizer or preprocessor to a checkpoint. `device`: `cuda` or `cpu`. `processes`: of this training,
    started by `accelerate launch`; they share each batch.
    """
    folder = out / STATE
    if settings["batch_size"] % processes:
        raise PretrainingError(f"batch_size = {settings['batch_size']} cannot be shared by {processes} GPUs evenly.")
    every, cuda = settings["checkpoint_every"], device == "cuda"
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["batch_size"] // processes,
        learning_rate=settings["learning_rate"],
        warmup_steps=settings["warmup_steps"],
        lr_scheduler_type="linear",
        weight_decay=WEIGHT_DECAY if settings.get("weight_decay") is None else settings["weight_decay"],
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=seed32(settings["seed"], "pre-training"),
        train_sampling_strategy="sequential",
        bf16=in_bf16(device),
        use_cpu=not cuda,
        dataloader_pin_memory=cuda,
        remove_unused_columns=False,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=logged_every(every),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    with arguments.main_process_first(local=False):  # which clears the folder
        made = {**settings, "torch": torch.__version__, "transformers": transformers.__version__}
        resume = newest(folder) if arguments.process_index else resumable(folder, made)
    trainer = Trainer(
        model=objective,
        args=arguments,
        train_dataset=samples,
        data_collator=collate,
        callbacks=[Keep(objective, every, out, side)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    transformers.utils.logging.disable_progress_bar()
    if resume is None:
        # each process draws for its own share of a batch: the same numbers would be the same views
        rank = arguments.process_index
        transformers.set_seed(seed32(settings["seed"], f"pre-training {rank}") if rank else arguments.seed)
    else:
        print(f"resumed at step {resume.name.removeprefix('checkpoint-')}", flush=True)
    # several processes cannot try a step again: their gradients are on the way to each other
    with exactness.strict() if processes == 1 else contextlib.nullcontext():
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    frame = pd.DataFrame([{name: entry[name] for name in ("step", "loss", "learning_rate")} for entry in log])
    if not np.isfinite(frame["loss"].to_numpy(float)).all():
        step = int(frame.loc[~np.isfinite(frame["loss"]), "step"].iloc[0])
        raise PretrainingError(
            f"The loss is not finite from step {step} on: lower learning_rate or raise warmup_steps."
        )
    return frame.astype({"step": "int64", "loss": "float64", "learning_rate": "float64"})


def in_bf16(device: str) -> bool:
    """Whether a training there computes in bfloat16 what autocast lets it: on the cards that have it."""
    return device == "cuda" and torch.cuda.is_bf16_supported()


def logged_every(steps: int) -> int:
    """Steps between two entries of the log, of so many between two checkpoints, where one always stands.

    Else no loss would be known at most checkpoints, and a state would leave out the losses since the last entry: the first mean
    of a training that goes on from it would be of other steps.
    """
    return next(few for few in range(max(1, steps // LOGS), 0, -1) if steps % few == 0)


def resumable(folder: Path, made: Mapping[str, Any]) -> Path | None:
    """The last whole state of a training of these settings; anything else in `folder`, and checkpoints beside it, is deleted.

    A state is whole where the checkpoints up to it are as well: none of them is written again.
    """
    mark = folder / "settings.json"
    try:
        found = files.read_json(mark)
    except (OSError, ValueError):  # a node that went down may have left half of it
        found = None
    if found != made:
        if found is not None:
            told = ", ".join(name for name in sorted(found | made) if found.get(name) != made.get(name))
            print(f"{folder} is not used: it is of another pre-training (other {told}).", flush=True)
        for path in (folder, *folder.parent.glob("step-*")):
            shutil.rmtree(path, ignore_errors=True)
        files.write_json(mark, made)
        return None
    while path := newest(folder):
        _, damage = markers.read(path, {"step": _step(path)}, "step")
        damage = damage or _damage(folder, range(0, _step(path) + 1, made["checkpoint_every"]))
        if not damage:
            return path
        print(f"{path} is not used: {damage}.", flush=True)
        shutil.rmtree(path)
    return None


def newest(folder: Path) -> Path | None:
    """The last state in `folder`: that of `resumable`, for processes that begin after the one which looked."""
    return max(folder.glob("checkpoint-*"), key=_step, default=None)


def _step(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _damage(folder: Path, steps: Iterable[int]) -> str:
    """Why the checkpoints of a training at these steps are not as they were written; empty where they are. `folder`: of its states."""
    for step in steps:
        listed = folder / f"step-{step}.json"
        try:
            told = files.read_json(listed)
        except (OSError, ValueError):
            return f"{listed}, which lists the files of a checkpoint, is damaged"
        for file in told:
            path = folder.parent / file["path"]
            if not path.is_file() or files.sha256_file(path) != file["sha256"]:
                return f"the checkpoint {path} is damaged"
    return ""


def kept(out: Path) -> list[dict[str, Any]]:
    """The files of the checkpoints of a finished training, as a manifest lists them, as they were written."""
    return sorted(
        (file for path in (out / STATE).glob("step-*.json") for file in files.read_json(path)),
        key=lambda file: file["path"],
    )


def is_whole(done: finished.Finished, out: Path) -> bool:
    """Whether an attempt before has kept what it wrote, and the checkpoints in `out` are as its manifest says. It changes nothing, so
    that all processes find the same.
    """
    _, reason = markers.read(done.folder, done.identity, "pre-training")
    if reason:
        return False
    listed = files.read_json(done.folder / "manifest")["files"]
    paths = {out / file["path"]: file["sha256"] for file in listed}
    return all(path.is_file() and files.sha256_file(path) == sha256 for path, sha256 in paths.items())
