"""What a study takes before it is run, and what is left of it: jobs, time, memory, downloads, disk, in lines for a person.

The same expectations as requests (`resources`); where jobs of a model and task have run, what they took is taken instead.
Runs that are there and are computed anew all the same are handed in (`runs.settled.outdated`). Standard library and PyYAML only.
"""

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType

import yaml

from essential_sparsity import errors, files, logs
from essential_sparsity.study import downloads, iterations, needs, refinement, resources
from essential_sparsity.study.downloads import Stored
from essential_sparsity.study.grid import STORE
from essential_sparsity.study.study import Study

PROFILE = "slurm/profile.v9+.yaml"
MEASURED, TOLD, WORKED_OUT = "measured", "tasks table", "worked out"
PRETRAINING, ITERATIONS = "pre-training", "lth, iterations"  # in the places of a task, of a pattern
TICKETS = f"{STORE}/tickets/"
TRAINED = (f"{STORE}/pretraining/", TICKETS)
SAME_WORK = "of other code"  # ends why a run is made anew that takes as long as it did
ITEM_BYTES = 40  # of an item of a run's table, compressed
STATE = 12  # bytes of a weight in a checkpoint of a training: itself, two moments; two such files while one is written


@dataclass(frozen=True)
class Job:
    """One job: what it is of, its minutes and whether it is left to do; `source`: where the minutes come from. `gpus`: those
    that it holds.
    """

    model: str
    task: str
    pattern: str
    seed: int
    levels: int
    left: bool
    minutes: float
    need: needs.Need
    source: str
    gpus: int


def begun(study: Study) -> bool:
    """Whether the store holds runs of a study, or what is trained here."""
    return any(map(os.path.isdir, TRAINED)) or bool(study.stored(study.jobs))


def jobs(study: Study, requests: resources.Requests, again: Mapping[str, str] | None = None) -> list[Job]:
    """The jobs that evaluate, find tickets and pre-train; `again`: evaluations (their path) and others (their file) that are left although
    there, and why: what was of other settings, weights or data took another time.
    """
    again = again or {}
    there, measured = {job.path for job in study.stored(study.jobs)}.difference(again), {}
    other = {path for path, why in again.items() if not why.endswith(SAME_WORK)}
    found = []

    def add(rule: str, model: str, task: str, pattern: str, seed: int, levels: int, left: bool) -> None:
        costly = "" if rule == "find_ticket" else resources.calibrated(pattern)
        need = requests.run(model, task, levels, costly)
        key = (rule, model, task, costly)
        if key not in measured:
            measured[key] = per_level(alike(study, *key), other)
        each = measured[key]
        source = MEASURED if each is not None else TOLD if need.told else WORKED_OUT
        minutes = need.minutes if each is None else each * levels
        cards = requests.cards(model, task)
        found.append(Job(model, task, pattern, seed, levels, left, minutes, need, source, cards))

    for job in study.jobs:
        add("prune_eval", job.model, job.task, job.pattern, job.seed, len(job.levels), job.path not in there)
    for ticket in study.tickets:
        model, task, seed, _ = ticket
        place = f"{STORE}/tickets/{iterations.path(ticket)}"
        left = not os.path.isfile(f"{place}.safetensors") or f"{place}.sha256" in again
        add("find_ticket", model, task, ITERATIONS, seed, 1, left)
    for name in study.pretrained:
        need = requests.pretraining(name)
        made = f"{STORE}/pretraining/{name}/manifest.json"
        left = not os.path.isfile(made) or made in again
        took = [] if left else list(benchmarked([Path(STORE, f"benchmarks/pretrain/{name}.tsv")]))
        minutes, source = (took[0][0], MEASURED) if took else (need.minutes, WORKED_OUT)
        found.append(Job(name, PRETRAINING, "", 0, 1, left, minutes, need, source, requests.gpus))
    return found


def alike(study: Study, rule: str, model: str, task: str, costly: str) -> list[Path]:
    """Where the benchmark files of jobs lie that take the same: those of one calibrated pattern, or of all others."""
    folder = Path(STORE, "benchmarks", rule, model, task)
    if rule == "find_ticket":
        return [folder]
    if costly:
        return [folder / costly]
    return [folder / name for name in study.patterns[model, task] if not resources.calibrated(name)]


