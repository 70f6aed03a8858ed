"""N:M masks: the smallest few of every M weights, by a network of comparisons that all groups take in step."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from essential_sparsity.pruning.thresholds import Array, positions, view


def nm_mask_(mask: Array, columns: Array, pruned: int, hashes: Callable[[Array], Array]) -> None:
    """Fill a mask (groups, M) with the `pruned` smallest of each group, from magnitude bits as columns (M, groups).

    `hashes(rows)` gives the tie hashes (len(rows), M) of the few groups in which the cut falls among equals.
    """
    host, size = isinstance(columns, np.ndarray), len(columns)
    if pruned in (0, size):
        mask[...] = pruned > 0
        return
    lesser, greater = (np.minimum, np.maximum) if host else (torch.minimum, torch.maximum)
    ranked = list(columns)
    for i, j in selection(size, pruned):
        ranked[i], ranked[j] = lesser(ranked[i], ranked[j]), greater(ranked[i], ranked[j])
    last = ranked[pruned - 1]
    for i, found in enumerate(columns <= last):  # column by column: a transposed copy would go four bytes at a time
        mask[:, i] = found
    tied = positions(last == ranked[pruned])
    if len(tied):
        order = torch.argsort(torch.as_tensor(hashes(tied)), dim=1)
        values = torch.as_tensor(columns[:, tied]).t().gather(1, order)
        order = order.gather(1, torch.argsort(values, dim=1, stable=True))
        cut = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
        mask[tied] = view(cut.scatter_(1, order[:, :pruned], True))


@cache
def selection(size: int, rank: int) -> tuple[tuple[int, int], ...]:
    """Comparators (i, j), i < j, that bring the `rank` smallest of `size` values to the front, the largest of them last.

    Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M), without the comparators
    on which the values at places `rank` − 1 and `rank` do not depend.
    """
    network, p = [], 1
    while p < size:
        k = p
        while k:
            for start in range(k % p, size - k, 2 * k):
                pairs = ((i, i + k) for i in range(start, start + min(k, size - start - k)))
                network += [(i, j) for i, j in pairs if i // (2 * p) == j // (2 * p)]
            k //= 2
        p *= 2
    needed, chosen = {rank - 1, rank}, []
    for i, j in reversed(network):
        if {i, j} & needed:
            needed |= {i, j}
            chosen.append((i, j))
    return tuple(reversed(chosen))
