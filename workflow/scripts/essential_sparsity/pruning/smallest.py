"""Masks of the smallest scores of a matrix: of each row, of every M consecutive inputs, or of all; equal ones by tie hash.

Scores are float32, 0 or more, (rows, inputs). `hashes(rows)` gives the tie hashes int64 (len(rows), inputs) of the rows that
their numbers name: it is asked of those alone in which the cut falls among equal scores.
"""

from collections.abc import Callable

import torch

from essential_sparsity.pruning.groups import nm_mask_
from essential_sparsity.pruning.thresholds import magnitude_columns, view

Hashes = Callable[[torch.Tensor], torch.Tensor]
AT_ONCE = 1 << 24  # hashes: 128 MB of them


def of_rows(scores: torch.Tensor, count: int, hashes: Hashes) -> torch.Tensor:
    """Bool mask (rows, inputs) of the `count` smallest of each row, True = pruned."""
    if count in (0, scores.shape[1]):
        return torch.full(scores.shape, count > 0, device=scores.device)
    last = scores.kthvalue(count, dim=1, keepdim=True).values
    mask = scores < last
    tied = scores == last
    left = count - mask.sum(dim=1)
    among = (tied.sum(dim=1) > left).nonzero().squeeze(1)
    mask |= tied
    for rows in among.split(max(1, AT_ONCE // scores.shape[1])):
        equal = tied[rows]
        found = hashes(rows).masked_fill(~equal, torch.iinfo(torch.int64).max)
        order = found.argsort(dim=1)
        kept = torch.arange(scores.shape[1], device=scores.device) >= left[rows, None]
        spared = torch.zeros_like(equal).scatter_(1, order, kept) & equal
        mask[rows] &= ~spared
    return mask


def of_groups(scores: torch.Tensor, group: int, count: int, hashes: Hashes) -> torch.Tensor:
    """Bool mask of the `count` smallest of every `group` consecutive inputs of each row; inputs past the last whole group stay."""
    rows, inputs = scores.shape
    groups = inputs // group
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    if groups:
        found = torch.zeros(rows * groups, group, dtype=torch.bool, device=scores.device)

        def within(tied):  # numbers of groups -> the hashes of their weights
            tied = torch.as_tensor(tied, device=scores.device)
            named, place = (tied // groups).unique(return_inverse=True)
            return hashes(named)[:, : groups * group].reshape(-1, groups, group)[place, tied % groups]

        nm_mask_(view(found), magnitude_columns(scores[:, : groups * group].contiguous(), group), count, within)
        mask[:, : groups * group] = found.view(rows, groups * group)
    return mask


def of_all(scores: torch.Tensor, count: int, hashes: Hashes) -> torch.Tensor:
    """Bool mask (rows, inputs) of the `count` smallest of the whole matrix."""
    rows, inputs = scores.shape
    every = torch.arange(rows, device=scores.device)
    flat = of_rows(scores.reshape(1, -1), count, lambda _: hashes(every).reshape(1, -1))
    return flat.view(rows, inputs)