def per_level(folders: Iterable[Path], other: Collection[str] = ()) -> float | None:
    """Minutes of a level, the median over the jobs whose benchmark files lie below some folders; None where none does.

    `other`: evaluations (their path) and tickets (their file) that are not looked at.
    """
    left_out = {
        Path(STORE, "benchmarks/find_ticket", path.removeprefix(TICKETS)).with_suffix(".tsv")
        if path.startswith(TICKETS)
        else Path(STORE, f"benchmarks/prune_eval/{path}.tsv")
        for path in other
    }
    paths = sorted({path for folder in folders for path in folder.rglob("*.tsv")} - left_out)
    found = [minutes / levels for minutes, levels in benchmarked(paths)]
    return median(found) if found else None


def benchmarked(paths: Iterable[Path]) -> Iterator[tuple[float, int]]:
    """(minutes, levels) of the jobs of Snakemake's benchmark files, the levels as the file's path names them.

    Not of jobs whose log, of the same path, says that they found their results made before: seconds that nothing took.
    """
    for path in paths:
        log = Path(STORE, "logs", *path.relative_to(Path(STORE, "benchmarks")).with_suffix(".log").parts)
        try:
            if logs.found_before(log):
                continue
            with open(path, encoding="utf-8", newline="") as handle:
                seconds = sum(float(row["s"]) for row in csv.DictReader(handle, delimiter="\t"))
        except (OSError, KeyError, TypeError, ValueError):
            continue  # collect_costs says what is wrong with it
        if seconds:
            yield seconds / 60, path.parent.name.count("+") + 1


def written(study: Study, requests: resources.Requests, found: Sequence[Job], at_once: int) -> list[Stored]:
    """What jobs write: runs and items, tickets, pre-trainings, and checkpoints of as many trainings as run at once."""
    evaluations = [job for job in found if job.task in study.tasks and job.pattern != ITERATIONS]
    items = sum(job.levels * ITEM_BYTES * needs.evaluated(requests.filled(job.task)) for job in evaluations)
    result = [Stored("runs, items", len(evaluations), items, 0)]
    if study.tickets:
        size = sum(study.models[model]["parameters"] / 8 for model, *_ in study.tickets)
        result.append(Stored("tickets", len(study.tickets), size, 0))
    for name in study.pretrained:
        row = study.pretrainings[name]
        weights = 12 * row["layers"] * row["width"] ** 2 + (row["vocabulary"] or 0) * row["width"]
        number = row["steps"] // row["checkpoint_every"] + 1
        result.append(Stored(f"checkpoints of {name}", number, weights * (4 * number + 2 * STATE), 0))
    trained = [job.model for job in found if job.left and job.task in study.tasks and is_trained(study, job)]
    if trained:
        sizes = sorted((study.models[model]["parameters"] * 2 * STATE for model in trained), reverse=True)[:at_once]
        result.append(Stored("trainings at once, at most, in work/", len(sizes), sum(sizes), 0))
    return result


def is_trained(study: Study, job: Job) -> bool:
    """Whether a job fine-tunes."""
    return study.tasks[job.task]["protocol"] == "finetune"


def wall_minutes(study: Study, found: Sequence[Job], at_once: int) -> float:
    """Time of what is left, on so many GPUs (or so many jobs without any) at once: all of it shared evenly, or the longest
    chain of jobs that wait.
    """
    left = [job for job in found if job.left]
    chains: dict[tuple, dict[str, float]] = {}
    made = {job.model: job.minutes for job in left if job.task == PRETRAINING}
    for job in left:
        if job.task != PRETRAINING:
            chain = chains.setdefault((job.model, job.task, job.seed), {})
            if job.pattern == ITERATIONS:
                chain[ITERATIONS] = chain.get(ITERATIONS, 0) + job.minutes
            else:
                part = "dense" if job.pattern == "dense" else "others"
                chain[part] = max(chain.get(part, 0), job.minutes)
    longest = [sum(chain.values()) + made.get(study.models[key[0]]["id"], 0) for key, chain in chains.items()]
    return max([sum(job.minutes * max(job.gpus, 1) for job in left) / at_once, *longest, *made.values()], default=0)


