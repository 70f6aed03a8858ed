"""The classes of a column and their order, as the card of a data set says them, beside files that do not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from essential_sparsity import files
from essential_sparsity.acquire import cards
from essential_sparsity.acquire.archives import SourceError


def said(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Column -> the file that says its classes, and these in their order: features of a card's `dataset_info` and `configs`, or else
    of `dataset_infos.json`. Not where configurations differ; SourceError where those of these files do."""
    placed = {config.name for config in cards.configurations(folder) if config.says_files and config.files(names)}
    known, found = {}, {}
    for file, info in cards.infos(folder):
        if not placed or str(info.get("config_name", cards.DEFAULT)) in placed:
            for column, names_of in _classes(info, file):
                found.setdefault((file, column), []).append(names_of)
    for (file, column), (first, *others) in found.items():
        other = next((names_of for names_of in others if names_of != first), None)
        if other and placed:
            raise SourceError(
                f"{file} says that the column {column!r} has the classes {files.some(first)}, and that it has {files.some(other)}, of one "
                "configuration. Correct it."
            )
        if not other:
            known[column] = (file, first)
    return known


def _classes(info: Mapping[str, Any], file: str) -> Iterator[tuple[str, list[str]]]:
    """(column, names of its classes in their order) of the features that a configuration has."""
    for feature in (feature for feature in cards.listed(info.get("features")) if isinstance(feature, Mapping)):
        kind = feature.get("dtype", feature)
        label = kind.get("class_label") if isinstance(kind, Mapping) else None
        said = label.get("names") if isinstance(label, Mapping) else None
        if isinstance(said, Mapping):
            expected = list(map(str, range(len(said))))
            codes = {str(int(code)) if str(code).isdecimal() else str(code): name for code, name in said.items()}
            codes = codes if len(codes) == len(said) else said
            if set(codes) != set(expected):
                raise SourceError(
                    f"{file} numbers the classes of the column {feature.get('name')!r} {files.some(list(codes))}; expected are all numbers from 0 on. "
                    "Correct it."
                )
            said = [codes[code] for code in expected]
        if said := cards.listed(said):
            yield str(feature.get("name")), list(map(str, said))


def classed(frame: pd.DataFrame, said: Mapping[str, tuple[str, Sequence[str]]]) -> pd.DataFrame:
    """The frame with the columns of classes that a card says as categories in its order, from their names or numbers, as `datasets`
    reads them (-1 and an empty cell: null). Raises SourceError for a column that holds others, both, or an order of its own."""
    for column in (column for column in said if column in frame):
        (file, names), cells = said[column], frame[column].astype(object)
        if twice := [name for name in names if names.count(name) > 1]:
            raise SourceError(f"{file} names the class {twice[0]!r} of the column {column!r} twice. Correct it.")
        texts = cells.map(_written)
        found = {text for text in texts if text.strip()}
        ways = ({name: code for code, name in enumerate(names)}, {str(code): code for code in range(-1, len(names))})
        fitting = [codes for codes in ways if found <= codes.keys()]
        told = f"{file} says that the column {column!r} has the classes {files.some(names)}, in this order, but "
        if not fitting:
            other = sorted(text for text in found if text not in ways[0])
            raise SourceError(f"{told}it holds {files.some(other)}. Correct it, or the column.")
        if any(codes[text] != fitting[0][text] for codes in fitting for text in found):
            raise SourceError(
                f"{told}it holds {files.some(sorted(found))}, which can be their names or their numbers. Write their names."
            )
        own = list(frame[column].cat.categories) if isinstance(frame[column].dtype, pd.CategoricalDtype) else []
        places = [fitting[0][str(name)] for name in own if str(name) in fitting[0]]
        if places != sorted(places):
            raise SourceError(f"{told}the data have them as {files.some(own)}. Correct it, or the column.")
        frame = frame.assign(**{column: pd.Categorical.from_codes([fitting[0].get(text, -1) for text in texts], names)})
    return frame


def _written(cell: Any) -> str:
    """A cell as a card would write it; nothing for a missing one."""
    if pd.api.types.is_scalar(cell) and pd.isna(cell):
        return ""
    return f"{cell:.0f}" if isinstance(cell, float) and cell.is_integer() else str(cell)
