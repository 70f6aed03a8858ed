"""Wanda's score of a weight (Sun et al. 2023): its magnitude times the norm of its input; and OWL's shares of a block.

Published: |w|·‖x‖₂ over all calibration tokens in float32, compared inside each output row or group, without any update.
Here the smallest ⌊inputs·s + ½⌋ of each row go (published: ⌊inputs·s⌋), equal ones by the tie hash (published: by place).
"""

from collections.abc import Sequence

import numpy as np
import torch


class Norms:
    """The norms of a matrix' inputs, from tokens that come in pieces. Sums in float64: no order of pieces is in the bits."""

    def __init__(self, inputs: int, device: torch.device):
        self.squares = torch.zeros(inputs, dtype=torch.float64, device=device)
        self.tokens = 0

    @staticmethod
    def piece(values: torch.Tensor) -> torch.Tensor:
        """What `add` takes of (tokens, inputs)."""
        return values.float().square().sum(dim=0, dtype=torch.float64)

    def add(self, piece: torch.Tensor, tokens: int) -> None:
        self.squares += piece
        self.tokens += tokens

    def found(self) -> torch.Tensor:
        """float32 (inputs,)."""
        return self.squares.sqrt().float()


def scores(rows: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    """float32 (outputs, inputs), 0 or more, of the weights `rows` (outputs, inputs)."""
    return rows.float().abs() * norms


def outliers(scored: Sequence[torch.Tensor], threshold: float) -> float:
    """OWL's measure of a block: the share of its scores, those of all its matrices, above `threshold` times their mean."""
    size = sum(part.numel() for part in scored)
    limit = threshold * sum(part.sum(dtype=torch.float64) for part in scored) / size
    return sum(int((part > limit).sum()) for part in scored) / size


def owl(shares: Sequence[float], sizes: Sequence[int], sparsity: float, spread: float) -> list[float]:
    """The sparsity of each block (Yin et al. 2023): the larger its share of outliers, the smaller; together `sparsity`.

    Published: shares scaled to [0, 2·spread], centred, plus 1 − s, is the part of a block that is kept. Here they are
    centred by the blocks' sizes, so that s is met where these differ too, and what would pass 0 or 1 is cut, the rest moved
    to make up for it. No difference between the shares: all blocks get s.
    """
    found, sizes = np.asarray(shares, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    span = np.ptp(found)
    scaled = (found - found.min()) / span * 2 * spread if span else np.zeros_like(found)

    def cut(shift: float) -> np.ndarray:
        return np.clip(sparsity - scaled + shift, 0.0, 1.0)

    low, high = -1.0, 1.0 + 2 * spread  # all 0, all 1
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if (cut(middle) * sizes).sum() < sparsity * sizes.sum() else (low, middle)
    return cut(high).tolist()
