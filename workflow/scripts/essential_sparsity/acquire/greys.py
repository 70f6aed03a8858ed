"""Pictures that are published as numbers -> encoded images: tables of grey values, JSON lists, IDX files."""

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from essential_sparsity import files
from essential_sparsity.acquire import grouping, texts
from essential_sparsity.acquire.archives import SourceError, gunzipped
from essential_sparsity.acquire.frames import joined

TABLES = (".csv", ".csv.gz")  # suffixes of a table of grey values
LABELS = ("label", "class")  # names of its column of labels in a header
MOST_LABELS = 100  # without a header: a larger number is a grey value


def pixels_csv(folder: Path, names: list[str]) -> pd.DataFrame:
    """Lines of the grey values 0…255 of a square image, row by row, and its label: the last cell, or the column `label`.

    Under a header the label is the text that stands there. Without one it is a whole number below 100, and there are at least two; a
    column split as of any table.
    """
    frames = {}
    groups = grouping.grouped(names, TABLES)
    for split, found in groups.items():
        prefix = "" if len(groups) == 1 else f"{split}-"
        parts = [_pixels(folder / name) for name in found]
        labels, pixels = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        items = (f"{prefix}{index:05d}" for index in range(len(labels)))
        frames[split] = _images(items, labels, pixels)
    return joined(frames)


