"""Levels where the crossing is: each round halves the wide gaps that may hold the essential sparsity, and no others.

The rounds stand in one file, which the Snakefile reads: `{"rounds": [[{model, task, pattern, levels}, …], …]}`. Levels of
one round are jobs of their own, so that cells which are computed already stay as they are. Standard library, PyYAML and
jsonschema only: every parse of the Snakefile imports this module.
"""

import math
import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from essential_sparsity import files, patterns
from essential_sparsity.study import grid
from essential_sparsity.study.configuration import ConfigError, check

if TYPE_CHECKING:
    import pandas as pd

# unless the configuration says otherwise: protocols whose levels are refined, and levels that a curve is given at most
CHEAP, LEVELS = ("zero-shot", "probe", "knn"), 20
ENTRY = {"model": {"type": "string"}, "task": {"type": "string"}, "pattern": {"type": "string"}}
ENTRY |= {"levels": {"type": "array", "items": {"type": "string", "pattern": r"^0\.(?!000)[0-9]{3}$"}}}
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
    where = f"{path} (levels that `make refine` added: delete it and refine again)"
    check(found, SCHEMA, where)
    for entry in (entry for one in found["rounds"] for entry in one):
        if fixed(entry["pattern"]):
            raise ConfigError(f"{where}: the levels of the pattern {entry['pattern']!r} are those that the grid gives.")
    return found["rounds"]


def fixed(name: str) -> bool:
    """Whether a pattern has just the levels that the grid gives; one that is known no longer is in no grid either."""
    try:
        pattern = patterns.find(name)
    except ValueError:
        return False
    return name == "dense" or pattern.structure == "nm" or pattern.score == "given"


def add(path: str | os.PathLike, levels: list[dict]) -> None:
    """Append a round to the file."""
    files.write_json(path, {"rounds": [*read(path), levels]})


def next_round(
    runs: "pd.DataFrame",
    knees: "pd.DataFrame",
    width: float,
    rounds: int,
    levels: int,
    protocols: Sequence[str] = CHEAP,
    before: Sequence[list[dict]] = (),
) -> list[dict]:
    """The levels to add, one entry per curve that needs some, sorted: [{model, task, pattern, levels}].

    `runs`, `knees`: the tables; of several metrics of a task its headline counts. Every gap wider than `width` inside the
    interval of the essential sparsity is halved, that at the reading first, then the widest; without an interval only the
    gap at the reading, for which the levels that it needs in later rounds are kept back. New levels are multiples of `width`
    where one lies inside the gap, so that they are those of the uniform grid. `before`: the rounds so far (`read`). To a curve
    no more than `levels` levels are added in all, in no more than `rounds` rounds of its own. Left alone are tasks of other
    protocols than `protocols`, N:M and lottery ticket patterns, whose levels are given, and curves with missing runs: what
    they lack would change the reading, and is computed first.
    """
    given, made = Counter(), Counter()
    for entry in (entry for one in before for entry in one):
        curve = entry["model"], entry["task"], entry["pattern"]
        given[curve] += len(entry["levels"])
        made[curve] += 1
    added = []
    tasks = set(runs.loc[runs["protocol"].isin(protocols), "task"])
    known = knees["headline"] & knees["bracket_low"].notna() & (knees["n_missing"] == 0)
    for knee in knees[known & knees["task"].isin(tasks)].itertuples():
        curve = knee.model, knee.task, knee.pattern
        if fixed(knee.pattern) or made[curve] >= rounds:
            continue
        here = runs[(runs["model"] == knee.model) & (runs["task"] == knee.task)]
        seen = sorted(here.loc[here["pattern"].isin(["dense", knee.pattern]), "sparsity"].unique())
        chosen = _chosen(_wide(knee, seen, width), width, levels - given[curve])
        if chosen:
            added.append(dict(zip(("model", "task", "pattern"), curve, strict=True)) | {"levels": sorted(chosen)})
    return sorted(added, key=lambda entry: (entry["model"], entry["task"], entry["pattern"]))


def _chosen(gaps: list[tuple[float, float]], width: float, left: int) -> list[str]:
    """The levels that halve as many of the gaps as `left` allows, less those that the first one needs until it is narrow."""
    if not gaps or left < 1:
        return []
    below, above = gaps[0]
    kept = max(math.ceil(math.log2((above - below) / width) - 1e-9) - 1, 0)
    return [_between(*gap, width) for gap in gaps[: max(left - kept, 1)]]


def _wide(knee: NamedTuple, levels: list[float], width: float) -> list[tuple[float, float]]:
    """The gaps between levels to split for a row of the table `knees`, the most needed first."""
    own = _known(knee.bracket_low, levels[0]), _known(knee.bracket_high, levels[-1])
    low, high = own
    if not math.isnan(_known(knee.essential_sparsity_low, math.nan)):
        low, high = knee.essential_sparsity_low, _known(knee.essential_sparsity_high, levels[-1])
    inside = [gap for gap in pairwise(levels) if low - 1e-9 <= gap[0] and gap[1] <= high + 1e-9]
    wide = [gap for gap in inside if gap[1] - gap[0] > width + 1e-9]
    return sorted(wide, key=lambda gap: (not own[0] - 1e-9 <= gap[0] < own[1] - 1e-9, gap[0] - gap[1], gap[0]))


def _known(value: float | None, otherwise: float) -> float:
    return otherwise if value is None or math.isnan(value) else value


def _between(below: float, above: float, width: float) -> str:
    """The level that halves a gap: the multiple of `width` next to its middle, where there is one inside."""
    middle = (below + above) / 2
    multiples = [round(index * width, 3) for index in (math.floor(middle / width), math.ceil(middle / width))]
    inside = [level for level in multiples if below + 1e-9 < level < above - 1e-9]
    return grid.level(min(inside, key=lambda level: abs(level - middle)) if inside else round(middle, 3))
