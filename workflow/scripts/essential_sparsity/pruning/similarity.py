"""How alike two masks are, counted on packed bits: cosine and overlap of the kept and of the pruned sets, and chance.

Jaiswal et al. 2023 (arXiv 2306.03805) compare one-shot masks and lottery tickets by the cosine similarity of the binary
masks, 1 = kept. Two independent masks of sparsity s have a cosine of 1 − s already, so every measure stands beside what
chance gives. With a and b members among n places, hypergeometric: the expected overlap is a·b / n, which makes the
chance cosine √(a·b) / n exact; the chance IoU is that of the expected overlap. A second chance keeps the counts of every
matrix and draws the places inside (`…_matrix`): what is above it is agreement about weights, not about layers.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity import errors
from essential_sparsity.checkpoints.prunable import PrunableWeight

CHUNK = 1 << 17  # bytes compared at once: two of them and their intersection stay in a core's cache
COUNTS = ["n", "pruned_a", "pruned_b", "pruned_both"]
PLACE = ("series", "group", "training", "axis", "position_a", "position_b")  # of neighbouring checkpoints only


def overlap(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    """Bits set in each of two packed masks (uint8, equal length) and in both. ValueError for other lengths."""
    if a.shape != b.shape:
        raise errors.UserError(f"masks of {a.size} and {b.size} bytes cannot be compared: they are of other weights")
    counted = np.zeros(3, dtype=np.int64)
    for x, y in zip(_pieces(a), _pieces(b), strict=True):
        counted += [int(np.bitwise_count(piece).sum()) for piece in (x, y, x & y)]
    return tuple(map(int, counted))


def _pieces(bits: np.ndarray) -> Iterator[np.ndarray]:
    """A packed mask in words of 64 bits, chunk by chunk, the last few bytes alone."""
    whole = bits.size // 8 * 8
    for start in range(0, whole, CHUNK):
        yield bits[start : min(start + CHUNK, whole)].view(np.uint64)
    yield bits[whole:]


def compare(
    weights: Sequence[PrunableWeight], a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """Similarity of two masks of weights of the same names and shapes: a row for the model, one per layer and per matrix.

    `a`, `b`: tensor name -> packed mask. Columns: scope (model, layer, matrix), part (blank, number, tensor), layer and
    role (None where they do not apply), the counts `COUNTS`, and those of `measures`.
    """
    rows = []
    for weight in weights:
        counts = (int(np.prod(weight.shape)), *overlap(a[weight.name], b[weight.name]))
        rows.append((weight.name, weight.layer, weight.role, *counts))
    matrices = pd.DataFrame(rows, columns=["part", "layer", "role", *COUNTS]).assign(scope="matrix")
    matrices["by_matrix"] = matrices["pruned_a"] * matrices["pruned_b"] / matrices["n"]
    summed = [*COUNTS, "by_matrix"]
    layers = matrices.groupby("layer", as_index=False)[summed].sum().assign(scope="layer", role=None)
    layers["part"] = layers["layer"].astype(str)
    whole = matrices[summed].sum().to_frame().T.assign(scope="model", part="", layer=None, role=None)
    parts = [frame.astype({"layer": "Int64"} | dict.fromkeys(COUNTS, int)) for frame in (whole, layers, matrices)]
    frame = pd.concat(parts, ignore_index=True)
    return pd.concat([frame.drop(columns="by_matrix"), measures(frame[COUNTS], frame["by_matrix"])], axis=1)


def key(between: str, sparsity: str, a: tuple, b: tuple, place: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The columns that say which two masks a row of table `similarity` compares.

    `a`, `b`: (model, pattern, task, seed). `place`: where two neighbouring checkpoints stand, `PLACE`.
    """
    sides = {"a": a, "b": b}
    names = ("model", "pattern", "task", "seed")
    found = {f"{name}_{side}": value for side in sides for name, value in zip(names, sides[side], strict=True)}
    return {"between": between, "sparsity": float(sparsity)} | dict.fromkeys(PLACE) | found | dict(place or {})


def measures(counts: pd.DataFrame, by_matrix: pd.Series) -> pd.DataFrame:
    """Cosine and IoU of both sets, with their chance levels, from `COUNTS`; NaN where a set or a union is empty.

    `by_matrix`: expected overlap of the pruned sets when each matrix keeps its counts and places are drawn inside it.
    """
    n, a, b = (counts[name].astype(float) for name in COUNTS[:3])
    result = {}
    for chance, both in (
        ("", counts["pruned_both"].astype(float)),
        ("_chance", a * b / n),
        ("_chance_matrix", by_matrix),
    ):
        for members, x, y, shared in (("kept", n - a, n - b, n - a - b + both), ("pruned", a, b, both)):
            result[f"cosine_{members}{chance}"] = _ratio(shared, np.sqrt(x * y))
            result[f"iou_{members}{chance}"] = _ratio(shared, x + y - shared)
    return pd.DataFrame(result)


def _ratio(part: pd.Series, whole: pd.Series) -> pd.Series:
    return (part / whole.where(whole > 0)).astype(float)