def refined(study: Study, found: Sequence[Job]) -> tuple[int, int, float]:
    """(curves that `make refine` may add levels to, levels at most, hours of GPUs or of jobs that these take)."""
    asked = study.given.get("refine")
    if not asked:
        return 0, 0, 0.0
    protocols, most = asked.get("protocols", refinement.CHEAP), asked.get("levels", refinement.LEVELS)
    added = [entry for one in refinement.read(f"{study.folder}/rounds.json") for entry in one]
    curves: dict[tuple[str, str, str], list[Job]] = {}
    for job in found:
        evaluates = job.task in study.tasks and job.pattern != ITERATIONS
        if evaluates and study.tasks[job.task]["protocol"] in protocols:
            curves.setdefault((job.model, job.task, job.pattern), []).append(job)
    number, levels, minutes = 0, 0, 0.0
    for curve, some in curves.items():
        there = sum(
            len(entry["levels"]) for entry in added if (entry["model"], entry["task"], entry["pattern"]) == curve
        )
        if there < most and not refinement.fixed(curve[2]):
            each = sum(job.minutes * max(job.gpus, 1) for job in some) / sum(job.levels for job in some)
            number, levels = number + 1, levels + most - there
            minutes += (most - there) * len({job.seed for job in some}) * each
    return number, levels, minutes / 60


def at_once(requests: resources.Requests, found: Sequence[Job], asked: int | None) -> tuple[int, str]:
    """(GPUs at once, at least what one of the jobs `found` takes, or jobs where these have none; why so many). Raises UserError for a profile that cannot be read."""
    each = max((job.gpus for job in found), default=1)
    if not requests.gpus:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // requests.given["threads"]), f"the {cores} cores of this machine"
    if asked is not None:
        number = max(each, asked)
        return number, f"{number} GPU{'s' * (number > 1)}"
    try:
        profile = yaml.safe_load(Path(PROFILE).read_text(encoding="utf-8"))
        gpus = min(profile["resources"]["gpu"], profile["jobs"] * each)
    except (OSError, TypeError, KeyError, yaml.YAMLError) as error:
        raise errors.UserError(f"{PROFILE} does not say how many GPUs there are ({error}); say GPUS=16.") from error
    return max(each, gpus), f"{gpus} GPUs at once ({PROFILE})"


def lines(
    study: Study,
    asked: int | None = None,
    again: Mapping[str, str] | None = None,
    sizes: Mapping[str, int | None] = MappingProxyType({}),
) -> list[str]:
    """The estimate; `asked`: GPUs at once, else those of the profile for SLURM; `again`: jobs whose files are there and that are computed
    anew, as `jobs` takes them, and why; `sizes`: of data, as `downloads` takes them.
    """
    requests, again = resources.read(study), again or {}
    found = jobs(study, requests, again)
    unit, per = ("minutes", 1) if sum(job.minutes for job in found) < 180 else ("hours", 60)
    left = [job for job in found if job.left]
    counts = f"{len(found):,} jobs, {len(found) - len(left):,} finished"
    label = requests.devices[requests.device.name]["label"]
    if requests.gpus:
        each = sorted({job.gpus for job in found} or {1})
        cards = f"{each[0]} GPU{'s' * (each[-1] > 1)}" if len(each) == 1 else f"{each[0]} to {each[-1]} GPUs"
        device = f"{cards} a job: {label} (resources.gpu_class: {requests.device.name})"
    else:
        device = f"no GPU; threads a job: {requests.given['threads']}, each {label}"
    result = [f"Study {study.name}: {counts}", device]
    if again:
        known: dict[bool, list[str]] = {True: [], False: []}
        for why in again.values():
            known[logs.CHANGED in why].append(why)
        for changed, told in known.items():
            does = "start again, and compute only what that has changed" if changed else "are computed anew"
            if told:
                why = files.some(sorted(set(told)), 3)
                result.append(f"{len(told):,} of the jobs that are left have run, and {does}: {why}")
    if len(left) < len(found):
        result.append("finished: made of what is asked for now")
    result.append("")
    result += by_curve(found, requests, unit, per)
    result += ["", *by_pattern(found, unit, per)]
    number, why = at_once(requests, found, asked)
    result += [
        "",
        *to_fetch(study, sizes),
        "",
        *by_size("written", written(study, requests, found, number)),
    ]
    total, rest = (sum(job.minutes * max(job.gpus, 1) for job in some) / 60 for some in (found, left))
    kind = "GPU hours" if requests.gpus else "hours of jobs"
    result += ["", f"{kind}: {hours(total)}, {hours(rest)} of them left"]
    wall = wall_minutes(study, found, number)
    result.append(f"wall time of what is left, on {why}: about {resources.duration(wall)}, without waiting in queues")
    lacking = sum(not os.path.isfile(f"{STORE}/spectra/{name}.parquet") for name in study.named_models)
    if lacking:
        result.append(
            f"beside these: weights of {lacking:,} checkpoint{'s' * (lacking > 1)} are read and counted, on processors, minutes each"
        )
    curves, levels, more = refined(study, found)
    if curves:
        result.append(
            f"`make refine`, which `make demo` calls, adds levels around knees: at most {levels:,} levels, to {curves:,} curves, {hours(more)} {kind}"
        )
    worked = sum(job.minutes - job.need.told for job in left if job.source != MEASURED)
    share = worked / max(sum(job.minutes for job in left), 1e-9)
    if round(100 * share):
        result.append(
            f"{100 * share:.0f} % of what is left is worked out: right to a factor of two or three; jobs ask for twice as much"
        )
    if said := sorted({job.task for job in left if job.source == TOLD}):
        result.append(
            f"{files.some(said)}: hours are those of minutes_per_level in the tasks table, on whatever computes; a job that has run says more"
        )
    if requests.gpus and not requests.device.memory_mb:
        result.append("whether models fit the card was not checked: name it in resources.gpu_class")
    return result + [f"{'error' if p.fatal else 'warning'}: {p.message}" for p in resources.problems(study, requests)]


