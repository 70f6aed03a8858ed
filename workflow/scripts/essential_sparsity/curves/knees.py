"""The table `knees`: essential sparsity of every curve, in four readings, with intervals and flags.

Curves are averaged and fitted on the metric's own scale with higher meaning better (`metrics.Metric.quality`). Intervals
hold 95 % and come from resampled items and seeds (`bootstrap`), the same for every curve of a task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import norm

from essential_sparsity.curves import bootstrap, readings, shapes
from essential_sparsity.curves.metrics import METRICS, Metric
from essential_sparsity.curves.readings import MIN_LEVELS

ALPHA = 0.05
READ: dict[
    str, Callable[["Curve", np.ndarray], np.ndarray]
] = {  # reading -> of a curve with means (…, L) in their place
    "tolerance": lambda curve, means: readings.tolerance(curve.levels, means, curve.weights, curve.epsilon),
    "last_compliant": lambda curve, means: readings.last_compliant(curve.levels, means, curve.epsilon),
    "kneedle": lambda curve, means: readings.kneedle(curve.levels, means),
    "hinge": lambda curve, means: readings.hinge(curve.levels, means, curve.weights),
}
KNEEDLE_REPLICATES = 2000  # it reads one curve at a time, and a level of the grid each time
SHAPES = {"linear": 2, "power": 3, "hinge": 4}  # parameters of each
CONVINCING = 0.9  # evidence from which a shape is named


@dataclass
class Curve:
    """One curve: its levels (L), mean quality (L), seeds behind each mean (L), and its replicates (B, L) or None."""

    key: dict
    metric: Metric
    epsilon: float
    levels: np.ndarray
    means: np.ndarray
    weights: np.ndarray
    replicates: np.ndarray | None = None
    found: dict = field(default_factory=dict)  # reading -> value
    resampled: dict = field(default_factory=dict)  # reading -> (B)


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


def table(
    runs: pd.DataFrame,
    items: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    epsilon: Mapping[str, float] | None = None,
    replicates: int = bootstrap.REPLICATES,
) -> tuple[pd.DataFrame, list[Curve]]:
    """The table `knees`, one row per model, task, metric and pattern, from the table `runs`; and its curves, read.

    Runs with pattern `dense` are the sparsity 0 of every pattern. `items(runs of one curve)` gives their rows of the
    table `items`; without it there are no intervals. `epsilon`: tolerances of single tasks, on the fitted scale of the
    metric, in place of the metric's own. Raises ValueError for a curve with two protocols, a tolerance that is not positive, items that are not
    the same in all runs of a curve, and what `level_means` raises.
    """
    epsilon = dict(epsilon or {})
    for task, value in epsilon.items():
        if not value > 0:
            raise ValueError(f"The tolerance of the task {task!r} is {value}: it is a loss of quality, above 0.")
    means = level_means(runs)
    rows, curves = [], []
    for (model, task), group in runs.groupby(["model", "task"], sort=True):
        protocols = " and ".join(sorted(group["protocol"].unique()))
        if " and " in protocols:
            raise ValueError(f"The runs of {model} on {task} mix the protocols {protocols}: one is expected.")
        for pattern in sorted(set(group["pattern"]) - {"dense"}):
            both = group[group["pattern"].isin(["dense", pattern])]
            evaluated = None  # read once for all metrics of a task
            for name, chosen in both.groupby("metric", sort=True):
                if (chosen["pattern"] == "dense").all():
                    continue  # dense has a metric that no run of the pattern has
                key = {"model": model, "task": task, "pattern": pattern, "metric": name, "protocol": protocols}
                curve = curve_of(key, means, ("dense", pattern), epsilon.get(task))
                if items is not None and _readable(curve) is None:
                    evaluated = items(both) if evaluated is None else evaluated
                    curve.replicates = resampled(curve, chosen, evaluated, replicates)
                rows.append(_row(curve) | _counts(chosen))
                curve.replicates = None
                curves.append(curve)
    return pd.DataFrame(rows), curves


def curve_of(key: dict, means: pd.DataFrame, patterns: Sequence[str], epsilon: float | None = None) -> Curve:
    """The curve of a key (model, task, metric) through the levels of these patterns in the frame of `level_means`."""
    metric = METRICS[key["metric"]]
    here = np.logical_and.reduce([means[name] == key[name] for name in ("model", "task", "metric")])
    levels = means[here & means["pattern"].isin(patterns)].sort_values("sparsity")
    arrays = (levels[column].to_numpy(float) for column in ("sparsity", "quality", "n_seeds"))
    return Curve(key, metric, metric.epsilon if epsilon is None else epsilon, *arrays)


def resampled(curve: Curve, runs: pd.DataFrame, items: pd.DataFrame, replicates: int) -> np.ndarray:
    """Replicates (B, L) of a curve's means from the items of its runs; ValueError when runs saw different items."""
    runs = runs[runs["value"].notna()]
    first = items.drop_duplicates("item").sort_values("item")
    names, seeds = first["item"].to_numpy(), sorted(runs["seed"].unique())
    scores = np.full((len(curve.levels), len(seeds), len(names)), np.nan)
    parts = dict(iter(items.sort_values("item").groupby(["pattern", "sparsity", "seed"])))
    for run in runs.itertuples():
        part = parts.get((run.pattern, run.sparsity, run.seed))
        if part is None or not np.array_equal(part["item"].to_numpy(), names):
            where = "/".join(
                str(value) for value in (*list(curve.key.values())[:2], run.pattern, run.sparsity, run.seed)
            )
            raise ValueError(
                f"The evaluated items of {where} (model/task/pattern/sparsity/seed) are not those of the other runs of "
                "its curve: they cannot be paired. Delete its files in results/store/runs and results/store/items and run again."
            )
        scores[np.searchsorted(curve.levels, run.sparsity), seeds.index(run.seed)] = part[curve.metric.item_column]
    targets, weights = first["target"].to_numpy(float), first["weight"].to_numpy(float)
    return bootstrap.curves(curve.metric, scores, targets, weights, curve.key["task"], seeds, replicates)


