"""A piece of evidence for a claim: a number with its interval, or a word."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from essential_sparsity.curves.intervals import ALPHA

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
    which is then no evidence; `at`: alpha -> its interval, from resamples; `unsigned`: a difference of which the size counts alone.
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

    def widened(self, pieces: int) -> tuple[float, float]:
        """The interval that holds for so many pieces at once: by its resamples, else as if its ends were normal.

        What lies between two levels is not noise: ends that are levels move by levels, where the resamples do. Without them nothing
        is known around an unknown estimate.
        """
        if pieces == 1 or self.counted:
            return self.low, self.high
        if self.at is not None:
            return self.at(ALPHA / pieces)
        if math.isnan(self.estimate):
            return -math.inf, math.inf
        factor = norm.ppf(1 - ALPHA / 2 / pieces) / norm.ppf(1 - ALPHA / 2)
        return self.estimate - factor * (self.estimate - self.low), self.estimate + factor * (self.high - self.estimate)


def number(value: Any, otherwise: float) -> float:
    return otherwise if pd.isna(value) else float(value)


def welch(
    a: np.ndarray, b: np.ndarray, errors_a: np.ndarray | float = 0.0, errors_b: np.ndarray | float = 0.0
) -> tuple[float, Callable[[float], tuple[float, float]]]:
    """The difference of two samples' means, two values or more each, and its interval at each alpha (Welch's t).

    `errors`: the standard error of each value itself.
    """
    samples = ((a, errors_a), (b, errors_b))
    variances = [(sample.var(ddof=1) + np.mean(np.square(errors))) / len(sample) for sample, errors in samples]
    error = math.sqrt(sum(variances))
    shares = [v**2 / (len(s) - 1) for v, (s, _) in zip(variances, samples, strict=True)]
    freedom = sum(variances) ** 2 / sum(shares) if error else 1
    estimate = float(a.mean() - b.mean())

    def at(alpha: float) -> tuple[float, float]:
        half = float(student.ppf(1 - alpha / 2, freedom) * error)
        return estimate - half, estimate + half

    return estimate, at
