"""Whether the items of a run give its values: intervals are drawn from the items, and stand beside the values.

True of every kind of task here; a metric of a user's own says how it comes from items (`metrics.Metric.from_items`), and may say it wrongly.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from essential_sparsity import errors
from essential_sparsity.curves import bootstrap
from essential_sparsity.curves.metrics import METRICS, Metric
from essential_sparsity.curves.quality import with_quality
from essential_sparsity.curves.single import labels_of

SAME = 0.1  # tolerances that the two may be apart
KEY = ["pattern", "sparsity", "seed"]  # a run among those of one model and task


def checked(items: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The same function from rows of table `runs`, of one model and task, to their rows of table `items`.

    It raises ValueError naming a run, and its metric, whose items give another value.
    """

    def read(runs: pd.DataFrame) -> pd.DataFrame:
        found = items(runs)
        for name, rows in with_quality(runs).groupby("metric", sort=True):
            _compare(METRICS[name], rows, found)
        return found

    return read


def _compare(metric: Metric, runs: pd.DataFrame, items: pd.DataFrame) -> None:
    """The runs with their `quality`, of one metric, beside what their items give; UserError where that is another."""
    if metric.group is not None:
        items = items[items["group"] == metric.group]
    parts = dict(iter(items.groupby(KEY)))
    runs = runs[[key in parts for key in runs[KEY].itertuples(index=False, name=None)]]
    parts = [parts[key] for key in runs[KEY].itertuples(index=False, name=None)]
    scores = [
        bootstrap.complete(metric, part[metric.item_column].to_numpy(float), part["weight"].to_numpy(float))
        for part in parts
    ]
    corrected = metric.from_items == "mean above chance"
    labels = labels_of(np.array([row.mean() for row in scores]), runs["quality"].to_numpy()) if corrected else 0
    for run, part, row in zip(runs.itertuples(), parts, scores, strict=True):
        targets, weights = part["target"].to_numpy(float), part["weight"].to_numpy(float)
        every = np.ones((1, len(row)), dtype=np.float32)
        told = float(bootstrap.of_items(metric, row[None], targets, weights, labels)(every)[0, 0])
        if not abs(told - run.quality) <= SAME * metric.epsilon:
            raise errors.UserError(
                f"The {metric.name} of {run.model}/{run.task}/{run.pattern}/{run.sparsity:.3f}/{run.seed} (model/task/pattern/sparsity/seed) "
                f"is {run.value:.6g}, but its items give {metric.value(told):.6g} by from_items = {metric.from_items!r}: an interval would be "
                "of something else. Mend that metric in METRICS (curves/metrics.py), or what its kind of task writes as items."
            )
