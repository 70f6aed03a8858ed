"""The grid: which runs a configuration asks for, and whether there can be such runs.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache

from essential_sparsity import files, patterns
from essential_sparsity.study import kinds
from essential_sparsity.study.configuration import ConfigError, hint

RESULTS = "results"
STORE = f"{RESULTS}/store"
RUN = "{model}/{task}/{pattern}/{sparsity}/seed{seed}"
SHOWN = 12  # rows of a table that a message names; series have hundreds of checkpoints
LEVEL = re.compile(r"[0-9]\.[0-9]{3}")


@dataclass(frozen=True, order=True)
class Job:
    """What one prune_eval job computes: some levels of one curve for one seed. The grid asks for those in `asked`."""

    model: str
    task: str
    pattern: str
    levels: tuple[str, ...]
    seed: int
    asked: tuple[str, ...]

    @property
    def curve(self) -> tuple[str, str, str, int]:
        """What the job's levels are of."""
        return self.model, self.task, self.pattern, self.seed

    @property
    def token(self) -> str:
        """The level token of the job's paths: `0.500`, or a chunk `0.100+0.200+0.300`."""
        return "+".join(self.levels)

    @property
    def path(self) -> str:
        """Where the job's files lie below runs/, items/, … of the store, without suffix."""
        return RUN.format(model=self.model, task=self.task, pattern=self.pattern, sparsity=self.token, seed=self.seed)


def folder(name: str) -> str:
    """Where what a person opens of a study lies: its tables, figures and report."""
    return f"{RESULTS}/{name}"


def level(sparsity: float) -> str:
    """The one place where a sparsity becomes text."""
    return f"{sparsity + 0.0:.3f}"  # that of -0.0 has no sign


def sparsities(block: dict, where: str) -> list[str]:
    """The levels of a grid block, sorted: from a list, or from {from, to, step}."""
    given = block["sparsities"]
    if isinstance(given, dict):
        steps = round((given["to"] - given["from"]) / given["step"])
        if given["to"] < given["from"]:
            raise ConfigError(
                f"{where}.sparsities: from {given['from']} to {given['to']} runs backwards; swap the two."
            )
        if abs(given["from"] + steps * given["step"] - given["to"]) > 1e-6:
            last = given["from"] + int((given["to"] - given["from"]) / given["step"]) * given["step"]
            raise ConfigError(
                f"{where}.sparsities: steps of {given['step']} from {given['from']} do not reach {given['to']}, the last level; write to: {last:g}, "
                "or the levels as a list."
            )
        given = [round(given["from"] + i * given["step"], 6) for i in range(steps + 1)]
    for value in given:
        if not 0 <= value < 1:
            raise ConfigError(
                f"{where}.sparsities: {value} is outside [0, 1); a sparsity is the share of prunable weights that is pruned."
            )
        if abs(value * 1000 - round(value * 1000)) > 1e-6:
            raise ConfigError(f"{where}.sparsities: {value} has more than three decimals; round it to {value:.3f}.")
    levels = [level(value) for value in given]
    if repeated := sorted({name for name in levels if levels.count(name) > 1}):
        raise ConfigError(f"{where}.sparsities: {repeated[0]} stands there twice.")
    return sorted(levels)


def check_pattern(pattern: str, levels: list[str], where: str) -> None:
    """The pattern is known, and an N:M group can hold each sparsity."""
    try:
        group = patterns.find(pattern).group
    except ValueError as error:
        raise ConfigError(f"{where}.patterns: {error}") from None
    if pattern == "dense":
        raise ConfigError(f"{where}.patterns: 'dense' is added to every curve by itself; name what prunes.")
    if group:
        for name in levels:
            if abs(float(name) * group - round(float(name) * group)) > 1e-6:
                fitting = (
                    ", ".join(level(i / group) for i in range(1, group) if i * 1000 % group == 0)
                    or "none of three decimals"
                )
                raise ConfigError(
                    f"{where}: pattern {pattern} prunes whole weights of every {group}, so it has no sparsity {name}; it has {fitting}. "
                    "Give N:M patterns a grid block of their own."
                )


Curve = tuple[str, str, str, int]  # model, task, pattern, seed


def expand(
    blocks: list[dict],
    levels_per_job: dict[str, int],
    rounds: Iterable[list[dict]] = (),
    stored: Callable[[Curve], Iterable[str]] = lambda curve: (),
) -> list[Job]:
    """All jobs of a grid, sorted: the union of the blocks' cross products, with one dense job per (model, task, seed).

    `levels_per_job`: task -> how many levels of a curve one job walks. `rounds`: levels added to single curves
    afterwards (`refinement`); those of curves that are not in the grid are left out. `stored`: the level tokens of the
    runs that a curve has already. Blocks must have passed `validate`.
    """
    curves = defaultdict(set)
    for i, block in enumerate(blocks):
        levels = [name for name in sparsities(block, f"grid[{i}]") if name != level(0)]
        for model in block["models"]:
            for task in block["tasks"]:
                for seed in block["seeds"]:
                    curves[model, task, "dense", seed].add(level(0))
                    for pattern in block["patterns"]:
                        curves[model, task, pattern, seed].update(levels)
    for added in rounds:
        wanted = {(entry["model"], entry["task"], entry["pattern"]): entry["levels"] for entry in added}
        for curve, levels in curves.items():
            levels.update(wanted.get(curve[:3], ()))
    return sorted(
        job for curve, levels in curves.items() for job in _jobs(curve, levels, levels_per_job[curve[1]], stored)
    )