def _readable(curve: Curve) -> str | None:
    """Why a curve has no readings, or None."""
    if not len(curve.levels) or curve.levels[0] != 0:
        return "no dense value: no dense run has a defined metric to compare with"
    if len(curve.levels) < MIN_LEVELS:
        counted = (
            f"{len(curve.levels)} level{'s' if len(curve.levels) > 1 else ''} with a defined metric, dense included"
        )
        return f"too few levels: {counted}; at least {MIN_LEVELS} are needed"
    return None


def _row(curve: Curve) -> dict:
    """One row of the table `knees`; fills the curve's readings."""
    metric, levels, means = curve.metric, curve.levels, curve.means
    row = curve.key | {"epsilon": curve.epsilon, "scale": metric.scale, "n_levels": len(levels), "n_exits": 0}
    empty = [name + end for name in (*READ, "slope_ratio") for end in ("", "_low", "_high")]
    empty += ["dense", "metric_at_knee", "reason", "slope_before", "slope_after", "shape"]
    row |= dict.fromkeys([*empty, *(f"evidence_{shape}" for shape in SHAPES)])
    flags = ("non_monotone", "rises_first", "no_drop", "below_tolerance_at_first_level")
    row |= dict.fromkeys(flags, False) | {"too_few_levels": len(levels) < MIN_LEVELS}
    row |= {"n_replicates": 0 if curve.replicates is None else len(curve.replicates)}
    if len(levels) and levels[0] == 0:
        row |= {"dense": metric.value(means[0]), "n_exits": readings.exits(means, curve.epsilon)}
    if (reason := _readable(curve)) is not None:
        return row | {"reason": reason}
    for name in READ:
        curve.found[name] = float(READ[name](curve, means))
        row[name] = or_none(curve.found[name])
        if curve.replicates is not None:
            few = slice(KNEEDLE_REPLICATES if name == "kneedle" else None)
            curve.resampled[name] = READ[name](curve, curve.replicates[few])
            row[f"{name}_low"], row[f"{name}_high"] = reading_interval(name, curve)
    row |= _sharpness(curve) | _flags(curve)
    if row["tolerance"] is None:
        return row | {"reason": f"no drop: the metric stays within the tolerance up to s={levels[-1]:.3f}"}
    return row | {"metric_at_knee": metric.value(float(np.interp(row["tolerance"], levels, means)))}


