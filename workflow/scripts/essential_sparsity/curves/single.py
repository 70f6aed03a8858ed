"""One curve: its mean over seeds, what other items and seeds could have shown, and its essential sparsity with an interval.

Intervals hold 95 % and come from resampled items and seeds (`bootstrap`), the same items for every curve of a task.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from essential_sparsity import errors, files
from essential_sparsity.curves import bootstrap, readings
from essential_sparsity.curves.intervals import gaps, or_none, percentiles
from essential_sparsity.curves.means import paired_means, qualities
from essential_sparsity.curves.metrics import METRICS, Metric


@dataclass
class Curve:
    """One curve: its levels (L), seeds (S), quality (L, S) with NaN for runs that are not there, and what is read off it.

    `replicates` (B, L): mean curves that other items and seeds could have shown, or None. `stream` names the items that
    were resampled: curves of one stream are paired. `ruined`: which dense runs collapsed, in words, or None;
    `guessing`: that they answer by chance.
    """

    key: dict
    metric: Metric
    epsilon: float
    levels: np.ndarray
    seeds: list[int]
    quality: np.ndarray
    ruined: str | None = None
    guessing: str | None = None
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

    @cached_property
    def means(self) -> np.ndarray:
        """Mean quality, (L), each level compared with dense over the same seeds."""
        return paired_means(self.quality, self.there)


def curve_of(key: dict, runs: pd.DataFrame, epsilon: float | None = None) -> Curve:
    """The curve of a key (model, task, metric, …) through these runs, rows of `with_quality`."""
    metric = METRICS[key["metric"]]
    levels, seeds, quality = qualities(runs)
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
    """How resampled items move a curve's runs, (B, L, S), how many items the metric has, and the name of their draws."""
    if curve.metric.group is not None:
        items = items[items["group"] == curve.metric.group]
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
    corrected = curve.metric.from_items == "mean above chance"
    labels = labels_of(scores.mean(axis=-1), curve.quality) if corrected else 0
    return bootstrap.moves(curve.metric, scores, targets, weights, stream, replicates, labels), len(names), stream


def labels_of(accuracies: np.ndarray, corrected: np.ndarray) -> int:
    """How many labels the data have, as the corrected accuracies of some runs tell; 0 where all are right, and nothing tells."""
    telling = accuracies > corrected  # false where a run is not there
    found = (1 - corrected[telling]) / (accuracies[telling] - corrected[telling])
    return round(float(np.median(found))) if len(found) else 0


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
        low, high = percentiles(curve.gap, *gaps(curve.levels, curve.outside))
        row |= {"essential_sparsity_low": or_none(low), "essential_sparsity_high": or_none(high)}
    return row
