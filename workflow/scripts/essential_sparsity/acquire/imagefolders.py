"""Images in a folder of each label, and what lies beside them."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd
import pyarrow.parquet as pq

from essential_sparsity import files
from essential_sparsity.acquire import splits, texts
from essential_sparsity.acquire.archives import SourceError
from essential_sparsity.acquire.frames import ordered
from essential_sparsity.acquire.stated import NOTHING, Stated

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".webp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".avif",
)
TABLES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
LABELS = ("label", "labels", "class", "category")
INNER = "images"  # a folder that is no label, beside others that are


def read(folder: Path, names: list[str], said: Stated = NOTHING) -> pd.DataFrame:
    """`{split}/{label}/{image file}`, or without the splits; the item is that path. Labels are the folders' names."""
    rows = _rows(names, said.vocabulary) if said.placed is None else _placed(said.placed)
    frame = pd.DataFrame(sorted(rows), columns=["item", "label", "split"])
    _refuse_apart(frame)
    frame["split"] = frame["split"].map(splits.spelt(frame["split"].unique()))
    frame["image"] = [(folder / name).read_bytes() for name in frame["item"]]
    labels = ordered(frame["label"].unique())
    frame = frame.assign(label=pd.Categorical(frame["label"], labels))[["item", "image", "label", "split"]]
    return frame.drop(columns="split") if (frame["split"] == frame["split"].iloc[0]).all() else frame


def _placed(placed: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """(name, label, split) of images that a card puts into splits: `{label}/{image}` below as many folders each."""
    rows = [(name, PurePosixPath(name).parent.name, split) for split, names in placed.items() for name in names]
    depths = {len(PurePosixPath(name).parts): name for name, *_ in rows}
    if wrong := depths.get(1) or (min(depths.items())[1] if len(depths) > 1 else None):
        raise SourceError(
            f"{wrong} lies in no folder of a label, or in fewer folders than other images. Move each image into the folder of its label."
        )
    return rows


def _rows(names: Sequence[str], vocabulary: splits.Vocabulary) -> list[tuple[str, str, str]]:
    """(name, label, split) of images, by their folders. Raises SourceError where these do not tell them."""
    rows = []
    for name in names:
        *parts, _ = PurePosixPath(name).parts
        split = vocabulary.splits_in(parts[0]) if len(parts) > 1 else set()
        if len(parts) == 3 and parts[-1] == INNER and split:
            raise SourceError(_in_one_folder(name, f"below that of its label {parts[1]!r}"))
        if len(parts) not in (1, 2) or (len(parts) == 2 and len(split) != 1):
            raise SourceError(
                f"{name} does not lie as the format imagefolder says: {{split}}/{{label}}/{{image}} with the splits train, "
                "validation, test, or {label}/{image}. Move the images so, name the folder that holds the splits or labels "
                f"in the column id, or {splits.SAY_IT}."
            )
        rows.append((name, parts[-1], next(iter(split), splits.ALL)))
    of_split: dict[str, set[str]] = {}
    for name, _, split in rows:
        of_split.setdefault(split, set()).add(PurePosixPath(name).parts[0])
    for split, places in of_split.items():
        if split != splits.ALL and len(places) > 1:
            raise SourceError(
                f"The folders {files.some(sorted(places))} would all be the split {split}. Rename them, take what is not meant out, or name "
                "another folder in the column id."
            )
    without = sorted((name, label) for name, label, split in rows if split == splits.ALL)
    if without and (len(of_split) > 1 or all(vocabulary.splits_in(label) for _, label in without)):
        raise SourceError(
            f"{without[0][0]} lies in no folder of a label, as {{split}}/{{label}}/{{image}} has them. Move the images so, or name another "
            "folder in the column id."
        )
    _refuse_splits_in_files([name for name, _ in without], vocabulary)
    return rows


def _refuse_splits_in_files(names: Sequence[str], vocabulary: splits.Vocabulary) -> None:
    """Refuse images without splits all of whose own names say one (`cat/train_1.png`): they would be one table. Raises SourceError."""
    said = {name: vocabulary.splits_in(PurePosixPath(name).stem) for name in names}
    found = sorted(set().union(*said.values()))
    if len(found) > 1 and all(said.values()):
        raise SourceError(
            f"{files.some(names, 3)}: the names of these images say the splits {files.some(found)}, which are read of folders. Move the images "
            f"so that they lie as {{split}}/{{label}}/{{image}}, or {splits.SAY_IT}."
        )


def _refuse_apart(frame: pd.DataFrame) -> None:
    """Refuse a split whose images all lie in a folder `images`, beside splits that have labels. Raises SourceError."""
    labels = frame.groupby("split")["label"].agg(set)
    if any(of_split == {INNER} for of_split in labels) and any(INNER not in of_split for of_split in labels):
        name = frame["item"][frame["label"] == INNER].iloc[0]
        raise SourceError(_in_one_folder(name, "beside splits with a folder of each label"))


def _in_one_folder(name: str, where: str) -> str:
    return (
        f"{name} lies in a folder {INNER} {where}, as in Tiny-ImageNet; expected is {{split}}/{{label}}/{{image}}. Move the images of "
        f"train/{{label}}/{INNER} into train/{{label}}, those of val/{INNER} into val/{{label}} by the labels in val_annotations.txt, and take a "
        "test without labels out of the folder."
    )


def check_tables(folder: Path, names: Sequence[str], left_out: Sequence[str]) -> None:
    """Refuse images of which a table beside them (`metadata.csv`: file_name, label) tells other classes than their folders do."""
    for name in (name for name in left_out if PurePosixPath(name).name in TABLES):
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
