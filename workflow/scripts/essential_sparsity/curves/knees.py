"""The tables `knees` and `resamples`: essential sparsity of every curve, in four readings, with intervals and flags.

What a curve is, and where its intervals come from, stands in `single`. Nothing is read off a curve that depends on others:
curves can be fitted one model and task at a time, in any process.
"""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from essential_sparsity import errors
from essential_sparsity.curves import bootstrap, readings, shapes
from essential_sparsity.curves.chance import chance_level
from essential_sparsity.curves.intervals import ALPHA, interval, or_none
from essential_sparsity.curves.means import with_dense
from essential_sparsity.curves.metrics import ABOVE_CHANCE, METRICS, Metric, headline
from essential_sparsity.curves.quality import with_quality
from essential_sparsity.curves.readings import MIN_LEVELS
from essential_sparsity.curves.single import Curve, curve_of, read_headline, resample

READ: dict[
    str, Callable[[Curve, np.ndarray], np.ndarray]
] = {  # reading -> of a curve with means (…, L) in their place; the headline's interval is that of its gaps
    "last_compliant": lambda curve, means: readings.last_compliant(curve.levels, means, curve.epsilon),
    "kneedle": lambda curve, means: readings.kneedle(curve.levels, means),
    "hinge": lambda curve, means: readings.hinge(curve.levels, means, curve.weights),
}
KNEEDLE_REPLICATES = 2000  # it reads one curve at a time, and a level of the grid each time
SHAPES = {"linear": 2, "power": 3, "logistic": 4, "hinge": 4}  # parameters of each
NOTHING_TO_LOSE = "it has nothing to lose"  # why nothing is read: the dense model collapsed, guesses, or fails
CONVINCING = 0.9  # evidence from which a shape is named
RUN = ["model", "task", "pattern", "sparsity", "seed"]


