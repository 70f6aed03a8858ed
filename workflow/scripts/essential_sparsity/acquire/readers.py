"""Data sets as they are published -> frames, one reader per format. Files in, a frame out; nothing is unpickled.

A reader takes the paths of a source's files and a folder for temporary files. Its column `item` is a text that stays
with a row whatever the order of rows: the source's own id, or the place in its file. Labels are text or categories,
images the bytes of an image file. From a malformed file come SourceError, or the KeyError, IndexError,
TypeError, ValueError or EOFError of parsing it.
"""

import gzip
import io
import json
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pandas.api.types import union_categoricals

from essential_sparsity.acquire.archives import SourceError

Reader = Callable[[list[Path], Path], pd.DataFrame]
SPLIT = re.compile(r"(?:^|[/._-])(train|(?:validation|valid|val|dev|test)(?:_(?:mis)?matched)?)(?=[/._-])", re.I)
SAME_SPLIT = {"valid": "validation", "val": "validation", "dev": "validation"}


def ratings_tsv(paths: list[Path], work: Path) -> pd.DataFrame:
    """Lines of id, mean rating in -4…4, text. Ratings between -1 and 1 take no side: those lines are dropped."""
    rows = [line.split("\t") for line in paths[0].read_text(encoding="utf-8").split("\n") if line.strip()]
    ratings = pd.Series([float(row[1]) for row in rows])
    frame = pd.DataFrame(
        {
            "item": [row[0].strip() for row in rows],
            "text": [row[2].strip() for row in rows],
            "label": np.where(ratings > 0, "positive", "negative"),
            "rating": ratings,
        }
    )
    return frame[ratings.abs() >= 1].reset_index(drop=True)


