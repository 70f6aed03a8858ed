"""The runs of curves on the scale that these are fitted on: the metric's own, with higher meaning better (`metrics.Metric`)."""

import numpy as np
import pandas as pd

from essential_sparsity import errors
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.metrics import METRICS


def with_quality(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose metric is defined, with their `quality`.

    Raises ValueError for an unknown metric, and for a value that the metric's logarithmic scale does not have.
    """
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
