"""What jobs take and ask for, from the sizes of models and the numbers of tasks: memory of the machine and of the GPU, time.

`Need` is what is expected, to a factor of two or three; a request (`Requests`) is on the safe side of it, grows with each
attempt, and never passes what the site gives. Standard library only: every parse of the Snakefile imports this module.
Nothing here is part of a result. docs/resources.md compares it with jobs that were measured.
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from essential_sparsity.study import kinds, tsv
from essential_sparsity.study.configuration import ConfigError, hint
from essential_sparsity.study.grid import Job
from essential_sparsity.study.study import STORE, Study

DEFAULT_CLASS, PROCESSOR = "any", "cpu-core"  # rows of the devices table
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PRECISION = {"float32": "float32", "float16": "fp16", "bfloat16": "bf16", "fp16": "fp16", "bf16": "bf16"}

# Requests: how much more than is expected.
SAFE_TIME, SAFE_MEMORY, START_MINUTES = 2, 1.25, 10  # a busy file system, a node that is slower than its class
SNAKEMAKE_MB = 600  # the two that start a job on its node, 200 to 250 MB each

# Memory of the machine.
START_MB = 550  # Python, torch, transformers
DRIVER_MB = 2500  # CUDA's libraries, its context, pinned batches, workers
STORED_COPIES = 2  # the file as it is mapped, and what is loaded from it
TEXT_ITEM, IMAGE_ITEM = 3_000, 20_000  # bytes of an item in frames, beside its tokens; of an encoded image
TOKEN_HELD = 50  # bytes of a token that a kind with several passes an item keeps as Python numbers
PRETRAINING_MB = 8_000  # of a pre-training's data
FITTING_MB, RESAMPLES_MB, ITEM_MB = 1500, 0.4, 0.0015  # fitting knees: at its start, for a run, for each item of it
# Memory where it is computed.
CONTEXT_MB = 1000  # of a GPU: context, kernels, workspaces
TRAINED = 4 + 4 + 8 + 1  # bytes of a weight: itself in float32, its gradient, AdamW's two moments, the mask
ACTIVATION = 80  # bytes of a token, layer and unit of width, kept for the backward pass; scoring keeps one layer
PROBABILITY = 12  # bytes of each attention probability, which a processor keeps and a GPU's fused kernels do not
LOGIT, VOCABULARY = 12, 50_000  # bytes of each logit: its own type, float32, log-probabilities
SMOKE_ITEMS, SMOKE_BYTES = 8, 4  # a dense model's first items: outputs that are compared are kept twice (runs/smoke.py)

# Time.
START_SECONDS = 10  # imports
READ = 2e8  # bytes of weights a second, checked and loaded
MASKED = {True: 1e9, False: 1e8}  # weights a second that are ranked and masked: on a GPU, on a processor
LAUNCH = {True: 2e-3, False: 4e-4}  # seconds a layer and batch at least, on a GPU: training, scoring
PICTURE = 2e-3  # seconds to decode and resize an image, while the GPU waits
FITTED = 4e-6  # minutes to resample an item of a run
UNKNOWN_ITEMS, UNKNOWN_TOKENS = 10_000, 512  # of a task whose row leaves them open
USABLE = 0.95  # of a GPU's memory
SURE = 1.4  # times as much memory as there is, from which on a job that is expected to need it is refused
ATTEMPTS = 3  # that the shipped profile makes of a job


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
class Need:
    """What a job is expected to take.

    `minutes`: of all its levels; `told`: the task's `minutes_per_level` says so. `host_mb`: memory of the machine. `gpu_mb`:
    of the GPU, with whole batches; `least_gpu_mb`: in the smallest parts that batches are cut into where memory runs out.
    """

    minutes: float
    told: bool
    host_mb: float
    gpu_mb: float = 0
    least_gpu_mb: float = 0


def depth(model: Mapping[str, Any]) -> float:
    """Layers × width: 9,000 in BERT-base, 130,000 in a model of 7 billion."""
    return 0.15 * model["parameters"] ** 0.6


def width(model: Mapping[str, Any]) -> float:
    """Of the hidden states: 768 in BERT-base, 4,100 in a model of 7 billion."""
    return 768 * (model["parameters"] / 110e6) ** 0.407


def tokens(task: Mapping[str, Any]) -> int:
    """Tokens, or image patches, of the longest item of a task."""
    patches = (task["image_size"] // 14) ** 2 + 1 if task["image_size"] else None
    return task["context"] or task["max_length"] or patches or UNKNOWN_TOKENS


def mean_tokens(task: Mapping[str, Any]) -> float:
    """Of an item on average: batches hold items of like length. The longest where the row does not say."""
    return min(task["mean_length"] or math.inf, tokens(task))


def trained_items(task: Mapping[str, Any]) -> float:
    """Items that are trained on, each as often as there are epochs."""
    return (task["n_train"] or UNKNOWN_ITEMS) * task["epochs"] if task["protocol"] == "finetune" else 0


def scored_items(task: Mapping[str, Any]) -> int:
    """Passes of the model that an evaluation takes: the row's own number, or the items by the passes of their kind."""
    found = task["passes"]
    if found is None:
        each = kinds.declared()[task["kind"]].cost.passes
        each = each if isinstance(each, int) else task[each] or tokens(task)
        found = (task["n_eval"] or task["windows"] or UNKNOWN_ITEMS) * each
    return found + ((task["n_train"] or UNKNOWN_ITEMS) if task["protocol"] in ("probe", "knn") else 0)


