"""Tasks: data and metric, one kind per module. Data become model inputs once; a model is then scored as it stands.

A kind's module offers
- `KIND`: what it is, a literal that is read without importing the module (`study.kinds` says its keys);
- `prepare(folder, data, settings, seed, cache=None) -> Prepared`: tokenise or index everything that does not depend on
  the weights; `cache` is the folder where tokenised texts are kept, and found by later runs;
- `run(model, prepared, settings, seed, device) -> Outcome`: evaluate, by every metric that it can give on these data. It
  never changes the model.

`settings` is one row of the task table as a dict (numbers parsed, blanks None or absent). `data` is the frame of the data set
as `reading.read` gives it: where a column holds bytes, they are read by `reading.loaded`, of the rows that are used.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from essential_sparsity import codefiles, errors, files
from essential_sparsity.checkpoints import loading
from essential_sparsity.study.kinds import HELD_OUT, declared, evaluable
from essential_sparsity.training import devices, memory

# Architectures whose layers mix neighbouring tokens, or hash all of them, without a look at the mask of padding.
SEE_PADDING = ("canine", "convbert", "funnel", "mobilebert", "nystromformer", "yoso")


class TaskError(errors.UserError):
    """A task row, or the data that it names, cannot be used as written."""


@dataclass(frozen=True)
class Outcome:
    """What one evaluation found.

    `metrics`: name -> value of every metric that the kind can give on these data, in the order of its declaration. A
    model that collapsed has the floor of the metric: None is left to what the targets leave undefined. `items`: one row
    per evaluated item with
    `item` (id), `score` (classification: 1.0 or 0.0; perplexity: summed negative log-likelihood in nats; similarity: the
    model's own similarity or rating, the same for all items of a collapsed one; question answering: F1), `second_score`
    (question answering: 1.0 for an exact match; masked tokens: how many are predicted; else NaN), `prediction`
    (classification: index of the predicted label, -1 for none; arithmetic: the value of the predicted expression, NaN for none;
    else NaN), `target` (similarity: the human rating; classification: index of the right label; arithmetic: the answer; else NaN), `weight` (perplexity, masked tokens: predicted tokens; else 1) and
    `group` (suites: the part that the item belongs to; else None): from these every metric can be taken anew. `counts`:
    items behind each metric that is not one of all items. `collapsed`: in a few words, why the values are those of a model
    that no longer tells the items apart, or gives no numbers; None where it does.
    """

    metrics: dict[str, float | None]
    items: pd.DataFrame
    collapsed: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """Model inputs of one task, shared by all sparsity levels of a job.

    `inputs[i]` belongs to `items[i]` and `targets[i]` (label index, human rating, or predicted tokens); `train` holds
    the training subset in the same form with its labels inside. `collate` turns a list of inputs into a batch of
    tensors; `model_options` are passed on to the model's configuration when it is loaded. `head`: where transformers has no
    class for what is fine-tuned, puts a new head on the base model, and returns both as one model (`base_model` in it is the
    one that was given). `reference` is whatever else the kind's own `run` needs. `documents`: where `items` are none of the
    data, gives the items of the data that the inputs are made of, asked for by what is calibrated alone. `check`: what the
    kind itself looks at on the dense model (model, settings, device) before anything is computed from it; raises TaskError.
    """

    items: list[str]
    inputs: Sequence[Mapping[str, Any]]
    targets: np.ndarray
    collate: Callable[[list], dict[str, Any]]
    train: Sequence[Mapping[str, Any]] = ()
    train_targets: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    model_options: dict[str, Any] = field(default_factory=dict)
    head: Callable[[transformers.PreTrainedModel], transformers.PreTrainedModel] | None = None
    reference: Any = None
    documents: Callable[[], list[str]] | None = None
    check: Callable[[torch.nn.Module, Mapping[str, Any], torch.device | str], None] | None = None


def kinds() -> list[str]:
    """The kinds that are declared, here and in the extensions."""
    return list(declared())


def load(kind: str) -> ModuleType:
    """The module of a kind. By name, so that a run depends on the code of its own kind only."""
    if kind not in declared():
        raise TaskError(f"Task kind {kind!r} does not exist. Write one of: {', '.join(kinds())}.")
    return importlib.import_module(codefiles.task_module(kind))


def auto_class(settings: Mapping[str, Any]) -> str:
    """Name of the transformers auto class for this task's kind and protocol."""
    offered = declared()[settings["kind"]].protocols
    if settings["protocol"] not in offered:
        raise TaskError(
            f"Task {settings.get('task')!r}: kind {settings['kind']!r} has no protocol {settings['protocol']!r}. "
            f"Write one of: {', '.join(sorted(offered))}."
        )
    return offered[settings["protocol"]].auto_class


def batch_size(settings: Mapping[str, Any]) -> int:
    """Items scored at once: `eval_batch_size`, else as the kind declares."""
    return int(settings.get("eval_batch_size") or declared()[settings["kind"]].cost.scored_at_once)


def required(settings: Mapping[str, Any], key: str) -> Any:
    """A setting that this kind and protocol cannot do without."""
    value = settings.get(key)
    if value is None:
        raise TaskError(
            f"Task {settings.get('task')!r}: column {key!r} is empty, but kind {settings['kind']!r} with protocol "
            f"{settings['protocol']!r} needs it."
        )
    return value


def check_architecture(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose architecture has no model of this kind, before any weight is read."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    towers, of_both = loading.has_towers(config), MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    if config.is_encoder_decoder or (config.model_type in of_both and not towers):  # whatever a config.json says
        raise TaskError(
            f"Task {settings.get('task')!r}: {config.model_type!r}, the architecture of {folder}, is an encoder-decoder. Kind "
            f"{settings['kind']!r} reads texts or images with an encoder or a decoder alone: no task here is for both. Use a "
            "model such as BERT, RoBERTa, GPT-2, LLaMA or ViT."
        )
    if getattr(config, "add_cross_attention", False):
        raise TaskError(
            f"Task {settings.get('task')!r}: {folder} has cross-attention (add_cross_attention in its config.json), to an encoder that there is not "
            "here: those weights would be pruned without an effect. Use a model without it."
        )
    if towers:
        raise TaskError(f"Task {settings.get('task')!r}: {loading.one_tower(config)}")
    if type(config) not in getattr(transformers, auto_class(settings))._model_mapping:
        raise TaskError(
            f"Task {settings.get('task')!r}: transformers has no {auto_class(settings)} for the architecture "
            f"{config.model_type!r}. Evaluate this model on another kind than {settings['kind']!r}, or by another protocol."
        )
    if config.model_type in SEE_PADDING and batch_size(settings) > 1:
        raise TaskError(
            f"Task {settings.get('task')!r}: {config.model_type!r}, the architecture of {folder}, reads the padding behind a text too, so its "
            "scores would depend on the texts that stand in one batch. Use another model."
        )
    # Asked of architectures of encoders alone: GPT-NeoX says that it is no decoder, and is one.
    of_encoders = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, "bert-generation"}
    causal = config.model_type not in of_encoders or getattr(config, "is_decoder", True)
    if auto_class(settings) == "AutoModelForCausalLM" and not causal:
        raise TaskError(
            f"Task {settings.get('task')!r}: {config.model_type!r}, the architecture of {folder}, is an encoder (is_decoder is false in its "
            f"config.json): each token sees those after it, which kind {settings['kind']!r} has it predict. Write encoder in the column "
            "type of this model, and evaluate it on masked tokens."
        )


def check_columns(data: pd.DataFrame, settings: Mapping[str, Any], *names: str) -> None:
    """Refuse data that lack a column, by name."""
    missing = [name for name in names if name not in data]
    if missing:
        there = [name if name.isprintable() else ascii(name) for name in map(str, data.columns)]
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} has no column {', '.join(missing)} "
            f"(it has {', '.join(there)}). Kind {settings['kind']!r} cannot use this data set."
        )


