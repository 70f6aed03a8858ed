"""The table `knees`: essential sparsity of every curve, in four readings, with intervals and flags.

Curves are averaged and fitted on the metric's own scale with higher meaning better (`metrics.Metric.quality`). Intervals
hold 95 % and come from resampled items and seeds (`bootstrap`), the same items for every curve of a task. What lies between
two levels was not measured: the interval of the essential sparsity ends at levels of the grid (`gaps`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import norm

from essential_sparsity import errors, files
from essential_sparsity.curves import bootstrap, readings, shapes
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.metrics import METRICS, Metric, headline
from essential_sparsity.curves.readings import MIN_LEVELS

ALPHA = 0.05
READ: dict[
    str, Callable[["Curve", np.ndarray], np.ndarray]
] = {  # reading -> of a curve with means (…, L) in their place; the headline's interval is that of its gaps
    "last_compliant": lambda curve, means: readings.last_compliant(curve.levels, means, curve.epsilon),
    "kneedle": lambda curve, means: readings.kneedle(curve.levels, means),
    "hinge": lambda curve, means: readings.hinge(curve.levels, means, curve.weights),
}
KNEEDLE_REPLICATES = 2000  # it reads one curve at a time, and a level of the grid each time
SHAPES = {"linear": 2, "power": 3, "logistic": 4, "hinge": 4}  # parameters of each
CONVINCING = 0.9  # evidence from which a shape is named
RUN = ["model", "task", "pattern", "sparsity", "seed"]


@dataclass
class Curve:
    """One curve: its levels (L), seeds (S), quality (L, S) with NaN for runs that are not there, and what is read off it.

    `replicates` (B, L): mean curves that other items and seeds could have shown, or None. `stream` names the items that
    were resampled: curves of one stream are paired. `ruined`: which dense runs collapsed, in words, or None.
    """

    key: dict
    metric: Metric
    epsilon: float
    levels: np.ndarray
    seeds: list[int]
    quality: np.ndarray
    ruined: str | None = None
    replicates: np.ndarray | None = None
    stream: str | None = None
    found: dict = field(default_factory=dict)  # reading -> value
    gap: tuple[float, float] | None = None  # the levels between which the essential sparsity lies
    outside: np.ndarray | None = None  # (B): the first level beyond the tolerance in each replicate, L for none

    @cached_property
    def there(self) -> np.ndarray:
        """Which runs there are, (L, S)."""
        return ~np.isnan(self.quality)

    @cached_property
    def weights(self) -> np.ndarray:
        """Seeds behind each mean, (L)."""
        return self.there.sum(axis=1).astype(float)

    @property
    def gaps(self) -> np.ndarray:
        """The levels, (2, B), between which the essential sparsity of each replicate lies; infinite above the last."""
        ends = np.append(self.levels, np.inf)
        return np.stack([ends[self.outside - 1], ends[self.outside]])

    @cached_property
    def means(self) -> np.ndarray:
        """Mean quality, (L), each level compared with dense over the same seeds."""
        return bootstrap.paired_means(self.quality, self.there)


def level_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean quality over seeds: one row per (model, task, metric, pattern, sparsity) with a defined metric.

    `runs`: the table of that name. Columns: the five keys, `quality` (mean on the fitted scale, higher is better),
    `low` and `high` (of the seeds), `n_seeds`. Seeds whose metric is undefined are left out. Raises ValueError for an
    unknown metric, and for a value that the metric's logarithmic scale does not have.
    """
    keys = ["model", "task", "metric", "pattern", "sparsity"]
    grouped = with_quality(runs).groupby(keys, sort=True)["quality"]
    return grouped.agg(quality="mean", low="min", high="max", n_seeds="size").reset_index()


