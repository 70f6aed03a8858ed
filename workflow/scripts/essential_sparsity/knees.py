"""Essential sparsity: where the quality of a pruned model falls off, read from its curve in four ways.

Curves are averaged and fitted on the metric's own scale with higher meaning better (`metrics.Metric.quality`). In the
four readings `levels` are the sparsities of one curve, ascending, the first of them 0 (dense); `means` the mean quality
over the seeds at each level; `weights` the number of seeds behind each mean. All are 1-D arrays of the same length.
"""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from kneed import KneeLocator
from scipy.optimize import minimize_scalar
from sklearn.isotonic import isotonic_regression

from essential_sparsity.metrics import METRICS, Metric

MIN_LEVELS = 3  # dense and two pruned ones: below that no shape can be told
HINGE_LEVELS = 4  # a hinge has four parameters
SLACK = 1e-9  # 301/600 - 0.01 is above 295/600 in floating point, though six items of 600 are one point
WORST = math.log(1e300)  # stands for the logarithm of an infinite perplexity: a fit needs a number


def tolerance(
    levels: Sequence[float], means: Sequence[float], weights: Sequence[float], dense: float, epsilon: float
) -> float | None:
    """The headline: where the isotonic mean curve crosses `dense` - `epsilon`; None when it never does.

    The definition of Jaiswal et al. 2023 (arXiv 2306.03805, section 3: the metric is within epsilon of dense, and a
    further small portion takes it out) on the least-squares decreasing curve (pool adjacent violators), which noise and
    gains from mild pruning do not make cross more than once. Linear between the levels.
    """
    fitted = isotonic_regression(np.asarray(means, float), sample_weight=np.asarray(weights, float), increasing=False)
    target = dense - epsilon
    outside = np.flatnonzero(fitted < target - SLACK)
    if not len(outside):
        return None
    after = int(outside[0])
    if after == 0:  # only when `dense` is not the first of the means
        return float(levels[0])
    part = max(fitted[after - 1] - target, 0.0) / (fitted[after - 1] - fitted[after])
    return float(levels[after - 1] + part * (levels[after] - levels[after - 1]))


def last_compliant(levels: Sequence[float], means: Sequence[float], dense: float, epsilon: float) -> float:
    """The largest level whose mean is at least `dense` - `epsilon`; no interpolation, no smoothing.

    On a curve that leaves the band and comes back, this is the last of its exits (the definition asks that past the
    essential sparsity the metric is out). It is the last level of the grid, a lower bound, when that is still inside.
    """
    return float(max(level for level, mean in zip(levels, means, strict=True) if mean >= dense - epsilon - SLACK))


def exits(means: Sequence[float], dense: float, epsilon: float) -> int:
    """How often the mean curve leaves the tolerance band: more than 1 says that it came back in between."""
    inside = [mean >= dense - epsilon - SLACK for mean in means]
    return sum(now and not then for now, then in itertools.pairwise(inside))


def kneedle(levels: Sequence[float], means: Sequence[float]) -> float | None:
    """The level of largest bend below the chord of the curve; None when the curve is flat or has no such level.

    Satopää et al. 2011, "Finding a 'Kneedle' in a Haystack" (the `kneed` package, sensitivity 1). Knows no tolerance.
    """
    if len(levels) < MIN_LEVELS or np.ptp(means) < SLACK:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kneed warns where it finds nothing; that is an answer here
        knee = KneeLocator(np.asarray(levels), np.asarray(means), curve="concave", direction="decreasing").knee
    return None if knee is None else float(knee)


def hinge(levels: Sequence[float], means: Sequence[float], weights: Sequence[float]) -> float | None:
    """The join of two connected straight lines fitted by weighted least squares; None when the second is not steeper.

    Hudson 1966, "Fitting segmented curves whose join points have to be estimated": for each join on a fine grid the
    lines are a linear fit, and the best join is then refined between its neighbours. At least two levels lie on each
    line; fewer than four levels give None.
    """
    x, y, root = np.asarray(levels, float), np.asarray(means, float), np.sqrt(np.asarray(weights, float))
    if len(x) < HINGE_LEVELS or np.ptp(y) < SLACK:
        return None

    def fit(join: float) -> tuple[float, np.ndarray]:
        design = np.column_stack([np.ones_like(x), x, np.maximum(x - join, 0.0)])
        line = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        return float((((design @ line - y) * root) ** 2).sum()), line

    joins = np.union1d(np.linspace(x[1], x[-2], 201), x[1:-1])
    best = int(np.argmin([fit(join)[0] for join in joins]))
    bounds = joins[max(best - 1, 0)], joins[min(best + 1, len(joins) - 1)]
    refined = float(minimize_scalar(lambda join: fit(join)[0], bounds=bounds, method="bounded").x)
    join = min((float(joins[best]), refined), key=lambda candidate: fit(candidate)[0])
    _, slope, bend = fit(join)[1]
    steeper = -bend * np.ptp(x) > 1e-6 * np.ptp(y) and slope + bend < 0
    return join if steeper else None


