"""What jobs ask for: on the safe side of what they are expected to take (`needs`), more with each attempt, never more than
the site gives; and what cannot work as it is asked for.

Standard library only: every parse of the Snakefile imports this module. Nothing here is part of a result.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from essential_sparsity import files, patterns
from essential_sparsity.study import needs, tsv
from essential_sparsity.study.configuration import ConfigError, hint
from essential_sparsity.study.grid import STORE, Job
from essential_sparsity.study.needs import Data, Device, Need
from essential_sparsity.study.study import Study

DEFAULT_CLASS, PROCESSOR = "any", "cpu-core"  # rows of the devices table

# Requests: how much more than is expected.
SAFE_TIME, SAFE_MEMORY, START_MINUTES = 2, 1.25, 10  # a busy file system, a node that is slower than its class
SNAKEMAKE_MB = 600  # the two that start a job on its node, 200 to 250 MB each

USABLE = 0.95  # of a GPU's memory
SURE = 1.4  # times as much memory as there is, from which on a job that is expected to need it is refused
ATTEMPTS = 3  # that the shipped profile makes of a job


@dataclass(frozen=True)
class Problem:
    """What cannot work, or not as it is asked for; `fatal`: no attempt of the job can succeed."""

    message: str
    fatal: bool


@dataclass(frozen=True)
class Requests:
    """What the jobs of a study ask for; each (model, task, levels) is worked out once.

    `given`: the key `resources` of the configuration; the rows of the tables by id, `calibrations` by the type of model that
    is calibrated on them; `fetched`: what is known of a data set, None before it is there; `words`: of a model, None where that is
    not known. Raises ConfigError for a class of GPU that the devices table does not have.
    """

    given: Mapping[str, Any]
    table: str
    devices: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, Mapping[str, Any]]
    pretrainings: Mapping[str, Mapping[str, Any]]
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fetched: Callable[[str], Data | None] = lambda name: None
    words: Callable[[str], int | None] = lambda name: None
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
        """GPUs that a pre-training computes on; 0: all jobs compute on processors."""
        return 0 if self.given["device"] == "cpu" else self.given["gpu"]

    @property
    def device(self) -> Device:
        """What jobs compute on: a class of GPU, or a core of a processor."""
        return Device.of_row(self.devices[self.given.get("gpu_class", DEFAULT_CLASS) if self.gpus else PROCESSOR])

    def run(self, model: str, task: str, levels: int, pattern: str = "") -> Need:
        """What an evaluation of some levels is expected to take; an iteration of a ticket is one of one level.

        Patterns are alike but for those that are calibrated.
        """
        data, words = self.fetched(self.tasks[task]["dataset"]), self.words(model)
        key = (model, task, levels, calibrated(pattern), data is None, words)
        if key not in self.known:
            rows, threads = ({**self.models[model], "words": words}, self.filled(task)), self.given["threads"]
            found = needs.of_run(*rows, levels, self.device, self.cards(model, task), threads, data)
            if key[3]:
                row, parts = self.calibrations[rows[0]["type"]], patterns.find(pattern)
                found = needs.with_calibration(found, *rows, parts, row, levels, self.device, bool(self.gpus), threads)
            self.known[key] = found
        return self.known[key]

    def filled(self, task: str) -> Mapping[str, Any]:
        """The row of a task, with the numbers that its blank ones stand for where its data are there."""
        row = self.tasks[task]
        return needs.filled(row, self.fetched(row["dataset"]))

    def fitting(self, task: str, jobs: Iterable[Job]) -> Need:
        """What fitting the knees of a model and task takes, on one core: the items of the longest curve, and its resamples."""
        items = needs.evaluated(self.filled(task))
        curves = Counter(job.pattern for job in jobs for _ in job.asked)
        longest = max(curves.values())
        minutes = START_MINUTES + needs.FITTED * curves.total() * items
        return Need(minutes, minutes, needs.FITTING_MB + longest * (needs.RESAMPLES_MB + needs.ITEM_MB * items))

    def cards(self, model: str, task: str) -> int:
        """GPUs of an evaluation, or an iteration of a ticket: none on processors, else one, or where nothing is trained as many as the
        model's row says."""
        if not self.gpus or self.tasks[task]["protocol"] == "finetune":
            return min(self.gpus, 1)
        return self.models[model]["gpus_per_job"] or 1

    def pretraining(self, name: str) -> Need:
        """What a pre-training is expected to take."""
        row = self.pretrainings[name]
        data = self.fetched(row["dataset"])
        key = ("pretraining", name, data is None)
        if key not in self.known:
            self.known[key] = needs.of_pretraining(row, self.device, self.gpus, self.given["threads"], data)
        return self.known[key]

    def mem_mb(self, need: Need, attempt: int = 1) -> int:
        """Memory of the machine to ask for, in MB."""
        amount = 100 * math.ceil((SAFE_MEMORY * need.host_mb + SNAKEMAKE_MB) / 100)
        return self.within(attempt * amount, "max_mem_mb")

    def minutes(self, need: Need, attempt: int = 1) -> int:
        """Time to ask for. What the task's own row says is believed: it is generous as it stands."""
        more = need.told + SAFE_TIME * (need.minutes - need.told)
        return self.within(attempt * round(START_MINUTES + more), "max_minutes")

    def within(self, amount: int, cap: str) -> int:
        """The amount, or what the site gives at most."""
        return min(amount, self.given.get(cap) or amount)

    def problems(self, jobs: Iterable[Job], pretrainings: Iterable[str] = ()) -> list[Problem]:
        """What cannot work of some jobs, one message for each model, task (their largest job counts) and calibrated pattern, and
        for each pre-training."""
        largest: dict[tuple[str, str, str], int] = {}
        for job in jobs:
            curve = job.model, job.task, calibrated(job.pattern)
            largest[curve] = max(largest.get(curve, 0), len(job.levels))
        bare = replace(self, fetched=lambda name: None, words=lambda name: None, known={})
        found: list[Problem | None] = []
        told: set[tuple[str, str]] = set()  # what evaluating needs is told once, whatever the pattern
        for (model, task, pattern), levels in sorted(largest.items()):
            if (model, task) not in told:
                asked = (model, task, levels, pattern)
                found.append(_surely(self._of_run(*asked), partial(bare._of_run, *asked)))
                told |= {(model, task)} if found[-1] and not pattern else set()
        found += [_surely(self._of_pretraining(name), partial(bare._of_pretraining, name)) for name in pretrainings]
        return [problem for problem in found if problem]

    def _of_run(self, model: str, task: str, levels: int, pattern: str) -> Problem | None:
        need, row = self.run(model, task, levels, pattern), self.models[model]
        place = ", ".join(filter(None, [f"{model} on {task}", pattern]))
        remedy, more = "or take the model out of this block of the grid", ""
        cards = self.cards(model, task)
        if trained := self.tasks[task]["protocol"] == "finetune":
            of_them = f"{gigabytes(row['parameters'] * needs.TRAINED / 1e6)} of them weights, gradients and optimiser"
        else:
            of_them = f"{gigabytes(needs.stored_mb(row) / max(cards, 1))} of them weights"
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
        # data that are not there yet may be much smaller than what is asked for
        unsure = 0 if self.fetched(self.pretrainings[name]["dataset"]) else needs.PRETRAINING_MB
        sure = replace(need, host_mb=need.host_mb - unsure)
        found = self._memory(
            f"The pre-training {name}",
            sure,
            "most of them activations",
            "or lower its batch_size, image_size or data_fraction",
        )
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


