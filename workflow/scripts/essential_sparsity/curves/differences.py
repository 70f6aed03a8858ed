"""The table `differences`: how much better one pattern is than another at each sparsity, paired over items and seeds.

Both curves see the same resampled items and the same seed multipliers (`bootstrap`), so the replicates of their
difference are row by row. Beside single levels stand means over the levels up to 50 % and above: the ranges for which
Jaiswal et al. 2023 (arXiv 2306.03805) claim that lottery tickets are no better, and are better, than one-shot masks.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from essential_sparsity.curves import bootstrap, knees

SPLIT = 0.5  # the sparsity that parts the two ranges
RUN = ["sparsity", "seed"]


def table(
    runs: pd.DataFrame,
    items: Callable[[pd.DataFrame], pd.DataFrame],
    against: str = "global",
    replicates: int = bootstrap.REPLICATES,
) -> pd.DataFrame:
    """Every other pattern minus `against`, per model, task and metric, from the table `runs`.

    `items(runs)` gives the rows of the table `items` of some runs. Runs count whose sparsity and seed both patterns
    have, with a defined metric. Raises ValueError when the two curves were evaluated on different items.
    """
    rows = []
    defined = runs[runs["value"].notna()]
    for (model, task, metric), group in defined.groupby(["model", "task", "metric"], sort=True):
        key = {"model": model, "task": task, "metric": metric}
        theirs = group[group["pattern"] == against]
        for pattern in sorted(set(group["pattern"]) - {"dense", against}):
            ours = group[group["pattern"] == pattern]
            shared = ours[RUN].merge(theirs[RUN])
            if len(shared):
                pair = [part.merge(shared, on=RUN) for part in (ours, theirs)]
                rows += _rows(key | {"pattern_a": pattern, "pattern_b": against}, pair, items, replicates)
    return pd.DataFrame(rows)


def _rows(key: dict, pair: list[pd.DataFrame], items: Callable, replicates: int) -> Iterator[dict]:
    """The levels of one pair of curves, then its ranges."""
    patterns = (key["pattern_a"], key["pattern_b"])
    curves = [knees.curve_of(key, knees.level_means(runs), (name,)) for name, runs in zip(patterns, pair, strict=True)]
    seen = [items(runs) for runs in pair]
    if not np.array_equal(*(np.sort(part["item"].unique()) for part in seen)):
        raise ValueError(
            f"{key['pattern_a']} and {key['pattern_b']} of {key['model']} on {key['task']} were evaluated on different "
            "items: they cannot be paired. Delete their files in results/store/runs and results/store/items and run again."
        )
    resampled = [
        knees.resampled(curve, runs, part, replicates) for curve, runs, part in zip(curves, pair, seen, strict=True)
    ]
    levels, means, noise = curves[0].levels, curves[0].means - curves[1].means, resampled[0] - resampled[1]
    ranges = [(levels <= SPLIT + 1e-9), (levels > SPLIT + 1e-9)]
    chosen = [levels == level for level in levels] + [part for part in ranges if part.sum() > 1]
    for part in chosen:
        low, high = knees.interval(means[part].mean(), noise[:, part].mean(axis=1))
        yield key | {
            "sparsity_from": float(levels[part][0]),
            "sparsity_to": float(levels[part][-1]),
            "difference": float(means[part].mean()),
            "low": low,
            "high": high,
            "n_levels": int(part.sum()),
            "n_seeds": int(pair[0]["seed"].nunique()),
            "n_items": int(pair[0]["n_items"].min()),
            "n_replicates": replicates,
        }
