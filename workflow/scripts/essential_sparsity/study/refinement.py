"""Levels where the crossing is: each round halves the gap that holds the essential sparsity, and evaluates nothing else."""

import math

import pandas as pd

from essential_sparsity import patterns
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.study import grid


def next_round(runs: pd.DataFrame, knees: pd.DataFrame, width: float) -> list[dict]:
    """The levels to add, one per curve whose crossing lies in a gap wider than `width`: [{model, task, pattern, levels}].

    `runs`, `knees`: the tables. Of several metrics the first of `metrics.METRICS` counts. New levels are multiples of
    `width` where one lies inside the gap, so that they are those of the uniform grid. Curves without a crossing, and
    N:M and lottery ticket patterns, whose levels are given, are left alone.
    """
    order = {name: i for i, name in enumerate(METRICS)}
    first = knees.assign(order=knees["metric"].map(order)).sort_values("order", kind="stable")
    added = []
    for knee in first.drop_duplicates(["model", "task", "pattern"]).itertuples():
        pattern = patterns.find(knee.pattern)
        if pd.isna(knee.tolerance) or pattern.structure == "nm" or pattern.score == "given":
            continue
        chosen = runs[(runs["model"] == knee.model) & (runs["task"] == knee.task) & runs["value"].notna()]
        chosen = chosen[chosen["pattern"].isin(["dense", knee.pattern]) & (chosen["metric"] == knee.metric)]
        levels = sorted(chosen["sparsity"].unique())
        above = next(level for level in levels if level >= max(knee.tolerance - 1e-9, levels[1]))
        below = levels[levels.index(above) - 1]
        if (name := _between(below, above, width)) is not None:
            added.append({"model": knee.model, "task": knee.task, "pattern": knee.pattern, "levels": [name]})
    return sorted(added, key=lambda entry: (entry["model"], entry["task"], entry["pattern"]))


def _between(below: float, above: float, width: float) -> str | None:
    """The level that halves a gap, None when it is narrow enough."""
    if above - below <= width + 1e-9:
        return None
    middle = (below + above) / 2
    multiples = [round(index * width, 3) for index in (math.floor(middle / width), math.ceil(middle / width))]
    inside = [level for level in multiples if below + 1e-9 < level < above - 1e-9]
    return grid.level(min(inside, key=lambda level: abs(level - middle)) if inside else round(middle, 3))
