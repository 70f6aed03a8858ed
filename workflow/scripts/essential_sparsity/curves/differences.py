"""The table `differences`: how much better one pattern is than another at each sparsity, paired over items and seeds.

Both curves see the same resampled items (`bootstrap`), so the replicates of their difference are row by row; a seed's runs
of both patterns are subtracted before anything is said about seeds. Beside single levels stand means over the levels up to 50 % and above: the ranges for which
Jaiswal et al. 2023 (arXiv 2306.03805) claim that lottery tickets are no better, and are better, than one-shot masks.
"""

from collections.abc import Callable, Collection, Iterator

import numpy as np
import pandas as pd

from essential_sparsity import errors, files, patterns
from essential_sparsity.curves import bootstrap
from essential_sparsity.curves.intervals import interval
from essential_sparsity.curves.quality import with_quality
from essential_sparsity.curves.single import curve_of, moves

SPLIT = 0.5  # the sparsity that parts the two ranges
RUN = ["sparsity", "seed"]


def pairs(names: Collection[str], chained: bool) -> list[tuple[str, str]]:
    """The pairs of a model's and task's patterns that are subtracted, (first, second), sorted.

    Where there are lottery tickets (`chained`) all others minus one-shot `global`; and each pattern minus its peers
    (`Pattern.peers`).
    """
    found = {(name, "global") for name in names if chained and name not in ("dense", "global")}
    found |= {(name, other) for name in names for other in patterns.find(name).peers}
    return sorted((one, other) for one, other in found if other in names)


def table(
    runs: pd.DataFrame,
    items: Callable[[pd.DataFrame], pd.DataFrame],
    chained: Collection[tuple[str, str]],
    replicates: int = bootstrap.REPLICATES,
) -> pd.DataFrame:
    """The difference of each of the `pairs` of patterns, per model, task and metric, from the table `runs`.

    `items(runs)` gives the rows of the table `items` of some runs. `chained`: (model, task) with lottery tickets. Runs count whose sparsity and seed both patterns
    have, with a defined metric; in a range of levels the seeds that all of them have, no row without such a seed.
    Raises ValueError when the two curves were evaluated on different items.
    """
    rows = []
    defined = runs[runs["value"].notna()]
    for (model, task, metric), group in defined.groupby(["model", "task", "metric"], sort=True):
        key = {"model": model, "task": task, "metric": metric}
        for one, other in pairs(set(group["pattern"]), (model, task) in chained):
            ours, theirs = (group[group["pattern"] == name] for name in (one, other))
            shared = ours[RUN].merge(theirs[RUN])
            if len(shared):
                pair = [part.merge(shared, on=RUN) for part in (ours, theirs)]
                rows += _rows(key | {"pattern_a": one, "pattern_b": other}, pair, items, replicates)
    return pd.DataFrame(rows)


def _rows(key: dict, pair: list[pd.DataFrame], items: Callable, replicates: int) -> Iterator[dict]:
    """The levels of one pair of curves, then its ranges."""
    patterns = (key["pattern_a"], key["pattern_b"])
    curves = [curve_of(key | {"pattern": name}, with_quality(runs)) for name, runs in zip(patterns, pair, strict=True)]
    seen = [items(runs) for runs in pair]
    if not np.array_equal(*(np.sort(part["item"].unique()) for part in seen)):
        raise errors.UserError(
            f"{key['pattern_a']} and {key['pattern_b']} of {key['model']} on {key['task']} were evaluated on different "
            "items: they cannot be paired. Delete their files in results/store/runs and results/store/items and run again."
        )
    (moved, n_items, _), (other, _, _) = (
        moves(curve, runs, part, replicates) for curve, runs, part in zip(curves, pair, seen, strict=True)
    )
    levels, difference = curves[0].levels, curves[0].quality - curves[1].quality
    noise = resampled(difference, moved - other, n_items, f"{key['task']} {key['model']} {' '.join(patterns)}")
    ranges = [part for part in ((levels <= SPLIT + 1e-9), (levels > SPLIT + 1e-9)) if part.sum() > 1]
    for part in [*(levels == level for level in levels), *ranges]:
        shared = of_shared_seeds(difference, part)
        if not shared.size:
            continue
        low, high = interval(shared.mean(), shared.mean() + noise(part))
        yield key | {
            "sparsity_from": float(levels[part][0]),
            "sparsity_to": float(levels[part][-1]),
            "difference": float(shared.mean()),
            "low": low,
            "high": high,
            "n_levels": int(part.sum()),
            "n_seeds": shared.shape[-1],
            "n_items": int(pair[0]["n_items"].min()),
            "n_replicates": replicates,
        }


