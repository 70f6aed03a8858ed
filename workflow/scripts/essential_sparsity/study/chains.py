"""Lottery tickets as the grid asks for them: which rounds a chain has, where they lie, which masks are compared.

Standard library and `grid` only: every parse of the Snakefile imports this module.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

from essential_sparsity.study.configuration import ConfigError
from essential_sparsity.study.grid import Job, level, sparsities

PATTERN = "lth"
TRAINED = (PATTERN, "deletion")  # patterns that are about training: without it they are not defined
TICKET = "{model}/{task}/seed{seed}/{sparsity}"  # of one round, below results/tickets, without suffix

Round = tuple[str, str, int, str]  # model, task, seed, sparsity after it


def check(config: dict, tasks: dict, where: str) -> None:
    """Refuse tickets that no chain can make; ConfigError names the block, the value and what was expected.

    `tasks`: rows of the tasks table by id. The grid must have passed `grid.validate`.
    """
    share = config["lottery"]["share"]
    if abs(share * 1000 - round(share * 1000)) > 1e-6:
        raise ConfigError(f"{where}, lottery.share: {share} has more than three decimals; round it to {share:.3f}.")
    for i, block in enumerate(config["grid"]):
        place = f"{where}, grid[{i}]"
        for pattern in [name for name in TRAINED if name in block["patterns"]]:
            for task in block["tasks"]:
                if (protocol := tasks[task]["protocol"]) != "finetune":
                    raise ConfigError(
                        f"{place}: pattern {pattern} needs a task that is fine-tuned, but {task!r} has the protocol "
                        f"{protocol}. Give {pattern} a grid block with tasks of protocol finetune."
                    )
        if PATTERN not in block["patterns"]:
            continue
        for name in sparsities(block, place):
            if abs(float(name) / share - round(float(name) / share)) > 1e-6:
                near = [level(share * (int(float(name) / share) + step)) for step in (0, 1)]
                raise ConfigError(
                    f"{place}: pattern {PATTERN} prunes {share:g} of the weights a round (lottery.share), so it has no "
                    f"sparsity {name}; next to it are {' and '.join(near)}. Give {PATTERN} a grid block of its own, or "
                    "change lottery.share."
                )


def rounds(sparsity: str, share: float) -> list[str]:
    """The sparsities after each round of the chain that ends at `sparsity`."""
    return [level(share * (i + 1)) for i in range(round(float(sparsity) / share))]


def previous(sparsity: str, share: float) -> str | None:
    """The sparsity after the round before, None for the first."""
    return (rounds(sparsity, share)[:-1] or [None])[-1]


def tickets(jobs: Iterable[Job], share: float) -> list[Round]:
    """Every round that the grid's jobs need, sorted."""
    asked = [(job, name) for job in jobs if job.pattern == PATTERN for name in job.levels]
    return sorted({(job.model, job.task, job.seed, step) for job, name in asked for step in rounds(name, share)})


def path(round_: Round) -> str:
    """Where a round's files lie below results/tickets and results/benchmarks/ticket, without suffix."""
    return TICKET.format(**dict(zip(("model", "task", "seed", "sparsity"), round_, strict=True)))


Mask = tuple[str, str, int]  # pattern, task (empty for a one-shot mask: it has none), seed


def pairs(jobs: Iterable[Job]) -> list[tuple[str, str, str, Mask, Mask]]:
    """The masks to compare, (model, sparsity, between, mask, mask), from the tickets that a grid evaluates.

    `between`, what the two differ in: `pattern` (one-shot global and ticket), `task` or `seed` (of two tickets).
    """
    found: dict[tuple[str, str], list[Mask]] = {}
    for job in jobs:
        if job.pattern == PATTERN:
            for name in job.asked:
                found.setdefault((job.model, name), []).append((PATTERN, job.task, job.seed))
    result = []
    for (model, name), masks in found.items():
        result += [(model, name, "pattern", ("global", "", mask[2]), mask) for mask in masks]
        for a, b in combinations(sorted(masks), 2):
            differing = _differing(a, b)
            if len(differing) == 1:
                result.append((model, name, differing[0], a, b))
    return sorted(result)


def of_several(jobs: Iterable[Job], models: Iterable[str]) -> list[Round]:
    """The tickets that a grid evaluates of two or more of the models: same task, seed and sparsity. Sorted."""
    wanted, found = set(models), {}
    for job in jobs:
        if job.pattern == PATTERN and job.model in wanted:
            for name in job.asked:
                found.setdefault((job.task, job.seed, name), set()).add(job.model)
    return sorted((model, *rest) for rest, owners in found.items() if len(owners) > 1 for model in owners)


def beside_one_shot(jobs: Iterable[Job]) -> list[tuple[str, str]]:
    """(model, task) of which a grid evaluates a ticket and the one-shot mask of the same sparsity and seed. Sorted."""
    runs: dict[str, set[tuple]] = {PATTERN: set(), "global": set()}
    for job in jobs:
        if job.pattern in runs:
            runs[job.pattern].update((job.model, job.task, job.seed, name) for name in job.asked)
    return sorted({(model, task) for model, task, _, _ in runs[PATTERN] & runs["global"]})


def _differing(a: Mask, b: Mask) -> Sequence[str]:
    return [part for part, x, y in zip(("pattern", "task", "seed"), a, b, strict=True) if x != y]
