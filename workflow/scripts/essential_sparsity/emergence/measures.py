"""How sparse a checkpoint has become, from its spectrum alone; and whether that came abruptly along a series.

A fixed threshold confounds sparsity with scale: at an initial standard deviation of 0.02, 38 % of the weights already
lie below 0.01. So measures that do not depend on scale stand beside the counts below thresholds.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import ruptures
from scipy.stats import t as student

from essential_sparsity import files
from essential_sparsity.curves import shapes
from essential_sparsity.curves.intervals import in_common, ranged
from essential_sparsity.pruning.bins import INFINITY_BIN, counts_of, describe_bins

THRESHOLDS = (1e-2, 1e-3, 1e-4, 1e-5)
SHARES = (0.5, 0.1, 0.01)  # of the standard deviation
MEASURES = (
    *(f"below {threshold:g}" for threshold in THRESHOLDS),
    *(f"below {share:g} std" for share in SHARES),
    "zeros",
    "hoyer",
    "gini",
    "kurtosis",
    "std",
)
WHOLE = "all"  # the name of all prunable tensors together
SMOOTH = {"constant": 1, "line": 2, "hinge": 4, "logistic": 4, "cubic": 4}  # parameters of each
ABRUPT = {"step": 3, "shift": 4, "jump": 5}  # two constants, two lines of one slope, any two lines
SHAPES = SMOOTH | ABRUPT
CONVINCING = 0.9  # evidence from which a series is called abrupt
OUTLIER = 5  # robust standard deviations of the usual change: what a random walk hardly does in a hundred checkpoints
OTHERS = 6  # changes elsewhere that tell the usual one, at least; fewer take a narrower window
AGAINST_NOTHING = 6  # units of Akaike's criterion: seven shapes are tried, some with a free place
FEWEST = 8  # checkpoints for which shapes are compared
EDGE = 3  # checkpoints on either side of a jump, at least
WINDOW = EDGE  # of these, whose means a change is taken from: noise averages out, what a random walk did does not
REPLICATES = 1000
FEWEST_EFFECTIVE = 5  # independent points that a series must be worth for an interval of its mean
ONE_EACH = "these trainings alone: with one training a group, nothing is known about the recipes"
SEVERAL = "the mean of these trainings along the series: how trainings of one recipe differ is not in the interval"


def measures(spectrum: pd.DataFrame) -> pd.DataFrame:
    """Columns tensor, measure, value: of each prunable tensor and of all together (`all`), from the table `spectrum`.

    Fractions for `below …` (|w| < threshold, or < share · std) and `zeros`; Hoyer's and Gini's sparsity in 0…1 (Hurley and
    Rickard 2009); kurtosis and std about zero (the spectrum has no signs). A float32 bin is 1/128 of its magnitude wide:
    within a bin weights count as spread evenly, which leaves relative errors of 1 % over the square root of the number of
    weights that matter: 1e-5 in a million. 16-bit bins are exact.
    """
    dtype = spectrum["dtype"].iloc[0]
    low = describe_bins(dtype)[: INFINITY_BIN[dtype]]
    width = np.append(np.diff(low), 0.0) if dtype == "float32" else np.zeros(len(low))
    width[0] = 0.0  # zeros: a matrix of nothing else has no measure of how its weights are spread
    parts = {tensor: counts_of(rows)[: len(low)] for tensor, rows in spectrum.groupby("tensor", sort=True)}
    parts[WHOLE] = sum(parts.values(), np.zeros(len(low), dtype=np.int64))
    rows = [
        (tensor, name, value)
        for tensor, counts in parts.items()
        for name, value in _measured(counts, low, width).items()
    ]
    return pd.DataFrame(rows, columns=["tensor", "measure", "value"])


def _measured(counts: np.ndarray, low: np.ndarray, width: np.ndarray) -> dict[str, float]:
    n = counts.sum()
    middle = low + width / 2
    first = (counts * middle).sum()
    second = (counts * (middle**2 + width**2 / 12)).sum()  # of weights spread evenly over their bin
    fourth = (counts * (middle**4 + middle**2 * width**2 / 2 + width**4 / 80)).sum()
    std = np.sqrt(second / n)
    found = {f"below {t:g}": _below(counts, low, width, t) / n for t in THRESHOLDS}
    found |= {f"below {share:g} std": _below(counts, low, width, share * std) / n for share in SHARES}
    if second == 0:
        return found | {"zeros": 1.0, "hoyer": np.nan, "gini": np.nan, "kurtosis": np.nan, "std": 0.0}
    rank = np.cumsum(counts) - (counts - 1) / 2  # mean rank of a bin's weights, from 1
    return found | {
        "zeros": counts[0] / n,
        "hoyer": (np.sqrt(n) - first / np.sqrt(second)) / (np.sqrt(n) - 1),
        "gini": float((counts * middle * (2 * rank - n - 1)).sum() / (n * first)),
        "kurtosis": float(fourth * n / second**2),
        "std": float(std),
    }


def _below(counts: np.ndarray, low: np.ndarray, width: np.ndarray, threshold: float) -> float:
    """Weights with |w| < threshold."""
    whole = np.where(width > 0, low + width <= threshold, low < threshold)
    inside = (low < threshold) & ~whole
    share = (threshold - low[inside]) / np.where(width[inside] > 0, width[inside], 1)
    return float(counts[whole].sum() + (counts[inside] * share).sum())


def conclude(x: Sequence[float], y: Sequence[float]) -> dict:
    """Is there a jump in y(x)? Columns of table `abruptness` for one measure along one series.

    Least-squares fits of the shapes (constant, line, hinge, logistic, cubic; and with a jump: a step, a line that shifts,
    two lines) are weighed by Akaike's criterion with the small-sample correction. `abrupt`: those with a jump have
    CONVINCING evidence together against all smooth shapes, its size is not 0 within the interval, and the change across
    it stands out from that elsewhere (`jump_outlier`, in robust standard deviations), which a random walk's does not;
    `nothing`: a constant is not worse than the best shape by more than AGAINST_NOTHING; else `gradual`. Place and size of
    the jump are those of the best of the three; their intervals (95 %) resample blocks of its residuals. `change_point`: the best single break into two lines by `ruptures`
    (dynamic programming). Steps of one training are not independent: the evidence is a description, not a test over
    trainings.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < FEWEST:
        return without_fit(len(x), "too few checkpoints")
    empty = without_fit(len(x), "nothing")
    if np.ptp(y) <= 1e-12 * max(np.abs(y).max(), 1e-30):
        return empty
    t, scaled = (x - x[0]) / (x[-1] - x[0]), (y - y.mean()) / np.ptp(y)
    fits = {shape: _broken_fits(t, shape) for shape in ABRUPT}
    errors = {shape: ((scaled - projections @ scaled) ** 2).sum(axis=1) for shape, (projections, _) in fits.items()}
    width, logistic = shapes.logistic(t, scaled)
    squares = {
        "constant": shapes.polynomial(t, scaled, 0),
        "line": shapes.polynomial(t, scaled, 1),
        "cubic": shapes.polynomial(t, scaled, 3),
        "hinge": shapes.hinge(t, scaled)[-1],
        "logistic": logistic,
        **{shape: found.min() for shape, found in errors.items()},
    }
    scores = {shape: shapes.criterion(value, len(t), SHAPES[shape], np.ptp(scaled)) for shape, value in squares.items()}
    least = min(scores.values())
    evidence = shapes.akaike_weights(scores)
    result = empty | {f"evidence_{shape}": weight for shape, weight in evidence.items()}
    shape = min(ABRUPT, key=scores.get)
    (projections, sizes), best = fits[shape], int(errors[shape].argmin())
    chosen, jumps = _resampled(scaled, projections, sizes, best)
    scale, middles = np.ptp(y), ((x[:-1] + x[1:]) / 2)[EDGE - 1 : EDGE - 1 + len(sizes)]
    places = np.quantile(middles[chosen], [0.025, 0.975], method="nearest")
    low, high = scale * np.quantile(jumps, [0.025, 0.975])
    result |= {"jump_at": float(middles[best]), "jump": float(scale * sizes[best] @ scaled)}
    result |= {"jump_at_low": float(places[0]), "jump_at_high": float(places[1])}
    result |= {"jump_low": float(low), "jump_high": float(high)}
    signal = np.column_stack([scaled, t, np.ones(len(t))])
    found = ruptures.Dynp(model="linear", min_size=EDGE, jump=1).fit(signal).predict(n_bkps=1)[0]
    result |= {"change_point": float((x[found - 1] + x[found]) / 2)}
    result |= {"rise_10_90": None if width is None else float(width * (x[-1] - x[0]))}
    outlier = _outlier(x, y, best + EDGE)
    result |= {"jump_outlier": outlier}
    real = (low > 0 or high < 0) and (outlier is None or outlier > OUTLIER)
    if scores["constant"] <= least + AGAINST_NOTHING:
        conclusion = "nothing"
    elif sum(evidence[name] for name in ABRUPT) >= CONVINCING and real:
        conclusion = "abrupt"
    else:
        conclusion = "gradual"
    return result | {"conclusion": conclusion}


