"""Do the intervals of the essential sparsity hold what they promise, and how long do they take?

    python benchmarks/knees.py [--json FILE] [--simulations 400] [--only PREFIX] [--speed]

Curves with a known crossing are simulated again and again: the outcome of every item follows from a difficulty of its
own, noise of the run, and (with several seeds) what each seed does to each level. Coverage: how often the 95 % interval
holds the true crossing (aim 93 to 97 %; the standard error of 400 simulations is 1.1 points). Width: median width of
the interval. Bias: mean of the reading less the truth. `one seed, plain`: the spread (from the 2.5 % to the 97.5 %
quantile over simulations) of the crossing as it is usually read, off one seed's raw curve, beside ours.
Kneedle and hinge stand beside: they do not aim at the crossing of a tolerance.

--speed instead times 10,000 replicates of a curve of 20 levels, 5 seeds and 10,000 items on one core.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
from scipy.stats import norm

from essential_sparsity.curves import bootstrap, knees, readings
from essential_sparsity.curves.metrics import METRICS

EPSILON = 0.01
LEVELS = np.round(np.arange(0, 0.96, 0.05), 3)
METRIC = METRICS["accuracy"]
SHAPES = {
    "late": lambda s: 0.9 - 0.36 * (np.maximum(s - 0.6, 0) / 0.35) ** 1.5,
    "early": lambda s: 0.9 - 0.35 * (np.maximum(s - 0.1, 0) / 0.85) ** 1.2,
    "gentle": lambda s: 0.9 - 0.2 * s**2,
    "cliff": lambda s: 0.9 - np.clip(2 * (s - 0.6), 0, 0.4),
    "dip": lambda s: 0.9 - 0.36 * (np.maximum(s - 0.6, 0) / 0.35) ** 1.5 - 0.007 * np.exp(-(((s - 0.3) / 0.05) ** 2)),
    "rises_first": lambda s: 0.85 + 0.02 * np.sin(np.clip(s / 0.5, 0, 1) * np.pi) - 0.5 * np.maximum(s - 0.5, 0) ** 1.5,
}
NOISE = {  # name -> items, seeds, standard deviation of what a seed does to a level
    "2000_items_1_seed": (2000, 1, 0.0),
    "2000_items_3_seeds": (2000, 3, 0.003),
    "500_items_5_seeds": (500, 5, 0.006),
}
SHARED = 0.7  # share of the variance of an outcome that is the item's own difficulty


def crossing(shape):
    """The true essential sparsity: where the curve is EPSILON below its start for good."""
    grid = np.linspace(0, LEVELS[-1], 200_001)
    outside = shape(grid) < shape(np.zeros(1)) - EPSILON
    return float(grid[len(grid) - np.argmin(outside[::-1])])


def simulate(shape, items, seeds, spread, generator):
    """Outcomes (L, S, n) of one study."""
    quality = shape(LEVELS)[:, None] + spread * generator.standard_normal((len(LEVELS), seeds))
    difficulty = generator.standard_normal(items)
    noise = generator.standard_normal((len(LEVELS), seeds, items))
    latent = np.sqrt(SHARED) * difficulty + np.sqrt(1 - SHARED) * noise
    return (norm.ppf(quality.clip(1e-3, 1 - 1e-3))[..., None] > latent).astype(float)


def first_exit(means):
    """The crossing as it is usually read: the raw curve's first step below the tolerance, linear between the levels."""
    return float(readings.crossing(LEVELS, np.minimum.accumulate(means), means[:1] - EPSILON))


def study(shape, items, seeds, spread, simulations, replicates):
    """Readings, intervals and plain readings over many simulated studies."""
    weights = np.full(len(LEVELS), seeds)
    found = {name: [] for name in ("tolerance", "hinge", "kneedle", "interval", "plain")}
    for number in range(simulations):
        generator = np.random.default_rng(number)
        outcomes = simulate(shape, items, seeds, spread, generator)
        means = outcomes.mean(axis=(1, 2))
        names = [str(name) for name in generator.integers(0, 1 << 60, seeds)]
        ones = np.ones(items)
        resampled = bootstrap.curves(METRIC, outcomes, 0 * ones, ones, f"{number}", names, replicates)
        estimate = float(readings.tolerance(LEVELS, means, weights, EPSILON))
        crossings = readings.tolerance(LEVELS, resampled, weights, EPSILON)
        found["tolerance"].append(estimate)
        found["interval"].append(knees.interval(*(np.nan_to_num(part, nan=np.inf) for part in (estimate, crossings))))
        found["hinge"].append(float(readings.hinge(LEVELS, means, weights)))
        found["kneedle"].append(float(readings.kneedle(LEVELS, means)))
        found["plain"].append(first_exit(outcomes[:, 0].mean(axis=1)))
    return found


