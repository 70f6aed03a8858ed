"""What replicates of curves say in intervals of 95 %.

What lies between two levels was not measured: the interval of the essential sparsity ends at levels of the grid (`gaps`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity import patterns

ALPHA = 0.05
COARSE = 0.1  # levels further apart than this say where the essential sparsity is, a number between them would not
BEYOND = "beyond the levels"  # the conclusion about a training of whose checkpoints some curves do not drop


def gaps(levels: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The levels, (2, B), between which the essential sparsity of each replicate lies; infinite above the last.

    `outside` (B): the first level beyond the tolerance, as `Curve` has it.
    """
    ends = np.append(levels, np.inf)
    return np.stack([ends[outside - 1], ends[outside]])


def coarse(knee: Mapping[str, Any]) -> bool:
    """Whether the levels that hold an essential sparsity, in a row of table `knees`, stand too far apart for a number."""
    return bool(knee["bracket_high"] - knee["bracket_low"] > COARSE + 1e-9)


def drawn(knee: Mapping[str, Any]) -> bool:
    """Whether the curve in a row of table `knees` is drawn: by training, by a random mask, by the texts that it is calibrated on, or by
    a score that is not known here.

    Of others, without training and by magnitude, another seed differs in ties alone.
    """
    try:
        score = patterns.find(knee["pattern"]).score
    except ValueError:  # of a pattern that is known no longer
        score = None
    return knee["protocol"] != "zero-shot" or score != "magnitude"


def of_one_seed(knee: Mapping[str, Any]) -> bool:
    """Whether the interval in a row of table `knees` is one seed's where others may differ: these are at levels that decide nothing, or
    there is none.
    """
    return bool(knee["seed_freedom"] == 0 and pd.notna(knee["essential_sparsity_low"]) and drawn(knee))


def seeds(knee: Mapping[str, Any], to: str) -> str:
    """The seeds of a row of table `knees`, fewest `to` most: `1–3`; with a word where the interval is one's, the others being elsewhere."""
    least, most = knee["n_seeds_min"], knee["n_seeds_max"]
    told = f"{least}" if least == most else f"{least}{to}{most}"
    return f"{told} (interval: of one)" if most > 1 and of_one_seed(knee) else told


def percentiles(
    own: tuple[float, float], lows: np.ndarray, highs: np.ndarray, alpha: float = ALPHA
) -> tuple[float, float]:
    """What all but `alpha` / 2 of the replicates (B) lie above, and below, widened to hold what was found itself (`own`).

    Order statistics, of which infinite ones are the largest: the interval's ends are values that replicates have.
    """
    size = len(lows)
    low = np.sort(lows)[int(np.ceil(alpha / 2 * size)) - 1]
    high = np.sort(highs)[int(np.ceil((1 - alpha / 2) * size)) - 1]
    return min(float(low), own[0]), max(float(high), own[1])


def ranged(trajectory: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table `trajectory` of which something is known, with what the value is at `least` and at `most`.

    An essential sparsity that was not reached lies anywhere from the last level (`beyond`) to 1. Suspect checkpoints are left out.
    """
    known = trajectory[trajectory["suspect"].isna() & (trajectory["value"].notna() | trajectory["beyond"].notna())]
    value = known["value"].astype(float)
    return known.assign(least=value.fillna(known["beyond"].astype(float)), most=value.fillna(1.0))


def in_common(ranged_: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`least` and `most`, positions by (group, training), at the positions that all of these trainings have."""
    columns = ["group", "training"]
    least, most = (
        ranged_.pivot_table(index="position", columns=columns, values=end).dropna() for end in ("least", "most")
    )
    return least, most


def interval(estimate: float, resampled: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval of a reading from its replicates (B), infinities included; an end is None when it is infinite."""
    low, high = percentiles((estimate, estimate), resampled, resampled)
    return or_none(low), or_none(high)


def or_none(value: float) -> float | None:
    """The value, None where it is infinite or not a number."""
    return float(value) if np.isfinite(value) else None
