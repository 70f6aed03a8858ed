"""Which columns of a table are its texts, pairs of texts, images, labels and ratings, told by their names and by what they hold."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from essential_sparsity import files
from essential_sparsity.acquire.refusal import SourceError, option

# what columns are called -> what tasks call them; of several that are there the first counts
TEXTS = ("text", "sentence", "content", "review", "document", "body", "comment")
PAIRS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LABELS = ("label", "labels", "class", "category", "target", "gold", "topic", "sentiment", "y")
SCORES = ("target", "score", "similarity", "label", "rating", "gold")
RATED = ("score", "similarity", "rating")  # whole numbers of such a name beside a pair
IMAGES = ("image", "img", "picture")
MANY = 10  # times that a class of several words stands in a column on average, so that it is no text
SHORTEST_CLASS = 2  # rows that a class has at least, so that a column can be one of labels


def check_header(frame: pd.DataFrame, place: str) -> None:
    """Refuse a table whose first row was read as its header: a name stands in its own column, among what repeats there."""
    for name in frame.columns.drop(["item", "split"], errors="ignore"):
        if pd.api.types.is_string_dtype(frame[name]) and (frame[name] == name).any() and _like_classes(frame[name]):
            raise SourceError(
                f"{place}: the column {name!r} holds its own name, as where a first row of data stands in the place of the header. "
                "Put a line with the names of the columns above it, as text,label."
            )


def check_labels(labels: pd.Series, place: str) -> None:
    """Refuse labels that no classification can use. SourceError."""
    if _continuous(labels):
        raise SourceError(
            f"{place}: the labels are numbers such as {labels.dropna().iloc[0]}, no classes. Put classes into the column that is read as "
            f"label; a number to predict is the target of two texts: {option('columns', 'text_a=…,text_b=…,target=…')}."
        )
    known = sorted(set(map(str, labels.dropna())) - {""})
    if len(known) < 2:
        raise SourceError(
            f"{place}: the column label has {files.some(known) if known else 'no label'} alone: at least two are needed."
        )
    if 2 * len(known) > labels.notna().sum():
        raise SourceError(
            f"{place}: the column label has {len(known):,} values in {len(labels):,} rows ({files.some(known, 3)}): hardly one of them "
            f"stands twice, so they are no classes. Name the column of the labels: {option('columns', 'text=…,label=…')}."
        )


def renaming(frame: pd.DataFrame, place: str) -> str | None:
    """What the columns are called in the tasks table's way, from their names and contents. SourceError where unclear."""
    names = [name for name in frame if name not in ("item", "split")]
    lower = {str(name).lower(): name for name in names}
    found = {}
    if image := _first(lower, IMAGES):
        found["image"] = image
    elif pair := next((pair for pair in PAIRS if set(pair) <= lower.keys()), None):
        found |= {"text_a": lower[pair[0]], "text_b": lower[pair[1]]}
    elif text := _first(lower, TEXTS):
        found["text"] = text
    left = [name for name in names if name not in found.values()]
    if not found:
        wordy = [name for name in names if _wordy(frame[name]) and not _like_classes(frame[name])]
        if len(wordy) == 1:
            found["text"] = wordy[0]
            left.remove(wordy[0])
    kept = {str(name).lower(): name for name in left}
    if "text_a" in found and (score := _first(kept, SCORES)) and _continuous(frame[score]):
        found["target"] = score
    elif label := _first(kept, LABELS):
        found["label"] = label
    elif "text_a" in found and (rated := _first(kept, RATED)) and _numeric(frame[rated]):
        raise SourceError(f"{place}: {rated} can be a number to predict or a class of pairs of texts. {_how(names)}")
    elif len(classes := [name for name in left if _like_classes(frame[name])]) == 1:
        found["label"] = classes[0]
    elif classes:
        raise SourceError(
            f"{place}: it is not clear which of {', '.join(map(str, classes))} is the label. {_how(names)}"
        )
    if not {"image", "text", "text_a"} & found.keys():
        raise SourceError(f"{place}: it is not clear which column holds the text. {_how(names)}")
    both = {"text", "text_a"} <= set(names)  # of which what is found is to be read
    renamed = {new: old for new, old in found.items() if new != old or (both and new.startswith("text"))}
    if unfit := [old for old in renamed.values() if re.search("[,=]", str(old))]:
        raise SourceError(
            f"{place}: the column {unfit[0]!r} has a comma or an equals sign in its name, so the tasks table cannot name it. Rename "
            "it in the file."
        )
    return ",".join(f"{new}={old}" for new, old in renamed.items()) or None


def _how(names: Iterable[Any]) -> str:
    return (
        f"Its columns are: {', '.join(map(str, names))}. Say {option('columns', 'text=…,label=…')}; two texts are "
        "text_a=…,text_b=…, and a number to predict is target=…."
    )


def _first(there: Mapping[str, Any], wanted: Iterable[str]) -> Any:
    return next((there[name] for name in wanted if name in there), None)


def _wordy(column: pd.Series) -> bool:
    """Whether a column holds texts of several words."""
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return False
    values = column.dropna()
    return bool(len(values)) and all(isinstance(v, str) for v in values) and values.str.contains(" ").mean() > 0.5


def _continuous(column: pd.Series) -> bool:
    """Whether a column holds numbers that are no counts; cells of a text file are text."""
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return False
    return _numeric(column) and bool((pd.to_numeric(column.dropna()) % 1 != 0).any())


def _numeric(column: pd.Series) -> bool:
    """Whether all values of a column are numbers, or texts that are."""
    numbers = pd.to_numeric(column.dropna(), errors="coerce")
    return bool(len(numbers)) and bool(numbers.notna().all())


def _like_classes(column: pd.Series) -> bool:
    """Whether a column's values repeat as classes do."""
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return True
    values = column.dropna()
    if (
        not len(values)
        or _continuous(column)
        or any(isinstance(value, bytes | dict | list) for value in values.head(50))
    ):
        return False
    counts = values.value_counts()
    repeating = len(counts) > 1 and counts.median() >= SHORTEST_CLASS
    return repeating and (not _wordy(column) or MANY * len(counts) <= len(values))