def stored_mb(model: Mapping[str, Any]) -> float:
    """The weights as they are stored; float32 where the row does not say."""
    return model["parameters"] * BYTES[model["dtype"] or "float32"] / 1e6


def multiplied(model: Mapping[str, Any], logits: bool) -> float:
    """Weights that each token is multiplied with: all but the embeddings of words, which logits use again."""
    if logits or model["type"] == "vision":
        return model["parameters"]
    return max(model["parameters"] / 2, model["parameters"] - 30_000 * width(model))


def seconds(model: Mapping[str, Any], task: Mapping[str, Any], device: Device, gpu: bool, threads: int) -> float:
    """Of one level: six operations a weight and trained token, two a scored one, attention, decoding, masks."""
    cost, mean = kinds.declared()[task["kind"]].cost, mean_tokens(task)
    forward = mean * (2 * multiplied(model, cost.language_logits) + 4 * mean * depth(model))  # operations of an item
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
        result += scored * VOCABULARY * LOGIT
    if trains:
        at_once = (batch or task["batch_size"]) * longest
        kept = at_once * depth(model) * ACTIVATION * (0.6 if gpu and task["autocast"] else 1)
        probabilities = 0 if gpu else at_once * longest * depth(model) / 64 * PROBABILITY
        result = max(result, kept + probabilities) + model["parameters"] * TRAINED
    return result / 1e6


def held_mb(task: Mapping[str, Any]) -> float:
    """Data in the memory of the machine: frames, tokens, the inputs that a kind makes of them."""
    items = task["n_train"] or 0 if task["protocol"] != "zero-shot" else 0
    items += task["n_eval"] or task["windows"] or UNKNOWN_ITEMS
    cost = kinds.declared()[task["kind"]].cost
    each = IMAGE_ITEM if task["image_size"] else TEXT_ITEM + 16 * mean_tokens(task)
    result = items * each
    if cost.passes != 1:
        result += max(scored_items(task), 4 * (task["passes"] or 0)) * mean_tokens(task) * TOKEN_HELD
    if cost.language_logits and task["suite"] is None:
        kept = 2 * SMOKE_ITEMS if cost.scored_at_once > 1 else 1
        result += kept * tokens(task) * VOCABULARY * SMOKE_BYTES
    return result / 1e6


def of_run(
    model: Mapping[str, Any], task: Mapping[str, Any], levels: int, device: Device, cards: int, threads: int
) -> Need:
    """What an evaluation of some levels takes, on one `device` or with its weights spread over more `cards`, each of which
    then works in turn; 0: on `threads` cores, of which one is the device.
    """
    stored, trains, gpu = stored_mb(model), task["protocol"] == "finetune", cards > 0
    host = START_MB + held_mb(task) + stored * STORED_COPIES
    here = model["parameters"] * BYTES["float32" if trains else model["dtype"] or "float32"] / 1e6
    whole, least = (memory(model, task, batch, gpu) for batch in (None, None if task["suite"] else 1))
    told = task["minutes_per_level"] is not None
    if told:
        minutes = levels * task["minutes_per_level"]
    else:
        each = seconds(model, task, device, gpu, threads)
        minutes = (START_SECONDS + stored * 1e6 / READ + levels * each) / 60
    if not gpu:
        return Need(minutes, told, host + whole + (stored if trains and levels > 1 else 0))
    held = CONTEXT_MB + (0 if trains else here / cards)  # fine-tuning counts its weights itself
    return Need(minutes, told, host + DRIVER_MB, held + whole, held + least)


def of_pretraining(row: Mapping[str, Any], device: Device, gpus: int, threads: int) -> Need:
    """What a pre-training takes: six operations a weight and token; a self-distillation also runs a teacher, on two views."""
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
    host = START_MB + PRETRAINING_MB + (DRIVER_MB * gpus if gpus else here / 1e6)
    return Need(minutes, False, host, *([CONTEXT_MB + here / 1e6] * 2 if gpus else []))


@dataclass(frozen=True)
class Problem:
    """What cannot work, or not as it is asked for; `fatal`: no attempt of the job can succeed."""

    message: str
    fatal: bool


