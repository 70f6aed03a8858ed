"""Do the intervals hold what they promise, on the grids that are shipped, and how long do they take?

    python benchmarks/knees.py [--json FILE] [--simulations 60] [--only PREFIX] [--speed]

Curves with a known essential sparsity are simulated again and again: the outcome of every item follows from what the item
is, noise of the run, and (with several seeds) what each seed does to each level. A case is a grid, a metric with its items
and seeds, and a shape. Coverage: how often the 95 % interval holds the truth (93 to 100 % is asked for; the standard error
of 60 simulations is 2.8 points). Width: mean width of the interval. Gap: mean width of the two levels that hold the reading,
below which no interval can be. `refined` starts from steps of 0.1 and adds levels as `make refine` does, down to 0.02.

False alarms: two curves of the same shape whose difference of essential sparsities excludes 0 or has a sign
(`comparisons`), and levels at which two equal patterns differ (`differences`); 5 % at most are asked for. With one seed an
interval is that seed's: what another would do is not in it, and it misses more.

--speed instead times 10,000 replicates of a curve of 20 levels, 5 seeds and 10,000 items on one core.
"""

import argparse
import itertools
import json
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
import pandas as pd
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from essential_sparsity.curves import bootstrap, comparisons, differences, intervals, knees, readings, single
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.study import refinement

FINE = np.round(np.arange(0, 0.97, 0.01), 3)
GRIDS = {
    "0.05": np.round(np.arange(0, 0.96, 0.05), 3),
    "0.1": np.round(np.arange(0, 0.91, 0.1), 3),
    "demo": np.array([0, 0.3, 0.5, 0.7, 0.9]),
    "refined": np.round(np.arange(0, 0.91, 0.1), 3),
}
REFINE = {"width": 0.02, "rounds": 6, "levels": 20}
SHAPES = {  # what is lost at a sparsity
    "late": lambda s: 0.36 * (np.maximum(s - 0.6, 0) / 0.35) ** 1.5,
    "early": lambda s: 0.35 * (np.maximum(s - 0.1, 0) / 0.85) ** 1.2,
    "gentle": lambda s: 0.2 * s**2,
    "cliff": lambda s: np.clip(2 * (s - 0.6), 0, 0.4),
    "dip": lambda s: 0.36 * (np.maximum(s - 0.6, 0) / 0.35) ** 1.5 + 0.007 * np.exp(-(((s - 0.3) / 0.05) ** 2)),
    "rises_first": lambda s: 0.5 * np.maximum(s - 0.5, 0) ** 1.5 - 0.02 * np.sin(np.clip(s / 0.5, 0, 1) * np.pi),
}
STUDIES = {  # name -> metric, quality of dense, items, seeds, standard deviation of what a seed does to a level
    "accuracy_400x1": ("accuracy", 0.9, 400, 1, 0.0),
    "accuracy_2000x3": ("accuracy", 0.9, 2000, 3, 0.003),
    "spearman_353x1": ("spearman", 0.75, 353, 1, 0.0),
    "perplexity_12x1": ("perplexity", -3.0, 12, 1, 0.0),
    "perplexity_50x3": ("perplexity", -3.0, 50, 3, 0.003),
    "matthews_1000x3": ("matthews", 0.55, 1000, 3, 0.01),
}
SHARED = 0.7  # share of the variance of an outcome that is the item's own
KEY = {"model": "m", "task": "t", "pattern": "global", "protocol": "zero-shot"}


def lost(study, shape, s):
    """A model's loss grows without bound once it is broken; the other metrics fall as the shape says."""
    found = SHAPES[shape](s)
    return found + 10 * np.maximum(found - 0.03, 0) if STUDIES[study][0] == "perplexity" else found


def truth(study, shape):
    """The true essential sparsity: where the curve has lost the tolerance for good."""
    s = np.linspace(0, FINE[-1], 200_001)
    outside = lost(study, shape, s) > lost(study, shape, np.zeros(1)) + METRICS[STUDIES[study][0]].epsilon
    return float(s[len(s) - np.argmin(outside[::-1])])


def population(study, generator):
    """What an item is, whatever the run: its target and its own part of the outcome, each (n)."""
    name, _, n, _, _ = STUDIES[study]
    targets = (np.arange(n) % 2).astype(float) if name == "matthews" else generator.standard_normal(n)
    return targets, generator.standard_normal(n)


