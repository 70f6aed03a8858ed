"""Readings and ends of intervals of random curves, beside those that plain loops, scikit-learn and SciPy give by docs/numbers.md."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.isotonic import isotonic_regression

from essential_sparsity import files
from essential_sparsity.curves import bootstrap, knees

GRIDS = ([0.3, 0.5, 0.7, 0.9], [0.1, 0.2, 0.3], [0.25, 0.5, 0.75], [0.1, 0.3, 0.5, 0.6], [i / 10 for i in range(1, 10)])
REPLICATES = 40
LARGEST = math.log(1e300)
METRICS = {  # name -> quality, of the scores, targets and weights of the items
    "accuracy": lambda scores, targets, weights: scores.mean(),
    "chance_corrected_accuracy": lambda scores, targets, weights: (scores.mean() - 1 / 3) / (1 - 1 / 3),
    "perplexity": lambda scores, targets, weights: -np.minimum(scores, LARGEST * weights).sum() / weights.sum(),
    "spearman": lambda scores, targets, weights: correlation(stats.rankdata(scores), stats.rankdata(targets)),
    "pearson": lambda scores, targets, weights: correlation(scores, targets),
    "matthews": lambda scores, targets, weights: matthews(scores, targets),
    "f1": lambda scores, targets, weights: 2 * (scores * targets).sum() / max((scores + targets).sum(), 1),
}


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1] if np.ptp(a) and np.ptp(b) else 0.0


def matthews(predicted, targets):
    """The correlation of two tables of classes, an item a row and a class a column of zeros and ones (Gorodkin 2004)."""
    a, b = (
        (labels[:, None] == np.arange(3)) - (labels[:, None] == np.arange(3)).mean(axis=0)
        for labels in (predicted, targets)
    )
    size = math.sqrt((a * a).sum() * (b * b).sum())
    return (a * b).sum() / size if size else 0.0


class Study:
    """One random curve: levels, seeds, runs that are there (level, seed) with the scores of their items, tolerance."""

    def __init__(self, metric, number):
        draw = np.random.default_rng([number, *metric.encode()])
        self.metric, self.task, self.levels = metric, f"t{number}", [0.0, *GRIDS[number % len(GRIDS)]]
        self.seeds = sorted(draw.choice(9, 1 + number % 4, replace=False).tolist())
        self.epsilon, n = float(draw.choice([0.01, 0.05, 0.1])), int(draw.choice([12, 50]))
        self.names = [f"{i:03}" for i in range(n)]
        kinds = 3 if metric in ("matthews", "chance_corrected_accuracy") else 2
        classes = np.r_[np.arange(kinds), draw.integers(0, kinds, n - kinds)].astype(float)
        self.targets = np.round(draw.normal(size=n), 1) if metric in ("spearman", "pearson") else classes
        self.weights = draw.integers(1, 6, n).astype(float) if metric == "perplexity" else np.ones(n)
        knee, steep, spread, own = (
            draw.uniform(0, 0.8),
            draw.uniform(0.1, 0.8),
            draw.choice([0, 0.02]),
            draw.normal(size=n),
        )
        self.scores = {}
        for i, level in enumerate(self.levels):
            kept = draw.random(len(self.seeds)) > 0.25 * (i > 0) * (number % 2)
            kept[draw.integers(len(kept))] = True
            for seed in np.array(self.seeds)[kept]:
                lost = steep * max(level - knee, 0) + spread * draw.normal()
                self.scores[i, int(seed)] = self._scores(draw, lost, 0.8 * own + 0.6 * draw.normal(size=n))
        if number % 3 == 0:  # collapsed: one class, no answer right, a loss without bound, a constant
            worst = np.full(n, np.inf if metric == "perplexity" else 0.0)
            self.scores |= {cell: worst for cell in self.scores if cell[0] == len(self.levels) - 1}

    def _scores(self, draw, lost, noise):
        right = noise < stats.norm.ppf(np.clip(0.9 - lost, 0.01, 0.99))
        if self.metric == "perplexity":
            return (3 + 5 * lost + 0.2 * noise) * self.weights
        if self.metric in ("spearman", "pearson"):
            return np.round((1 - min(lost, 1)) * self.targets + 0.5 * noise * (1 + lost), 2)
        if self.metric in ("matthews", "f1"):
            return np.where(right, self.targets, draw.permutation(self.targets))
        return right.astype(float)

    def quality(self, cell, drawn=slice(None)):
        found = METRICS[self.metric](self.scores[cell][drawn], self.targets[drawn], self.weights[drawn])
        return max(found, -LARGEST)

    def tables(self):
        """The tables `runs` and `items`, in no order."""
        runs, items = [], []
        for (i, seed), scores in self.scores.items():
            key = {
                "model": "m",
                "task": self.task,
                "pattern": "global" if i else "dense",
                "sparsity": self.levels[i],
                "seed": seed,
            }
            quality = self.quality((i, seed))
            value = math.exp(-quality) if self.metric == "perplexity" else quality
            runs.append(key | {"protocol": "probe", "metric": self.metric, "value": value, "n_items": len(scores)})
            of_items = {"score": scores, "prediction": scores, "target": self.targets, "weight": self.weights}
            items.append(pd.DataFrame(key | {"item": self.names} | of_items))
        return pd.DataFrame(runs).sample(frac=1, random_state=1), pd.concat(items).sample(frac=1, random_state=2)

    def mean(self, qualities):
        """The mean curve: each level as far from dense as its runs are from the dense runs of their seeds."""
        of_level = [[seed for i, seed in self.scores if i == level] for level in range(len(self.levels))]
        dense = np.mean([qualities[0, seed] for seed in of_level[0]])
        gains = [np.mean([qualities[i, s] - qualities[0, s] for s in seeds]) for i, seeds in enumerate(of_level)]
        return dense + np.array(gains)

    def isotonic(self, mean):
        counts = np.bincount([i for i, _ in self.scores]).astype(float)
        return isotonic_regression(mean, sample_weight=counts, increasing=False)

    def first_outside(self, mean):
        return next((i for i, v in enumerate(self.isotonic(mean)) if v < mean[0] - self.epsilon - 1e-9), len(mean))

    def deciding(self, quality, mean):
        """How many levels tell what seeds do."""
        fitted, size = self.isotonic(mean), len(mean)
        far = next((i for i, v in enumerate(fitted) if v < mean[0] - 5 * self.epsilon), size - 1)
        size = min(max(far + 1, 3), size)
        ranges = [np.ptp([q for (i, _), q in quality.items() if i == level]) for level in range(size)]
        apart = fitted[size - 1] < mean[0] - 5 * self.epsilon and ranges[-1] > 5 * max(*ranges[:-1], 2 * self.epsilon)
        return size - 1 if size > 2 and apart else size

    def ends(self):
        """The interval's ends: 95 % of what other items, and other seeds, could have shown."""
        n, quality = len(self.names), {cell: self.quality(cell) for cell in self.scores}
        stream = f"{self.task} {files.sha256_text(' '.join(self.names))}" + " m" * (self.metric == "perplexity")
        drawn = [
            np.repeat(np.arange(n), counts.astype(int))
            for batch in bootstrap.item_counts(n, stream, REPLICATES)
            for counts in batch
        ]
        moved = [{cell: self.quality(cell, items) - quality[cell] for cell in quality} for items in drawn]
        stretch = math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1) / stats.norm.ppf(0.975)
        mean = self.mean(quality)
        cells = [cell for cell in quality if cell[0] < self.deciding(quality, mean)]
        design = np.array(
            [[i == level for level in range(len(mean))] + [s == seed for seed in self.seeds] for i, s in cells], float
        )
        freedom = len(cells) - np.linalg.matrix_rank(design)

        def squares(values):
            values = np.array([values[cell] for cell in cells])
            return ((values - design @ np.linalg.lstsq(design, values, rcond=None)[0]) ** 2).sum()

        spread = np.zeros(REPLICATES)
        if freedom:
            chi = stats.chi2.ppf(files.rng(0, "bootstrap spread", f"{self.task} m global").random(REPLICATES), freedom)
            spread = np.sqrt(
                np.maximum(squares(quality) / chi - np.mean([squares(move) for move in moved]) / freedom, 0)
            )
        runs = {
            (i, s): f"{self.task} m " + (f"global {self.levels[i]:.6f}" if i else "dense") + f" {s}" for i, s in quality
        }
        normal = {cell: files.rng(0, "bootstrap seeds", run).standard_normal(REPLICATES) for cell, run in runs.items()}
        found = [self.first_outside(mean)]
        for b, move in enumerate(moved):
            found.append(
                self.first_outside(
                    mean + self.mean({cell: stretch * move[cell] + spread[b] * normal[cell][b] for cell in quality})
                )
            )
        ends = [*self.levels, math.inf]
        low = sorted(ends[first - 1] for first in found[1:])[math.ceil(0.025 * REPLICATES) - 1]
        high = sorted(ends[first] for first in found[1:])[math.ceil(0.975 * REPLICATES) - 1]
        return min(low, ends[found[0] - 1]), max(high, ends[found[0]])

    def readings(self):
        """The essential sparsity, the last compliant level and how often the band is left."""
        mean = self.mean({cell: self.quality(cell) for cell in self.scores})
        fitted, target, first = self.isotonic(mean), mean[0] - self.epsilon, self.first_outside(mean)
        inside = mean >= target - 1e-9
        found = math.nan
        if first < len(mean):
            part = (fitted[first - 1] - target) / (fitted[first - 1] - fitted[first])
            found = self.levels[first - 1] + max(part, 0) * (self.levels[first] - self.levels[first - 1])
        exits = sum(here and not after for here, after in itertools.pairwise(inside))
        return found, max(level for level, here in zip(self.levels, inside, strict=True) if here), exits


@pytest.mark.parametrize("metric", METRICS)
def test_random_curves_have_the_readings_and_the_interval_of_the_definition(metric, monkeypatch):
    monkeypatch.setattr(knees, "KNEEDLE_REPLICATES", 1)
    read = 0
    for number in range(10):
        study = Study(metric, number)
        runs, items = study.tables()
        row = knees.table(runs, lambda _, items=items: items, {study.task: study.epsilon}, REPLICATES)[0].iloc[0]
        if not pd.isna(row["reason"]) and not row["no_drop"]:
            continue
        read += 1
        found, last, exits = study.readings()
        assert pd.to_numeric(row["essential_sparsity"]) == pytest.approx(found, nan_ok=True) or (
            row["no_drop"] and math.isnan(found)
        )
        assert (row["last_compliant"], row["n_exits"]) == (last, exits)
        high = row["essential_sparsity_high"]
        assert (row["essential_sparsity_low"], math.inf if pd.isna(high) else high) == study.ends(), number
    assert read > 5