def report(name, shape, noise, simulations, replicates):
    truth = crossing(shape)
    found = study(shape, *noise, simulations, replicates)
    ends = np.array([[np.inf if end is None else end for end in pair] for pair in found["interval"]], float)
    plain = np.quantile(np.nan_to_num(found["plain"], nan=LEVELS[-1]), [0.025, 0.975])
    row = {
        "name": name,
        "coverage": float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()),
        "width": float(np.median(np.minimum(ends[:, 1], LEVELS[-1]) - np.minimum(ends[:, 0], LEVELS[-1]))),
        "bias": float(np.nanmean(found["tolerance"]) - truth),
        "truth": truth,
        "plain_bias": float(np.nanmean(found["plain"]) - truth),
        "plain_spread": float(plain[1] - plain[0]),
        "hinge_bias": float(np.nanmean(found["hinge"]) - truth),
        "kneedle_bias": float(np.nanmean(found["kneedle"]) - truth),
    }
    print(
        f"{name:32} {truth:6.3f} {row['coverage']:9.1%} {row['width']:7.3f} {row['bias']:+7.3f} "
        f"{row['plain_spread']:8.3f} {row['plain_bias']:+7.3f} {row['hinge_bias']:+7.3f} {row['kneedle_bias']:+8.3f}",
        flush=True,
    )
    return row


def speed():
    """Seconds and peak memory of one curve's row, step by step."""
    generator = np.random.default_rng(0)
    outcomes = simulate(SHAPES["late"], 10_000, 5, 0.003, generator)
    weights, started = np.full(len(LEVELS), 5), time.perf_counter()
    ones = np.ones(10_000)
    resampled = bootstrap.curves(METRIC, outcomes, 0 * ones, ones, "t", ["0", "1", "2", "3", "4"])
    steps = {"resampling": time.perf_counter() - started}
    for name, read in (
        ("tolerance", lambda: readings.tolerance(LEVELS, resampled, weights, EPSILON)),
        ("last_compliant", lambda: readings.last_compliant(LEVELS, resampled, EPSILON)),
        ("kneedle", lambda: readings.kneedle(LEVELS, resampled)),
        ("hinge", lambda: readings.hinge(LEVELS, resampled, weights)),
    ):
        before = time.perf_counter()
        read()
        steps[name] = time.perf_counter() - before
    total, memory = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"10,000 replicates of {len(LEVELS)} levels x 5 seeds x 10,000 items, one core: {total:.1f} s, {memory:.0f} MiB"
    )
    for name, seconds in steps.items():
        print(f"  {name:16} {seconds:6.2f} s")
    return [{"name": f"speed_{name}", "seconds": seconds} for name, seconds in (steps | {"total": total}).items()]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--replicates", type=int, default=1000, help="resamples of each simulated study")
    parser.add_argument("--only", default="", help="only the cases whose name starts so")
    parser.add_argument("--speed", action="store_true", help="time one large curve instead")
    args = parser.parse_args(argv)
    if args.speed:
        rows = speed()
    else:
        print(f"{args.simulations} simulations each; bias and spread in units of sparsity")
        print(
            f"{'case':32} {'truth':>6} {'coverage':>9} {'width':>7} {'bias':>7} {'one seed,':>8} {'plain':>6} "
            f"{'hinge':>7} {'kneedle':>8}"
        )
        rows = [
            report(f"{shape}_{noise}", SHAPES[shape], NOISE[noise], args.simulations, args.replicates)
            for shape in SHAPES
            for noise in NOISE
            if f"{shape}_{noise}".startswith(args.only)
        ]
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
