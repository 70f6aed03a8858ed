"""SparseGPT (Frantar, Alistarh 2023): prune a matrix column by column, and let the weights that stay make up for it.

As published, but for two things that keep counts exact and one that keeps the damping small. The threshold of a block of 128 columns lies after exactly as many
weights as its share of the matrix' ⌊s·n + ½⌋ (published: `score <= threshold`, one too many, or all that are equal), ties in order of the tie
hash. And the weights of an input that is never anything but zero are the first to go, but no more of them than s asks for
(published: all of them become zero). The damping is a share of the mean diagonal of the others (published: such inputs count as
1 in the mean, which is next to nothing where n counts sequences, and more than all others together where it counts tokens).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from essential_sparsity import errors
from essential_sparsity.pruning import smallest

BLOCK = 128  # columns at once
DAMPING = 0.01  # of the mean of the diagonal
MOST = 1.0


class Hessian:
    """H = 2/n Σ x xᵀ of a matrix' inputs, in float32 (inputs, inputs); n counts tokens here, which masks and updates do not see."""

    def __init__(self, inputs: int, device: torch.device):
        self.sum = torch.zeros(inputs, inputs, dtype=torch.float32, device=device)
        self.tokens = 0

    @staticmethod
    def piece(values: torch.Tensor) -> torch.Tensor:
        """What `add` takes of (tokens, inputs): xᵀx, float32 (inputs, inputs)."""
        wide = values.float()
        return wide.T @ wide

    def add(self, piece: torch.Tensor, tokens: int) -> None:
        self.sum += piece
        self.tokens += tokens

    def found(self) -> torch.Tensor:
        """float32 (inputs, inputs)."""
        return self.sum * (2 / max(self.tokens, 1))


@dataclass(frozen=True)
class Factors:
    """`upper`: of a Hessian's inverse, as `factor` has it; which inputs are `dead` (never but zero); the damping that was needed."""

    upper: torch.Tensor
    dead: torch.Tensor
    damping: float


@dataclass(frozen=True)
class Pruned:
    """A matrix after pruning: `rows` float32 (outputs, inputs), `mask` bool, True = pruned; the damping that was needed."""

    rows: torch.Tensor
    mask: torch.Tensor
    damping: float


def factor(hessian: torch.Tensor, name: str) -> tuple[torch.Tensor, float]:
    """(U, damping): the upper Cholesky factor of the inverse of H + damping · mean(diagonal) · 1, H without dead inputs.

    The damping is raised tenfold until the factors exist. Raises UserError naming the matrix where MOST is not enough.
    """
    mean = hessian.diagonal().mean()
    damping = DAMPING
    while damping <= MOST:
        damped = hessian.clone()
        damped.diagonal().add_(damping * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed and torch.isfinite(lower).all():
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not failed and torch.isfinite(upper).all():
                return upper, damping
        damping *= 10
    raise errors.UserError(
        f"{name}: the Hessian of its inputs has no Cholesky factor, not even with {MOST:.0%} of its mean diagonal added. Calibrate on "
        "more tokens (sequences, length), or in a wider data type."
    )


@torch.no_grad()
def factors(hessian: torch.Tensor, name: str) -> Factors:
    """Those of a Hessian, which stays as it is. Raises UserError naming the matrix, as `factor` does."""
    hessian = hessian.clone()
    dead = hessian.diagonal() == 0
    hessian.diagonal()[dead] = 1 if dead.all() else hessian.diagonal()[~dead].mean()
    upper, damping = factor(hessian, name)
    return Factors(upper, dead, damping)


@torch.no_grad()
def prune(
    rows: torch.Tensor,
    found: Factors,
    count: int,
    hashes: Callable[[torch.Tensor, int, int], torch.Tensor],
    group: int | None = None,
    update: bool = True,
) -> Pruned:
    """Prune a matrix (outputs, inputs) with the factors of its inputs' Hessian.

    `count`: pruned weights of the matrix, or with `group` of each group of so many inputs; those past the last whole group
    stay, but are updated. `hashes(rows, start, end)`: the tie hashes of some rows in these columns. `update` = False: the mask
    alone, the weights that are left stay as they were.
    """
    upper, dead = found.upper, found.dead
    left, inputs = rows.float().clone(), rows.shape[1]
    mask, zero = torch.zeros(left.shape, dtype=torch.bool, device=left.device), left.new_zeros(())
    step = BLOCK if group is None else max(1, BLOCK // group) * group
    for start in range(0, inputs, step):
        end = min(start + step, inputs)
        square, part = upper[start:end, start:end], left[:, start:end].clone()
        errors_ = torch.zeros_like(part)

        def scored(first: int, last: int, part=part, square=square, start=start) -> torch.Tensor:
            scores = (part[:, first:last] / square.diagonal()[first:last]).square()
            return scores.masked_fill_(dead[start + first : start + last], 0)

        if group is None:
            done = _share(count, start, inputs)
            mask[:, start:end] = smallest.of_all(
                scored(0, end - start), _share(count, end, inputs) - done, partial(hashes, start=start, end=end)
            )
        columns = zip(  # views made at once: each that is made by itself takes as long as a launch
            part.unbind(1), mask[:, start:end].unbind(1), errors_.unbind(1), square.unbind(0), square.diagonal().unbind(),
            strict=True,
        )  # fmt: skip
        for i, (column, gone, error, row, own) in enumerate(columns):
            if group is not None and i % group == 0 and start + i + group <= inputs:
                first, last = start + i, start + i + group
                there = partial(hashes, start=first, end=last)
                mask[:, first:last] = smallest.of_groups(scored(i, i + group), group, count, there)
            if not update:
                continue
            # four kernels a column: a GPU waits for their launches, not for what they compute
            torch.div(torch.where(gone, column, zero), own, out=error)
            part[:, i:].sub_(torch.outer(error, row[i:]))  # not by addr_, which rounds as the layout has it
        left[:, start:end] = part
        if update:
            left[:, end:] -= errors_ @ upper[start:end, end:]
    return Pruned(left.masked_fill_(mask, 0), mask, found.damping)


def _share(count: int, end: int, inputs: int) -> int:
    """How many of the `count` weights are pruned before column `end`: halves up, in whole numbers."""
    return (2 * count * end + inputs) // (2 * inputs)
