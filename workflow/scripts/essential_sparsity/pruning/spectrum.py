"""The magnitude spectrum: one exact histogram per tensor, from which every pruning threshold is read.

The magnitude of a floating-point number orders like its bits without the sign. Of a 16-bit float these 15 bits are the
whole magnitude; of a float32 the upper 15 are. So 32,768 bins per tensor, filled in one read of the weights, give the
boundary bin of any level, globally and per matrix, and the counts below any threshold.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
import pandas as pd
import torch

from essential_sparsity import errors
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning.bins import BINS, INFINITY_BIN, describe_bins, histograms
from essential_sparsity.pruning.parallel import flat_chunks, in_order, spans

BROKEN = "holds NaN or infinity: the checkpoint is broken, fetch it again or leave it out."
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def level_count(sparsity: float, n: int) -> int:
    """Number of weights pruned at a sparsity: floor(s·n + 1/2), in exact decimal arithmetic.

    Raises ValueError outside [0, 1].
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity {sparsity} is outside [0, 1]")
    return int((Fraction(str(float(sparsity))) * n + Fraction(1, 2)).__floor__())


def histogram(weight: torch.Tensor, name: str = "tensor") -> np.ndarray:
    """Count the weights of each magnitude bin: int64 array of 32,768.

    Raises ValueError, naming the tensor, for a dtype that has no magnitudes and for NaN or infinity.
    """
    _check_dtype(weight, name)
    counts = sum(in_order(_counts, spans(weight)), torch.zeros(BINS, dtype=torch.int64, device=weight.device))
    if counts[INFINITY_BIN[DTYPES[weight.dtype]] :].any():
        raise errors.UserError(f"{name} {BROKEN}")
    return counts.cpu().numpy()


def check(weight: torch.Tensor, name: str) -> None:
    """Refuse the weights that `histogram` refuses, without counting."""
    _check_dtype(weight, name)
    if not all(in_order(_finite, spans(weight))):
        raise errors.UserError(f"{name} {BROKEN}")


def one_dtype(stored: Mapping[str, str]) -> None:
    """Refuse weights (tensor name -> dtype) of several dtypes: ValueError naming a tensor of each."""
    first = {dtype: name for name, dtype in reversed(stored.items())}
    if len(first) > 1:
        raise errors.UserError(
            f"prunable weights are stored in different dtypes ({', '.join(f'{d}: {first[d]}' for d in sorted(first))}): "
            "their magnitudes cannot be ranked together. Save the checkpoint in one dtype."
        )


def _check_dtype(weight: torch.Tensor, name: str) -> None:
    if weight.dtype not in DTYPES:
        raise errors.UserError(
            f"{name} is stored as {str(weight.dtype).removeprefix('torch.')}: only float32, float16 and bfloat16 weights "
            "have magnitudes to rank. Give an unquantised checkpoint."
        )


def _finite(span: tuple[int, torch.Tensor]) -> bool:
    infinity = INFINITY_BIN[DTYPES[span[1].dtype]]
    return all(int((_halves(piece) & 0x7FFF).max()) < infinity for _, piece in flat_chunks(span[1]))


def _halves(piece: torch.Tensor) -> torch.Tensor:
    """The 16 bits of each weight that hold its bin: of a float32, the upper half (little-endian)."""
    halves = piece.view(torch.int16)
    return halves[1::2] if piece.dtype == torch.float32 else halves


def _counts(span: tuple[int, torch.Tensor]) -> torch.Tensor:
    counts = torch.zeros(BINS, dtype=torch.int64, device=span[1].device)
    for _, piece in flat_chunks(span[1]):
        counts += torch.bincount(_halves(piece) & 0x7FFF, minlength=BINS)
    return counts


def build(weights: Iterable[tuple[PrunableWeight, torch.Tensor]]) -> pd.DataFrame:
    """Histogram every prunable tensor: one row per non-empty bin, sorted by tensor and bin.

    Columns: tensor, layer, role, sublayer, shape (`384x1536`), input_dim, dtype, bin, count. One tensor is held at a time.
    """
    frames = []
    for weight, values in weights:
        counts = histogram(values, weight.name)
        bins = np.flatnonzero(counts)
        frames.append(
            pd.DataFrame(
                {
                    "tensor": weight.name,
                    "layer": weight.layer,
                    "role": weight.role,
                    "sublayer": weight.sublayer,
                    "shape": "x".join(map(str, weight.shape)),
                    "input_dim": weight.input_dim,
                    "dtype": DTYPES[values.dtype],
                    "bin": bins.astype(np.int32),
                    "count": counts[bins],
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    one_dtype(frame.drop_duplicates("tensor").set_index("tensor")["dtype"].to_dict())
    return frame.sort_values(["tensor", "bin"], ignore_index=True)


def boundary(counts: np.ndarray, k: int) -> tuple[int, int]:
    """The bin that holds the k-th smallest magnitude and how many of that bin's weights are pruned (1 ≤ rank).

    `counts`: int64 of 32,768; 1 ≤ k ≤ counts.sum().
    """
    cumulative = np.cumsum(counts)
    index = int(np.searchsorted(cumulative, k))
    return index, int(k - (cumulative[index] - counts[index]))


def near_zero(frame: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Weights with |w| below a threshold, per tensor, from the spectrum alone: columns tensor, n, below, boundary.

    `below` counts whole bins under the threshold's bin; `boundary` counts the bin that straddles it (0 when the
    threshold is a bin edge), so the true count lies in [below, below + boundary].
    """
    edges = describe_bins(frame["dtype"].iloc[0])
    split = int(np.searchsorted(edges[: INFINITY_BIN[frame["dtype"].iloc[0]]], threshold, side="left"))
    straddles = edges[split] > threshold
    rows = []
    for tensor, counts in histograms(frame).items():
        whole = int(counts[: split - 1 if straddles else split].sum())
        rows.append((tensor, int(counts.sum()), whole, int(counts[split - 1]) if straddles else 0))
    return pd.DataFrame(rows, columns=["tensor", "n", "below", "boundary"])