@dataclass(frozen=True)
class Requests:
    """What the jobs of a study ask for; each (model, task, levels) is worked out once.

    `given`: the key `resources` of the configuration; the rows of the tables by id. Raises ConfigError for a class of GPU
    that the devices table does not have.
    """

    given: Mapping[str, Any]
    table: str
    devices: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, Mapping[str, Any]]
    pretrainings: Mapping[str, Mapping[str, Any]]
    known: dict[tuple, Need] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (self.given.get("gpu_class", DEFAULT_CLASS), PROCESSOR):
            if name not in self.devices:
                raise ConfigError(
                    f"resources.gpu_class: {self.table} has no row {name!r}{hint(name, self.devices)} It has: "
                    f"{', '.join(self.devices)}."
                )

    @property
    def gpus(self) -> int:
        """GPUs that a job computes on; 0: processors."""
        return 0 if self.given["device"] == "cpu" else self.given["gpu"]

    @property
    def device(self) -> Device:
        """What jobs compute on: a class of GPU, or a core of a processor."""
        return Device.of_row(self.devices[self.given.get("gpu_class", DEFAULT_CLASS) if self.gpus else PROCESSOR])

    def run(self, model: str, task: str, levels: int) -> Need:
        """What an evaluation of some levels is expected to take; an iteration of a ticket is one of one level."""
        key = (model, task, levels)
        if key not in self.known:
            rows = self.models[model], self.tasks[task]
            self.known[key] = of_run(*rows, levels, self.device, self.cards(model, task), self.given["threads"])
        return self.known[key]

    def fitting(self, task: str, jobs: Iterable[Job]) -> Need:
        """What fitting the knees of a model and task takes, on one core: the items of the longest curve, and its resamples."""
        items = self.tasks[task]["n_eval"] or UNKNOWN_ITEMS
        patterns = Counter(job.pattern for job in jobs for _ in job.asked)
        longest = max(patterns.values())
        minutes = START_MINUTES + FITTED * patterns.total() * items
        return Need(minutes, True, FITTING_MB + longest * (RESAMPLES_MB + ITEM_MB * items))

    def cards(self, model: str, task: str) -> int:
        """GPUs of a job: none on processors, `resources.gpu`, or where nothing is trained as many as the model's row says."""
        asked, trained = self.gpus, self.tasks[task]["protocol"] == "finetune"
        return asked if trained or not asked else max(asked, self.models[model]["gpus_per_job"] or 1)

    def pretraining(self, name: str) -> Need:
        """What a pre-training is expected to take."""
        key = ("pretraining", name)
        if key not in self.known:
            row = self.pretrainings[name]
            self.known[key] = of_pretraining(row, self.device, self.gpus, self.given["threads"])
        return self.known[key]

    def mem_mb(self, need: Need, attempt: int = 1) -> int:
        """Memory of the machine to ask for, in MB."""
        amount = 100 * math.ceil((SAFE_MEMORY * need.host_mb + SNAKEMAKE_MB) / 100)
        return self.within(attempt * amount, "max_mem_mb")

    def minutes(self, need: Need, attempt: int = 1) -> int:
        """Time to ask for. What the task's own row says is believed: it is generous as it stands."""
        more = need.minutes if need.told else SAFE_TIME * need.minutes
        return self.within(attempt * round(START_MINUTES + more), "max_minutes")

    def within(self, amount: int, cap: str) -> int:
        """The amount, or what the site gives at most."""
        return min(amount, self.given.get(cap) or amount)

    def problems(self, jobs: Iterable[Job], pretrainings: Iterable[str] = ()) -> list[Problem]:
        """What cannot work of some jobs, one message for each model and task (their largest job counts) and pre-training."""
        largest: dict[tuple[str, str], int] = {}
        for job in jobs:
            largest[job.model, job.task] = max(largest.get((job.model, job.task), 0), len(job.levels))
        found = [self._of_run(*curve, levels) for curve, levels in sorted(largest.items())]
        found += [self._of_pretraining(name) for name in pretrainings]
        return [problem for problem in found if problem]

    def _of_run(self, model: str, task: str, levels: int) -> Problem | None:
        need, row = self.run(model, task, levels), self.models[model]
        place, remedy, more = f"{model} on {task}", "or take the model out of this block of the grid", ""
        cards = self.cards(model, task)
        if trained := self.tasks[task]["protocol"] == "finetune":
            of_them = f"{gigabytes(row['parameters'] * TRAINED / 1e6)} of them weights, gradients and optimiser"
        else:
            of_them = f"{gigabytes(stored_mb(row) / max(cards, 1))} of them weights"
            of_them += f" on each of {cards} cards" if cards > 1 else ""
            more = "spread it over more (gpus_per_job in the models table), "
        if found := self._memory(place, need, of_them, remedy, more):
            return found
        most = self.given.get("max_minutes")
        fits = int(levels * (most - START_MINUTES) / need.minutes) if most else levels
        remedy = "Name a faster card in resources.gpu_class, or correct minutes_per_level of the task"
        if 0 < fits < levels:
            remedy = f"Lower levels_per_job of the task to {fits}"
        takes = f"{levels} levels a job take" if levels > 1 else "a level takes"
        return self._time(f"{place}: {takes}", need, trained, remedy)

    def _of_pretraining(self, name: str) -> Problem | None:
        need = self.pretraining(name)
        sure = replace(
            need, host_mb=need.host_mb - PRETRAINING_MB
        )  # its data may be much smaller than what is asked for
        found = self._memory(f"The pre-training {name}", sure, "most of them activations", "or lower its batch_size")
        remedy = "Give it more GPUs, or name a faster card in resources.gpu_class"
        return found or self._time(f"The pre-training {name}: all its steps take", need, True, remedy)

    def _memory(self, place: str, need: Need, of_them: str, remedy: str, more: str = "") -> Problem | None:
        """`more`: another remedy for a GPU's memory. What is expected a little above what there is may fit: a warning."""
        device, most = self.device, self.given.get("max_mem_mb")
        if device.memory_mb and need.least_gpu_mb > USABLE * device.memory_mb:
            return Problem(
                f"{place} needs about {gigabytes(need.least_gpu_mb)} GB of GPU memory ({of_them}), but {device.name} has "
                f"{gigabytes(device.memory_mb)} ({self.table}). Name a larger card in resources.gpu_class, {more}{remedy}.",
                need.least_gpu_mb > SURE * device.memory_mb,
            )
        if most and need.host_mb + SNAKEMAKE_MB > most:
            return Problem(
                f"{place} needs about {gigabytes(need.host_mb + SNAKEMAKE_MB)} GB of memory, but resources.max_mem_mb allows {gigabytes(most)}. "
                f"Raise it where the site has larger nodes, {remedy}.",
                need.host_mb > SURE * most,
            )
        return None

    def _time(self, place: str, need: Need, resumed: bool, remedy: str) -> Problem | None:
        most = self.given.get("max_minutes")
        if not most or need.minutes + START_MINUTES <= most:
            return None
        told = f"{place} about {duration(need.minutes)}, but resources.max_minutes allows {duration(most)}"
        if resumed and need.minutes <= ATTEMPTS * most:
            return Problem(
                f"{told}. Such a job is stopped and goes on in its retry: the profile's `retries` must allow as many.",
                False,
            )
        return Problem(f"{told}. {remedy}; or raise max_minutes.", True)