def cut(jobs: Iterable[Job], size: int, stored: Callable[[Curve], Iterable[str]]) -> list[Job]:
    """The same levels of the same curves as jobs anew, sorted, of `size` levels each where they are not `stored` already."""
    curves = defaultdict(set)
    for job in jobs:
        curves[job.curve].update(job.asked)
    return sorted(job for curve, levels in curves.items() for job in _jobs(curve, levels, size, stored))


def _jobs(curve: Curve, levels: set[str], size: int, stored: Callable[[Curve], Iterable[str]]) -> list[Job]:
    """The jobs of one curve."""
    found = chunks(levels, size, stored(curve))
    return [Job(*curve[:3], chunk, curve[3], tuple(name for name in chunk if name in levels)) for chunk in found]


def chunks(levels: Collection[str], size: int, stored: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """Levels of one curve as the chunks that jobs walk: those that are stored as they are, the others anew.

    So a level that is added runs alone, and one that is taken away changes nothing. While jobs finish, the chunks stay
    the same: each new one is a whole chunk of those that were missing.
    """
    wanted, found = set(levels), []
    known = [tuple(token.split("+")) for token in stored]
    for chunk in sorted(known, key=lambda chunk: (-len(wanted.intersection(chunk)), chunk)):
        if not wanted.isdisjoint(chunk):
            found.append(chunk)
            wanted.difference_update(chunk)
    left = sorted(wanted)
    return [*found, *(tuple(left[i : i + size]) for i in range(0, len(left), size))]


def stored_in(root: str) -> Callable[[Curve], list[str]]:
    """A function from a curve to the level tokens of its runs below the folder `root`; each folder is listed once."""

    @cache
    def listed(model: str, task: str, pattern: str) -> dict[str, set[str]]:
        place = os.path.join(root, model, task, pattern)
        tokens = [token for token in _names(place) if all(LEVEL.fullmatch(name) for name in token.split("+"))]
        return {token: set(_names(os.path.join(place, token))) for token in tokens}

    def stored(curve: Curve) -> list[str]:
        return [token for token, names in listed(*curve[:3]).items() if f"seed{curve[3]}.parquet" in names]

    return stored


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def models_of(jobs: Iterable[Job], pattern: str) -> dict[str, list[str]]:
    """Task -> the models that are evaluated on it under a pattern, sorted."""
    found: dict[str, list[str]] = {}
    for task, model in sorted({(job.task, job.model) for job in jobs if job.pattern == pattern}):
        found.setdefault(task, []).append(model)
    return found


def validate(config: dict, models: dict, tasks: dict, where: str) -> None:
    """Check the grid of a config against the tables; ConfigError names the block, the value and what was expected."""
    for i, block in enumerate(config["grid"]):
        place = f"{where}, grid[{i}]"
        for key, table, rows in (("models", config["models"], models), ("tasks", config["tasks"], tasks)):
            for name in block[key]:
                if name not in rows:
                    raise ConfigError(
                        f"{place}.{key}: unknown {key[:-1]} {name!r}{hint(name, rows)} {table} has: {files.some(list(rows), SHOWN)}."
                    )
        levels = sparsities(block, place)
        for pattern in block["patterns"]:
            check_pattern(pattern, levels, place)
        for task in block["tasks"]:
            for model in block["models"]:
                types = kinds.declared()[tasks[task]["kind"]].models
                if models[model]["type"] not in types:
                    raise ConfigError(
                        f"{place}: the task {task!r} ({tasks[task]['kind']}) evaluates models of type {' or '.join(types)}, "
                        f"but {model!r} is of type {models[model]['type']}. Give them different grid blocks."
                    )


def one_of(names: Iterable[str]) -> str:
    """A regular expression of literal names: a tree of their letters, since Snakemake compiles a thousand names for each rule."""
    tree: dict = {}
    for name in names:
        node = tree
        for letter in name:
            node = node.setdefault(letter, {})
        node[""] = {}
    return _written(tree) if tree else "none"


def _written(node: dict) -> str:
    """The expression of what may follow at a place of the tree."""
    branches = [re.escape(letter) + _written(after) for letter, after in node.items() if letter]
    if not branches:
        return ""
    return branches[0] if len(branches) == 1 and "" not in node else f"(?:{'|'.join(branches)}){'?' * ('' in node)}"
