"""Frames of several files or splits as one: columns of one kind each, the order of categories kept."""

import re
import unicodedata
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from essential_sparsity.acquire.archives import SourceError

CATEGORIES = "categories"
EXACT = 1 << 53  # whole numbers up to it are told apart as floats, which pandas makes of a column that lacks some


def joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The frames of the splits as one, categories kept; a column `split` where there is more than one."""
    if len(frames) > 1:
        frames = {split: frame if "split" in frame else frame.assign(split=split) for split, frame in frames.items()}
    return concatenated(frames)


def concatenated(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames by the name of their split or file, one after the other. Raises SourceError for a column of two kinds, and for
    categories in two orders."""
    for column in dict.fromkeys(column for frame in frames.values() for column in frame):
        kinds = {name: _kind(frame[column]) for name, frame in frames.items() if column in frame}
        found = sorted({kind for kind in kinds.values() if kind})
        if len(found) > 1:
            told = ", ".join(f"{kind} in {next(name for name in kinds if kinds[name] == kind)}" for kind in found)
            raise SourceError(f"The column {column!r} holds {told}. Write it the same way in all files.")
        if found == [CATEGORIES]:
            known = _in_one_order(
                column, {name: list(frames[name][column].cat.categories) for name in kinds if kinds[name]}
            )
            frames = {
                name: frame.assign(**{column: pd.Categorical(frame[column], known)}) if column in frame else frame
                for name, frame in frames.items()
            }
    whole = pd.concat(list(frames.values()), ignore_index=True)
    for column in (name for name in whole if not is_integer_dtype(whole[name])):
        parts = {name: frame[column] for name, frame in frames.items() if column in frame}
        for name, part in parts.items():
            if (
                is_integer_dtype(part)
                and part.notna().any()
                and max(abs(int(part.min())), abs(int(part.max()))) > EXACT
            ):
                raise _inexact(name, column, "beside files that lack some")
    return whole


def check_exact(table: pa.Table, name: str) -> None:
    """Refuse a column of large whole numbers that lacks some: a frame would round them, and different ones would be one. SourceError."""
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_integer(field.type) and 0 < column.null_count < len(column):
            low, high = pc.min_max(column).as_py().values()
            if max(abs(low), abs(high)) > EXACT:
                raise _inexact(name, field.name, "and lacks some")


def _inexact(name: str, column: str, beside: str) -> SourceError:
    return SourceError(
        f"{name}: the column {column!r} holds whole numbers beyond {EXACT:,} {beside}, so they would be rounded, and several become one. "
        "Write them as texts, or leave the rows without one out."
    )


def _in_one_order(column: str, parts: dict[str, list]) -> list:
    """The categories of several frames, by their names, in an order that is that of each. Raises SourceError for two orders."""
    lists = list({tuple(part): list(part) for part in parts.values()}.values())
    if len(lists) == 1:
        return lists[0]
    sorter = TopologicalSorter({category: () for part in lists for category in part})
    for part in lists:
        for before, after in pairwise(part):
            sorter.add(after, before)
    try:
        return list(sorter.static_order())
    except CycleError as error:
        raise SourceError(
            f"The classes of the column {column!r} stand in another order in {', '.join(parts)} "
            f"({'; '.join(', '.join(map(str, part[:5])) for part in lists[:3])}), and their order is that of the labels. Give them one order in all files, "
            "or write the column as texts."
        ) from error


def blank(labels: pd.Series) -> pd.Series:
    """Which labels are texts without a character that is seen."""
    return labels.astype(object).map(lambda label: isinstance(label, str) and unseen(label)).astype(bool)


def unseen(text: str) -> bool:
    """Whether a text has no character that is seen: blanks, and signs of control or layout (a zero-width space, a byte-order mark)."""
    return all(_is_unseen(character) for character in text)


def as_seen(text: str) -> str:
    """A text without the signs that nobody sees, blanks as one space each, and none around it; accents in one form (NFC)."""
    kept = (" " if character.isspace() else character for character in text)
    shown = "".join(character for character in kept if character == " " or not _is_unseen(character))
    return unicodedata.normalize("NFC", " ".join(shown.split()))


def _is_unseen(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def ordered(labels: Collection) -> list:
    """Sorted; texts that are all whole numbers by their value. Raises TypeError for labels of several kinds."""
    if all(isinstance(label, str) and re.fullmatch(r"-?\d+", label) for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _kind(column: pd.Series) -> str | None:
    """What a column holds, in a word; None where every value is missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return CATEGORIES
    values = column.dropna()
    if values.empty:
        return None
    if is_bool_dtype(values.dtype) or isinstance(values.iloc[0], bool):  # objects, where one is missing
        return "truth values"
    if is_numeric_dtype(values.dtype):
        return "numbers"
    return "texts" if isinstance(values.iloc[0], str) else type(values.iloc[0]).__name__
