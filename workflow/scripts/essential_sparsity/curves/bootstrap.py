"""Resampled curves: what else the items and the seeds could have shown.

Items are resampled with replacement, the same ones at every sparsity, seed, pattern and model that was evaluated on
them, so that differences are paired. Metrics say how they come from items (`metrics.Metric.from_items`). Seeds are few,
and resampling three of them would claim far too much: what a seed does to a level is drawn from a normal distribution
whose variance is pooled over levels and is itself uncertain (`seed_spread`).

Qualities are arrays (…, L, S) over levels and seeds, the first level dense; NaN where there is no such run. `moves`
(B, L, S): how far each resample of the items moves the quality of each run.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy.stats import chi2, norm, rankdata
from scipy.stats import t as student

from essential_sparsity import files
from essential_sparsity.curves import readings
from essential_sparsity.curves.chance import chance_level
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.means import paired_means
from essential_sparsity.curves.metrics import Metric

REPLICATES = 10_000
BATCH = 1 << 21  # resampled items held at once
KEPT = 1 << 28  # bytes of draws that are kept for the next curve of a task: those of 26,000 items
BLOCK = 1 << 16  # of these, as many as stay in the cache of a processor
FAR = 5  # tolerances below dense: levels beyond say nothing about the seeds' spread where the curve leaves
APART = 5  # times the spread between seeds at any other level: at such a level some seeds have collapsed


def moves(
    metric: Metric,
    scores: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    stream: str,
    replicates: int,
    labels: int = 0,
) -> np.ndarray:
    """How far resampling the items moves each run's quality, (replicates, L, S), comparable row by row within a stream.

    `scores` (L, S, n): of each item in each run (or what stands in the metric's `item_column`), all NaN for a run that
    is not there; `targets` and `weights` (n); `labels`: how many the data have, where more than
    `targets` show. The same `stream` and number of items draw the same items.
    """
    there = ~np.isnan(scores).any(axis=-1)
    statistic = of_items(metric, scores[there], targets, weights, labels)
    observed = statistic(np.ones((1, len(targets)), dtype=np.float32))
    found = np.full((replicates, *there.shape), np.nan)
    found[:, there] = np.concatenate(
        [statistic(counts) - observed for counts in item_counts(len(targets), stream, replicates)]
    )
    return found


def of_items(
    metric: Metric, rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, labels: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    """The function from counts of the items (b, n) to the qualities (b, R) of the runs whose scores are `rows` (R, n)."""
    if metric.from_items == "mean above chance":
        chance = chance_level(targets, labels)
        rows, weights = (rows - chance) / (1 - chance), np.ones(len(targets))
    return STATISTICS[metric.from_items](metric, rows, targets, weights)


def complete(metric: Metric, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scores (n) of one run with those that are no finite number at their worst: a collapsed model is no missing one.

    A loss counts as LARGEST per unit of weight, a predicted label as none of the labels, any other score as 0.
    """
    if metric.scale == "log":
        return np.minimum(np.nan_to_num(scores, nan=np.inf), LARGEST * weights)
    return np.where(np.isfinite(scores), scores, -1.0 if metric.item_column == "prediction" else 0.0)


def item_counts(n: int, stream: str, replicates: int) -> Iterator[np.ndarray]:
    """How often each of n items is drawn, float32 batches (b, n) of `replicates` rows; the same for a stream every time.

    The curves of a task ask for the same draws one after another: those of one stream are kept, where they are no more
    than KEPT bytes.
    """
    drawn = _kept(n, stream, replicates) if n * replicates <= KEPT else _drawn(n, stream, replicates)
    return (counts.astype(np.float32) for counts in drawn)


@lru_cache(maxsize=1)
def _kept(n: int, stream: str, replicates: int) -> list[np.ndarray]:
    return list(_drawn(n, stream, replicates))


def _drawn(n: int, stream: str, replicates: int) -> Iterator[np.ndarray]:
    """The counts of `item_counts` in the smallest whole numbers that hold them: a byte, whatever n."""
    generator = files.rng(0, "bootstrap items", stream)
    size = max(1, BATCH // n)
    for start in range(0, replicates, size):
        rows = min(size, replicates - start)
        drawn = generator.integers(0, n, (rows, n), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=rows * n)
        yield counts.reshape(rows, n).astype(np.min_scalar_type(counts.max()))


def _mean(metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Callable:
    """Weighted means of the runs (R, n)."""
    sign = 1.0 if metric.higher_is_better else -1.0
    means = scores.sum(axis=1) / weights.sum()
    # What is left of the scores without their mean is small: float32 is enough for its sums.
    columns = np.column_stack([scores.T - weights[:, None] * means, weights]).astype(np.float32)

    def statistic(counts: np.ndarray) -> np.ndarray:
        summed = (counts @ columns).astype(np.float64)
        return sign * (means + summed[:, :-1] / summed[:, -1:])

    return statistic


def _correlation(metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Callable:
    """Pearson's correlation of the resample, 0 where a side is constant."""

    def centred(values: np.ndarray, counts: np.ndarray, total: np.ndarray) -> np.ndarray:
        return values - (values * counts).sum(axis=1, keepdims=True) / total

    def statistic(counts: np.ndarray) -> np.ndarray:
        found = np.empty((len(counts), len(scores)))
        for place in _blocks(counts):
            drawn = counts[place].astype(np.float64)
            total = drawn.sum(axis=1, keepdims=True)
            goal = centred(targets, drawn, total)
            spread = (goal * goal * drawn).sum(axis=1)
            for i, row in enumerate(scores):
                values = centred(row, drawn, total)
                weighted = values * drawn
                found[place, i] = _ratio((weighted * goal).sum(axis=1), (weighted * values).sum(axis=1) * spread)
        return found

    return statistic


def _rank_correlation(metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Callable:
    """Spearman's correlation of the resample, 0 where a side is constant: ranks are taken anew, since items drawn twice tie.

    In whole numbers up to the last division: twice a mid-rank is how many draws lie below an item and how many not above
    it, and the mean of that is n. Items stand in rows, and few resamples beside each other: what is looked up and summed
    stays in the cache of a processor.
    """
    goal, *rows = map(_ranks, (targets, *scores))

    def statistic(counts: np.ndarray) -> np.ndarray:
        found = np.empty((len(counts), len(scores)))
        for place in _blocks(counts):
            drawn = counts[place].T.astype(np.float64, order="C")  # (n, b)
            order, ranks = goal
            wanted = np.empty_like(drawn)
            wanted[order] = ranks(drawn[order])
            spread = (wanted * wanted * drawn).sum(axis=0)
            wanted *= drawn
            for i, (order, ranks) in enumerate(rows):
                own = drawn[order]
                values = ranks(own)
                product = (values * wanted[order]).sum(axis=0)
                own *= values
                own *= values
                found[place, i] = _ratio(product, own.sum(axis=0) * spread)
        return found

    return statistic


def _blocks(counts: np.ndarray) -> list[slice]:
    """The resamples (b, n) in parts of BLOCK numbers."""
    size = max(1, BLOCK // counts.shape[1])
    return [slice(start, start + size) for start in range(0, len(counts), size)]


def _ranks(values: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The order of items (n), and a function from their counts in this order, (n, b), to twice their mid-ranks less n."""
    n, order = len(values), np.argsort(values, kind="stable")
    first, last = (
        rankdata(values[order], method="min").astype(int) - 1,
        rankdata(values[order], method="max").astype(int),
    )
    tied = len(np.unique(first)) < n

    def ranks(counts: np.ndarray) -> np.ndarray:
        below = np.empty((n + 1, counts.shape[1]))
        below[0] = 0
        np.cumsum(counts, axis=0, out=below[1:])
        found = below[first] + below[last] if tied else below[:-1] + below[1:]
        found -= n
        return found

    return order, ranks


def _ratio(product: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A correlation from the sum of products and the product of the sums of squares; 0 where a side is constant."""
    return np.divide(product, np.sqrt(size), out=np.zeros_like(product), where=size > 0)


def _confusion(metric: Metric, scores: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Callable:
    """A statistic of classes: `scores` are predicted label indices, and counting them is all that a resample needs.

    F1 is 2 TP / (predicted + actual positives), class 1 being positive. Matthews' correlation for any number of classes:
    Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient". 0 where undefined.
    """
    n = len(targets)
    classes = np.array([1.0]) if metric.from_items == "binary f1" else np.union1d(targets, scores)
    actual = (targets[:, None] == classes).astype(np.float32)  # (n, K)
    columns = []
    for row in scores:
        predicted = (row[:, None] == classes).astype(np.float32)
        columns.append(np.column_stack([predicted, (predicted * actual).sum(axis=1)]))

    def statistic(counts: np.ndarray) -> np.ndarray:
        there = (counts @ actual).astype(np.float64)
        found = np.zeros((len(counts), len(scores)))
        for i, column in enumerate(columns):
            predicted, right = np.split((counts @ column).astype(np.float64), [len(classes)], axis=1)
            right = right[:, 0]
            if metric.from_items == "binary f1":
                top, bottom = 2 * right, (predicted + there)[:, 0]
            else:
                top = right * n - (predicted * there).sum(axis=1)
                bottom = np.sqrt((n**2 - (predicted**2).sum(axis=1)) * (n**2 - (there**2).sum(axis=1)))
            found[:, i] = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        return found

    return statistic


STATISTICS = {
    "mean": _mean,
    "mean above chance": _mean,
    "correlation": _correlation,
    "rank correlation": _rank_correlation,
    "binary f1": _confusion,
    "matthews": _confusion,
}


def few_items(n: int) -> float:
    """By how much resamples of n items are stretched: their spread is too small by √((n − 1)/n), and normal, not t."""
    return float(np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1) / norm.ppf(0.975)) if n > 1 else 1.0


def replicates(
    quality: np.ndarray, moved: np.ndarray, n_items: int, epsilon: float, uniform: np.ndarray, normal: np.ndarray
) -> np.ndarray:
    """Mean curves (B, L) that other items and other seeds could have shown.

    `quality` (L, S), `moved` (B, L, S) by `moves`; `uniform` (B) and `normal` (B, L, S): draws of the seeds' spread and of
    what they do (`seed_draws`). With one seed at the levels that decide (`seed_freedom` 0) the curves are what
    other items could have shown of that seed.
    """
    there = ~np.isnan(quality)
    found = paired_means(quality, there) + few_items(n_items) * paired_means(moved, there)
    if quality.shape[1] > 1:
        spread = seed_spread(quality, moved, epsilon, uniform)
        found += paired_means(spread[:, None, None] * normal, there)
    return found


def seed_spread(quality: np.ndarray, moved: np.ndarray, epsilon: float, uniform: np.ndarray) -> np.ndarray:
    """Standard deviations (B) of what a seed does to a level beyond what it does to all levels alike and beyond noise.

    From the two-way residuals (levels by seeds) of the levels that decide. What the residuals owe to the items, which
    resampling them shows, is taken off (two-way random effects; Owen 2007, "The pigeonhole bootstrap").
    """
    cells = deciding(quality, epsilon)
    size = len(cells)
    project, degrees = two_way(cells)
    if not degrees:
        return np.zeros(len(uniform))
    between = ((project @ quality[:size][cells]) ** 2).sum() / degrees
    of_items = ((moved[:, :size][:, cells] @ project) ** 2).sum(axis=1).mean() / degrees
    return uncertain_spread(between, of_items, degrees, uniform)


def seed_freedom(quality: np.ndarray, epsilon: float) -> int:
    """Degrees of freedom that the spread of seeds is known with; 0: one seed, or others only at levels that decide nothing."""
    return two_way(deciding(quality, epsilon))[1]


def deciding(quality: np.ndarray, epsilon: float) -> np.ndarray:
    """Which runs there are of the levels that decide where a curve leaves its tolerance.

    Those up to the first whose isotonic mean is FAR tolerances below dense, at least three; a last level at which some
    seeds have collapsed is left out.
    """
    there = ~np.isnan(quality)
    means = paired_means(quality, there)
    far = readings.isotonic(means, there.sum(axis=1)) < means[0] - FAR * epsilon
    size = min(max((int(far.argmax()) if far.any() else len(means) - 1) + 1, 3), len(means))
    ranges = np.nanmax(quality[:size], axis=1) - np.nanmin(quality[:size], axis=1)
    if size > 2 and far[size - 1] and ranges[-1] > APART * max(ranges[:-1].max(), 2 * epsilon):
        size -= 1
    return there[:size]


def two_way(there: np.ndarray) -> tuple[np.ndarray, int]:
    """Projection (N, N) of the N cells of `there` (L, S) onto what level and seed means leave, and its rank."""
    level, seed = np.nonzero(there)
    design = np.column_stack([level[:, None] == np.arange(there.shape[0]), seed[:, None] == np.arange(there.shape[1])])
    design = design.astype(float)
    return np.eye(len(level)) - design @ np.linalg.pinv(design), len(level) - int(np.linalg.matrix_rank(design))


def uncertain_spread(between: float, of_items: float, degrees: float, uniform: np.ndarray) -> np.ndarray:
    """Standard deviations (B) that a variance `between`, found with few degrees of freedom, could stand for.

    One χ² a replicate: with two or three seeds the spread itself is hardly known. `of_items` is taken off.
    """
    return np.sqrt(np.maximum(between * degrees / chi2.ppf(uniform, degrees) - of_items, 0))


def seed_draws(key: dict, levels: Sequence[float], seeds: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws for `replicates` of a curve: (size), (size, L, S); a run's own, so that curves share those of dense."""
    curve = f"{key['task']} {key['model']} {key['pattern']}"
    runs = [
        [f"{key['task']} {key['model']} dense" if level == 0 else f"{curve} {level:.6f}", str(seed)]
        for level in levels
        for seed in seeds
    ]
    normal = [files.rng(0, "bootstrap seeds", " ".join(run)).standard_normal(size) for run in runs]
    uniform = files.rng(0, "bootstrap spread", curve).random(size)
    return uniform, np.stack(normal, axis=1).reshape(size, len(levels), len(seeds))
