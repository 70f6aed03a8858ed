"""The runs of curves on the scale that these are fitted on: the metric's own, with higher meaning better (`metrics.Metric`)."""

import numpy as np
import pandas as pd

from essential_sparsity import errors
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.metrics import METRICS


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
