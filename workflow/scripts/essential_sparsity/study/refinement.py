"""Levels where the crossing is: each round halves the gap that holds the essential sparsity, and evaluates nothing else.

The rounds stand in one file, which the Snakefile reads: `{"rounds": [[{model, task, pattern, levels}, …], …]}`. Levels of
one round are jobs of their own, so that cells which are computed already stay as they are. Standard library, PyYAML and
jsonschema only: every parse of the Snakefile imports this module.
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from essential_sparsity import files, patterns
from essential_sparsity.curves import metrics
from essential_sparsity.study import grid
from essential_sparsity.study.configuration import ConfigError, check

if TYPE_CHECKING:
    import pandas as pd

ENTRY = {"model": {"type": "string"}, "task": {"type": "string"}, "pattern": {"type": "string"}}
ENTRY |= {"levels": {"type": "array", "items": {"type": "string", "pattern": r"^0\.[0-9]{3}$"}}}
ROUND = {"type": "array", "items": {"type": "object", "properties": ENTRY, "required": list(ENTRY)}}
SCHEMA = {"type": "object", "properties": {"rounds": {"type": "array", "items": ROUND}}, "required": ["rounds"]}


def read(path: str | os.PathLike) -> list[list[dict]]:
    """The rounds so far; none where there is no file. Raises ConfigError naming the file when it is damaged."""
    if not Path(path).is_file():
        return []
    try:
        found = files.read_json(path)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{error} It holds the levels that `make refine` added; it adds them again.") from None
    check(found, SCHEMA, f"{path} (levels that `make refine` added: delete it and refine again)")
    return found["rounds"]


def add(path: str | os.PathLike, levels: list[dict]) -> None:
    """Append a round to the file."""
    files.write_json(path, {"rounds": [*read(path), levels]})


def next_round(runs: "pd.DataFrame", knees: "pd.DataFrame", width: float) -> list[dict]:
    """The levels to add, one per curve whose crossing lies in a gap wider than `width`: [{model, task, pattern, levels}].

    `runs`, `knees`: the tables. Of several metrics the headline counts. New levels are multiples of
    `width` where one lies inside the gap, so that they are those of the uniform grid. Curves without a crossing, and
    N:M and lottery ticket patterns, whose levels are given, are left alone.
    """
    named = {key: metrics.headline(part) for key, part in knees.groupby(["model", "task", "pattern"])["metric"]}
    added = []
    for knee in knees.itertuples():
        if (
            knee.metric != named[knee.model, knee.task, knee.pattern]
            or knee.tolerance is None
            or math.isnan(knee.tolerance)
        ):
            continue
        pattern = patterns.find(knee.pattern)
        if pattern.structure == "nm" or pattern.score == "given":
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
