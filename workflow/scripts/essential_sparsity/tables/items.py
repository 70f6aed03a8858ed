"""The evaluated items of some runs, found in the files of the jobs that computed them."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from essential_sparsity import tables
from essential_sparsity.study import grid


def reader(described: Mapping[str, Any], folder: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function from rows of the table `runs` to the rows of the table `items` of their jobs.

    `described`: the grid as `grid.expand` takes it; `folder`: results/items.
    """
    paths = {
        (job.model, job.task, job.pattern, level, job.seed): f"{folder}/{job.path}.parquet"
        for job in grid.expand(**described)
        for level in job.levels
    }

    def read(runs: pd.DataFrame) -> pd.DataFrame:
        rows = runs[["model", "task", "pattern", "sparsity", "seed"]].itertuples(index=False)
        wanted = {(row.model, row.task, row.pattern, grid.level(row.sparsity), row.seed) for row in rows}
        return tables.collect(sorted({paths[row] for row in wanted}), "items")

    return read
