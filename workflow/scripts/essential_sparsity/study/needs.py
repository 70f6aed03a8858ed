"""What jobs take, from the sizes of models and the numbers of tasks: memory of the machine and of the GPU, time.

What is expected, to a factor of two or three; docs/resources.md compares it with jobs that were measured. Standard library
only: every parse of the Snakefile imports this module.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from essential_sparsity import patterns
from essential_sparsity.study import kinds

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PRECISION = {"float32": "float32", "float16": "fp16", "bfloat16": "bf16", "fp16": "fp16", "bf16": "bf16"}

# Memory of the machine.
START_MB = 550  # Python, torch, transformers
DRIVER_MB = 2500  # CUDA's libraries, its context, pinned batches, workers
STORED_COPIES = 2  # the file as it is mapped, and what is loaded from it
TEXT_ITEM, IMAGE_ITEM = 3_000, 20_000  # bytes of an item in frames, beside its tokens; of an encoded image
TOKEN_HELD = 50  # bytes of a token that a kind with several passes an item keeps as Python numbers
FRAME_ROW, FRAME_BYTE = 150, 5  # bytes of a row of a frame, and of a byte of its file, texts being compressed there
PRETRAINING_MB = 8_000  # of a pre-training's data, before they are fetched
PIECE_MB, TOKENS_BYTE = 1_000, 2  # reading them piece by piece; bytes of tokens of a byte of their file
FITTING_MB, RESAMPLES_MB, ITEM_MB = 1500, 0.4, 0.0015  # fitting knees: at its start, for a run, for each item of it
# Memory where it is computed.
CONTEXT_MB = 1000  # of a GPU: context, kernels, workspaces
TRAINED = 4 + 4 + 8 + 1  # bytes of a weight: itself in float32, its gradient, AdamW's two moments, the mask
ACTIVATION = 80  # bytes of a token, layer and unit of width, kept for the backward pass; scoring keeps one layer
PROBABILITY = 12  # bytes of each attention probability, which a processor keeps and a GPU's fused kernels do not
LOGIT = 12  # bytes of each logit: its own type, float32, log-probabilities
VOCABULARY = 50_000  # words of a model of which they are not known
SMOKE_ITEMS, SMOKE_BYTES = 8, 4  # a dense model's first items: outputs that are compared are kept twice (runs/smoke.py)

# Time.
# of SparseGPT: operations a token and width² of a layer, of which a GPU reaches nearly its peak; columns a width of a layer
HESSIANS, COLUMNS = {True: 20, False: 38}, 10
STEP = {True: 1e-4, False: 2.5e-4}  # seconds a column: its update
START_SECONDS = 10  # imports
READ = 2e8  # bytes of weights a second, checked and loaded
MASKED = {True: 8e9, False: 1e8}  # weights a second that are ranked and masked: on a GPU, on a processor
LAUNCH = {True: 4e-3, False: 8e-4}  # seconds a layer and batch at least, on a GPU: training, scoring
MOVED = 3e9  # bytes a second between the machine and a GPU, with the copies on the machine before and after
HANDED = 3  # times what blocks hand over: the inputs and outputs of one, and as much again while it computes
PICTURE = 2e-3  # seconds to decode and resize an image, while the GPU waits
FITTED = 4e-6  # minutes to resample an item of a run
UNKNOWN_ITEMS, UNKNOWN_TOKENS = 10_000, 512  # of a task whose row leaves them open


@dataclass(frozen=True)
class Device:
    """A class of GPU, or one core of a processor; `operations`: a second, by precision, as jobs reach them."""

    name: str
    operations: Mapping[str, float]
    memory_mb: float | None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Device":
        """Of a row of the devices table: peaks in 10¹² operations a second, and the share of them that jobs reach."""
        speeds = {name: row[name] * row["share"] * 1e12 for name in ("float32", "bf16", "fp16")}
        return cls(row["device"], speeds, row["memory_gb"] and row["memory_gb"] * 1000)


@dataclass(frozen=True)
class Data:
    """A data set that is fetched: rows by split (`all` without splits), bytes of its file, and whether it holds pictures."""

    rows: Mapping[str, int]
    size: int
    pictures: bool

    @property
    def training(self) -> int:
        """Rows that may train."""
        return self.rows.get("train", self.whole)

    @property
    def whole(self) -> int:
        """All rows."""
        return sum(self.rows.values())


@dataclass(frozen=True)
class Need:
    """What a job is expected to take.

    `minutes`: of all its levels; `told`: those of them that the task's `minutes_per_level` says. `host_mb`: memory of the machine. `gpu_mb`:
    of the GPU, with whole batches; `least_gpu_mb`: in the smallest parts that batches are cut into where memory runs out.
    """

    minutes: float
    told: float
    host_mb: float
    gpu_mb: float = 0
    least_gpu_mb: float = 0


def active(model: Mapping[str, Any]) -> float:
    """Parameters that a token meets: of a mixture of experts those of a few, as its row says."""
    return model.get("active") or model["parameters"]


def depth(model: Mapping[str, Any]) -> float:
    """Layers × width: 9,000 in BERT-base, 130,000 in a model of 7 billion."""
    return 0.15 * active(model) ** 0.6


def width(model: Mapping[str, Any]) -> float:
    """Of the hidden states: 768 in BERT-base, 4,100 in a model of 7 billion."""
    return 768 * (active(model) / 110e6) ** 0.407


def words(model: Mapping[str, Any]) -> int:
    """Words that a model gives a logit each; `words` stands beside the columns of its row where they are known."""
    return model.get("words") or VOCABULARY


def tokens(task: Mapping[str, Any]) -> int:
    """Tokens, or image patches, of the longest item of a task."""
    patches = (task["image_size"] // 14) ** 2 + 1 if task["image_size"] else None
    return task["context"] or task["max_length"] or patches or UNKNOWN_TOKENS


def mean_tokens(task: Mapping[str, Any]) -> float:
    """Of an item on average: batches hold items of like length. The longest where the row does not say."""
    return min(task["mean_length"] or math.inf, tokens(task))


def filled(task: Mapping[str, Any], data: Data | None) -> Mapping[str, Any]:
    """The row with the numbers that its blank ones stand for, as `tasks.split` draws items: all that there are.

    Windows and the documents of a suite are no rows of the data.
    """
    if data is None or task["context"] or task["suite"]:
        return task
    others = kinds.evaluable(data.rows)
    kept = math.floor((task["held_out"] or 0) * data.training + 0.5)
    evaluated = task["eval_split"] or (others[0] if len(others) == 1 else None)
    items = task["n_eval"] or data.rows.get(
        evaluated, kept or (data.rows.get("all", 0) if task["protocol"] == "zero-shot" else 0)
    )
    train = data.training - (kept if kept or "all" not in data.rows else items)
    return {**task, "n_train": task["n_train"] or max(train, 0) or None, "n_eval": items or None}


def trained_items(task: Mapping[str, Any]) -> float:
    """Items that are trained on, each as often as there are epochs."""
    return (task["n_train"] or UNKNOWN_ITEMS) * task["epochs"] if task["protocol"] == "finetune" else 0


def evaluated(task: Mapping[str, Any]) -> int:
    """Items that an evaluation scores, windows for one, of a row that was `filled` where its data are there; of a suite rather more than
    too few, since several passes may make one."""
    return task["n_eval"] or task["windows"] or task["passes"] or UNKNOWN_ITEMS


def scored_items(task: Mapping[str, Any]) -> int:
    """Passes of the model that an evaluation takes: the row's own number, or the items by the passes of their kind."""
    found = task["passes"]
    if found is None:
        each = kinds.declared()[task["kind"]].cost.passes
        each = each if isinstance(each, int) else task[each] or tokens(task)
        found = evaluated(task) * each
    return found + ((task["n_train"] or UNKNOWN_ITEMS) if task["protocol"] in ("probe", "knn") else 0)