def word_pairs(paths: list[Path], work: Path) -> pd.DataFrame:
    """Lines of word, word, human similarity; `#` starts a comment. A pair can stand twice: the item is its place."""
    lines = [line for line in paths[0].read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    rows = [line.split("\t") for line in lines]
    pairs = [(f"{index:04d}", row[0], row[1], float(row[2])) for index, row in enumerate(rows)]
    return pd.DataFrame(pairs, columns=["item", "text_a", "text_b", "target"])


def summaries_json(paths: list[Path], work: Path) -> pd.DataFrame:
    """{title: {extract, topic}}. `Uncategorized` says that there is no topic: the text stays, its label is null."""
    entries = json.loads(paths[0].read_text(encoding="utf-8"))
    rows = [
        (title, title, entry["extract"], None if entry["topic"] == "Uncategorized" else entry["topic"])
        for title, entry in entries.items()
    ]
    return pd.DataFrame(rows, columns=["item", "title", "text", "label"])


def pixels_csv(paths: list[Path], work: Path) -> pd.DataFrame:
    """Lines of the grey values 0…255 of a square image, row by row, and its label last; no header."""
    table = pd.read_csv(paths[0], header=None).to_numpy()
    return _images((f"{index:05d}" for index in range(len(table))), table[:, -1].astype(int), table[:, :-1])


def digits_json(paths: list[Path], work: Path) -> pd.DataFrame:
    """`{label}.json`, each with `data`: the grey values of its 28 x 28 images in one list, as fractions of 255."""
    frames = []
    for path in sorted(paths):
        pixels = np.rint(255 * np.array(json.loads(path.read_text(encoding="utf-8"))["data"])).reshape(-1, 28 * 28)
        names = (f"{path.stem}-{index:04d}" for index in range(len(pixels)))
        frames.append(_images(names, [path.stem] * len(pixels), pixels))
    return pd.concat(frames, ignore_index=True)


def idx(paths: list[Path], work: Path) -> pd.DataFrame:
    """`{train,t10k}-images-idx3-ubyte` and `…-labels-idx1-ubyte`, perhaps `.gz`; column split: train, test."""
    by_name = {path.name.removesuffix(".gz"): path for path in paths}
    frames = []
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images, labels = (read_idx(by_name[f"{prefix}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1"))
        frame = _images((f"{split}-{index:05d}" for index in range(len(images))), labels, images)
        frames.append(frame.assign(split=split))
    return pd.concat(frames, ignore_index=True)


def read_idx(path: Path) -> np.ndarray:
    """An IDX array: two zero bytes, the type (8: unsigned byte), the rank, the sizes (big-endian int32), the values."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if data[:3] != b"\0\0\x08":
        raise SourceError(f"{path.name} is not an IDX file of unsigned bytes.")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _images(names: Iterable[str], labels: Iterable, pixels: np.ndarray) -> pd.DataFrame:
    """Columns item, label (text) and image (a grey PNG) from (n, side, side) or (n, side²) grey values 0…255."""
    from PIL import Image

    side = round(pixels[0].size ** 0.5)
    encoded = []
    for image in pixels.astype(np.uint8).reshape(-1, side, side):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return pd.DataFrame({"item": list(names), "label": [str(label) for label in labels], "image": encoded})


def library(paths: list[Path], work: Path, builder: str) -> pd.DataFrame:
    """Read with the `datasets` library; columns are kept. A column `split` where names of files or folders tell them.

    Class numbers become the names that the data set gives them (an unknown class, -1: null), as categories in the data
    set's own order; images become encoded bytes.
    """
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        found = _splits(f"{path.parent.name}/{path.name}")
        groups.setdefault(found[-1] if found else "all", []).append(path)
    frames = {split: _plain(_loaded(group, work, builder)) for split, group in groups.items()}
    return _joined(frames)


def imagefolder(paths: list[Path], work: Path) -> pd.DataFrame:
    """`{split}/{label}/{image file}`, or without the splits; the item is that path. Labels are the folders' names."""
    root = Path(os.path.commonpath([path.parent.parent for path in paths]))
    groups: dict[str, list[Path]] = {}
    for path in sorted(paths):
        found = _splits(f"{path.relative_to(root).parts[0]}/") if path.parent.parent != root else ()
        groups.setdefault(found[0] if found else "all", []).append(path)
    frames = {}
    for split, group in groups.items():
        frame = _plain(_loaded(group, work, "imagefolder"))
        frames[split] = frame.assign(item=[path.relative_to(root).as_posix() for path in group])
    return _joined(frames)


def _splits(name: str) -> list[str]:
    """The names of splits in a path, in one spelling."""
    return [SAME_SPLIT.get(found, found) for found in map(str.lower, SPLIT.findall(name))]


def _joined(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The frames of the splits as one, categories kept; a column `split` where there is more than one."""
    several = [frame if "split" in frame else frame.assign(split=split) for split, frame in frames.items()]
    frames = several if len(several) > 1 else list(frames.values())
    for column in [name for name in frames[0] if isinstance(frames[0][name].dtype, pd.CategoricalDtype)]:
        known = union_categoricals([frame[column] for frame in frames]).categories
        frames = [frame.assign(**{column: frame[column].cat.set_categories(known)}) for frame in frames]
    return pd.concat(frames, ignore_index=True)


def _loaded(paths: list[Path], work: Path, builder: str):
    """A `datasets.Dataset` of files that have the same columns, in the order of the files."""
    import datasets

    options = {"sep": "\t"} if builder == "csv" and ".tsv" in paths[0].suffixes else {}
    options = {"drop_labels": False} if builder == "imagefolder" else options
    files = {"data": [str(path) for path in paths]}
    try:
        return datasets.load_dataset(builder, data_files=files, split="data", cache_dir=str(work / "cache"), **options)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as error:
        reason = error.__cause__ or error  # the library wraps what went wrong
        raise SourceError(f"{paths[0].name} or one beside it is not readable as {builder} ({reason}).") from error


def _plain(data) -> pd.DataFrame:
    """A `datasets.Dataset` as a frame of numbers, text, categories and bytes."""
    import datasets

    features = dict(data.features)
    for column, feature in features.items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(column, datasets.Image(decode=False))
    frame = data.to_pandas()
    for column, feature in features.items():
        if isinstance(feature, datasets.ClassLabel):
            codes = frame[column].where(frame[column].between(0, len(feature.names) - 1), -1).astype(int)
            frame[column] = pd.Categorical.from_codes(codes, feature.names)
        elif isinstance(feature, datasets.Image):
            frame[column] = [value["bytes"] or Path(value["path"]).read_bytes() for value in frame[column]]
    return frame


def documents(paths: list[Path], work: Path) -> pd.DataFrame:
    """The documents of lm-eval's tasks as they are: `{config}/{split}….parquet` or `.json(l)`, one JSON text a document.

    Splits keep their names, since a suite tells `dev` from `validation`. Definitions of tasks (`.yaml`) come with them,
    as rows of the split `yaml`.
    """
    frames = []
    for path in sorted(paths):
        name = re.sub(r"-[0-9]{5}-of-[0-9]{5}.*$", "", path.name.split(".")[0])
        if path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
        elif path.suffix == ".yaml":
            name, rows = "yaml", [path.read_text(encoding="utf-8")]
        else:
            text = path.read_text(encoding="utf-8")
            rows = (
                json.loads(text)
                if text.lstrip()[:1] == "["
                else [json.loads(line) for line in text.splitlines() if line]
            )
        config = path.parent.name
        texts = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        items = [f"{config}/{path.name.split('.')[0]}-{index:07d}" for index in range(len(texts))]
        frames.append(pd.DataFrame({"item": items, "config": config, "split": name, "document": texts}))
    return pd.concat(frames, ignore_index=True)


READERS: dict[str, Reader] = {
    "parquet": partial(library, builder="parquet"),
    "csv": partial(library, builder="csv"),
    "json": partial(library, builder="json"),
    "imagefolder": imagefolder,
    "lm-eval": documents,
    "ratings-tsv": ratings_tsv,
    "word-pairs": word_pairs,
    "summaries-json": summaries_json,
    "pixels-csv": pixels_csv,
    "digits-json": digits_json,
    "idx": idx,
}
SUFFIXES: dict[str, tuple[str, ...]] = {  # of the files that hold a format's data
    "parquet": (".parquet",),
    "csv": (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    "json": (".json", ".jsonl", ".json.gz", ".jsonl.gz"),
    "lm-eval": (".parquet", ".json", ".jsonl", ".yaml"),
    "imagefolder": (".png", ".jpg", ".jpeg", ".JPEG", ".bmp", ".webp"),
    "ratings-tsv": (".txt", ".tsv"),
    "word-pairs": (".txt", ".tsv"),
    "summaries-json": (".json",),
    "pixels-csv": (".csv", ".csv.gz"),
    "digits-json": (".json",),
    "idx": ("-ubyte", "-ubyte.gz"),
}
