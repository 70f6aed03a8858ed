"""Resampled curves: what else the items and the seeds could have shown.

Items are resampled with replacement, the same ones at every sparsity, seed, pattern and model of a task, so that
differences are paired. Seeds are few, and resampling three of them would claim far too much: their spread is drawn as a
multivariate t (`seed_noise`). Metrics say how they come from items (`metrics.Metric.from_items`).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import rankdata

from essential_sparsity import files
from essential_sparsity.curves.chance import chance_level
from essential_sparsity.curves.metrics import Metric

REPLICATES = 10_000
BATCH = 1 << 21  # resampled items held at once
WORST = np.log(1e300)  # stands for the logarithm of an infinite perplexity: a fit needs a number


def curves(
    metric: Metric,
    scores: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    task: str,
    seeds: Sequence[int],
    replicates: int = REPLICATES,
) -> np.ndarray:
    """Mean quality over seeds of resampled runs: (replicates, L), comparable row by row between curves of one task.

    `scores` (L, S, n): of each item under each level and seed (or what stands in the metric's `item_column`), all NaN
    for a run that is not there or is undefined;
    `targets` and `weights` (n); `seeds` (S) name the seeds. Every level needs one defined run.
    """
    if metric.from_items == "mean above chance":
        chance = chance_level(targets)
        scores, weights = (scores - chance) / (1 - chance), np.ones(len(targets))
    there = ~np.isnan(scores).any(axis=2)
    if not there.any(axis=1).all():
        raise ValueError("a level without a defined run cannot be resampled")
    share = there / there.sum(axis=1, keepdims=True)  # of each seed in the mean of a level
    statistic = STATISTICS[metric.from_items](metric, np.where(there[..., None], scores, 0.0), targets, weights, share)
    batches = [statistic(counts) for counts in item_counts(scores.shape[2], task, replicates)]
    found = np.concatenate(batches)
    return found + seed_noise(metric, scores, targets, weights, there, seeds, replicates)


def item_counts(n: int, task: str, replicates: int) -> Iterator[np.ndarray]:
    """How often each of n items is drawn, float32 batches (b, n) of `replicates` rows; the same for a task every time."""
    generator = files.rng(0, "bootstrap items", task)
    size = max(1, BATCH // n)
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = generator.integers(0, n, (rows, n), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def _mean(metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, share: np.ndarray) -> Callable:
    """Weighted means: linear in the scores, so the seeds are averaged before the items are resampled."""
    sign = 1.0 if metric.higher_is_better else -1.0
    averaged = np.einsum("lsn,ls->nl", scores, share)
    # What is left of the scores without their overall mean is small: float32 is enough for its sums.
    base = averaged.mean()
    columns = np.column_stack([averaged - weights[:, None] * (base / weights.mean()), weights]).astype(np.float32)

    def statistic(counts: np.ndarray) -> np.ndarray:
        summed = (counts @ columns).astype(np.float64)
        return sign * (summed[:, :-1] / summed[:, -1:] + base / weights.mean())

    return statistic


def _correlation(
    metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, share: np.ndarray
) -> Callable:
    """Correlation of the resample: Spearman's has its ranks taken anew, since items drawn twice tie."""
    levels, seeds, _ = scores.shape
    prepare = _ranker if metric.from_items == "rank correlation" else _unchanged
    wanted = prepare(targets)
    readers = {(i, j): prepare(scores[i, j]) for i in range(levels) for j in range(seeds) if share[i, j]}

    def statistic(counts: np.ndarray) -> np.ndarray:
        counts = counts.astype(np.float64)
        goal = wanted(counts)
        found = np.zeros((len(counts), levels))
        for (i, j), values in readers.items():
            found[:, i] += share[i, j] * _pearson(values(counts), goal, counts)
        return found

    return statistic


def _confusion(
    metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, share: np.ndarray
) -> Callable:
    """A statistic of classes: `scores` are predicted label indices, and counting them is all that a resample needs.

    F1 is 2 TP / (predicted + actual positives), class 1 being positive. Matthews' correlation for any number of classes:
    Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient". 0 where undefined.
    """
    levels, seeds, n = scores.shape
    classes = np.array([1.0]) if metric.from_items == "binary f1" else np.union1d(targets, scores)
    actual = (targets[:, None] == classes).astype(np.float32)  # (n, K)
    columns, places = {}, [(i, j) for i in range(levels) for j in range(seeds) if share[i, j]]
    for i, j in places:
        predicted = (scores[i, j][:, None] == classes).astype(np.float32)
        columns[i, j] = np.column_stack([predicted, (predicted * actual).sum(axis=1)])

    def statistic(counts: np.ndarray) -> np.ndarray:
        there = (counts @ actual).astype(np.float64)
        found = np.zeros((len(counts), levels))
        for i, j in places:
            predicted, right = np.split((counts @ columns[i, j]).astype(np.float64), [len(classes)], axis=1)
            right = right[:, 0]
            if metric.from_items == "binary f1":
                top, bottom = 2 * right, (predicted + there)[:, 0]
            else:
                top = right * n - (predicted * there).sum(axis=1)
                bottom = np.sqrt((n**2 - (predicted**2).sum(axis=1)) * (n**2 - (there**2).sum(axis=1)))
            found[:, i] += share[i, j] * np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        return found

    return statistic


STATISTICS = {
    "mean": _mean,
    "mean above chance": _mean,
    "correlation": _correlation,
    "rank correlation": _correlation,
    "binary f1": _confusion,
    "matthews": _confusion,
}


def _unchanged(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The values themselves, whatever the resample."""
    return lambda counts: values[None, :]


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Ranks of the items within resamples: counts (b, n) -> mid-ranks (b, n), from one sort of the values."""
    order = np.argsort(values, kind="stable")
    last = rankdata(values, method="max").astype(int)
    first = rankdata(values, method="min").astype(int) - 1

    def ranks(counts: np.ndarray) -> np.ndarray:
        below = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], axis=1)], axis=1)
        return below[:, first] + below[:, last]  # twice the mid-rank, but for a constant: the correlation is the same

    return ranks