def table(
    runs: pd.DataFrame,
    items: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    epsilon: Mapping[str, float] | None = None,
    replicates: int = bootstrap.REPLICATES,
    asked: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `knees` and `resamples`, one row per model, task, metric and pattern, from the table `runs`.

    Runs with pattern `dense` are the sparsity 0 of every pattern, over the seeds that the pattern has. `items(runs of one
    curve)` gives their rows of the table `items`; without it there are no intervals. `epsilon`: tolerances of single
    tasks, on the fitted scale of their headline metric, in place of the metric's own. `asked`: the table `grid`; the runs
    that it has and `runs` has not are counted as missing, and a curve without any pruned run has a row all the same, of
    the headline metric. Raises ValueError for a curve with two protocols, a tolerance that is not positive, items that are
    not the same in all runs of a curve, and what `with_quality` raises.
    """
    epsilon = dict(epsilon or {})
    for task, value in epsilon.items():
        if not value > 0:
            raise errors.UserError(f"The tolerance of the task {task!r} is {value}: it is a loss of quality, above 0.")
    runs = runs.reset_index(drop=True)
    defined = with_quality(runs)
    headlines = _headlines(runs, asked)
    grid = runs[RUN] if asked is None else pd.concat([runs[RUN], asked[RUN]])
    grid = grid.drop_duplicates().merge(runs[RUN].drop_duplicates(), how="left", indicator="there")
    rows, kept = [], []
    for (model, task), wanted in grid.groupby(["model", "task"], sort=True):
        group = runs[(runs["model"] == model) & (runs["task"] == task)]
        protocols = " and ".join(sorted(group["protocol"].unique()))
        if " and " in protocols:
            raise errors.UserError(f"The runs of {model} on {task} mix the protocols {protocols}: one is expected.")
        for pattern in sorted(set(wanted["pattern"]) - {"dense"}):
            own = group[group["pattern"] == pattern]
            seeds = wanted.loc[wanted["pattern"] == pattern, "seed"]
            of_curve = wanted[
                (wanted["pattern"] == pattern) | ((wanted["pattern"] == "dense") & wanted["seed"].isin(seeds))
            ]
            dense = group[(group["pattern"] == "dense") & group["seed"].isin(seeds if own.empty else own["seed"])]
            both = pd.concat([dense, own])
            if own.empty:
                both = dense[dense["metric"] == headlines[task]]
            evaluated = None  # read once for all metrics of a task
            for name, chosen in both.groupby("metric", sort=True) if len(both) else [(headlines[task], both)]:
                if len(own) and (chosen["pattern"] == "dense").all():
                    continue  # dense has a metric that no run of the pattern has
                key = {"model": model, "task": task, "pattern": pattern, "metric": name, "protocol": protocols or None}
                first = name == headlines[task]
                known = defined.loc[defined.index.intersection(chosen.index)]
                paired = with_dense(known)
                curve = curve_of(key, paired, epsilon.get(task) if first else None)
                curve.guessing = _guessing(dense, name)
                if items is not None and _chance_in_items(dense, name):
                    evaluated = items(both) if evaluated is None else evaluated
                    curve.guessing = _guessing_by_items(dense, METRICS[name], evaluated)
                if items is not None and _readable(curve) is None:
                    evaluated = items(both) if evaluated is None else evaluated
                    resample(curve, paired, evaluated, replicates)
                row = _row(curve) | {"headline": bool(first), "n_items": int(min(chosen["n_items"], default=0))}
                row |= {"n_undefined": len(chosen) - len(known), "n_unpaired": len(known) - len(paired)}
                row |= _missing(of_curve, row["reason"])
                rows.append(row)
                kept.append(resampled(curve))
    return pd.DataFrame(rows), pd.DataFrame(kept)


def resampled(curve: Curve) -> dict:
    """One row of the table `resamples`: what comparing a curve with others takes, after its headline was read."""
    low, high = (None, None) if curve.gap is None else map(or_none, curve.gap)
    row = {name: curve.key[name] for name in ("model", "task", "pattern", "metric")}
    row |= {
        "stream": curve.stream,
        "bracket_low": low,
        "bracket_high": high,
        "levels": json.dumps(curve.levels.tolist()),
    }
    row |= {"essential_sparsity": or_none(curve.found.get("essential_sparsity", np.nan))}
    return row | {"outside": None if curve.outside is None else json.dumps(curve.outside.tolist())}


def _headlines(runs: pd.DataFrame, asked: pd.DataFrame | None) -> dict[str, str]:
    """Task -> its headline metric: of the runs that are there, else of the metrics that the grid names."""
    known = runs[["task", "metric"]]
    if asked is not None:
        named = asked[~asked["task"].isin(known["task"])].drop_duplicates("task")
        named = named.assign(metric=named["metrics"].str.split(",")).explode("metric")
        known = pd.concat([known, named[["task", "metric"]]])
    return known[known["metric"].isin(METRICS)].groupby("task")["metric"].agg(headline).to_dict()


def _guessing(dense: pd.DataFrame, metric: str) -> str | None:
    """That dense runs are no better than chance by more than a tolerance, in words; None where they are, or nobody knows."""
    name = METRICS[metric].above_chance if metric in METRICS else None
    found = dense.loc[dense["metric"] == name, "value"].dropna()
    if found.empty or found.mean() > METRICS[name].epsilon:
        return None
    return f"its {name} is {found.mean():.3f}, and 0 is chance"


def _chance_in_items(dense: pd.DataFrame, metric: str) -> bool:
    """Whether only the items can say what guessing gives: of an accuracy without the one above chance beside it."""
    above = METRICS[metric].above_chance if metric in METRICS else None
    known = set(dense.loc[dense["value"].notna(), "metric"])
    return above == ABOVE_CHANCE and metric in known and above not in known


def _guessing_by_items(dense: pd.DataFrame, metric: Metric, items: pd.DataFrame) -> str | None:
    """As `_guessing`, by the right answers of the dense runs' items, which are indices."""
    own = items[(items["pattern"] == "dense") & (metric.group is None or items["group"] == metric.group)]
    right = own["target"].dropna()
    if right.empty or (chance := chance_level(right)) == 1:
        return None
    above = (dense.loc[dense["metric"] == metric.name, "value"].mean() - chance) / (1 - chance)
    return f"above chance its accuracy is {above:.3f}" if above <= METRICS[ABOVE_CHANCE].epsilon else None


def _missing(of_curve: pd.DataFrame, reason: str | None) -> dict:
    """How many of the runs that are asked of a curve, dense ones included, are not there; and the reason in its light."""
    gone = of_curve["there"] == "left_only"
    dense = of_curve["pattern"] == "dense"
    count = int(gone.sum())
    if gone[~dense].all():
        reason = f"{'no run is' if gone.all() else 'no pruned run is'} there: {_counted(count)} missing"
    elif dense.any() and gone[dense].all():
        reason = "the dense run is missing: there is nothing to compare pruned ones with"
    elif count and reason is not None:
        reason += f"; {_counted(count)} missing"
    return {"n_missing": count, "reason": reason}


def _counted(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"


def _readable(curve: Curve) -> str | None:
    """Why a curve has no readings, or None."""
    if not len(curve.levels) or curve.levels[0] != 0:
        return "no dense value: no dense run of the same seeds has a defined metric to compare with"
    if curve.ruined:
        return f"the dense model collapsed: {NOTHING_TO_LOSE} ({curve.ruined}). Leave that seed or checkpoint out of the grid"
    if curve.guessing:
        return f"the dense model guesses: {curve.guessing}; {NOTHING_TO_LOSE}"
    metric, dense = curve.metric, curve.means[0]
    if (
        metric.scale == "identity" and metric.above_chance != metric.name and dense <= curve.epsilon
    ):  # 0 is the least of it
        return f"the dense model fails: its {metric.name} is {dense:.3f}, within the tolerance of 0; {NOTHING_TO_LOSE}"
    if len(curve.levels) < MIN_LEVELS:
        counted = (
            f"{len(curve.levels)} level{'s' if len(curve.levels) > 1 else ''} with a defined metric, dense included"
        )
        return f"too few levels: {counted}; at least {MIN_LEVELS} are needed"
    return None


def _row(curve: Curve) -> dict:
    """One row of the table `knees`; fills the curve's readings."""
    metric, levels = curve.metric, curve.levels
    row = curve.key | {"epsilon": curve.epsilon, "scale": metric.scale, "n_levels": len(levels), "n_exits": 0}
    names = ("essential_sparsity", *READ, "slope_ratio")
    empty = [name + end for name in names for end in ("", "_low", "_high")]
    empty += [
        "bracket_low",
        "bracket_high",
        "dense",
        "metric_at_knee",
        "reason",
        "slope_before",
        "slope_after",
        "shape",
    ]
    row |= dict.fromkeys([*empty, *(f"evidence_{shape}" for shape in SHAPES)])
    flags = ("non_monotone", "rises_first", "no_drop", "below_tolerance_at_first_level")
    row |= dict.fromkeys(flags, False) | {"too_few_levels": len(levels) < MIN_LEVELS} | _seeds(curve)
    row |= {"seed_freedom": 0}
    row |= {"n_replicates": 0 if curve.replicates is None else len(curve.replicates)}
    if len(levels) and levels[0] == 0:
        row |= {"dense": metric.value(curve.means[0]), "n_exits": readings.exits(curve.means, curve.epsilon)}
    if (reason := _readable(curve)) is not None:
        return row | {"reason": reason}
    row |= {"seed_freedom": bootstrap.seed_freedom(curve.quality, curve.epsilon)}
    row |= read_headline(curve) | _others(curve) | _sharpness(curve) | _flags(curve)
    if row["essential_sparsity"] is None:
        what = "the isotonic mean, though not each level," if row["n_exits"] else "the metric"
        return row | {"reason": f"no drop: {what} stays within the tolerance up to s={levels[-1]:.3f}"}
    at_knee = float(np.interp(row["essential_sparsity"], levels, curve.means))
    return row | {"metric_at_knee": metric.value(at_knee)}


def _seeds(curve: Curve) -> dict:
    """How many seeds the levels have, and which have fewer than the curve."""
    counts = curve.weights.astype(int)
    fewer = [
        f"{level:.3f}: {', '.join(str(seed) for seed, here in zip(curve.seeds, row, strict=True) if here)}"
        for level, row in zip(curve.levels, curve.there, strict=True)
        if not row.all()
    ]
    return {
        "n_seeds_min": int(counts.min(initial=len(curve.seeds))),
        "n_seeds_max": int(counts.max(initial=0)),
        "ragged": bool(fewer),
        "ragged_levels": "; ".join(fewer) or None,
    }


def _others(curve: Curve) -> dict:
    """The other readings, with an interval where the curve and nearly all replicates have the reading."""
    row = {}
    for name, read in READ.items():
        curve.found[name] = float(read(curve, curve.means))
        row[name] = or_none(curve.found[name])
        if curve.replicates is None or row[name] is None:
            continue
        found = read(curve, curve.replicates[: KNEEDLE_REPLICATES if name == "kneedle" else None])
        if name == "last_compliant":
            found = np.where(
                found < curve.levels[-1], found, np.inf
            )  # inside up to the last level: it is there or beyond
        if np.isnan(found).mean() <= ALPHA:
            row[f"{name}_low"], row[f"{name}_high"] = interval(row[name], found[~np.isnan(found)])
    return row


def _sharpness(curve: Curve) -> dict:
    """Slopes of the hinge, their ratio, and how much the data speak for a hinge against smoother shapes."""
    levels, means, weights = curve.levels, curve.means, curve.weights / curve.weights.mean()
    size = len(levels)
    if size < readings.HINGE_LEVELS or np.ptp(means) < readings.SLACK:
        return {}
    before, after, squares = (float(part) for part in _lines(levels, means, weights))
    result = {"slope_before": before, "slope_after": after, "slope_ratio": after / before + 0.0 if before < 0 else None}
    if curve.replicates is not None:
        before, after, _ = _lines(levels, curve.replicates, weights)
        falling = before < 0
        ratios = np.divide(after, before, out=np.full(before.shape, np.inf), where=falling)
        ratio = np.inf if result["slope_ratio"] is None else result["slope_ratio"]
        result["slope_ratio_low"], result["slope_ratio_high"] = interval(ratio, ratios)
    if size > max(SHAPES.values()) + 2:
        found = {
            "linear": shapes.polynomial(levels, means, 1, weights),
            "power": shapes.power(levels, means, weights),
            "logistic": shapes.logistic(levels, means, weights)[1],
            "hinge": squares,
        }
        spread = float(np.ptp(means))
        evidence = shapes.akaike_weights(
            {shape: shapes.criterion(value, size, SHAPES[shape], spread) for shape, value in found.items()}
        )
        result |= {f"evidence_{shape}": value for shape, value in evidence.items()}
        if evidence["hinge"] >= CONVINCING:
            result["shape"] = None if np.isnan(curve.found["hinge"]) else "hinge"
        elif 1 - evidence["hinge"] >= CONVINCING:
            result["shape"] = "smooth"
    return result


def _lines(levels: np.ndarray, means: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope before the join of the hinge, slope after it, sum of squares, each (…). A line that is level but for rounding has slope 0."""
    _, before, after, squares = shapes.hinge(levels, means, weights)
    least = readings.LEVEL * np.ptp(means, axis=-1) / np.ptp(levels)
    before, after = (np.where(np.abs(slope) > least, slope, 0.0) for slope in (before, after))
    return before, after, squares


def _flags(curve: Curve) -> dict:
    """What a reader should know about a curve; rises count when they are beyond noise (or at all, without items)."""
    means = curve.means
    first = bool(curve.found["essential_sparsity"] < curve.levels[1])
    later = [(i, j) for i in range(1, len(means)) for j in range(i + 1, len(means))]
    return {
        "no_drop": bool(np.isnan(curve.found["essential_sparsity"])),
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