def of_shared_seeds(values: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Of `values` (…, L, S), NaN where a seed is missing, those of the levels in the mask `part` and the seeds that all of these have."""
    chosen = values[..., part, :]
    return chosen[..., ~np.isnan(chosen).any(axis=tuple(range(chosen.ndim - 1)))]


def resampled(difference: np.ndarray, moved: np.ndarray, n_items: int, stream: str) -> Callable:
    """What other items and seeds would have changed in the mean difference of some levels: a function, mask (L) -> (B).

    `difference` (L, S), NaN where a seed is missing; `moved` (B, L, S), NaN there too: what the resampled items do to it. A
    mean of seeds is a t variable with a degree of freedom less than there are seeds; several levels have the seeds that all of
    them have (`of_shared_seeds`). At a single level the seeds' variance is that of the level and its two neighbours together:
    more degrees of freedom, but for how alike the levels are for a seed.
    """
    there = ~np.isnan(difference)
    counts = there.sum(axis=1)
    deviations = _deviations(difference, there)
    of_items = _deviations(moved, there)
    alike = _alike(difference[:, there.all(axis=0)]) ** 2
    generator = files.rng(0, "bootstrap differences", stream)
    uniform, normal = generator.random(len(moved)), generator.standard_normal(len(moved))

    def noise(part: np.ndarray) -> np.ndarray:
        shared = of_shared_seeds(moved, part)
        found = bootstrap.few_items(n_items) * shared.mean(axis=(1, 2))
        size = shared.shape[-1]
        if part.sum() == 1:
            place = int(part.argmax())
            near = slice(max(place - 1, 0), place + 2)
            degrees = (counts[near] - 1).clip(0).sum()
            used = int((counts[near] > 1).sum())
            between, noisy = (deviations[near] ** 2).sum(), (of_items[:, near] ** 2).sum(axis=(1, 2)).mean()
            sure = degrees / (1 + max(used - 1, 0) * alike)
        else:
            degrees = sure = size - 1
            between = size * of_shared_seeds(difference, part).mean(axis=0).var()
            noisy = size * shared.mean(axis=1).var(axis=1).mean()
        if not degrees:
            return found
        spread = bootstrap.uncertain_spread(between / degrees, noisy / degrees, sure, uniform)
        return found + spread * normal / np.sqrt(size)

    return noise


def _deviations(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Of the seeds from their level's mean, (…, L, S); 0 where a seed is missing."""
    filled = np.where(there, values, 0.0)
    return np.where(there, filled - filled.sum(axis=-1, keepdims=True) / there.sum(axis=1)[:, None], 0.0)


def _alike(difference: np.ndarray) -> float:
    """Share of the seeds' variance that all levels have in common (intraclass correlation), from a complete (L, S)."""
    n_levels, size = difference.shape
    if size < 2 or n_levels < 2:
        return 1.0
    left = difference - difference.mean(axis=1, keepdims=True)
    shared = left.mean(axis=0)
    between = n_levels * (shared**2).sum() / (size - 1)
    within = ((left - shared) ** 2).sum() / ((size - 1) * (n_levels - 1))
    common = max(0.0, (between - within) / n_levels)
    return float(common / (common + within)) if common + within > 0 else 1.0
