"""Frames of several files or splits as one: columns of one kind each, the order of categories kept."""

import pandas as pd
from pandas.api.types import is_numeric_dtype, union_categoricals

from essential_sparsity.acquire.archives import SourceError

CATEGORIES = "categories"


def joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The frames of the splits as one, categories kept; a column `split` where there is more than one."""
    if len(frames) > 1:
        frames = {split: frame if "split" in frame else frame.assign(split=split) for split, frame in frames.items()}
    return concatenated(frames)


def concatenated(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames by the name of their split or file, one after the other. Raises SourceError for a column of two kinds."""
    for column in dict.fromkeys(column for frame in frames.values() for column in frame):
        kinds = {name: _kind(frame[column]) for name, frame in frames.items() if column in frame}
        found = sorted({kind for kind in kinds.values() if kind})
        if len(found) > 1:
            told = ", ".join(f"{kind} in {next(name for name in kinds if kinds[name] == kind)}" for kind in found)
            raise SourceError(f"The column {column!r} holds {told}. Write it the same way in all files.")
        if found == [CATEGORIES]:
            parts = [frame[column] for frame in frames.values() if column in frame and _kind(frame[column])]
            known = union_categoricals(parts, ignore_order=True).categories
            frames = {
                name: frame.assign(**{column: pd.Categorical(frame[column], known)}) if column in frame else frame
                for name, frame in frames.items()
            }
    return pd.concat(list(frames.values()), ignore_index=True)


def _kind(column: pd.Series) -> str | None:
    """What a column holds, in a word; None where every value is missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return CATEGORIES
    values = column.dropna()
    if values.empty:
        return None
    if is_numeric_dtype(values.dtype):
        return "numbers"
    return "texts" if isinstance(values.iloc[0], str) else type(values.iloc[0]).__name__