def _pearson(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Correlation of the rows of a and b, weighted by counts; 0 where a side is constant."""
    total = counts.sum(axis=1, keepdims=True)
    a = a - (a * counts).sum(axis=1, keepdims=True) / total
    b = b - (b * counts).sum(axis=1, keepdims=True) / total
    weighted = a * counts
    product = (weighted * b).sum(axis=1)
    size = (weighted * a).sum(axis=1) * (b * b * counts).sum(axis=1)
    return np.divide(product, np.sqrt(size), out=np.zeros_like(product), where=size > 0)


def seed_noise(
    metric: Metric,
    scores: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    there: np.ndarray,
    seeds: Sequence[int],
    replicates: int,
) -> np.ndarray:
    """What other seeds would have changed in the means over seeds: (replicates, L), or 0 for a single seed.

    The observed deviations of the S seeds are added up with normal multipliers, one per seed and the same for every
    curve, over sqrt(S (S − 1)): covariance S_ll' / S, as of a mean. Divided by sqrt(χ² / (S − 1)) it is a multivariate
    t: with few seeds the spread itself is uncertain. The part of the deviations that is noise of the items, which
    resampling items shows already, is taken off (two-way random effects; Owen 2007, "The pigeonhole bootstrap").
    """
    size = scores.shape[1]
    if size < 2:
        return np.zeros((1, scores.shape[0]))
    one = np.ones((1, scores.shape[2]), dtype=np.float32)
    values, filled = np.zeros((size, scores.shape[0])), np.where(np.isnan(scores), 0.0, scores)
    for j in range(size):
        only = np.zeros(there.shape)
        only[there[:, j], j] = 1.0
        values[j] = STATISTICS[metric.from_items](metric, filled, targets, weights, only)(one)[0]
    counted = np.maximum(there.sum(axis=1), 1)
    centre = np.where(there.T, values, 0).sum(axis=0) / counted
    deviations = np.where(there.T, values - centre, 0.0)
    if STATISTICS[metric.from_items] is _mean:
        deviations *= np.sqrt(_seed_share(scores, weights, there, deviations))
    multipliers = np.stack(
        [files.rng(0, "bootstrap seeds", str(seed)).standard_normal(replicates) for seed in seeds], 1
    )
    spread = files.rng(0, "bootstrap seeds", "spread").chisquare(size - 1, replicates) / (size - 1)
    return multipliers @ deviations / np.sqrt(size * (size - 1) * spread)[:, None]


def _seed_share(scores: np.ndarray, weights: np.ndarray, there: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Share (L) of the variance between seeds that is not item noise: 1 − E / (n V), at least 0.

    V: variance of the seeds' means; E: variance of what is left of an item's score without its item and seed means.
    """
    _, size, n = scores.shape
    seen = there.all(axis=1)  # with a run missing the share is left at 1
    result = np.ones(len(scores))
    whole = scores[seen]
    left = (
        whole
        - whole.mean(axis=1, keepdims=True)
        - whole.mean(axis=2, keepdims=True)
        + whole.mean((1, 2), keepdims=True)
    )
    noise = (left**2).sum(axis=(1, 2)) / ((n - 1) * (size - 1)) / n / weights.mean() ** 2
    between = (deviations[:, seen] ** 2).sum(axis=0) / (size - 1)
    result[seen] = np.clip(1 - np.divide(noise, between, out=np.ones_like(noise), where=between > 0), 0, 1)
    return result