def simulate(study, shape, items, levels, generator):
    """Scores (L, S, n) and the qualities that the runs have, (L, S)."""
    name, dense, n, seeds, spread = STUDIES[study]
    targets, own = items
    goal = dense - lost(study, shape, levels)[:, None] + spread * generator.standard_normal((len(levels), seeds))
    noise = generator.standard_normal((len(levels), seeds, n))
    mixed = np.sqrt(SHARED) * own + np.sqrt(1 - SHARED) * noise
    if name == "accuracy":
        scores = (norm.ppf(goal.clip(1e-3, 1 - 1e-3))[..., None] > mixed).astype(float)
    elif name == "matthews":
        right = norm.ppf(((1 + goal) / 2).clip(1e-3, 1 - 1e-3))[..., None] > mixed
        scores = np.where(right, targets, 1 - targets)
    elif name == "spearman":
        r = 2 * np.sin(np.pi * goal.clip(-0.99, 0.99) / 6)[..., None]
        scores = r * targets + np.sqrt(1 - r**2) * mixed
    else:  # windows are harder or easier, and lose more or less
        scores = -goal[..., None] + 0.3 * targets + (-goal[..., None] + dense) * own + 0.02 * noise
    ones = np.ones(n)
    statistic = bootstrap.STATISTICS[METRICS[name].from_items](METRICS[name], scores.reshape(-1, n), targets, ones)
    return scores, statistic(np.ones((1, n), dtype=np.float32)).reshape(goal.shape)


def read(study, items, scores, quality, kept, number, replicates, pattern="global"):
    """A curve of the kept levels, read as the table `knees` is."""
    name, _, n, seeds, _ = STUDIES[study]
    metric, levels = METRICS[name], FINE[kept]
    key = KEY | {"metric": name, "pattern": pattern, "task": f"t{number}"}
    curve = single.Curve(key, metric, metric.epsilon, levels, list(range(seeds)), quality[kept], stream="s")
    moved = bootstrap.moves(metric, scores[kept], items[0], np.ones(n), f"{number}", replicates)
    draws = bootstrap.seed_draws(key, levels, curve.seeds, replicates)
    curve.replicates = bootstrap.replicates(curve.quality, moved, n, metric.epsilon, *draws)
    return curve, single.read_headline(curve), moved


def refined(row, kept, rounds):
    """The levels that a round of refinement adds to the kept ones."""
    runs = pd.DataFrame(KEY | {"sparsity": FINE[kept]})
    table = pd.DataFrame([KEY | {"headline": True, "n_missing": 0} | row])
    found = refinement.next_round(runs, table, before=rounds, **REFINE)
    rounds.append(found)
    return sorted({*kept, *(round(100 * float(level)) for entry in found for level in entry["levels"])})


def study_of(case, number, replicates):
    """One simulated study: the row of its curve and, of the same items, an equal curve beside it."""
    grid, study, shape = case
    generator = np.random.default_rng(number)
    items = population(study, generator)
    pair = [simulate(study, shape, items, FINE, generator) for _ in range(2 if study.startswith("accuracy") else 1)]
    curves, found = [], []
    for (scores, quality), pattern in zip(pair, "pq", strict=False):
        kept, rounds = [round(100 * level) for level in GRIDS[grid]], []
        while True:
            curve, row, moved = read(study, items, scores, quality, kept, number, replicates, pattern)
            more = refined(row, kept, rounds) if grid == "refined" else kept
            if more == kept:
                break
            kept = more
        curves.append(curve)
        found.append((row, moved))
    return curves, found


def report(case, simulations, replicates):
    """Coverage, width and gap of a case, and the false alarms of comparisons of equal curves."""
    grid, study, shape = case
    right, rows, alarms, signs = truth(study, shape), [], 0, 0
    for number in range(simulations):
        curves, ((row, _), *_) = study_of(case, number, replicates)
        high = np.inf if row["essential_sparsity_high"] is None else row["essential_sparsity_high"]
        last = curves[0].levels[-1]
        ends = row["essential_sparsity_low"], min(high, last)
        gap = min(np.inf if row["bracket_high"] is None else row["bracket_high"], last) - row["bracket_low"]
        rows.append((row["essential_sparsity_low"] <= right <= high, ends[1] - ends[0], gap, len(curves[0].levels)))
        if len(curves) == 2:
            compared = comparisons.table(pd.DataFrame(map(knees.resampled, curves)), ["pattern"]).iloc[0]
            low, high = compared[["low", "high"]].astype(float).fillna({"low": -np.inf, "high": np.inf})
            alarms += not low <= 0 <= high
            signs += compared["larger"] is not None
    coverage, width, gap, levels = np.mean(rows, axis=0)
    result = {"name": "_".join(case), "grid": grid, "study": study, "shape": shape, "truth": right}
    result |= {"coverage": coverage, "width": width, "gap": gap, "levels": levels}
    if study.startswith("accuracy"):
        result |= {"excludes_0": alarms / simulations, "signs": signs / simulations}
    told = "".join(f"{result[name]:9.1%}" for name in ("excludes_0", "signs") if name in result)
    print(
        f"{grid:8} {study:16} {shape:12} {right:6.3f} {coverage:9.1%} {width:7.3f} {gap:6.3f} {levels:7.1f}{told}",
        flush=True,
    )
    return result