def by_curve(found: Sequence[Job], requests: resources.Requests, unit: str, per: int) -> list[str]:
    """A row for each model and task: evaluations of all patterns and seeds, and the search for tickets."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in found:
        groups.setdefault((job.model, job.task), []).append(job)
    rows = []
    for (model, task), some in groups.items():
        most = max(some, key=lambda job: job.need.gpu_mb or job.need.host_mb).need
        limit = requests.device.memory_mb
        parts = "*" if limit and most.gpu_mb > resources.USABLE * limit >= most.least_gpu_mb else ""
        card = f"{resources.gigabytes(most.gpu_mb)}{parts}" if requests.gpus else "–"
        memory = resources.gigabytes(max(requests.mem_mb(job.need) for job in some))
        rows.append((model, task, *told(some, per), card, memory, ", ".join(sorted({job.source for job in some}))))
    header = ("model", "task", "jobs", "left", unit, "left", "GPU GB", "RAM GB", "from")
    total = ("in all", "", *told(found, per), "", "", "")
    result = aligned([header, *rows, total], left=(0, 1, 8))
    if any("*" in row[6] for row in rows):
        result.append("* batches go through in parts that fit the card")
    return result


def by_pattern(found: Sequence[Job], unit: str, per: int) -> list[str]:
    """A row for each pattern."""
    groups: dict[str, list[Job]] = {}
    for job in found:
        groups.setdefault(job.pattern or PRETRAINING, []).append(job)
    rows = [(name, f"{sum(job.levels for job in some):,}", *told(some, per)) for name, some in sorted(groups.items())]
    return aligned([("pattern", "levels", "jobs", "left", unit, "left"), *rows], left=(0,))


def to_fetch(study: Study, sizes: Mapping[str, int | None] = MappingProxyType({})) -> list[str]:
    """What is fetched, and how large it is."""
    found = by_size("to fetch", downloads.expected(study, sizes))
    return [*found, "SIZES=1 asks the hub how large its data are"] if downloads.unknown(study) and not sizes else found


def by_size(title: str, found: Sequence[Stored]) -> list[str]:
    """A row for each thing that is stored, and their sum."""

    def size(value: float | None) -> str:
        return "–" if value is None else f"{value / 1e9:,.2f}" if value >= 1e7 else "< 0.01" if value else "0"

    rows = [(part.what, f"{part.number:,}", size(part.size), size(part.there)) for part in found]
    total = (size(sum(part.size or 0 for part in found)), size(sum(part.there for part in found)))
    unknown = sum(part.size is None for part in found)
    rows.append(("in all", "", total[0] + ("+" if unknown else ""), total[1]))
    result = aligned([(title, "number", "GB", "there"), *rows], left=(0,))
    if unknown:
        result.append("–: its size is known when it has been fetched")
    return result


def told(found: Sequence[Job], per: int) -> tuple[str, str, str, str]:
    """Jobs, those left, time, that left."""
    left = [job for job in found if job.left]
    times = [hours(sum(job.minutes for job in some) / per) for some in (found, left)]
    return f"{len(found):,}", f"{len(left):,}", *times


def hours(value: float) -> str:
    """A number of hours or minutes: one decimal below a hundred."""
    return "0" if not value else f"{value:,.0f}" if value >= 99.5 else f"{max(value, 0.1):.1f}"


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Rows as lines with aligned columns: those in `left` to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
