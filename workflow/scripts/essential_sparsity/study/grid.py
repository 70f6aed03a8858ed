"""The grid: which runs a configuration asks for, and whether there can be such runs.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from essential_sparsity.study import kinds
from essential_sparsity.study.configuration import ConfigError, hint

PATTERNS = ("global", "layerwise", "random", "erk", "erk-random", "layer-shuffle", "deletion", "lth")
RUN = "{model}/{task}/{pattern}/{sparsity}/seed{seed}"
NM_PATTERN = re.compile(r"nm([1-9][0-9]*)")


@dataclass(frozen=True, order=True)
class Job:
    """What one prune_eval job computes: consecutive levels of one curve for one seed."""

    model: str
    task: str
    pattern: str
    levels: tuple[str, ...]
    seed: int

    @property
    def token(self) -> str:
        """The level token of the job's paths: `0.500`, or a chunk `0.100+0.200+0.300`."""
        return "+".join(self.levels)

    @property
    def path(self) -> str:
        """Where the job's files lie below results/runs, results/items, …, without suffix."""
        return RUN.format(model=self.model, task=self.task, pattern=self.pattern, sparsity=self.token, seed=self.seed)


def level(sparsity: float) -> str:
    """The one place where a sparsity becomes text."""
    return f"{sparsity:.3f}"


def sparsities(block: dict, where: str) -> list[str]:
    """The levels of a grid block, sorted: from a list, or from {from, to, step}."""
    given = block["sparsities"]
    if isinstance(given, dict):
        steps = round((given["to"] - given["from"]) / given["step"])
        given = [
            round(given["from"] + i * given["step"], 6)
            for i in range(steps + 1)
            if given["from"] + i * given["step"] <= given["to"] + 1e-9
        ]
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
    match = NM_PATTERN.fullmatch(pattern)
    if not match and pattern not in PATTERNS:
        raise ConfigError(
            f"{where}.patterns: unknown pattern {pattern!r}{hint(pattern, PATTERNS)} Known: {', '.join(PATTERNS)}, and nm2, nm4, nm8, … (N:M groups)."
        )
    if match:
        group = int(match[1])
        if group < 2:
            raise ConfigError(f"{where}.patterns: {pattern!r}: a group has at least 2 inputs.")
        for name in levels:
            if abs(float(name) * group - round(float(name) * group)) > 1e-6:
                fitting = ", ".join(level(i / group) for i in range(1, group) if i * 1000 % group == 0)
                raise ConfigError(
                    f"{where}: pattern {pattern} prunes whole weights of every {group}, so it has no sparsity {name}; it has {fitting}. "
                    "Give N:M patterns a grid block of their own."
                )


def expand(blocks: list[dict], levels_per_job: dict[str, int], rounds: Iterable[list[dict]] = ()) -> list[Job]:
    """All jobs of a grid, sorted: the union of the blocks' cross products, with one dense job per (model, task, seed).

    `levels_per_job`: task -> how many consecutive levels of a curve one job walks. `rounds`: levels added to single
    curves afterwards (`refinement`), as jobs of their own; those of curves that are not in the grid are left out.
    Blocks must have passed `validate`.
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
    jobs = []

    def add(model: str, task: str, pattern: str, seed: int, levels: Iterable[str]) -> None:
        ordered, size = sorted(levels), levels_per_job[task]
        jobs.extend(Job(model, task, pattern, tuple(ordered[i : i + size]), seed) for i in range(0, len(ordered), size))

    for curve, levels in curves.items():
        add(*curve, levels)
    for added in rounds:
        wanted = {(entry["model"], entry["task"], entry["pattern"]): entry["levels"] for entry in added}
        for curve, levels in curves.items():
            new = set(wanted.get(curve[:3], ())) - levels
            add(*curve, new)
            levels |= new
    return sorted(jobs)


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
                        f"{place}.{key}: unknown {key[:-1]} {name!r}{hint(name, rows)} {table} has: {', '.join(rows)}."
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