def _pixels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(labels as text (n), grey values (n, side, side)) of one table."""
    text = texts.text_of(path).lstrip()  # pandas passes over blank lines, too
    first = text.split("\n", 1)[0].strip().split(",")
    named = not all(re.fullmatch(r"[-+.\deE\s]*", cell) for cell in first)
    if [cell.strip() for cell in first] == [str(place) for place in range(len(first))]:
        raise SourceError(
            f"{path.name}: the first line counts its cells from 0 to {len(first) - 1}, as the header of a table without names. Take it out, or "
            "call the column of labels `label` in it."
        )
    place = len(first) - 1
    if named:
        found = [index for index, name in enumerate(first) if name.strip().strip('"').lower() in LABELS]
        if len(found) != 1:
            raise SourceError(
                f"{path.name}: the header has {len(found)} columns called {' or '.join(LABELS)} ({files.some(first)}); "
                "expected one, as the format pixels-csv has it."
            )
        place = found[0]
    as_text = {"converters": {place: str}, "keep_default_na": False} if named else {}
    table = pd.read_csv(io.StringIO(text), header=0 if named else None, **as_text)
    if not isinstance(table.index, pd.RangeIndex):
        raise SourceError(f"{path.name}: the lines have more cells than the header ({len(first)}).")
    numbers = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    labels, pixels = table.iloc[:, place].astype(str).to_numpy(), np.delete(numbers, place, axis=1)
    for row, column in np.argwhere(~((pixels >= 0) & (pixels <= 255) & (pixels == np.rint(pixels))))[:1]:
        cell = table.iloc[row, column + (column >= place)]
        raise SourceError(
            f"{path.name}, image {row + 1}: the grey value {cell} is no whole number from 0 to 255, as the format pixels-csv "
            "has them. Scale the values so, with the label in the last cell or under a header `label`."
        )
    if pixels.max() <= 1:
        raise SourceError(
            f"{path.name}: no grey value is above 1, as if they were fractions; the format pixels-csv has whole numbers from 0 to 255."
        )
    if not named:
        numeric = numbers[:, place]
        labels = np.array([f"{number:g}" for number in numeric])
        wrong = ~((numeric >= 0) & (numeric < MOST_LABELS) & (numeric == np.rint(numeric)))
        told = "The last cell of a line is its label (a whole number below 100). If yours is the first, give the table a header"
        if wrong.any():
            row = int(np.argmax(wrong))
            raise SourceError(
                f"{path.name}, image {row + 1}: {table.iloc[row, place]} is no label. {told} that calls that column `label`."
            )
        if len(set(labels)) == 1 and len(labels) > 1 and len(set(numbers[:, 0])) > 1:
            raise SourceError(f"{path.name}: all labels are {labels[0]}. {told} that calls that column `label`.")
    side = round(pixels.shape[1] ** 0.5)
    if side * side != pixels.shape[1]:
        raise SourceError(
            f"{path.name}: {pixels.shape[1]} grey values a line are no square image, as the format pixels-csv has them."
        )
    return labels, pixels.reshape(-1, side, side)


def digits_json(folder: Path, names: list[str]) -> pd.DataFrame:
    """`{label}.json`, each with `data`: the grey values of its 28 x 28 images in one list, as fractions of 255."""
    frames = []
    for path in sorted(folder / name for name in names):
        values = np.array(
            json.loads(texts.text_of(path), object_pairs_hook=texts.once(path.name))["data"], dtype=np.float64
        )
        if values.size % (28 * 28) or not ((values >= 0) & (values <= 1)).all():
            raise SourceError(
                f"{path.name}: expected grey values from 0 to 1 of images of 28 x 28, found {values.size} values from "
                f"{values.min():g} to {values.max():g}; it cannot be read as digits-json."
            )
        pixels = np.rint(255 * values).reshape(-1, 28, 28)
        items = (f"{path.stem}-{index:04d}" for index in range(len(pixels)))
        frames.append(_images(items, [path.stem] * len(pixels), pixels))
    return pd.concat(frames, ignore_index=True)


def idx(folder: Path, names: list[str]) -> pd.DataFrame:
    """`{train,t10k}-images-idx3-ubyte` and `…-labels-idx1-ubyte`, perhaps `.gz`; column split: train, test."""
    by_name: dict[str, Path] = {}
    for path in (folder / name for name in names):
        plain = re.sub(r"[-.](idx[13]-ubyte)(\.gz)?$", r"-\1", path.name)
        if plain in by_name:
            raise SourceError(
                f"{by_name[plain].name} and {path.name} are one file in two forms. Take one of them away."
            )
        by_name[plain] = path
    expected = {
        split: [f"{prefix}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
        for prefix, split in (("train", "train"), ("t10k", "test"))
    }
    wanted = [name for pair in expected.values() for name in pair]
    unknown, missing = (
        [name for name in by_name if name not in wanted],
        [name for name in wanted if name not in by_name],
    )
    if unknown or missing:
        raise SourceError(
            f"The format idx is the four files {', '.join(wanted)}; missing: {files.some(missing)}; beside "
            f"them: {files.some(unknown)}. Name the folder that holds just these in the column id."
        )
    frames = {}
    for split, (images, labels) in expected.items():
        pixels, classes = read_idx(by_name[images]), read_idx(by_name[labels])
        if len(pixels) != len(classes) or pixels.ndim != 3 or classes.ndim != 1:
            raise SourceError(
                f"{by_name[images].name} holds an array of shape {pixels.shape}, {by_name[labels].name} one of {classes.shape}; "
                "expected (n, height, width) and (n)."
            )
        frames[split] = _images((f"{split}-{index:05d}" for index in range(len(pixels))), classes, pixels)
    return joined(frames)


def read_idx(path: Path) -> np.ndarray:
    """An IDX array: two zero bytes, the type (8: unsigned byte), the rank, the sizes (big-endian int32), the values."""
    data = gunzipped(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    if data[:3] != b"\0\0\x08":
        raise SourceError(f"{path.name} is not an IDX file of unsigned bytes.")
    shape = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def _images(names: Iterable[str], labels: Iterable, pixels: np.ndarray) -> pd.DataFrame:
    """Columns item, label (text) and image (a grey PNG) from (n, height, width) grey values 0…255."""
    encoded = []
    for image in pixels.astype(np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    return pd.DataFrame({"item": list(names), "label": [str(label) for label in labels], "image": encoded})
