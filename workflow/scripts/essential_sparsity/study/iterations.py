"""Lottery tickets as the grid asks for them: which iterations a ticket takes, where they lie, which masks are compared.

Standard library, `patterns` and `grid` only: every parse of the Snakefile imports this module.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

from essential_sparsity import patterns
from essential_sparsity.study.configuration import ConfigError
from essential_sparsity.study.grid import Job, level, sparsities

TICKETS = next(name for name, pattern in patterns.PATTERNS.items() if pattern.score == "given")  # the only such pattern
TICKET = "{model}/{task}/seed{seed}/{sparsity}"  # of one iteration, below tickets/ of the store, without suffix

Iteration = tuple[str, str, int, str]  # model, task, seed, sparsity after it


def check(config: dict, tasks: dict, where: str) -> None:
    """Refuse tickets that no iterations can make; ConfigError names the block, the value and what was expected.

    `tasks`: rows of the tasks table by id. The grid must have passed `grid.validate`.
    """
    share = config["lottery"]["share"]
    if abs(share * 1000 - round(share * 1000)) > 1e-6:
        raise ConfigError(f"{where}, lottery.share: {share} has more than three decimals; round it to {share:.3f}.")
    for i, block in enumerate(config["grid"]):
        place = f"{where}, grid[{i}]"
        for pattern in [name for name in block["patterns"] if patterns.find(name).needs == "training"]:
            for task in block["tasks"]:
                if (protocol := tasks[task]["protocol"]) != "finetune":
                    raise ConfigError(
                        f"{place}: pattern {pattern} needs a task that is fine-tuned, but {task!r} has the protocol "
                        f"{protocol}. Give {pattern} a grid block with tasks of protocol finetune."
                    )
        for pattern in filter(found_by_training, block["patterns"]):
            for name in sparsities(block, place):
                if abs(float(name) / share - round(float(name) / share)) > 1e-6:
                    near = [level(share * (int(float(name) / share) + step)) for step in (0, 1)]
                    raise ConfigError(
                        f"{place}: pattern {pattern} prunes {share:g} of the weights an iteration (lottery.share), so it "
                        f"has no sparsity {name}; next to it are {' and '.join(near)}. Give {pattern} a grid block of its "
                        "own, or change lottery.share."
                    )


def found_by_training(pattern: str) -> bool:
    """Whether the masks of a pattern are tickets."""
    return patterns.find(pattern).score == "given"


def chain(sparsity: str, share: float) -> list[str]:
    """The sparsities after each of the iterations that end at `sparsity`."""
    return [level(share * (i + 1)) for i in range(round(float(sparsity) / share))]


def previous(sparsity: str, share: float) -> str | None:
    """The sparsity after the iteration before, None for the first."""
    return (chain(sparsity, share)[:-1] or [None])[-1]


def tickets(jobs: Iterable[Job], share: float) -> list[Iteration]:
    """Every iteration that the grid's jobs need, sorted."""
    asked = [(job, name) for job in jobs if found_by_training(job.pattern) for name in job.levels]
    return sorted({(job.model, job.task, job.seed, step) for job, name in asked for step in chain(name, share)})


def path(iteration: Iteration) -> str:
    """Where an iteration's files lie below tickets/ and benchmarks/find_ticket/ of the store, without suffix."""
    return TICKET.format(**dict(zip(("model", "task", "seed", "sparsity"), iteration, strict=True)))


Mask = tuple[str, str, int]  # pattern, task (empty for a one-shot mask: it has none), seed


def pairs(jobs: Iterable[Job]) -> list[tuple[str, str, str, Mask, Mask]]:
    """The masks to compare, (model, sparsity, between, mask, mask), from the tickets that a grid evaluates.

    `between`, what the two differ in: `pattern` (one-shot global and ticket), `task` or `seed` (of two tickets).
    """
    found: dict[tuple[str, str], list[Mask]] = {}
    for job in jobs:
        if found_by_training(job.pattern):
            for name in job.asked:
                found.setdefault((job.model, name), []).append((job.pattern, job.task, job.seed))
    result = []
    for (model, name), masks in found.items():
        result += [(model, name, "pattern", ("global", "", mask[2]), mask) for mask in masks]
        for a, b in combinations(sorted(masks), 2):
            differing = _differing(a, b)
            if len(differing) == 1:
                result.append((model, name, differing[0], a, b))
    return sorted(result)


def of_several(jobs: Iterable[Job], models: Iterable[str]) -> list[Iteration]:
    """The tickets that a grid evaluates of two or more of the models: same task, seed and sparsity. Sorted."""
    wanted, found = set(models), {}
    for job in jobs:
        if found_by_training(job.pattern) and job.model in wanted:
            for name in job.asked:
                found.setdefault((job.task, job.seed, name), set()).add(job.model)
    return sorted((model, *rest) for rest, owners in found.items() if len(owners) > 1 for model in owners)


def beside_one_shot(jobs: Iterable[Job]) -> list[tuple[str, str]]:
    """(model, task) of which a grid evaluates a ticket and the one-shot mask of the same sparsity and seed. Sorted."""
    chained, one_shot = set(), set()
    for job in jobs:
        runs = {(job.model, job.task, job.seed, name) for name in job.asked}
        if found_by_training(job.pattern):
            chained |= runs
        elif job.pattern == "global":
            one_shot |= runs
    return sorted({(model, task) for model, task, _, _ in chained & one_shot})


def _differing(a: Mask, b: Mask) -> Sequence[str]:
    return [part for part, x, y in zip(("pattern", "task", "seed"), a, b, strict=True) if x != y]