def evaluated_split(data: pd.DataFrame, settings: Mapping[str, Any]) -> str | None:
    """The split that is evaluated: `eval_split`, or where that is blank the only one to evaluate (`kinds.evaluable`); None without splits.

    Raises TaskError when there is no such split, or more than one: a test set may have no labels.
    """
    wanted = settings.get("eval_split")
    there = sorted(set(data["split"])) if "split" in data else []
    others = [name for name in there if name != "train"]
    place = f"Task {settings.get('task')!r}: "
    if wanted not in (None, HELD_OUT, *others):
        raise TaskError(
            f"{place}eval_split = {wanted!r}, but the splits of data set {settings.get('dataset')!r} are: "
            f"{', '.join(there) or 'none'}. Write one to evaluate, or {HELD_OUT}."
        )
    found = sorted(evaluable(there))
    if wanted is None and len(found) > 1:
        raise TaskError(
            f"{place}data set {settings.get('dataset')!r} has the splits {', '.join(found)} beside train. Write the one to "
            "evaluate in the column eval_split."
        )
    return wanted or next(iter(found), None)


def parts(data: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows that may train, rows that may be evaluated), each in the order of the data.

    Where the data carry a `split` column, rows marked `train` train and those of `evaluated_split` are evaluated; the
    others are left out. Without splits, all rows are in both parts. `held_out` is the share of the training rows that
    no seed trains on, chosen by a hash of their item; they are evaluated where there is no other split to evaluate.
    """
    name = evaluated_split(data, settings)
    rest = data[data["split"] == "train"] if "split" in data else data
    evaluation = data[data["split"] == name] if "split" in data else data
    if share := settings.get("held_out"):
        held = rest["item"].isin(hashed(rest)["item"].iloc[: math.floor(share * len(rest) + 0.5)])
        if name in (None, HELD_OUT):
            evaluation = rest[held]
        rest = rest[~held]
    return rest, evaluation


def hashed(data: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of a hash of their item: any order, but always the same, whatever rows stand beside them."""
    return data.iloc[np.argsort([files.sha256_text(f"split\0{item}") for item in data["item"]])]


