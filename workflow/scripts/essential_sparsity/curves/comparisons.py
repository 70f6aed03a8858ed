"""The table `comparisons`: how much the essential sparsities of two curves differ."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from essential_sparsity.curves import knees
from essential_sparsity.curves.knees import ALPHA, Curve, or_none

CURVE = ["model", "task", "pattern", "metric"]


def table(curves: Iterable[Curve], between: Sequence[str]) -> pd.DataFrame:
    """The table `comparisons`, of the curves that differ in one of the columns `between` (`model`, `pattern`) alone.

    A row of replicates stands for the same resample of the items in both curves where both were evaluated on the same
    ones (`paired`); what seeds do beyond dense is their own.
    """
    rows = []
    for column in between:
        others = [name for name in CURVE if name != column]
        kinds = {}
        for curve in curves:
            kinds.setdefault(tuple(curve.key[name] for name in others), []).append(curve)
        for group in kinds.values():
            for a, b in itertools.combinations(sorted(group, key=lambda curve: curve.key[column]), 2):
                rows.append(_difference(a, b, column))
    return pd.DataFrame(rows)


def _difference(a: Curve, b: Curve, column: str) -> dict:
    """One row. An end of the interval is None when it lies beyond the levels of one of the curves.

    The interval knows the grid: from a's gap starting where b's ends to a's ending where b's starts, plain percentiles
    over replicates. Where gaps overlap it is not known which curve drops later: that counts half for each.
    """
    row = {"task": a.key["task"], "metric": a.key["metric"], "between": column}
    row |= {
        f"{name}_{which}": curve.key[name] for which, curve in (("a", a), ("b", b)) for name in ("model", "pattern")
    }
    found = [curve.found.get("essential_sparsity", np.nan) for curve in (a, b)]
    row |= {"essential_sparsity_a": or_none(found[0]), "essential_sparsity_b": or_none(found[1])}
    row |= {"difference": or_none(found[0] - found[1])}
    row |= dict.fromkeys(("low", "high", "share_a_larger", "larger")) | {"paired": False, "n_replicates": 0}
    if a.outside is None or b.outside is None:
        return row
    (low_a, high_a), (low_b, high_b) = a.gaps, b.gaps
    own = a.gap[0] - b.gap[1], a.gap[1] - b.gap[0]
    low, high = knees.percentiles(own, low_a - high_b, high_a - low_b)
    above, below = low_a >= high_b, low_b >= high_a
    share = float((above + 0.5 * ~(above | below)).mean())
    row |= {"low": or_none(low), "high": or_none(high), "share_a_larger": share}
    row |= {"larger": "a" if share > 1 - ALPHA / 2 else "b" if share < ALPHA / 2 else None}
    return row | {"paired": a.stream == b.stream, "n_replicates": len(low_a)}