def stored_mb(model: Mapping[str, Any]) -> float:
    """The weights as they are stored; float32 where the row does not say."""
    return model["parameters"] * BYTES[model["dtype"] or "float32"] / 1e6


def multiplied(model: Mapping[str, Any], logits: bool) -> float:
    """Weights that each token is multiplied with: all but the embeddings of words, which logits use again."""
    if logits or model["type"] == "vision":
        return active(model)
    return max(active(model) / 2, active(model) - 30_000 * width(model))


def seconds(model: Mapping[str, Any], task: Mapping[str, Any], device: Device, gpu: bool, threads: int) -> float:
    """Of one level: six operations a weight and trained token, two a scored one, attention, decoding, masks."""
    cost, mean = kinds.declared()[task["kind"]].cost, mean_tokens(task)
    forward = mean * (
        2 * (multiplied(model, cost.language_logits) + cost.head) + 4 * mean * depth(model)
    )  # operations of an item
    stored, layers = PRECISION[model["dtype"] or "float32"], depth(model) / width(model)
    trained, scored = trained_items(task), scored_items(task)
    used = stored if not trained else PRECISION[task["autocast"] or "float32"] if gpu else "float32"
    cores = 1 if gpu else threads
    result = model["parameters"] / MASKED[gpu]
    for items, factor, precision, batch, training in (
        (trained, 3, used, task["batch_size"], True),
        (scored, 1, "float32" if trained else stored, cost.scored_at_once, False),
    ):
        each = factor * forward / (device.operations[precision] * cores)
        floor = layers * LAUNCH[training] / batch if gpu and items else 0
        result += items * (max(each, floor) + (PICTURE if task["image_size"] else 0))
    return result