def report_differences(seeds, common, simulations, replicates):
    """How often an interval of the difference of two equal patterns misses 0, at one level and over a range; its width.

    `common`: share of the variance of what a seed does that is the same at all levels of a pattern.
    """
    levels, n, spread, missed, widths = GRIDS["0.1"][1:], 1000, 0.006, [], []
    for number in range(simulations):
        generator = np.random.default_rng(number)
        own = generator.standard_normal(n)
        sides = []
        for _ in range(2):
            shift = np.sqrt(common) * generator.standard_normal((1, seeds))
            shift = spread * (shift + np.sqrt(1 - common) * generator.standard_normal((len(levels), seeds)))
            noise = generator.standard_normal((len(levels), seeds, n))
            mixed = np.sqrt(SHARED) * own + np.sqrt(1 - SHARED) * noise
            goal = 0.9 - SHAPES["late"](levels)[:, None] + shift
            scores = (norm.ppf(goal.clip(1e-3, 1 - 1e-3))[..., None] > mixed).astype(float)
            moved = bootstrap.moves(METRICS["accuracy"], scores, own, np.ones(n), f"{number}", replicates)
            sides.append((scores.mean(axis=2), moved))
        (a, moved_a), (b, moved_b) = sides
        noise = differences.resampled(a - b, moved_a - moved_b, n, f"{number}")
        for part in (np.arange(len(levels)) == 4, levels > differences.SPLIT):
            mean = (a - b).mean(axis=1)[part].mean()
            low, high = intervals.interval(mean, mean + noise(part))
            missed.append(not low <= 0 <= high)
            widths.append(high - low)
    missed, widths = (np.reshape(part, (-1, 2)).mean(axis=0) for part in (missed, widths))
    print(
        f"{seeds} seeds, {common:.0%} of their variance in common: one level misses {missed[0]:.1%} (width {widths[0]:.3f}), "
        f"a range {missed[1]:.1%} ({widths[1]:.3f})",
        flush=True,
    )
    names = {"level_misses": missed[0], "level_width": widths[0], "range_misses": missed[1], "range_width": widths[1]}
    return {"name": f"differences_{seeds}_{common}"} | names


def speed():
    """Seconds and peak memory of one curve's row, step by step."""
    generator, levels, n = np.random.default_rng(0), GRIDS["0.05"], 10_000
    scores = (generator.random((len(levels), 5, n)) < (0.9 - SHAPES["late"](levels))[:, None, None]).astype(float)
    quality, key, weights = scores.mean(axis=2), KEY | {"metric": "accuracy"}, np.full(len(levels), 5)
    started, steps = time.perf_counter(), {}

    def timed(name, function):
        before = time.perf_counter()
        result = function()
        steps[name] = time.perf_counter() - before
        return result

    metric, ones = METRICS["accuracy"], np.ones(n)
    moved = timed("items", lambda: bootstrap.moves(metric, scores, ones, ones, "t", bootstrap.REPLICATES))
    draws = timed("seeds", lambda: bootstrap.seed_draws(key, levels, range(5), bootstrap.REPLICATES))
    found = timed("replicates", lambda: bootstrap.replicates(quality, moved, n, metric.epsilon, *draws))
    timed("headline", lambda: readings.first_outside(found, weights, metric.epsilon))
    timed("last_compliant", lambda: readings.last_compliant(levels, found, metric.epsilon))
    timed("kneedle", lambda: readings.kneedle(levels, found[: knees.KNEEDLE_REPLICATES]))
    timed("hinge", lambda: readings.hinge(levels, found, weights))
    total, memory = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"10,000 replicates of {len(levels)} levels x 5 seeds x {n:,} items, one core: {total:.1f} s, {memory:.0f} MiB"
    )
    for name, seconds in steps.items():
        print(f"  {name:16} {seconds:6.2f} s")
    return [{"name": f"speed_{name}", "seconds": seconds} for name, seconds in (steps | {"total": total}).items()]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--simulations", type=int, default=60)
    parser.add_argument("--replicates", type=int, default=400, help="resamples of each simulated study")
    parser.add_argument(
        "--only", default="", help="only the cases whose name (GRID_STUDY_SHAPE, differences) starts so"
    )
    parser.add_argument("--speed", action="store_true", help="time one large curve instead")
    args = parser.parse_args(argv)
    with threadpool_limits(1):
        rows = measured(args)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


def measured(args):
    """The rows of what is asked for, printed as they come."""
    if args.speed:
        return speed()
    print(f"{args.simulations} simulations each; sparsities as fractions")
    print(
        f"{'grid':8} {'metric, n x seeds':16} {'shape':12} {'truth':>6} {'coverage':>9} {'width':>7} {'gap':>6} "
        f"{'levels':>7} {'excl. 0':>8} {'sign':>8}"
    )
    cases = [case for case in itertools.product(GRIDS, STUDIES, SHAPES) if "_".join(case).startswith(args.only)]
    rows = [report(case, args.simulations, args.replicates) for case in cases]
    if "differences".startswith(args.only):
        pairs = itertools.product((1, 2, 3, 5), (0.0, 0.5, 1.0))
        rows += [report_differences(*pair, args.simulations, args.replicates) for pair in pairs]
    return rows


if __name__ == "__main__":
    main()