def level_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean quality over seeds: one row per (model, task, metric, pattern, sparsity) with a defined metric.

    `runs`: the table of that name. Columns: the five keys, `quality` (mean on the fitted scale, higher is better),
    `low` and `high` (of the seeds), `n_seeds`. Seeds whose metric is undefined are left out. Raises ValueError for an
    unknown metric, and for a value that the metric's logarithmic scale does not have.
    """
    keys = ["model", "task", "metric", "pattern", "sparsity"]
    defined = runs[runs["value"].notna()]
    quality = [_quality(row) for row in defined[[*keys, "value"]].itertuples(index=False)]
    grouped = defined.assign(quality=np.asarray(quality, float)).groupby(keys, sort=True)["quality"]
    return grouped.agg(quality="mean", low="min", high="max", n_seeds="size").reset_index()


def table(runs: pd.DataFrame, epsilon: Mapping[str, float] | None = None) -> pd.DataFrame:
    """The table `knees`: one row per (model, task, metric, pattern) from the table `runs`.

    Runs with pattern `dense` are the sparsity 0 of every pattern. `epsilon`: tolerances of single tasks, on the fitted
    scale of the metric, in place of the metric's own. Raises ValueError for a curve with two protocols and a tolerance
    that is not positive, and what `level_means` raises.
    """
    epsilon = dict(epsilon or {})
    for task, value in epsilon.items():
        if not value > 0:
            raise ValueError(f"The tolerance of the task {task!r} is {value}: it is a loss of quality, above 0.")
    means = level_means(runs)
    keys = ["model", "task", "metric"]
    rows = []
    for (model, task, name), group in runs.groupby(keys, sort=True):
        protocols = " and ".join(sorted(group["protocol"].unique()))
        if " and " in protocols:
            raise ValueError(f"The runs of {model} on {task} mix the protocols {protocols}: one is expected.")
        metric = METRICS[name]
        loss = epsilon.get(task, metric.epsilon)
        of_group = means[(means[keys] == [model, task, name]).all(axis=1)]
        for pattern in sorted(set(group["pattern"]) - {"dense"}):
            row = {"model": model, "task": task, "pattern": pattern, "metric": name, "protocol": protocols}
            row |= _readings(of_group[of_group["pattern"].isin(["dense", pattern])], metric, loss)
            rows.append(row | _counts(group[group["pattern"].isin(["dense", pattern])]))
    return pd.DataFrame(rows)


def _readings(curve: pd.DataFrame, metric: Metric, epsilon: float) -> dict:
    """The readings of one curve, from its rows of `level_means`."""
    curve = curve.sort_values("sparsity")
    levels, means, weights = (curve[column].to_numpy() for column in ("sparsity", "quality", "n_seeds"))
    row = {"epsilon": epsilon, "scale": metric.scale, "n_levels": len(levels)}
    row |= dict.fromkeys(("dense", "tolerance", "last_compliant", "kneedle", "hinge", "metric_at_knee", "reason"))
    if not len(levels) or levels[0] != 0:
        return row | {"n_exits": 0, "reason": "no dense value: no dense run has a defined metric to compare with"}
    dense = means[0]
    row |= {"dense": metric.value(dense), "n_exits": exits(means, dense, epsilon)}
    if len(levels) < MIN_LEVELS:
        counted = f"{len(levels)} level{'s' if len(levels) > 1 else ''} with a defined metric, dense included"
        return row | {"reason": f"too few levels: {counted}; at least {MIN_LEVELS} are needed"}
    row |= {
        "tolerance": tolerance(levels, means, weights, dense, epsilon),
        "last_compliant": last_compliant(levels, means, dense, epsilon),
        "kneedle": kneedle(levels, means),
        "hinge": hinge(levels, means, weights),
    }
    if row["tolerance"] is None:
        return row | {"reason": f"no drop: the metric stays within the tolerance up to s={levels[-1]:.3f}"}
    return row | {"metric_at_knee": metric.value(float(np.interp(row["tolerance"], levels, means)))}


def _counts(runs: pd.DataFrame) -> dict:
    defined = runs[runs["value"].notna()]
    return {
        "n_seeds": int(defined.loc[defined["pattern"] != "dense", "seed"].nunique()),
        "n_items": int(runs["n_items"].min()),
        "n_undefined": len(runs) - len(defined),
    }


def _quality(row: tuple) -> float:
    if row.metric not in METRICS:
        raise ValueError(f"{row.model} on {row.task}: unknown metric {row.metric!r}; known are {', '.join(METRICS)}.")
    metric = METRICS[row.metric]
    if metric.scale == "log" and not row.value > 0:
        raise ValueError(
            f"{row.model} on {row.task}, {row.pattern} at s={row.sparsity}: {row.metric} is {row.value}; it is above 0."
        )
    return float(np.clip(metric.quality(row.value), -WORST, WORST))
