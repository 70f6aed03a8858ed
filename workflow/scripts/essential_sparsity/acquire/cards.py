"""What lies beside the files of a data set and says otherwise than their names which of them are one: a card, a table of images.

The `datasets` library follows these. Here names decide, and where both do not agree, nothing is guessed: SourceError.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import yaml

from essential_sparsity import files
from essential_sparsity.acquire import splits, texts
from essential_sparsity.acquire.archives import SourceError

CARD = "README.md"
FRONT = re.compile(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", re.S)
SET = re.compile(r"\[[^]/]+\]")  # of characters, in a pattern of names
OF_IMAGES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
LABELS = ("label", "labels", "class", "category")


def check_card(folder: Path, names: Sequence[str], suffixes: tuple[str, ...]) -> None:
    """Refuse files of which the card's configurations (`data_files`) make other splits than their names do, or several data sets."""
    ours = {name: split for split, found in splits.grouped(names, suffixes).items() for name in found}
    known = {config: of for config, said in configurations(folder / CARD).items() if (of := _placed(said, names))}
    if not known:
        return
    config, said = max(known.items(), key=lambda entry: len(entry[1]))
    if other := [name for name in names if name not in said and any(name in of for of in known.values())]:
        raise SourceError(
            f"{CARD} says that {files.some(list(said), 3)} are the configuration {config!r}, and {files.some(other, 3)} another one, but all "
            f"would become one. {splits.NAME_THE_FOLDER}"
        )
    parts = {ours[name] for name in said}
    if other := [name for name in names if name not in said and ours[name] in parts]:
        raise SourceError(
            f"{CARD} says that {files.some(list(said), 3)} are the configuration {config!r}, without {files.some(other, 3)}, whose rows would "
            f"stand beside theirs. Take what is not meant out of the folder. {splits.NAME_THE_FOLDER}"
        )
    there = {name: splits.SPLIT_OF.get(split.lower(), split) for name, split in said.items()}
    apart = {(ours[name], split) for name, split in there.items()}
    crossed = any(mine != split and {mine, split} <= set(splits.WORDS) for mine, split in apart)
    if crossed or len({split for _, split in apart}) != len({mine for mine, _ in apart}):
        told = [f"{name} is the split {split}" for name, split in said.items()]
        raise SourceError(
            f"{CARD} says that {files.some(told, 4)}, but splits are told by the names of files here, which say otherwise. Rename the files, "
            "as train.csv and test.csv, or name one in the column id."
        )


def configurations(card: Path) -> dict[str, dict[str, list[str]]]:
    """Configuration -> split -> patterns of the names of its files, as a card says them; none where it says nothing that can be read."""
    found = {}
    for config in _list(_front(card).get("configs")):
        if not isinstance(config, Mapping):
            continue
        folder, of = config.get("data_dir"), _patterns(config.get("data_files"))
        if isinstance(folder, str) and (folder := folder.strip("/")):
            of = {split: [f"{folder}/{path.removeprefix('./')}" for path in paths] for split, paths in of.items()}
        if of:
            found[str(config.get("config_name", "default"))] = of
    return found


