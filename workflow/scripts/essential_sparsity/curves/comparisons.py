"""The table `comparisons`: how much the essential sparsities of two curves differ, paired over items and seeds."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from essential_sparsity.curves import knees

CURVE = ["model", "task", "pattern", "metric"]


def table(curves: Iterable[knees.Curve], between: Sequence[str]) -> pd.DataFrame:
    """The table `comparisons`: differences of essential sparsity between curves that differ in one column alone.

    Paired: a row of replicates stands for the same items and seeds in both curves. An end of an interval is None when
    it lies beyond the levels of one of them.
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


def _difference(a: knees.Curve, b: knees.Curve, column: str) -> dict:
    row = {"task": a.key["task"], "metric": a.key["metric"], "between": column}
    row |= {
        f"{name}_{which}": curve.key[name] for which, curve in (("a", a), ("b", b)) for name in ("model", "pattern")
    }
    found = [curve.found.get("tolerance", np.nan) for curve in (a, b)]
    row |= {"tolerance_a": knees.or_none(found[0]), "tolerance_b": knees.or_none(found[1])}
    row |= {"difference": knees.or_none(found[0] - found[1])} | dict.fromkeys(("low", "high", "share_a_larger"))
    row["n_replicates"] = 0
    if "tolerance" in a.resampled and "tolerance" in b.resampled:
        of_a, of_b = (np.where(np.isnan(c.resampled["tolerance"]), np.inf, c.resampled["tolerance"]) for c in (a, b))
        both = np.isinf(of_a) & np.isinf(of_b)  # neither drops: which of the two does so later is not known
        with np.errstate(invalid="ignore"):
            difference = of_a - of_b
            estimate = np.diff(np.nan_to_num(found[::-1], nan=np.inf))[0]
        if not np.isnan(estimate):
            row["low"] = knees.interval(estimate, np.where(both, -np.inf, difference))[0]
            row["high"] = knees.interval(estimate, np.where(both, np.inf, difference))[1]
        row["share_a_larger"] = float(np.where(both, 0.5, (difference > 0) + 0.5 * (difference == 0)).mean())
        row["n_replicates"] = len(difference)
    return row