def memory(model: Mapping[str, Any], task: Mapping[str, Any], batch: int | None, gpu: bool) -> float:
    """MB beside the weights as they were stored, where a job computes; `batch`: items at once, None: as the task says.

    Zero-shot evaluation and probes compute with the weights as they are stored; fine-tuning trains them in float32.
    """
    cost, trains = kinds.declared()[task["kind"]].cost, task["protocol"] == "finetune"
    size = BYTES["float32" if trains else model["dtype"] or "float32"]
    longest = tokens(task)
    scored = longest * (batch or cost.scored_at_once)
    result = scored * width(model) * ACTIVATION * size / 4  # one layer
    if cost.language_logits:
        result += scored * words(model) * LOGIT
    if trains:
        at_once = (batch or task["batch_size"]) * longest
        kept = at_once * depth(model) * ACTIVATION * (0.6 if gpu and task["autocast"] else 1)
        probabilities = 0 if gpu else at_once * longest * depth(model) / 64 * PROBABILITY
        result = max(result, kept + probabilities) + (model["parameters"] + cost.head) * TRAINED
    return result / 1e6


def held_mb(model: Mapping[str, Any], task: Mapping[str, Any], data: Data | None = None) -> float:
    """Data in the memory of the machine: the frame of all rows, tokens, encoded pictures, the inputs that a kind makes of them."""
    items = task["n_train"] or UNKNOWN_ITEMS if task["protocol"] != "zero-shot" else 0
    items += evaluated(task)
    cost = kinds.declared()[task["kind"]].cost
    each = IMAGE_ITEM if task["image_size"] else TEXT_ITEM + 16 * mean_tokens(task)
    if data and data.pictures:
        each = data.size / max(data.whole, 1)
    result = items * each
    if data:
        result += data.whole * FRAME_ROW + (0 if data.pictures else data.size * FRAME_BYTE)
    if cost.passes != 1:
        result += max(scored_items(task), 4 * (task["passes"] or 0)) * mean_tokens(task) * TOKEN_HELD
    if cost.language_logits and task["suite"] is None:
        kept = 2 * SMOKE_ITEMS if cost.scored_at_once > 1 else 1
        result += kept * tokens(task) * words(model) * SMOKE_BYTES
    return result / 1e6


def of_run(
    model: Mapping[str, Any],
    task: Mapping[str, Any],
    levels: int,
    device: Device,
    cards: int,
    threads: int,
    data: Data | None = None,
) -> Need:
    """What an evaluation of some levels takes, on one `device` or with its weights spread over more `cards`, each of which
    then works in turn; 0: on `threads` cores, of which one is the device. `data`: of the task, where it is fetched.
    """
    stored, trains, gpu = stored_mb(model), task["protocol"] == "finetune", cards > 0
    host = START_MB + held_mb(model, task, data) + stored * STORED_COPIES
    whole, least = (memory(model, task, batch, gpu) for batch in (None, None if task["suite"] else 1))
    if told := levels * (task["minutes_per_level"] or 0):
        minutes = told
    else:
        each = seconds(model, task, device, gpu, threads)
        minutes = (START_SECONDS + stored * 1e6 / READ + levels * each) / 60
    if not gpu:
        return Need(minutes, told, host + whole + (stored if trains and levels > 1 else 0))
    held = CONTEXT_MB + (0 if trains else stored / cards)  # fine-tuning counts its weights itself
    return Need(minutes, told, host + DRIVER_MB, held + whole, held + least)