def read(study: Study) -> Requests:
    """What the jobs of a study ask for. ConfigError for a table of GPU classes that is wrong, or lacks the one that is named."""
    table = study.given["devices"]
    rows = {row["device"]: row for row in tsv.read_table(table, "devices", "device")}
    return Requests(study.given["resources"], table, rows, study.models, study.tasks, study.pretrainings)


def problems(study: Study, requests: Requests) -> list[Problem]:
    """What of the jobs that are left cannot work as it is asked for; finished runs are nobody's problem."""
    if not requests.problems(study.jobs, study.pretrained):
        return []
    manifests = {name: f"{STORE}/pretraining/{name}/manifest.json" for name in study.pretrained}
    left = [name for name, path in manifests.items() if not os.path.isfile(path)]
    return requests.problems(study.missing_jobs(), left)


def gigabytes(megabytes: float) -> str:
    """Of 10⁹ bytes: whole ones from ten on, else with one decimal."""
    return f"{megabytes / 1000:,.0f}" if megabytes >= 9_950 else f"{megabytes / 1000:.1f}"


def duration(minutes: float) -> str:
    """Minutes, hours or days, whichever reads best."""
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 72 * 60 else f"{minutes / 1440:,.0f} days"


HEADER = ("job", "model", "task", "levels", "gpus", "gpu_mb", "mem_mb", "minutes")


def table(requests: Requests, jobs: Iterable[Job], pretrainings: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """What jobs ask for, cells of `HEADER`: one row for each (model, task, levels) of evaluations and for each pre-training."""
    keys = sorted({(job.model, job.task, len(job.levels)) for job in jobs})
    rows = [("prune_eval", model, task, str(levels), requests.run(model, task, levels)) for model, task, levels in keys]
    rows += [("pretrain", name, "", "", requests.pretraining(name)) for name in pretrainings]

    def cards(names: Sequence[str]) -> int:
        return requests.cards(*names[1:3]) if names[2] else requests.gpus

    return [
        (*names, f"{cards(names)}", f"{need.gpu_mb:.0f}", f"{requests.mem_mb(need)}", f"{requests.minutes(need)}")
        for *names, need in rows
    ]