def split(data: pd.DataFrame, settings: Mapping[str, Any], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(train, evaluation) rows.

    Of the rows that `parts` allows, ordered by a hash of their item id, the first `n_eval` are evaluated, the same for
    every seed; the training subset of `n_train` is drawn by the seed from those that are not evaluated. A blank number
    means all that there are.
    """
    if not data["item"].is_unique:
        raise TaskError(f"Data set {settings.get('dataset')!r}: item ids are not unique.")
    rest, evaluation = (hashed(part) for part in parts(data, settings))
    n_train, n_eval = settings.get("n_train"), settings.get("n_eval")
    trains = settings["protocol"] != "zero-shot"
    if "split" not in data and not settings.get("held_out"):
        if trains:
            required(settings, "n_eval")
        rest = rest.iloc[int(n_eval or len(rest)) :]
    evaluation = evaluation.iloc[: int(n_eval or len(evaluation))]
    if trains and "split" in data and "train" not in set(data["split"]):
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} has no rows of the split train that can be used; "
            f"its splits are: {', '.join(sorted(set(data['split'])))}."
        )
    n_train = int(n_train or len(rest)) if trains else 0
    if len(evaluation) < int(n_eval or 1) or len(rest) < max(n_train, int(trains)):
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} has {len(data)} usable rows, too few "
            f"for n_eval = {n_eval or 'at least 1'} and n_train = {n_train or 'at least 1'}: {len(evaluation)} can be evaluated"
            f"{f', {len(rest)} can train' if trains else ''}. Lower one of them."
        )
    drawn = files.rng(seed, "train", str(settings.get("dataset"))).permutation(len(rest))[:n_train]
    return rest.iloc[drawn], evaluation


def forward(
    model: torch.nn.Module,
    inputs: Sequence[Mapping[str, Any]],
    collate: Callable[[list], dict[str, Any]],
    batch_size: int,
    device: torch.device | str,
    read: Callable[[Any, dict[str, Any]], torch.Tensor],
) -> np.ndarray:
    """`read(model output, batch)` (batch first) for every input, in the order of `inputs`; float32.

    Texts run in order of length, so that a batch holds hardly any padding; the model does not see the labels. Where memory
    does not suffice for `batch_size` of them, half as many go through at once from there.
    """
    order, device = np.argsort(-lengths(inputs), kind="stable"), torch.device(device)

    def score(rows: dict[str, Any]) -> np.ndarray:
        batch = {key: value.to(device) if torch.is_tensor(value) else value for key, value in rows.items()}
        seen = {key: value for key, value in batch.items() if key != "labels"}
        return read(model(**seen), batch).float().cpu().numpy()

    model.eval()
    parts, start = [], 0
    with torch.inference_mode():
        while start < len(order):
            try:
                for rows in Batches(inputs, order[start:], batch_size, collate).loaded(device):
                    parts.append(score(rows))
                    start += batch_size
                continue
            except RuntimeError as error:
                if batch_size == 1 or not memory.ran_out(error):
                    raise
            batch_size = (batch_size + 1) // 2
            print(f"Out of memory: {batch_size} items at once from here.", flush=True)
            memory.free()
    stacked = np.concatenate(parts)
    result = np.empty_like(stacked)
    result[order] = stacked
    return result


class Batches(torch.utils.data.Dataset):
    """The batches of some inputs in an order that is given; one that cannot be made is the error that says why."""

    def __init__(
        self,
        inputs: Sequence[Mapping[str, Any]],
        order: np.ndarray,
        batch_size: int,
        collate: Callable[[list], dict[str, Any]],
    ):
        self.inputs, self.order, self.batch_size, self.collate = inputs, order, batch_size, collate

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, place: int) -> dict[str, Any] | errors.UserError:
        indices = self.order[place * self.batch_size : (place + 1) * self.batch_size]
        try:
            return self.collate([self.inputs[int(index)] for index in indices])
        except errors.UserError as error:  # another process would put its traceback into the message
            return error

    def loaded(self, device: torch.device) -> Iterator[dict[str, Any]]:
        """One after the other; inputs that have to be decoded, ahead of the model by the threads that the job can spare."""
        workers = min(devices.workers(), len(self) - 1) if getattr(self.inputs, "decodes", False) else 0
        made = (self[place] for place in range(len(self)))
        if workers:
            made = torch.utils.data.DataLoader(
                self,
                batch_size=None,
                collate_fn=_as_it_is,
                num_workers=workers,
                multiprocessing_context="fork",
                pin_memory=device.type == "cuda",
                generator=torch.Generator(),  # torch's own, which decides numbers, is not drawn from
            )
        for batch in made:
            if isinstance(batch, errors.UserError):
                raise batch
            yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def lengths(inputs: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Tokens of each input; images are alike."""
    if isinstance(inputs, list):
        return np.array([len(row["input_ids"]) for row in inputs])
    return getattr(inputs, "lengths", np.zeros(len(inputs), dtype=np.int64))


def logits(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """What `forward` reads from a classifier: (batch, labels)."""
    return output.logits


def not_finite(outputs: np.ndarray, what: str = "outputs") -> str | None:
    """How many of the rows of `outputs` hold a NaN or an infinity, in words; None where none does."""
    return counted(~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1), f"{what} are not finite")


def counted(broken: np.ndarray, words: str) -> str | None:
    """ "3 of 60 …", or None where nothing is broken; `broken`: bool (n)."""
    return f"{int(broken.sum())} of {len(broken)} {words}" if broken.any() else None


def items_frame(
    items: Sequence[str],
    score: np.ndarray,
    target=math.nan,
    weight=1.0,
    second_score=math.nan,
    prediction=math.nan,
    group: str | None = None,
) -> pd.DataFrame:
    """The `items` frame of an Outcome; each number is one per item, or the same for all of them; `group` is all of theirs."""
    columns = {
        "score": score,
        "second_score": second_score,
        "prediction": prediction,
        "target": target,
        "weight": weight,
    }
    spread = {name: np.broadcast_to(np.asarray(column, np.float64), len(items)) for name, column in columns.items()}
    return pd.DataFrame({"item": list(items), **spread, "group": pd.array([group] * len(items), dtype="string")})
