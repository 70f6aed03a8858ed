"""What lies beside the files of a data set and says otherwise than their names which of them are one: a card, a table of images.

The `datasets` library follows these. Here names decide, and where both do not agree, nothing is guessed: SourceError.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import pandas as pd
import pyarrow.parquet as pq
import yaml

from essential_sparsity import files
from essential_sparsity.acquire import splits, texts
from essential_sparsity.acquire.archives import SourceError

CARD = "README.md"
INFOS = "dataset_infos.json"  # what stood in the card's place before there was one
BESIDE = (CARD, INFOS)
FRONT = re.compile(r"\ufeff?\s*---\s*\n(.*?)\n---\s*(\n|$)", re.S)
SET = re.compile(r"\[[^]/]+\]")  # of characters, in a pattern of names
OF_IMAGES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
LABELS = ("label", "labels", "class", "category")
OF_TEXT = {"encoding": ("utf-8", "UTF-8", "utf8", "UTF8", "utf-8-sig")}
OF_COMMAS = OF_TEXT | {
    "sep": (",",),
    "delimiter": (",",),
    "header": (0, "infer"),
    "names": (),
    "column_names": (),
    "skiprows": (0, []),
    "skipfooter": (0,),
    "skip_blank_lines": (True,),
    "skipinitialspace": (False,),
    "nrows": (),
    "comment": (),
    "dialect": (),
    "quoting": (0,),
    "quotechar": ('"',),
    "doublequote": (True,),
    "escapechar": (),
    "lineterminator": ("\n",),
}
OF_OBJECTS = OF_TEXT | {"field": ()}
READ_SO = {  # suffix -> option of a configuration that decides what is a row and a cell -> its values with which such a file is read here
    ".csv": OF_COMMAS,
    ".tsv": OF_COMMAS | {"sep": ("\t",), "delimiter": ("\t",), "quoting": (0, 3)},
    ".json": OF_OBJECTS,
    ".jsonl": OF_OBJECTS,
    ".parquet": {"filters": ()},
}


class _Texts(yaml.SafeLoader):
    """What stands in a card as text (`yes`, `01`, `1.0`), but for null."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in known if tag.endswith((":null", ":merge"))]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def check_card(folder: Path, names: Sequence[str], suffixes: tuple[str, ...]) -> None:
    """Refuse files of which the card's configurations (`data_files`) make other splits than their names do, or several data sets,
    and which they read in another way."""
    _check_options(_configs(folder / CARD, yaml.SafeLoader), names)
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


def _check_options(configs: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Refuse files that a configuration reads with other separators, headers or the like than they are read with. Raises SourceError."""
    for config in configs:
        for name in _placed(_paths(config) or {"train": [f"{_folder(config)}**"]}, names):
            suffix = PurePosixPath(name.lower().removesuffix(".gz")).suffix
            for option, values in READ_SO.get(suffix, {}).items():
                said = config.get(option)
                if said not in values and (said is not None or (option == "header" and option in config)):
                    raise SourceError(
                        f"{CARD} says that {name} is read with {option} = {said!r}, which it is not here. Save it as its format has it "
                        "(config/README.md, How data are read), and take that out of the card."
                    )


def configurations(card: Path) -> dict[str, dict[str, list[str]]]:
    """Configuration -> split -> patterns of the names of its files, as a card says them; none where it says nothing that can be read."""
    return {str(config.get("config_name", "default")): of for config in _configs(card) if (of := _paths(config))}


def _configs(card: Path, loader: type[yaml.SafeLoader] = _Texts) -> list[Mapping[str, Any]]:
    return [config for config in _list(_front(card, loader).get("configs")) if isinstance(config, Mapping)]


def _paths(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Split -> patterns of the names of a configuration's files."""
    folder, of = _folder(config), _patterns(config.get("data_files"))
    return {split: [folder + path.removeprefix("./") for path in paths] for split, paths in of.items()}


def _folder(config: Mapping[str, Any]) -> str:
    """The folder of a configuration, with a slash at its end; nothing where it is that of the card."""
    folder = config.get("data_dir")
    folder = folder.removeprefix("./").strip("/") if isinstance(folder, str) else ""
    return f"{folder}/" if folder not in ("", ".") else ""


def classes(folder: Path, names: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Column -> the file that says its classes, and these in their order: features of a card's `dataset_info` and `configs`, or else
    of `dataset_infos.json`. Not where configurations differ; SourceError where those of these files do."""
    placed = {config for config, said in configurations(folder / CARD).items() if _placed(said, names)}
    known = {}
    for file, infos in ((INFOS, _infos(folder / INFOS)), (CARD, _front(folder / CARD))):
        found: dict[str, list[list[str]]] = {}
        for info in (*_list(infos.get("dataset_info")), *_list(infos.get("configs"))):
            if isinstance(info, Mapping) and (not placed or str(info.get("config_name", "default")) in placed):
                for column, said in _classes(info, file):
                    found.setdefault(column, []).append(said)
        for column, (first, *others) in found.items():
            other = next((said for said in others if said != first), None)
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
    for feature in (feature for feature in _list(info.get("features")) if isinstance(feature, Mapping)):
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
        if said := _list(said):
            yield str(feature.get("name")), list(map(str, said))


def _infos(path: Path) -> Mapping[str, Any]:
    """What `dataset_infos.json` says, as the front matter of a card would; empty where it says nothing that can be read."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    infos = []
    for config, info in said.items() if isinstance(said, Mapping) else ():
        features = info.get("features") if isinstance(info, Mapping) else None
        labels = [
            {"name": column, "class_label": feature}
            for column, feature in (features.items() if isinstance(features, Mapping) else ())
            if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel"
        ]
        names = [config, "default"] if len(said) == 1 else [config]  # of one configuration a card may say either
        infos += [{"config_name": name, "features": labels} for name in names]
    return {"dataset_info": infos}


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


def _front(card: Path, loader: type[yaml.SafeLoader] = _Texts) -> Mapping[str, Any]:
    """The front matter of a card; empty where it has none that can be read."""
    try:
        front = FRONT.match(card.read_text(encoding="utf-8"))
        said = yaml.load(front[1], loader) if front else None
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
