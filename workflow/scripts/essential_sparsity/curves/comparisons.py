"""The table `comparisons`: how much the essential sparsities of two curves differ."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity.curves.intervals import ALPHA, gaps, or_none, percentiles

CURVE = ["model", "task", "pattern", "metric"]


@dataclass(frozen=True)
class Side:
    """One of two curves that are compared: a row of the table `resamples`.

    `found`: its essential sparsity, NaN where there is none. `gap`: the levels that it lies between. `gaps` (2, B): those of
    each replicate, or None.
    """

    key: dict[str, str]
    found: float
    gap: tuple[float, float]
    gaps: np.ndarray | None
    stream: str | None


def table(resamples: pd.DataFrame, between: Sequence[str]) -> pd.DataFrame:
    """The table `comparisons`, of the curves that differ in one of the columns `between` (`model`, `pattern`) alone.

    `resamples`: the table of that name. A row of replicates stands for the same resample of the items in both curves where both were evaluated on the same
    ones (`paired`); what seeds do beyond dense is their own.
    """
    rows, curves = [], [side(row) for row in resamples.to_dict("records")] if between else []
    for column in between:
        others = [name for name in CURVE if name != column]
        kinds = {}
        for curve in curves:
            kinds.setdefault(tuple(curve.key[name] for name in others), []).append(curve)
        for group in kinds.values():
            for a, b in itertools.combinations(sorted(group, key=lambda curve: curve.key[column]), 2):
                rows.append(_difference(a, b, column))
    return pd.DataFrame(rows)


def side(row: Mapping[str, Any]) -> Side:
    """The side that a row of the table `resamples` is."""
    levels, outside = (
        None if pd.isna(row[name]) else np.array(json.loads(row[name])) for name in ("levels", "outside")
    )
    found, low, high = (
        np.nan if pd.isna(row[name]) else row[name] for name in ("essential_sparsity", "bracket_low", "bracket_high")
    )
    gap = low, np.inf if np.isnan(high) else high
    return Side(
        {name: row[name] for name in CURVE},
        found,
        gap,
        None if outside is None else gaps(levels, outside),
        row["stream"],
    )


def ends(a: Side, b: Side, alpha: float = ALPHA) -> tuple[float, float]:
    """The interval of a's essential sparsity less b's, plain percentiles over replicates; infinite beyond the levels."""
    (low_a, high_a), (low_b, high_b) = a.gaps, b.gaps
    return percentiles((a.gap[0] - b.gap[1], a.gap[1] - b.gap[0]), low_a - high_b, high_a - low_b, alpha)


def _difference(a: Side, b: Side, column: str) -> dict:
    """One row. An end of the interval is None when it lies beyond the levels of one of the curves.

    The interval knows the grid: from a's gap starting where b's ends to a's ending where b's starts, plain percentiles
    over replicates. Where gaps overlap it is not known which curve drops later: that counts half for each.
    """
    row = {"task": a.key["task"], "metric": a.key["metric"], "between": column}
    row |= {
        f"{name}_{which}": curve.key[name] for which, curve in (("a", a), ("b", b)) for name in ("model", "pattern")
    }
    row |= {"essential_sparsity_a": or_none(a.found), "essential_sparsity_b": or_none(b.found)}
    row |= {"difference": or_none(a.found - b.found)}
    row |= dict.fromkeys(("low", "high", "share_a_larger", "larger")) | {"paired": False, "n_replicates": 0}
    if a.gaps is None or b.gaps is None:
        return row
    (low_a, high_a), (low_b, high_b) = a.gaps, b.gaps
    low, high = ends(a, b)
    above, below = low_a >= high_b, low_b >= high_a
    share = float((above + 0.5 * ~(above | below)).mean())
    row |= {"low": or_none(low), "high": or_none(high), "share_a_larger": share}
    row |= {"larger": "a" if share > 1 - ALPHA / 2 else "b" if share < ALPHA / 2 else None}
    return row | {"paired": a.stream == b.stream, "n_replicates": len(low_a)}
