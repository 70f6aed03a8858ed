"""Where a curve's quality falls off, read in four ways, for one curve or thousands of resampled ones at once.

`levels` (L): the sparsities of one curve, ascending, the first of them 0 (dense). `means` (…, L): mean quality over the
seeds at each level, higher is better; leading axes are replicates. `weights` (L): the number of seeds behind each mean.
Results have the shape of the leading axes and are NaN where a curve has no such reading.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from kneed import KneeLocator

from essential_sparsity.curves import shapes

MIN_LEVELS = 3  # dense and two pruned ones: below that no shape can be told
HINGE_LEVELS = 4  # a hinge has four parameters
LEVEL = 1e-6  # of a curve's range over all of its levels: a slope no larger is rounding
SLACK = 1e-9  # 301/600 - 0.01 is above 295/600 in floating point, though six items of 600 are one point


def isotonic(means: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The weighted least-squares curve that never rises, of the shape of `means`.

    By the min-max formula (Barlow et al. 1972, equation 1.9): at i, the least over a ≤ i of the largest over b ≥ i of
    the mean of levels a to b. All replicates at once, where pool-adjacent-violators would walk them one by one.
    """
    weights = np.asarray(weights, float)
    size = len(weights)
    total = np.concatenate([[0.0], np.cumsum(weights)])
    summed = np.concatenate([np.zeros((*means.shape[:-1], 1)), np.cumsum(means * weights, axis=-1)], axis=-1)
    fitted = np.full(means.shape, np.inf)
    for a in range(size):
        averages = (summed[..., a + 1 :] - summed[..., a : a + 1]) / (total[a + 1 :] - total[a])
        largest = np.maximum.accumulate(averages[..., ::-1], axis=-1)[..., ::-1]
        np.minimum(fitted[..., a:], largest, out=fitted[..., a:])
    return fitted


def essential_sparsity(
    levels: Sequence[float], means: np.ndarray, weights: Sequence[float], epsilon: float
) -> np.ndarray:
    """The headline: where the isotonic mean curve crosses dense − `epsilon`; NaN when it never does.

    The definition of Jaiswal et al. 2023 (arXiv 2306.03805, section 3: the metric is within epsilon of dense, and a
    further small portion takes it out) on the least-squares decreasing curve, which noise and gains from mild pruning
    do not make cross more than once. Linear between the levels.
    """
    means = np.asarray(means, float)
    return crossing(levels, isotonic(means, weights), means[..., :1] - epsilon)


def first_outside(means: np.ndarray, weights: Sequence[float], epsilon: float) -> np.ndarray:
    """The first level, counted from 0, at which the isotonic mean is below dense − `epsilon`; L when none is.

    The essential sparsity lies between this level and the one before. Never 0: the isotonic mean starts at dense or above.
    """
    means = np.asarray(means, float)
    outside = isotonic(means, weights) < means[..., :1] - epsilon - SLACK
    return np.where(outside.any(axis=-1), np.argmax(outside, axis=-1), means.shape[-1])


def crossing(levels: Sequence[float], falling: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where curves that never rise, (…, L), pass below `target` (…, 1), linear between the levels; NaN: never."""
    levels = np.asarray(levels, float)
    outside = falling < target - SLACK
    after = np.argmax(outside, axis=-1)
    before = np.maximum(after - 1, 0)
    high, low = (np.take_along_axis(falling, index[..., None], -1) for index in (before, after))
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(after[..., None] > 0, np.maximum(high - target, 0) / (high - low), 0)[..., 0]
    return np.where(outside.any(axis=-1), levels[before] + part * (levels[after] - levels[before]), np.nan)


def last_compliant(levels: Sequence[float], means: np.ndarray, epsilon: float) -> np.ndarray:
    """The largest level whose mean is at least dense − `epsilon`; no interpolation, no smoothing.

    On a curve that leaves the band and comes back, this is the last of its exits (the definition asks that past the
    essential sparsity the metric is out). It is the last level of the grid, a lower bound, when that is still inside.
    """
    inside = inside_band(np.asarray(means, float), epsilon)
    return np.asarray(levels, float)[inside.shape[-1] - 1 - np.argmax(inside[..., ::-1], axis=-1)]


def inside_band(means: np.ndarray, epsilon: float) -> np.ndarray:
    """Which levels are within the tolerance of dense, (…, L)."""
    return means >= means[..., :1] - epsilon - SLACK


def exits(means: np.ndarray, epsilon: float) -> int:
    """How often one mean curve leaves the tolerance band: more than 1 says that it came back in between."""
    inside = inside_band(np.asarray(means, float), epsilon)
    return int((inside[:-1] & ~inside[1:]).sum())


def kneedle(levels: Sequence[float], means: np.ndarray) -> np.ndarray:
    """The level of largest bend above the chord of the curve; NaN where the curve is flat or does not bend down.

    Satopää et al. 2011, "Finding a 'Kneedle' in a Haystack" (the `kneed` package, sensitivity 1). Knows no tolerance.
    Of all that `kneed` finds the one that stands highest above the chord, and no lower than its two neighbours: an end of the grid,
    which it names first where the curve is flat there, as that of a broken model is, is no knee; nor a bump of noise past the fall.
    """
    means, levels = np.asarray(means, float), np.asarray(levels, float)
    rows = means.reshape(-1, means.shape[-1])
    found = np.full(len(rows), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kneed warns where it finds nothing; that is an answer here
        for i, row in enumerate(rows):
            if len(levels) >= MIN_LEVELS and np.ptp(row) >= SLACK:
                knees = KneeLocator(levels, row, curve="concave", direction="decreasing", online=True).all_knees
                above = dict(zip(levels, _above(levels, row), strict=True))
                found[i] = max((knee for knee in knees if _bends(levels, row, knee)), key=above.get, default=np.nan)
    return found.reshape(means.shape[:-1])


def _above(levels: np.ndarray, means: np.ndarray) -> np.ndarray:
    """How far a curve stands above its chord, in shares of its range; the chord falls by all of it from the first level to the last."""
    return (means - means.min()) / np.ptp(means) + (levels - levels[0]) / np.ptp(levels) - 1


def _bends(levels: np.ndarray, means: np.ndarray, knee: float) -> bool:
    """Does the curve stand above its chord at this inner level, and at neither neighbour higher above it?"""
    above = _above(levels, means)
    i = int(np.searchsorted(levels, knee))
    return 0 < i < len(levels) - 1 and above[i] > SLACK and above[i] >= max(above[i - 1], above[i + 1]) - SLACK


def hinge(levels: Sequence[float], means: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """The join of the fitted hinge; NaN when its second line is not steeper, or with fewer than four levels."""
    levels, means = np.asarray(levels, float), np.asarray(means, float)
    if len(levels) < HINGE_LEVELS:
        return np.full(means.shape[:-1], np.nan)
    join, before, after, _ = shapes.hinge(levels, means, weights)
    spread = np.ptp(means, axis=-1)
    bend, fall = ((slope * np.ptp(levels) > LEVEL * spread) for slope in (before - after, -after))
    return np.where(bend & fall & (spread >= SLACK), join, np.nan)