def interval(estimate: float, resampled: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval of a reading from its replicates (B), infinities included; an end is None when it is infinite.

    Bias-corrected percentiles (Efron 1981, "Nonparametric standard errors and confidence intervals"): noise makes a
    curve's crossing early, and a resampled curve's earlier still, by as much; the share of replicates below the
    estimate says by how much. The estimate always lies inside.
    """
    below = ((resampled < estimate) + 0.5 * (resampled == estimate)).mean()
    limit = norm.ppf(1 - ALPHA / 2)
    shift = 2 * np.clip(norm.ppf(below), -limit, limit)
    low, high = np.quantile(resampled, norm.cdf([shift - limit, shift + limit]), method="nearest")
    return or_none(low), or_none(high)


def reading_interval(name: str, curve: Curve) -> tuple[float | None, float | None]:
    """The interval of one of the readings of a curve.

    A replicate that never leaves the tolerance has its crossing beyond the last level. The other readings have an
    interval only where the curve and nearly all replicates have the reading.
    """
    estimate, resampled = curve.found[name], curve.resampled[name]
    undefined = np.isnan(resampled)
    if name == "tolerance":
        return interval(np.inf if np.isnan(estimate) else estimate, np.where(undefined, np.inf, resampled))
    if np.isnan(estimate) or undefined.mean() > ALPHA:
        return None, None
    return interval(estimate, resampled[~undefined])


def _sharpness(curve: Curve) -> dict:
    """Slopes of the hinge, their ratio, and how much the data speak for a hinge against smoother shapes."""
    levels, means, weights = curve.levels, curve.means, curve.weights / curve.weights.mean()
    size = len(levels)
    if size < readings.HINGE_LEVELS or np.ptp(means) < readings.SLACK:
        return {}
    _, before, after, squares = (float(part) for part in shapes.hinge(levels, means, weights))
    result = {"slope_before": before, "slope_after": after, "slope_ratio": _ratio(before, after)}
    if curve.replicates is not None:
        _, before, after, _ = shapes.hinge(levels, curve.replicates, weights)
        falling = before < 0
        ratios = np.divide(after, before, out=np.full(before.shape, np.inf), where=falling)
        ratio = np.inf if result["slope_ratio"] is None else result["slope_ratio"]
        result["slope_ratio_low"], result["slope_ratio_high"] = interval(ratio, ratios)
    if size > max(SHAPES.values()) + 2:
        found = {"linear": shapes.polynomial(levels, means, 1, weights), "power": shapes.power(levels, means, weights)}
        spread = np.ptp(means)
        evidence = shapes.akaike_weights(
            {
                shape: shapes.criterion(value, size, SHAPES[shape], spread)
                for shape, value in (found | {"hinge": squares}).items()
            }
        )
        result |= {f"evidence_{shape}": value for shape, value in evidence.items()}
        if evidence["hinge"] >= CONVINCING:
            result["shape"] = None if np.isnan(curve.found["hinge"]) else "hinge"
        elif 1 - evidence["hinge"] >= CONVINCING:
            result["shape"] = "smooth"
    return result


def _ratio(before: float, after: float) -> float | None:
    return after / before if before < 0 else None


def _flags(curve: Curve) -> dict:
    """What a reader should know about a curve; rises count when they are beyond noise (or at all, without items)."""
    means = curve.means
    first = float(means[1]) < float(means[0]) - curve.epsilon - readings.SLACK
    later = [(i, j) for i in range(1, len(means)) for j in range(i + 1, len(means))]
    return {
        "no_drop": bool(np.isnan(curve.found["tolerance"])),
        "below_tolerance_at_first_level": first,
        "rises_first": not first and _rises(curve, [(0, j) for j in range(1, len(means))]),
        "non_monotone": _rises(curve, later),
    }


def _rises(curve: Curve, pairs: Sequence[tuple[int, int]]) -> bool:
    """Is the mean of any later level above that of the earlier one, at 2.5 % divided by the number of pairs?"""
    limit = norm.ppf(1 - ALPHA / 2 / len(pairs)) if pairs else 0.0
    for i, j in pairs:
        gain = curve.means[j] - curve.means[i]
        noise = 0.0 if curve.replicates is None else float(np.std(curve.replicates[:, j] - curve.replicates[:, i]))
        if gain > max(limit * noise, readings.SLACK):
            return True
    return False


def or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


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
    return float(np.clip(metric.quality(row.value), -bootstrap.WORST, bootstrap.WORST))