def _surely(problem: Problem | None, without_data: Callable[[], Problem | None]) -> Problem | None:
    """A problem that only data or a checkpoint which are there make is a warning: they may be those of before, and are fetched anew then."""
    if problem and problem.fatal and not ((bare := without_data()) and bare.fatal):
        return replace(problem, fatal=False)
    return problem


def read(study: Study) -> Requests:
    """What the jobs of a study ask for. ConfigError for a table of GPU classes that is wrong, or lacks the one that is named."""
    table = study.given["devices"]
    rows = {row["device"]: row for row in tsv.read_table(table, "devices", "device")}
    tables = (rows, study.models, study.tasks, study.pretrainings, study.calibrations)
    return Requests(study.given["resources"], table, *tables, fetched=from_manifests(), words=words_known(study))


def from_manifests() -> Callable[[str], Data | None]:
    """What the manifests of data sets say of them. A manifest is looked for until it is there, and read once."""
    known: dict[str, Data] = {}

    def fetched(name: str) -> Data | None:
        if name not in known and os.path.isfile(path := f"{STORE}/datasets/{name}/manifest.json"):
            try:
                said = files.read_json(path)
                size = sum(entry["size"] for entry in said["files"])
                known[name] = Data(dict(said["n_rows"]), size, "image" in said["columns"])
            except (OSError, ValueError, KeyError, TypeError):
                return None  # whoever reads the data says what is wrong with it
        return known.get(name)

    return fetched


def words_known(study: Study) -> Callable[[str], int | None]:
    """Words of models: of those that are made here as the row of their pre-training says, of others as their manifest does once it is there."""
    known: dict[str, int | None] = {}

    def words(name: str) -> int | None:
        row = study.models[name]
        if row["source"] == "pretraining":
            return study.pretrainings[row["id"]]["vocabulary"]
        if name not in known and os.path.isfile(path := f"{STORE}/checkpoints/{name}/manifest.json"):
            try:
                known[name] = files.read_json(path)["tokenizer"]["embedding_rows"]
            except (OSError, ValueError, KeyError, TypeError):
                known[name] = None  # it has no tokenizer, or is damaged, which its reader tells
        return known.get(name)

    return words


def calibrated(pattern: str) -> str:
    """The pattern where it is calibrated, else nothing: all others take the same."""
    return pattern if pattern and patterns.find(pattern).needs == "calibration" else ""


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
        return "1 minute" if round(minutes) == 1 else f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 72 * 60 else f"{minutes / 1440:,.0f} days"


HEADER = ("job", "model", "task", "pattern", "levels", "gpus", "gpu_mb", "mem_mb", "minutes")


def table(requests: Requests, jobs: Iterable[Job], pretrainings: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """What jobs ask for, cells of `HEADER`: one row for each (model, task, calibrated pattern, levels) and each pre-training."""
    keys = sorted({(job.model, job.task, calibrated(job.pattern), len(job.levels)) for job in jobs})
    rows: list[tuple[tuple[str, ...], int, Need]] = [
        (
            ("prune_eval", model, task, pattern, str(levels)),
            requests.cards(model, task),
            requests.run(model, task, levels, pattern),
        )
        for model, task, pattern, levels in keys
    ]
    rows += [(("pretrain", name, "", "", ""), requests.gpus, requests.pretraining(name)) for name in pretrainings]
    return [
        (*names, f"{cards}", f"{need.gpu_mb:.0f}", f"{requests.mem_mb(need)}", f"{requests.minutes(need)}")
        for names, cards, need in rows
    ]
