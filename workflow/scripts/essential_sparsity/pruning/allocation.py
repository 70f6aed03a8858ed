"""How many weights a pattern prunes of each matrix, or of each group: counts, not places."""

from collections.abc import Iterable, Sequence

import numpy as np

from essential_sparsity import errors
from essential_sparsity.patterns import Pattern
from essential_sparsity.pruning.spectrum import level_count


def erk_counts(shapes: Sequence[tuple[int, ...]], k: int) -> list[int]:
    """Pruned weights per matrix under Erdős–Rényi densities (Mocanu et al. 2018; Evci et al. 2020), adding to k.

    The density of a matrix is proportional to (inputs + outputs) / (inputs · outputs), capped at 1 with the excess
    given to the others. Counts are steps of one rising path over sparsity, so they never fall as k rises: masks nest.
    Raises ValueError when k is out of range.
    """
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=np.int64)
    raw = np.array([(shape[-2] + shape[-1]) / (shape[-2] * shape[-1]) for shape in shapes])
    if not 0 <= k <= sizes.sum():
        raise ValueError(f"cannot prune {k} of {sizes.sum()} weights")

    def counts(sparsity: float) -> np.ndarray:
        keep, capped = (1 - sparsity) * sizes.sum(), np.zeros(len(sizes), dtype=bool)
        while True:
            free = ~capped
            scale = (keep - sizes[capped].sum()) / (raw[free] * sizes[free]).sum() if free.any() else 0.0
            density = np.where(capped, 1.0, max(scale, 0.0) * raw)
            over = free & (density > 1)
            if not over.any():
                return np.floor((1 - density) * sizes + 0.5).astype(np.int64)
            capped |= over

    low, high = 0.0, 1.0
    if k == 0:
        return [0] * len(sizes)
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if counts(middle).sum() < k else (low, middle)
    result, above = counts(low), counts(high)
    for i in range(len(sizes)):  # matrices of one shape step together: the last few go to the first in order of name
        result[i] += min(above[i] - result[i], k - result.sum())
    return [int(count) for count in result]


def rows_count(shape: Sequence[int], input_dim: int, sparsity: float) -> int:
    """Pruned weights of a matrix, or a stack, that loses the same number of each output's weights."""
    return int(np.prod(shape, dtype=np.int64)) // shape[input_dim] * level_count(sparsity, shape[input_dim])


def nm_pruned(pattern: Pattern, sparsity: float) -> int:
    """Pruned weights of each group of an N:M pattern: `nm4` at 0.5 prunes 2 of every 4. ValueError when it does not fit."""
    pruned = sparsity * pattern.group
    if not 0 <= sparsity <= 1 or abs(pruned - round(pruned)) > 1e-6:
        raise errors.UserError(
            f"{pattern.name} prunes whole weights of every {pattern.group}: sparsity {sparsity:.3f} would be {pruned:.3f}"
        )
    return round(pruned)


def nm_tail(pattern: Pattern, matrices: Iterable[tuple[int, int]]) -> int:
    """Weights past the last whole group of matrices (weights, inputs). UserError where all are: nothing could be pruned."""
    matrices = list(matrices)
    tail = sum(size // inputs * (inputs % pattern.group) for size, inputs in matrices)
    if tail == sum(size for size, _ in matrices):
        raise errors.UserError(
            f"{pattern.name} prunes groups of {pattern.group} inputs, but the widest matrix of this model has "
            f"{max(inputs for _, inputs in matrices)}: nothing would be pruned. Use smaller groups."
        )
    return tail