def classes(card: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Column -> its classes in their order, as the features of a card's `dataset_info` say them; not where its configurations differ."""
    placed = {config for config, said in configurations(card).items() if _placed(said, names)}
    found: dict[str, list[list[str]]] = {}
    for info in _list(_front(card).get("dataset_info")):
        if isinstance(info, Mapping) and (not placed or str(info.get("config_name", "default")) in placed):
            for feature in (feature for feature in _list(info.get("features")) if isinstance(feature, Mapping)):
                kind = feature.get("dtype")
                label = kind.get("class_label") if isinstance(kind, Mapping) else None
                said = label.get("names") if isinstance(label, Mapping) else None
                said = [said[code] for code in sorted(said, key=int)] if isinstance(said, Mapping) else _list(said)
                if said:
                    found.setdefault(str(feature.get("name")), []).append(list(map(str, said)))
    return {column: lists[0] for column, lists in found.items() if all(other == lists[0] for other in lists)}


def classed(frame: pd.DataFrame, said: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The frame with the columns of classes that a card says as categories in its order, from their names or numbers, as `datasets`
    reads them (-1 and an empty cell: null). Raises SourceError for a column that holds others, both, or an order of its own."""
    for column in (column for column in said if column in frame):
        names, cells = said[column], frame[column].astype(object)
        if twice := [name for name in names if names.count(name) > 1]:
            raise SourceError(f"{CARD} names the class {twice[0]!r} of the column {column!r} twice. Correct the card.")
        texts = cells.map(lambda cell: "" if pd.isna(cell) else f"{cell:g}" if isinstance(cell, float) else str(cell))
        found = {text for text in texts if text.strip()}
        ways = ({name: code for code, name in enumerate(names)}, {str(code): code for code in range(-1, len(names))})
        fitting = [codes for codes in ways if found <= codes.keys()]
        told = f"{CARD} says that the column {column!r} has the classes {files.some(names)}, in this order, but "
        if not fitting:
            other = sorted(text for text in found if text not in ways[0])
            raise SourceError(f"{told}it holds {files.some(other)}. Correct the card, or the column.")
        if any(codes[text] != fitting[0][text] for codes in fitting for text in found):
            raise SourceError(
                f"{told}it holds {files.some(sorted(found))}, which can be their names or their numbers. Write their names."
            )
        own = list(frame[column].cat.categories) if isinstance(frame[column].dtype, pd.CategoricalDtype) else []
        places = [fitting[0][str(name)] for name in own if str(name) in fitting[0]]
        if places != sorted(places):
            raise SourceError(f"{told}the data have them as {files.some(own)}. Correct the card, or the column.")
        frame = frame.assign(**{column: pd.Categorical.from_codes([fitting[0].get(text, -1) for text in texts], names)})
    return frame


def _front(card: Path) -> Mapping[str, Any]:
    """The front matter of a card; empty where it has none that can be read."""
    try:
        front = FRONT.match(card.read_text(encoding="utf-8"))
        said = yaml.safe_load(front[1]) if front else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return {}
    return said if isinstance(said, Mapping) else {}


def _patterns(said: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if isinstance(said, Mapping):
        said = [{"split": split, "path": path} for split, path in said.items()]
    for part in _list(said):
        split, path = (part.get("split"), part.get("path")) if isinstance(part, Mapping) else ("train", part)
        found.setdefault(str(split), []).extend(text for text in _list(path) if isinstance(text, str))
    return found


def _list(value: Any) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _placed(said: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, str]:
    """Name -> split, of the names that a pattern of a configuration fits; `**` also goes into folders, `[12]` is one of these."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = {}
    for split, paths in said.items():
        for path in paths:
            parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]/]+\])", path.removeprefix("./"))
            told = (
                signs.get(part) or (part.replace("[!", "[^") if SET.fullmatch(part) else re.escape(part))
                for part in parts
            )
            pattern = re.compile("".join(told))
            found |= {name: split for name in names if name == path.removeprefix("./") or pattern.fullmatch(name)}
    return found


def check_images(folder: Path, names: Sequence[str], left_out: Sequence[str]) -> None:
    """Refuse images of which a table beside them (`metadata.csv`: file_name, label) tells other classes than their folders do."""
    for name in (name for name in left_out if PurePosixPath(name).name in OF_IMAGES):
        said = _table(folder / name)
        column = next((column for column in said if str(column).lower() in LABELS), None)
        if column is None or "file_name" not in said:
            continue
        paths = [str(PurePosixPath(name).parent / str(path)) for path in said["file_name"]]
        of = {path: str(label) for path, label in zip(paths, said[column], strict=True)}
        pairs = {(PurePosixPath(path).parent.name, of[path]) for path in names if path in of}
        if pairs and not len(pairs) == len({mine for mine, _ in pairs}) == len({theirs for _, theirs in pairs}):
            raise SourceError(
                f"{name} has a column {column!r} ({files.some(sorted({label for _, label in pairs}), 3)}), but labels are the names of folders "
                f"here ({files.some(sorted({mine for mine, _ in pairs}), 3)}). Move the images into a folder of each label, or take {name} out."
            )


def _table(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    return texts.delimited(path) if path.suffix == ".csv" else texts.records(path)
