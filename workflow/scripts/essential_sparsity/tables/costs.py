"""What the jobs cost: Snakemake's benchmark files as one table."""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from essential_sparsity import errors


def table(paths: Iterable[str | os.PathLike], root: str | os.PathLike) -> pd.DataFrame:
    """Table `costs` from Snakemake benchmark files below the folder `root`: `root/{rule}/{name}.tsv`.

    A name of the form `{model}/{task}/{pattern}/{levels}/seed{seed}` also fills those columns. Repeats in one file are
    added up. Raises ValueError naming a file that is no benchmark.
    """
    return pd.DataFrame([_cost(Path(path), Path(root)) for path in paths])


def _cost(path: Path, root: Path) -> dict:
    rule, *parts = path.relative_to(root).with_suffix("").parts
    try:  # "NA" and "-" stand for jobs that ended before the first sample of CPU time and memory
        measured = pd.read_csv(path, sep="\t", usecols=["s", "max_rss", "cpu_time"], na_values=["-"], dtype=float)
    except (ValueError, UnicodeDecodeError) as error:
        raise errors.UserError(
            f"{path} is not a Snakemake benchmark file ({error}). Delete it; it comes back with the job that made it."
        ) from error
    run = len(parts) == 5 and parts[4].startswith("seed") and parts[4][4:].isdecimal()
    model, task, pattern, levels = parts[:4] if run else [None] * 4
    return {
        "rule": rule,
        "name": "/".join(parts),
        "model": model,
        "task": task,
        "pattern": pattern,
        "levels": levels,
        "seed": int(parts[4][4:]) if run else None,
        "wall_s": measured["s"].sum(),
        "cpu_s": measured["cpu_time"].sum(min_count=1),
        "max_rss_mb": measured["max_rss"].max(),
    }