def without_fit(n_checkpoints: int, conclusion: str) -> dict:
    """Columns of table `abruptness` where no shape is fitted."""
    names = (
        "change_point",
        "jump_at",
        "jump_at_low",
        "jump_at_high",
        "jump",
        "jump_low",
        "jump_high",
        "jump_outlier",
        "rise_10_90",
    )
    empty = dict.fromkeys([*names, *(f"evidence_{shape}" for shape in SHAPES)])
    return empty | {"n_checkpoints": n_checkpoints, "conclusion": conclusion}


def _outlier(x: np.ndarray, y: np.ndarray, b: int) -> float | None:
    """How far the change before checkpoint b stands out from those elsewhere, in robust standard deviations.

    A change is the mean over up to WINDOW checkpoints less that over as many before. The smaller of two: of the changes
    themselves, and of the changes over their standard deviations were y a random walk, whose changes grow with the gaps.
    None where the rest is flat but for rounding.
    """
    n, width = len(y), WINDOW  # a jump is EDGE checkpoints from the ends
    while width > 1 and _places(n, width, b)[1].sum() < OTHERS:
        width -= 1
    places, elsewhere = _places(n, width, b)
    weights = np.zeros((len(places), n))
    for row, place in zip(weights, places, strict=True):
        row[place : place + width], row[place - width : place] = 1 / width, -1 / width
    changes = weights @ y
    of_gaps = np.cumsum(weights[:, ::-1], axis=1)[:, -2::-1]  # weight of the change over each gap
    found = []
    for size in (np.ones(len(places)), np.sqrt(of_gaps**2 @ np.diff(x))):
        scaled = changes / size
        scaled = scaled - np.median(scaled[elsewhere])
        usual = 1.4826 * np.median(np.abs(scaled[elsewhere]))
        if usual > 1e-12 * np.abs(scaled).max():
            found.append(float(abs(scaled[places == b][0]) / usual))
    return min(found, default=None)