def with_calibration(
    need: Need,
    model: Mapping[str, Any],
    task: Mapping[str, Any],
    pattern: patterns.Pattern,
    row: Mapping[str, Any],
    levels: int,
    device: Device,
    gpu: bool,
    threads: int,
) -> Need:
    """What an evaluation takes whose pattern is calibrated: two passes over the sequences a level (two in all where the dense
    model is measured, two more for OWL), and for SparseGPT the Hessians of all inputs, their factors, and a step a column.

    One block is on the GPU at a time, with what blocks hand over where the card is known to have room for it; else that is in
    the memory of the machine, before and after each.
    """
    seen = row["sequences"] * (row["length"] or tokens(task))
    stored, cores = PRECISION[model["dtype"] or "float32"], 1 if gpu else threads
    size, wide = BYTES[model["dtype"] or "float32"], width(model)
    once, owl, solves = pattern.inputs == "dense", pattern.allocation == "owl", pattern.score == "sparsegpt"
    walks = 1 if once else levels + owl  # through all blocks, each twice: to see its inputs, and for its answers
    passes = 2 * seen * active(model) * 2 * walks
    found = passes / (device.operations[stored] * cores)
    if solves:
        products = HESSIANS[gpu] * seen * depth(model) * wide
        solved = 4 * model["parameters"] * wide
        found += levels * (products + solved) / (device.operations["float32"] * cores)
        found += levels * COLUMNS * depth(model) * STEP[gpu]
    handed, hessians = seen * wide * size / 1e6, 3 * 16 * wide**2 * 4 / 1e6
    block = model["parameters"] * wide / depth(model) * size / 1e6
    if not gpu:
        return replace(need, minutes=need.minutes + found / 60, host_mb=need.host_mb + 2 * handed + block + hessians)
    least = CONTEXT_MB + block + hessians * solves
    stays = least + HANDED * handed < (device.memory_mb or 0)
    moved = 2 * model["parameters"] * size  # blocks: there and back
    if not stays:
        moved += HANDED * seen * depth(model) * size
    return replace(
        need,
        minutes=need.minutes + (found + walks * moved / MOVED) / 60,
        host_mb=need.host_mb + 2 * handed,
        gpu_mb=max(need.gpu_mb, least + HANDED * handed * stays),
        least_gpu_mb=max(need.least_gpu_mb, least),
    )


def samples_mb(row: Mapping[str, Any], data: Data) -> float:
    """What a process of a pre-training holds of its data (`emergence.corpus`): bytes of pixels, or tokens."""
    if row["image_size"]:
        return row["data_fraction"] * data.training * 3 * row["image_size"] ** 2 / 1e6
    return row["data_fraction"] * data.size * TOKENS_BYTE / 1e6


def of_pretraining(row: Mapping[str, Any], device: Device, gpus: int, threads: int, data: Data | None = None) -> Need:
    """What a pre-training takes: six operations a weight and token; a self-distillation also runs a teacher, on two views.

    `data`: where they are fetched; each process holds its own.
    """
    blocks = 12 * row["layers"] * row["width"] ** 2
    words = (row["vocabulary"] or 0) * row["width"]
    item = row["max_length"] or (row["image_size"] // row["patch_size"]) ** 2 + 1
    views = 3 if row["objective"] == "self-distillation" else 1
    operations = 6 * (blocks + words) * item * row["batch_size"] * row["steps"] * views
    speed = device.operations["bf16"] * gpus if gpus else device.operations["float32"] * threads
    floor = row["layers"] * LAUNCH[True] * row["steps"] * views if gpus else 0
    here = (blocks + words) * TRAINED * (1 + (views > 1))
    at_once = item * row["batch_size"] / max(gpus, 1)
    here += at_once * (row["layers"] * row["width"] * ACTIVATION * views + (row["vocabulary"] or 0) * LOGIT)
    minutes = (START_SECONDS + max(operations / speed, floor)) / 60
    kept = PIECE_MB + samples_mb(row, data) * max(gpus, 1) if data else PRETRAINING_MB
    host = START_MB + kept + (DRIVER_MB * gpus if gpus else here / 1e6)
    return Need(minutes, 0, host, *([CONTEXT_MB + here / 1e6] * 2 if gpus else []))
