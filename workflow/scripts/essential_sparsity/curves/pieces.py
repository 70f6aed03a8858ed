"""A piece of evidence for a claim: a number with its interval, or a word."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from essential_sparsity.curves.intervals import ALPHA

SAME = 1e-9  # means of levels that are the same differ by rounding
Found = Mapping[str, pd.DataFrame]  # the tables of a study by name, `resamples` and `trajectory` among them


@dataclass(frozen=True)
class Known:
    """What tables do not say: the type of each model, and how much data the name of a group says (a number, NaN for none)."""

    types: Mapping[str, str]
    amount: Callable[[str], float]


@dataclass(frozen=True)
class Piece:
    """A piece of evidence: a number and its 95 % interval, infinite where nothing was measured, or a word.

    `limited`: why its interval does not say all, so that it is neither for nor against; `note`: what else a reader should know;
    `counted`: not sampled, so that its interval holds what it was counted to; `measured`: false where there is nothing to judge,
    which is then no evidence; `at`: alpha -> its interval, from resamples; `unsigned`: a difference of which the size counts alone;
    `freedom`: the fewest degrees of freedom that its interval may have.
    """

    name: str
    estimate: float = math.nan
    low: float = -math.inf
    high: float = math.inf
    word: str | None = None
    limited: str | None = None
    note: str | None = None
    counted: bool = False
    measured: bool = True
    at: Callable[[float], tuple[float, float]] | None = None
    unsigned: bool = False
    freedom: float = math.inf

    def widened(self, pieces: int) -> tuple[float, float]:
        """The interval that holds for so many pieces at once: by its resamples, else as if its ends were those of a t variable.

        What lies between two levels is not noise: ends that are levels move by levels, where the resamples do. Without them nothing
        is known around an unknown estimate.
        """
        if pieces == 1 or self.counted:
            return self.low, self.high
        if self.at is not None:
            return self.at(ALPHA / pieces)
        if math.isnan(self.estimate):
            return -math.inf, math.inf
        factor = student.ppf(1 - ALPHA / 2 / pieces, self.freedom) / student.ppf(1 - ALPHA / 2, self.freedom)
        return self.estimate - factor * (self.estimate - self.low), self.estimate + factor * (self.high - self.estimate)


def number(value: Any, otherwise: float) -> float:
    return otherwise if pd.isna(value) else float(value)


def welch(
    a: np.ndarray, b: np.ndarray, errors_a: np.ndarray | float = 0.0, errors_b: np.ndarray | float = 0.0
) -> tuple[float, Callable[[float], tuple[float, float]]]:
    """The difference of two samples' means, two values or more each, and its interval at each alpha (Welch's t).

    `errors`: the standard error of each value itself.
    """
    largest = max(np.abs(a).max(), np.abs(b).max(), np.max(errors_a), np.max(errors_b))
    scale = float(largest) if 0 < largest < math.inf else 1.0  # squares and fourth powers overflow
    a, b, errors_a, errors_b = a / scale, b / scale, errors_a / scale, errors_b / scale
    samples = ((a, errors_a), (b, errors_b))
    variances = [(sample.var(ddof=1) + np.mean(np.square(errors))) / len(sample) for sample, errors in samples]
    error = math.sqrt(sum(variances))
    shares = [v**2 / (len(s) - 1) for v, (s, _) in zip(variances, samples, strict=True)]
    freedom = sum(variances) ** 2 / sum(shares) if error else 1
    estimate = float(a.mean() - b.mean()) * scale

    def at(alpha: float) -> tuple[float, float]:
        half = float(student.ppf(1 - alpha / 2, freedom) * error) * scale
        return estimate - half, estimate + half

    return estimate, at


def welch_of_ends(a: np.ndarray, b: np.ndarray) -> tuple[float, Callable[[float], tuple[float, float]]]:
    """As `welch`, of samples (n, 2) of numbers that lie between two ends: an interval holds wherever, the difference is NaN where ends differ.

    Numbers that are the same in each sample, as levels of a grid are, show no spread: their difference may be anything.
    """
    found = [*itertools.starmap(welch, itertools.product(*map(_extremes, (a, b))))]
    estimates = [estimate for estimate, _ in found]
    alike = max(map(np.ptp, (a, b))) < SAME

    def at(alpha: float) -> tuple[float, float]:
        if alike:
            return -math.inf, math.inf
        half = max(own(alpha)[1] - estimate for estimate, own in found)
        return min(estimates) - half, max(estimates) + half

    return estimates[0] if all((ends[:, 0] == ends[:, 1]).all() for ends in (a, b)) else math.nan, at


def _extremes(ends: np.ndarray) -> Iterator[np.ndarray]:
    """Of the samples (n) of numbers that lie between two ends (n, 2) those of the least and largest mean, and variance.

    Welch's interval is widest at a variance that is one of these: a small one leaves it fewer degrees of freedom.
    """
    ends = ends[np.argsort(ends.sum(axis=1))]
    for at in (*np.flatnonzero(ends[:, 0] < ends[:, 1]), len(ends)):
        yield np.concatenate([ends[:at, 0], ends[at:, 1]])
    middle = ends.mean()
    for _ in range(100):
        middle = np.clip(middle, *ends.T).mean()
    yield np.clip(middle, *ends.T)
