"""The means over seeds that knees are read on, as figures, explorer and reader draw them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from essential_sparsity.curves.quality import with_quality

KEY = ["model", "task", "metric", "pattern"]


def with_dense(defined: pd.DataFrame) -> pd.DataFrame:
    """Of the runs of one curve, rows of `with_quality`, those whose seed has a dense run to compare them with."""
    return defined[defined["seed"].isin(defined.loc[defined["sparsity"] == 0, "seed"])]


def from_dense(runs: pd.DataFrame) -> pd.DataFrame:
    """The table `runs` with, under the name of each pattern too, the dense runs of the seeds that it has."""
    key = ["model", "task", "seed"]
    dense = runs["pattern"] == "dense"
    starts = runs[dense].drop(columns="pattern").merge(runs.loc[~dense, [*key, "pattern"]].drop_duplicates(), on=key)
    return pd.concat([runs, starts], ignore_index=True)


def level_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean quality over seeds: one row per (model, task, metric, pattern, sparsity) with a defined metric, as knees are read on.

    `runs`: the table of that name. A pattern starts at sparsity 0, the dense runs of its own seeds; `dense` is a row of all
    seeds. Columns: the five keys, `quality` (mean on the fitted scale, higher is better), `low` and `high` (of the seeds),
    `n_seeds`, `ragged`: the level lacks seeds, so its mean stands as far from the dense mean as its own runs stand from the
    dense runs of their seeds, and `low` and `high` are moved with it. Runs whose metric is undefined are left out, and so
    are those of seeds without a dense run where others have one. ValueErrors are those of `with_quality`.
    """
    found = [_levels(dict(zip(KEY, key, strict=True)), own) for key, own in with_quality(from_dense(runs)).groupby(KEY)]
    columns = [*KEY, "sparsity", "quality", "low", "high", "n_seeds", "ragged"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)


def dense_mean(means: pd.DataFrame, patterns: Sequence[str]) -> tuple[float | None, str | None]:
    """The dense mean that the first of these patterns starts at, and that pattern's name where others start elsewhere.

    `means`: rows of `level_means` of one model, task and metric. Where no pattern has a start, that of all dense runs; None
    where there are none.
    """
    starts = means[means["sparsity"] == 0].set_index("pattern")["quality"]
    known = [name for name in patterns if name in starts.index] or starts.index.tolist()
    if not known:
        return None, None
    first = float(starts[known[0]])
    return first, None if np.allclose(starts[known], first) else known[0]


def paired_means(quality: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Means over seeds, (…, L), with every level compared with dense over the seeds that it has.

    `there` (L, S): which runs there are; dense has all. A level with fewer seeds stands as far from the dense mean as its
    own runs stand from the dense runs of their seeds.
    """
    share = there / there.sum(axis=1, keepdims=True)
    values = np.where(there, quality, 0.0)
    return np.einsum("...ls,ls->...l", values, share) + values[..., 0, :] @ (share[0] - share).T


def qualities(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels (L) and seeds (S) of the runs of one curve, and their quality (L, S), NaN where there is no run."""
    levels, seeds = (np.sort(runs[name].unique()) for name in ("sparsity", "seed"))
    quality = np.full((len(levels), len(seeds)), np.nan)
    quality[np.searchsorted(levels, runs["sparsity"]), np.searchsorted(seeds, runs["seed"])] = runs["quality"]
    return levels, seeds, quality


def _levels(key: dict, runs: pd.DataFrame) -> pd.DataFrame | None:
    """The levels of one curve; None where dense runs alone have the metric."""
    paired = with_dense(runs)
    seeds = (runs if paired.empty else paired).groupby("sparsity")["quality"]
    levels = seeds.agg(quality="mean", low="min", high="max", n_seeds="size").reset_index()
    if key["pattern"] != "dense" and not levels["sparsity"].any():
        return None
    levels = levels.assign(**key, ragged=False)
    if len(paired):
        own = qualities(paired)[2]
        moved = paired_means(own, ~np.isnan(own)) - levels["quality"]
        levels["ragged"] = levels["n_seeds"] < levels["n_seeds"].iloc[0]
        levels[["quality", "low", "high"]] = levels[["quality", "low", "high"]].add(
            moved.where(levels["ragged"], 0), axis=0
        )
    return levels
