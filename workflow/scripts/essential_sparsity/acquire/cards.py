"""The card of a data set (`README.md`), and `dataset_infos.json` that stood in its place before: what they say, as it stands there.

Whatever in them cannot be read says nothing.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml

CARD = "README.md"
INFOS = "dataset_infos.json"
BESIDE = (CARD, INFOS)
DEFAULT = "default"
FRONT = re.compile(r"\ufeff?\s*---\s*\n(.*?)\n---\s*(\n|$)", re.S)
MAGIC = re.compile(r"[*?[]")  # what makes a path a pattern
SIGNS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
SET = re.compile(r"\[[^]/]+\]")  # of characters, in a pattern of names


class _Texts(yaml.SafeLoader):
    """What stands in a card as text (`yes`, `01`, `1.0`), but for null."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in known if tag.endswith((":null", ":merge"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Configuration:
    """One of the data sets that a card speaks of. `folder`: that of its files, with a slash at its end, or nothing; `patterns`: split -> of
    the names of its files below the card, in their order; None where the names of the files tell the splits."""

    name: str
    folder: str
    patterns: Mapping[str, Sequence[str]] | None
    is_default: bool
    said: Mapping[str, Any]

    @property
    def says_files(self) -> bool:
        """Whether it says which files are its own; one that does not is all of them."""
        return self.patterns is not None or self.folder != ""

    def placed(self, names: Collection[str]) -> dict[str, list[str]] | None:
        """Split -> its files of some names, in the order in which it names them, one as often as it does; None as of `patterns`."""
        known = dict.fromkeys(sorted(names))
        return self.patterns and {
            split: [name for path in paths for name in _meant(path, known)] for split, paths in self.patterns.items()
        }

    def files(self, names: Collection[str]) -> set[str]:
        """Of some names those of its files."""
        placed = self.placed(names)
        if placed is None:
            return {name for name in names if name.startswith(self.folder)}
        return {name for found in placed.values() for name in found}

    def lacking(self, names: Collection[str]) -> list[tuple[str, str]]:
        """(split, path) that mean none of some names: each that is no pattern, and all of a split that has no file."""
        known, found = dict.fromkeys(names), []
        for split, paths in (self.patterns or {}).items():
            none = [path for path in paths if not _meant(path, known)]
            found += [(split, path) for path in none if len(none) == len(paths) or not MAGIC.search(path)]
        return found


def configurations(folder: Path, loader: type[yaml.SafeLoader] = _Texts) -> list[Configuration]:
    """What the card in a folder says of configurations."""
    said = [config for config in listed(front(folder, loader).get("configs")) if isinstance(config, Mapping)]
    return [_configuration(config, len(said) == 1) for config in said]


def _configuration(said: Mapping[str, Any], only: bool) -> Configuration:
    name, place = str(said.get("config_name", DEFAULT)), said.get("data_dir")
    place = place.removeprefix("./").strip("/") if isinstance(place, str) else ""
    place = f"{place}/" if place not in ("", ".") else ""
    found = {
        split: [place + path.removeprefix("./") for path in paths]
        for split, paths in _patterns(said.get("data_files")).items()
    }
    is_default = only or name == DEFAULT or str(said.get("default")).lower() == "true"
    return Configuration(name, place, found or None, is_default, said)


def _patterns(said: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if isinstance(said, Mapping):
        said = [{"split": split, "path": path} for split, path in said.items()]
    for part in listed(said):
        split, path = (part.get("split"), part.get("path")) if isinstance(part, Mapping) else ("train", part)
        if texts := [text for text in listed(path) if isinstance(text, str)]:
            found.setdefault(str(split), []).extend(texts)
    return found


def _meant(pattern: str, names: Mapping[str, None]) -> list[str]:
    """The names that a pattern means, as `datasets` reads it: `**` also goes into folders, `[12]` is one of these, and what is hidden
    is meant where it says so."""
    if not MAGIC.search(pattern):
        return [pattern] if pattern in names else []
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]/]+\])", pattern)
    told = (SIGNS.get(part) or (part.replace("[!", "[^") if SET.fullmatch(part) else re.escape(part)) for part in parts)
    fits, hidden = re.compile("".join(told)).fullmatch, _hidden(pattern)
    return [name for name in names if fits(name) and _hidden(name) == hidden]


def _hidden(path: str) -> int:
    """How many parts of a path begin with a dot, or as folders of tools do."""
    *folders, _ = parts = path.split("/")
    return sum(part.startswith(".") for part in parts) + sum(part.startswith("__") for part in folders)


def infos(folder: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """(file, what it says of one configuration): `dataset_infos.json`, then the card's `dataset_info` and `configs`."""
    of_card = front(folder)
    found = [(INFOS, info) for info in _legacy(folder / INFOS)]
    found += [(CARD, info) for key in ("dataset_info", "configs") for info in listed(of_card.get(key))]
    return [(file, info) for file, info in found if isinstance(info, Mapping)]


def _legacy(path: Path) -> list[Mapping[str, Any]]:
    """What `dataset_infos.json` says, as a card would."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    found: list[Mapping[str, Any]] = []
    for config, info in said.items() if isinstance(said, Mapping) else ():
        features, of_splits = (info.get(key) if isinstance(info, Mapping) else None for key in ("features", "splits"))
        labels = [
            {"name": column, "class_label": feature}
            for column, feature in (features.items() if isinstance(features, Mapping) else ())
            if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"
        ]
        names = [{"name": split} for split in of_splits] if isinstance(of_splits, Mapping) else []
        known = [config, DEFAULT] if len(said) == 1 else [config]  # of one configuration a card may say either
        found += [{"config_name": name, "features": labels, "splits": names} for name in known]
    return found


def front(folder: Path, loader: type[yaml.SafeLoader] = _Texts) -> Mapping[str, Any]:
    """The front matter of the card in a folder; empty where it has none."""
    try:
        found = FRONT.match((folder / CARD).read_text(encoding="utf-8", errors="replace"))
        said = yaml.load(found[1], loader) if found else None
    except (OSError, yaml.YAMLError, RecursionError):
        return {}
    return said if isinstance(said, Mapping) else {}


def listed(value: Any) -> list:
    """A list as it is, nothing as an empty one, and what stands alone as one of it."""
    return value if isinstance(value, list) else [] if value is None else [value]