def with_quality(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose metric is defined, with their `quality`; ValueError as of `level_means`."""
    defined = runs[runs["value"].notna()]
    columns = ["model", "task", "metric", "pattern", "sparsity", "value"]
    quality = [_quality(row) for row in defined[columns].itertuples(index=False)]
    return defined.assign(quality=np.asarray(quality, float))


def table(
    runs: pd.DataFrame,
    items: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    epsilon: Mapping[str, float] | None = None,
    replicates: int = bootstrap.REPLICATES,
    asked: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, list[Curve]]:
    """The table `knees`, one row per model, task, metric and pattern, from the table `runs`; and its curves, read.

    Runs with pattern `dense` are the sparsity 0 of every pattern, over the seeds that the pattern has. `items(runs of one
    curve)` gives their rows of the table `items`; without it there are no intervals. `epsilon`: tolerances of single
    tasks, on the fitted scale of their headline metric, in place of the metric's own. `asked`: the table `grid`; the runs
    that it has and `runs` has not are counted as missing, and a curve without any pruned run has a row all the same, of
    the headline metric. Raises ValueError for a curve with
    two protocols, a tolerance that is not positive, items that are not the same in all runs of a curve, and what
    `level_means` raises.
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
    rows, curves = [], []
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
                kept = defined.loc[defined.index.intersection(chosen.index)]
                paired = kept[kept["seed"].isin(kept.loc[kept["pattern"] == "dense", "seed"])]
                curve = curve_of(key, paired, epsilon.get(task) if first else None)
                if items is not None and _readable(curve) is None:
                    evaluated = items(both) if evaluated is None else evaluated
                    resample(curve, paired, evaluated, replicates)
                row = _row(curve) | {"headline": bool(first), "n_items": int(min(chosen["n_items"], default=0))}
                row |= {"n_undefined": len(chosen) - len(kept), "n_unpaired": len(kept) - len(paired)}
                row |= _missing(of_curve, row["reason"])
                rows.append(row)
                curve.replicates = None
                curves.append(curve)
    return pd.DataFrame(rows), curves


def _headlines(runs: pd.DataFrame, asked: pd.DataFrame | None) -> dict[str, str]:
    """Task -> its headline metric: of the runs that are there, else of the metrics that the grid names."""
    known = runs[["task", "metric"]]
    if asked is not None:
        named = asked[~asked["task"].isin(known["task"])].drop_duplicates("task")
        named = named.assign(metric=named["metrics"].str.split(",")).explode("metric")
        known = pd.concat([known, named[["task", "metric"]]])
    return known[known["metric"].isin(METRICS)].groupby("task")["metric"].agg(headline).to_dict()


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


def curve_of(key: dict, runs: pd.DataFrame, epsilon: float | None = None) -> Curve:
    """The curve of a key (model, task, metric, …) through these runs, rows of `with_quality`."""
    metric = METRICS[key["metric"]]
    levels, seeds = (np.sort(runs[name].unique()) for name in ("sparsity", "seed"))
    quality = np.full((len(levels), len(seeds)), np.nan)
    quality[np.searchsorted(levels, runs["sparsity"]), np.searchsorted(seeds, runs["seed"])] = runs["quality"]
    epsilon = metric.epsilon if epsilon is None else epsilon
    return Curve(key, metric, epsilon, levels.astype(float), seeds.tolist(), quality, _ruined(runs))


def _ruined(runs: pd.DataFrame) -> str | None:
    """The dense runs that collapsed, with what their rows say of it."""
    if "collapsed" not in runs:
        return None
    found = runs[(runs["pattern"] == "dense") & runs["collapsed"].notna()].sort_values("seed")
    return "; ".join(f"seed {row.seed}, {row.collapsed}" for row in found.itertuples()) or None


def resample(curve: Curve, runs: pd.DataFrame, items: pd.DataFrame, replicates: int) -> None:
    """Draw a curve's replicates from the items of its runs; ValueError when runs saw different items."""
    moved, n_items, curve.stream = moves(curve, runs, items, replicates)
    draws = bootstrap.seed_draws(curve.key, curve.levels, curve.seeds, replicates)
    curve.replicates = bootstrap.replicates(curve.quality, moved, n_items, curve.epsilon, *draws)


def moves(curve: Curve, runs: pd.DataFrame, items: pd.DataFrame, replicates: int) -> tuple[np.ndarray, int, str]:
    """How resampled items move a curve's runs, (B, L, S), how many items there are, and the name of their draws."""
    first = items.drop_duplicates("item").sort_values("item")
    names, weights = first["item"].to_numpy(), first["weight"].to_numpy(float)
    scores = np.full((*curve.quality.shape, len(names)), np.nan)
    parts = dict(iter(items.sort_values("item").groupby(["pattern", "sparsity", "seed"])))
    for run in runs.itertuples():
        part = parts.get((run.pattern, run.sparsity, run.seed))
        if part is None or not np.array_equal(part["item"].to_numpy(), names):
            where = "/".join(map(str, (run.model, run.task, run.pattern, run.sparsity, run.seed)))
            raise errors.UserError(
                f"The evaluated items of {where} (model/task/pattern/sparsity/seed) are not those of the other runs of "
                "its curve: they cannot be paired. Delete its files in results/store/runs and results/store/items and run again."
            )
        place = np.searchsorted(curve.levels, run.sparsity), curve.seeds.index(run.seed)
        scores[place] = bootstrap.complete(curve.metric, part[curve.metric.item_column].to_numpy(float), weights)
    stream = f"{curve.key['task']} {files.sha256_text(' '.join(names))}"
    stream += f" {curve.key['model']}" if curve.metric.own_items else ""
    targets = first["target"].to_numpy(float)
    return bootstrap.moves(curve.metric, scores, targets, weights, stream, replicates), len(names), stream


def _readable(curve: Curve) -> str | None:
    """Why a curve has no readings, or None."""
    if not len(curve.levels) or curve.levels[0] != 0:
        return "no dense value: no dense run of the same seeds has a defined metric to compare with"
    if curve.ruined:
        return f"the dense model collapsed: it has nothing to lose ({curve.ruined}). Leave that seed or checkpoint out of the grid"
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
    row |= {"n_replicates": 0 if curve.replicates is None else len(curve.replicates)}
    if len(levels) and levels[0] == 0:
        row |= {"dense": metric.value(curve.means[0]), "n_exits": readings.exits(curve.means, curve.epsilon)}
    if (reason := _readable(curve)) is not None:
        return row | {"reason": reason}
    row |= read_headline(curve) | _others(curve) | _sharpness(curve) | _flags(curve)
    if row["essential_sparsity"] is None:
        return row | {"reason": f"no drop: the metric stays within the tolerance up to s={levels[-1]:.3f}"}
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


def read_headline(curve: Curve) -> dict:
    """The essential sparsity, the gap of the grid that holds it, and its interval."""
    ends = np.append(curve.levels, np.inf)
    arguments = curve.weights, curve.epsilon
    first = int(readings.first_outside(curve.means, *arguments))
    curve.gap = float(ends[first - 1]), float(ends[first])
    curve.found["essential_sparsity"] = float(readings.essential_sparsity(curve.levels, curve.means, *arguments))
    row = {"essential_sparsity": or_none(curve.found["essential_sparsity"])}
    row |= {"bracket_low": curve.gap[0], "bracket_high": or_none(curve.gap[1])}
    if curve.replicates is not None:
        curve.outside = readings.first_outside(curve.replicates, *arguments).astype(np.uint16)  # thousands are kept
        low, high = percentiles(curve.gap, *curve.gaps)
        row |= {"essential_sparsity_low": or_none(low), "essential_sparsity_high": or_none(high)}
    return row


def _others(curve: Curve) -> dict:
    """The other readings, with an interval where the curve and nearly all replicates have the reading."""
    row = {}
    for name, read in READ.items():
        curve.found[name] = float(read(curve, curve.means))
        row[name] = or_none(curve.found[name])
        if curve.replicates is None or row[name] is None:
            continue
        found = read(curve, curve.replicates[: KNEEDLE_REPLICATES if name == "kneedle" else None])
        if np.isnan(found).mean() <= ALPHA:
            row[f"{name}_low"], row[f"{name}_high"] = interval(row[name], found[~np.isnan(found)])
    return row


def percentiles(own: tuple[float, float], lows: np.ndarray, highs: np.ndarray) -> tuple[float, float]:
    """What all but 2.5 % of the replicates (B) lie above, and below, widened to hold what was found itself (`own`).

    Order statistics, of which infinite ones are the largest: the interval's ends are values that replicates have.
    """
    size = len(lows)
    low = np.sort(lows)[int(np.ceil(ALPHA / 2 * size)) - 1]
    high = np.sort(highs)[int(np.ceil((1 - ALPHA / 2) * size)) - 1]
    return min(float(low), own[0]), max(float(high), own[1])


def interval(estimate: float, resampled: np.ndarray) -> tuple[float | None, float | None]:
    """95 % interval of a reading from its replicates (B), infinities included; an end is None when it is infinite."""
    low, high = percentiles((estimate, estimate), resampled, resampled)
    return or_none(low), or_none(high)


def _sharpness(curve: Curve) -> dict:
    """Slopes of the hinge, their ratio, and how much the data speak for a hinge against smoother shapes."""
    levels, means, weights = curve.levels, curve.means, curve.weights / curve.weights.mean()
    size = len(levels)
    if size < readings.HINGE_LEVELS or np.ptp(means) < readings.SLACK:
        return {}
    _, before, after, squares = (float(part) for part in shapes.hinge(levels, means, weights))
    result = {"slope_before": before, "slope_after": after, "slope_ratio": after / before if before < 0 else None}
    if curve.replicates is not None:
        _, before, after, _ = shapes.hinge(levels, curve.replicates, weights)
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


def _flags(curve: Curve) -> dict:
    """What a reader should know about a curve; rises count when they are beyond noise (or at all, without items)."""
    means = curve.means
    first = float(means[1]) < float(means[0]) - curve.epsilon - readings.SLACK
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


def or_none(value: float) -> float | None:
    """The value, None where it is infinite or not a number."""
    return float(value) if np.isfinite(value) else None


def _quality(row: tuple) -> float:
    if row.metric not in METRICS:
        raise errors.UserError(
            f"{row.model} on {row.task}: unknown metric {row.metric!r}; known are {', '.join(METRICS)}."
        )
    metric = METRICS[row.metric]
    if metric.scale == "log" and not row.value > 0:
        raise errors.UserError(
            f"{row.model} on {row.task}, {row.pattern} at s={row.sparsity}: {row.metric} is {row.value}; it is above 0."
        )
    return float(np.clip(metric.quality(row.value), -LARGEST, LARGEST))
