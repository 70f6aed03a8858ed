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
    try:
        front = FRONT.match(card.read_text(encoding="utf-8"))
        said = yaml.safe_load(front[1]) if front else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return {}
    found = {}
    for config in _list(said.get("configs") if isinstance(said, Mapping) else None):
        if isinstance(config, Mapping) and (of := _patterns(config.get("data_files"))):
            found[str(config.get("config_name", "default"))] = of
    return found


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
    """Name -> split, of the names that a pattern of a configuration fits; `**` also goes into folders."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = {}
    for split, paths in said.items():
        for path in paths:
            parts = re.split(r"(\*\*/|\*\*|\*|\?)", path.removeprefix("./"))
            pattern = re.compile("".join(signs.get(part) or re.escape(part) for part in parts))
            found |= {name: split for name in names if pattern.fullmatch(name)}
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