def _places(n: int, width: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """The checkpoints before which a change of this width can be taken, and which of these have no part in that before b."""
    places = np.arange(width, n - width + 1)
    return places, np.abs(places - b) >= width


def _broken_fits(t: np.ndarray, shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Fits of a shape with a jump, for the gap before each checkpoint EDGE from the ends.

    Projections (breaks, n, n) onto the shape; rows (breaks, n) whose product with y is the size of the jump, at the
    middle of the gap.
    """
    projections, sizes = [], []
    for b in range(EDGE, len(t) - EDGE + 1):
        after, at = np.arange(len(t)) >= b, (t[b - 1] + t[b]) / 2
        columns, size = {
            "step": ([np.ones_like(t), after], [0, 1]),
            "shift": ([np.ones_like(t), t, after], [0, 0, 1]),
            "jump": ([~after, ~after * t, after, after * t], [-1, -at, 1, at]),
        }[shape]
        design = np.column_stack(columns).astype(float)
        solved = np.linalg.pinv(design)
        projections.append(design @ solved)
        sizes.append(np.array(size) @ solved)
    return np.array(projections), np.array(sizes)


def _resampled(y: np.ndarray, projections: np.ndarray, sizes: np.ndarray, best: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the gap of the jump, and the jump's size, under resampled blocks of residuals, each (REPLICATES)."""
    fitted = projections[best] @ y
    left, n = y - fitted, len(y)
    block = max(2, round(n ** (1 / 3)))
    generator = files.rng(0, "abruptness")
    starts = generator.integers(0, n - block + 1, (REPLICATES, -(-n // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(REPLICATES, -1)[:, :n]
    made = fitted + left[index]
    errors = np.stack([((made - made @ p) ** 2).sum(axis=1) for p in projections])
    chosen = errors.argmin(axis=0)
    return chosen, (made * sizes[chosen]).sum(axis=1)


def contrasts(trajectory: pd.DataFrame) -> pd.DataFrame:
    """How the groups of a series differ, per measure and tensor: mean difference over the steps that all their trainings have.

    `trajectory`: the table. Trainings of a group are averaged at each position; suspect checkpoints are left out. A position
    that one of the trainings lacks is left out: the others' mean would differ from theirs by which trainings it is of.
    Where an essential sparsity lies beyond the last level there is no difference: its interval goes from the lower end with all of these
    where they make it least, from that level to 1, to the upper end with all where they make it most.
    The interval (`steady_interval`) says how steady a difference is along these trainings; what another training of the
    same recipe would show is not in it, and with one training a group `scope` says so.
    """
    kept = ranged(trajectory)
    keys = ["series", "measure", "tensor"]
    rows = []
    for key, part in kept.groupby(keys, sort=True):
        for a, b in combinations(sorted(part["group"].unique()), 2):
            pair = in_common(part[part["group"].isin([a, b])])
            if not pair[0].empty:
                rows.append(dict(zip(keys, key, strict=True)) | {"group_a": a, "group_b": b} | _contrast(pair, a, b))
    return pd.DataFrame(rows)


def _contrast(pair: tuple[pd.DataFrame, pd.DataFrame], a: str, b: str) -> dict:
    """The other columns of table `contrasts` of two groups, from what their values are at least and at most (`in_common`)."""
    least, most = pair
    lines = least.columns.get_level_values("group").value_counts()
    (least_a, most_a), (least_b, most_b) = ([end[group].mean(axis=1).to_numpy() for end in pair] for group in (a, b))
    ends = least_a - most_b, most_a - least_b
    (effective, low, _), (other, _, high) = map(steady_interval, ends)
    return (
        {"n_positions": len(least), "n_beyond": int((least != most).any(axis=1).sum())}
        | {"n_effective": min(effective, other)}
        | {"difference": _if_known(*(end.mean() for end in ends)), "low": low, "high": high}
        | {"n_trainings_a": int(lines[a]), "n_trainings_b": int(lines[b])}
        | {"scope": ONE_EACH if lines.min() < 2 else SEVERAL, "last_position": least.index[-1]}
        | {"last_a": _if_known(least_a[-1], most_a[-1]), "last_b": _if_known(least_b[-1], most_b[-1])}
    )


def _if_known(least: float, most: float) -> float | None:
    return float(least) if least == most else None


def steady_interval(values: np.ndarray) -> tuple[float, float | None, float | None]:
    """(effective points, low, high): 95 % interval of the mean of a series that is an AR(1) process.

    A t interval with as many points as independent ones would say as much. The autocorrelation of neighbours is that of
    the series, corrected for its bias (Marriott and Pope 1954), plus one standard error: taken for too small it makes the
    interval far too narrow, taken for too large a little too wide. None below FEWEST_EFFECTIVE points.
    """
    n, size = len(values), np.abs(values).max() or 1.0
    left = (values - values.mean()) / size  # the squares of a perplexity that overflowed are no numbers
    squares = (left**2).sum()
    if n < FEWEST_EFFECTIVE:
        return float(n), None, None
    if squares <= 1e-24 * n:
        return float(n), float(values.mean()), float(values.mean())
    found = (left[1:] * left[:-1]).sum() / squares
    found += (1 + 4 * found) / n
    found = float(np.clip(found + np.sqrt(max(1 - found**2, 0) / n), 0, 0.99))
    lags = np.arange(1, n)
    inflation = 1 + 2 * ((1 - lags / n) * found**lags).sum()
    effective = float(n / inflation)
    if effective < FEWEST_EFFECTIVE:
        return effective, None, None
    variance = squares / n / (1 - inflation / n)
    half = size * student.ppf(0.975, effective - 1) * np.sqrt(variance / effective)
    return effective, float(values.mean() - half), float(values.mean() + half)
