"""Exact, nested, reproducible masks: which weights a pattern prunes at a sparsity.

Every pattern is one total order over the prunable weights, cut after exactly k of them (`thresholds`). So masks are
nested over sparsity, have the same bits on every device, and ties (16-bit weights tie in tens of thousands) fall where
a fair die would let them fall, not in whole rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import errors, patterns
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.files import named_seed
from essential_sparsity.pruning import parallel, smallest
from essential_sparsity.pruning.allocation import erk_counts, nm_pruned, nm_tail, rows_count
from essential_sparsity.pruning.bins import histograms
from essential_sparsity.pruning.groups import nm_mask_
from essential_sparsity.pruning.matrices import Matrix, matrices
from essential_sparsity.pruning.spectrum import DTYPES, boundary, check, histogram, level_count, one_dtype
from essential_sparsity.pruning.thresholds import (
    NOTHING,
    Array,
    Ranked,
    Threshold,
    find,
    find_random,
    magnitude_columns,
    mask_of,
    random_mask_of,
    tie_hash,
    view,
)


@dataclass(frozen=True)
class Level:
    """What was pruned at one sparsity: k of n weights, per tensor; N:M keeps `keep` of every `group` inputs.

    `calibration`: columns of table `runs` that say what the model was calibrated on; empty for patterns without.
    """

    sparsity: float
    k: int
    n: int
    keep: int | None = None
    group: int | None = None
    tail: int = 0  # weights in columns past the last whole group, left dense
    per_tensor: dict[str, int] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)


class Plan:
    """The masks of one pattern and seed at several sparsities, resolved once, applied in place.

    `weights`: (description, dense tensor) of every prunable weight. Thresholds are found on construction, in a few
    reads of the weights for all levels together; later calls read each tensor once. `given`: where training found
    the masks, sparsity -> tensor name -> bool mask. `statistics`: what the pattern's score reads beside the weights.
    Errors: ValueError for an unknown pattern, a sparsity outside [0, 1] or one that an N:M group cannot hold, weights
    that are not finite or not stored as floats of one type, scores that cannot be ranked, given masks of other weights.
    """

    def __init__(
        self,
        pattern: str,
        weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
        sparsities: Sequence[float],
        seed: int,
        given: Mapping[float, Mapping[str, torch.Tensor]] | None = None,
        statistics: Mapping[str, Any] | None = None,
    ):
        self.pattern, self.seed = patterns.find(pattern), seed
        self.weights = sorted(weights, key=lambda pair: pair[0].name)
        if not self.weights:
            raise ValueError("no prunable weights were given")
        if pattern == "dense" and any(sparsities):
            raise errors.UserError(f"pattern 'dense' prunes nothing: its one sparsity is 0, not {max(sparsities)}")
        for weight, tensor in self.weights:
            check(tensor, weight.name)
        one_dtype({weight.name: DTYPES[tensor.dtype] for weight, tensor in self.weights})
        if self.pattern.needs == "calibration":
            raise ValueError(f"pattern {pattern!r} is applied by `calibrated.Plan`, with what it is calibrated on")
        self.sizes = [tensor.numel() for _, tensor in self.weights]
        self.n = sum(self.sizes)
        offsets = [0, *accumulate(self.sizes)]  # a weight's place in the checkpoint, in order of tensor name
        values = [tensor.detach() for _, tensor in self.weights]
        if ":" in self.pattern.score:
            scores = scored(self.pattern, self.weights, statistics)
            values = [scores[weight.name] for weight, _ in self.weights]
        self.ranked = [Ranked(tensor, offset) for tensor, offset in zip(values, offsets, strict=False)]
        self.random = self.pattern.score == "random"
        self.key = named_seed(seed, "random mask" if self.random else "ties") - (1 << 63)
        if self.pattern.score == "given":
            self.given = {sparsity: self._checked((given or {}).get(sparsity), sparsity) for sparsity in sparsities}
        elif self.pattern.structure == "nm":
            self.pruned = {sparsity: nm_pruned(self.pattern, sparsity) for sparsity in sparsities}
        elif self.pattern.structure == "rows":
            self.matrices: dict[str, list[Matrix]] = {}
            for matrix in matrices((weight, own) for (weight, _), own in zip(self.weights, values, strict=True)):
                self.matrices.setdefault(matrix.weight.name, []).append(matrix)
        else:
            self.thresholds = self._thresholds(sorted(set(sparsities)))

    def masks(self, sparsity: float) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (tensor name, bool mask of the tensor's shape, True = pruned), one tensor at a time."""
        for i, (weight, tensor) in enumerate(self.weights):
            if self.pattern.score == "given":
                yield weight.name, self.given[sparsity][weight.name].to(tensor.device)
            elif self.pattern.structure == "nm":
                yield weight.name, self._nm(i, self.pruned[sparsity])
            elif self.pattern.structure == "rows":
                yield weight.name, self._rows(weight, sparsity)
            else:
                make = random_mask_of if self.random else mask_of
                yield weight.name, make(self.ranked[i], self.thresholds[sparsity][i], self.key)

    @torch.no_grad()
    def prune_(self, sparsity: float) -> Level:
        """Set the pruned weights to zero in place and count them.

        Call it with rising sparsities on the same tensors (a pruned weight is the smallest there is, so the next mask
        contains this one), or on a fresh copy of the dense weights.
        """
        per_tensor = {}
        for (_, tensor), (name, mask) in zip(self.weights, self.masks(sparsity), strict=True):
            tensor.detach().masked_fill_(mask, 0)
            per_tensor[name] = int(mask.sum())
        return self.level(sparsity, per_tensor)

    def level(self, sparsity: float, per_tensor: dict[str, int]) -> Level:
        """Describe a level from the counted masks; RuntimeError if they are not exactly the weights asked for."""
        keep, tail = None, 0
        expected = level_count(sparsity, self.n)
        if group := self.pattern.group:
            keep = group - nm_pruned(self.pattern, sparsity)
            tail = nm_tail(self.pattern, ((t.numel(), t.shape[w.input_dim]) for w, t in self.weights))
            expected = (self.n - tail) // group * (group - keep)
        elif self.pattern.structure == "rows":
            expected = sum(rows_count(w.shape, w.input_dim, sparsity) for w, _ in self.weights)
        elif self.pattern.allocation == "matrix":
            expected = sum(level_count(sparsity, size) for size in self.sizes)
        k = sum(per_tensor.values())
        if k != expected:
            raise RuntimeError(
                f"{self.pattern.name} at {sparsity}: pruned {k} weights instead of {expected}: please report this"
            )
        return Level(sparsity, k, self.n, keep, group, tail, per_tensor)

    def _checked(self, given: Mapping[str, torch.Tensor] | None, sparsity: float) -> Mapping[str, torch.Tensor]:
        if given is None:
            raise errors.UserError(f"pattern {self.pattern.name!r} at {sparsity} needs its masks: no ticket was given")
        if {name: mask.shape for name, mask in given.items()} != {w.name: t.shape for w, t in self.weights}:
            raise errors.UserError(f"the ticket of sparsity {sparsity} is of other weights: delete it and run again")
        return given

    def _rows(self, weight: PrunableWeight, sparsity: float) -> torch.Tensor:
        """As many of each row as of any other."""
        mask = torch.zeros(weight.shape, dtype=torch.bool, device=self.weights[0][1].device)
        for matrix in self.matrices[weight.name]:
            scored, count = matrix.rows().float().abs(), level_count(sparsity, matrix.inputs)
            found = smallest.of_rows(scored, count, lambda rows, own=matrix: tie_hash(own.places(rows), self.key))
            Matrix(weight, mask, matrix.part, 0).rows().copy_(found)
        return mask

    def _nm(self, i: int, pruned: int) -> torch.Tensor:
        weight, group = self.weights[i][0], self.pattern.group
        tensor, offset = self.ranked[i].values, self.ranked[i].offset
        moved = tensor.movedim(weight.input_dim, -1)
        inputs = moved.shape[-1]
        rows = moved.reshape(-1, inputs)
        inner = int(np.prod(tensor.shape[weight.input_dim + 1 :], dtype=np.int64))  # distance between two inputs
        groups = inputs // group
        mask = torch.zeros(rows.shape, dtype=torch.bool, device=tensor.device)

        out, within = view(mask), view(torch.arange(group, device=tensor.device) * inner)

        def hashes(start: int, found: Array) -> Array:  # of whole groups, from the places of their weights
            row, first = found // groups + start, found % groups * group
            base = row // inner * (inner * inputs) + row % inner + first * inner + offset
            return tie_hash(base[:, None] + within, self.key)

        step = max(1, parallel.CHUNK // inputs)
        for start in range(0, len(rows) if groups else 0, step):  # too short for threads, which made it slower
            part = rows[start : start + step, : groups * group]
            found = out[start : start + step, : groups * group].reshape(-1, group)
            columns = magnitude_columns(part, group)
            if self.random:
                columns[...] = 0  # all of a group tie
            nm_mask_(found, columns, pruned, lambda tied, at=start: hashes(at, tied))
            if groups * group < inputs:  # then `found` is a copy
                out[start : start + step, : groups * group] = found.reshape(len(part), -1)
        return mask.view(moved.shape).movedim(-1, weight.input_dim)

    def _thresholds(self, sparsities: Sequence[float]) -> dict[float, list[Threshold]]:
        """One threshold per level and tensor; tensors that are ranked together share it."""
        result = {sparsity: [NOTHING] * len(self.weights) for sparsity in sparsities}
        for unit, ks in self._units(sparsities):
            ranked = [self.ranked[i] for i in unit]
            if self.random:
                found = find_random(ranked, ks, self.key)
            elif any(ks):
                counts = sum(histogram(self.ranked[i].values, self.weights[i][0].name) for i in unit)
                found = find(ranked, counts, ks, self.key)
            else:
                found = [NOTHING] * len(ks)
            for sparsity, threshold in zip(sparsities, found, strict=True):
                for i in unit:
                    result[sparsity][i] = threshold
        return result

    def _units(self, sparsities: Sequence[float]) -> list[tuple[list[int], list[int]]]:
        """The allocation: which tensors are ranked together, and how many of their weights each level prunes."""
        everything = list(range(len(self.weights)))
        ks = [level_count(sparsity, self.n) for sparsity in sparsities]
        if self.pattern.allocation == "all":
            return [(everything, ks)]
        if self.pattern.allocation == "matrix":
            return [([i], [level_count(sparsity, self.sizes[i]) for sparsity in sparsities]) for i in everything]
        if self.pattern.allocation == "counts of global":
            one_shot = Plan("global", self.weights, sparsities, self.seed)
            per_level = [[int(mask.sum()) for _, mask in one_shot.masks(sparsity)] for sparsity in sparsities]
        else:
            shapes = [weight.shape for weight, _ in self.weights]
            per_level = [erk_counts(shapes, k) for k in ks]
        return [([i], [level[i] for level in per_level]) for i in everything]


def plan(
    pattern: str,
    weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
    sparsities: Sequence[float],
    seed: int,
    given: Mapping[float, Mapping[str, torch.Tensor]] | None = None,
    statistics: Mapping[str, Any] | None = None,
) -> Plan:
    """Resolve a pattern's masks at all sparsities at once; see `Plan`."""
    return Plan(pattern, weights, sparsities, seed, given, statistics)


@torch.no_grad()
def scored(
    pattern: patterns.Pattern,
    weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
    statistics: Mapping[str, Any] | None,
) -> dict[str, torch.Tensor]:
    """Tensor name -> score of each weight, from the pattern's own function: its bits rank as a magnitude's do.

    Raises ValueError naming the pattern and the tensor for scores that are missing, of another shape or type than
    float32, NaN, infinite or negative.
    """
    found = patterns.load(pattern.score)(weights, statistics)
    result = {}
    for weight, tensor in weights:
        place = f"pattern {pattern.name!r}, {weight.name}: the scores of {pattern.score}"
        score = found.get(weight.name)
        if score is None:
            raise errors.UserError(f"{place} are missing: each prunable tensor needs them.")
        if score.dtype != torch.float32 or score.shape != tensor.shape:
            raise errors.UserError(
                f"{place} are {str(score.dtype).removeprefix('torch.')} of shape {tuple(score.shape)}; expected float32 "
                f"of the tensor's shape {tuple(tensor.shape)}."
            )
        if not bool((score.isfinite() & (score >= 0)).all()):
            raise errors.UserError(
                f"{place} hold NaN, infinity or negative numbers; expected finite numbers, 0 or more."
            )
        result[weight.name] = score.detach().to(tensor.device)
    return result


def pruned_counts(frame: pd.DataFrame, pattern: str, sparsity: float) -> pd.DataFrame:
    """Where a pattern's pruned weights sit, per matrix, from the stored spectrum alone.

    Columns: tensor, layer, role, sublayer, n, pruned, boundary. `pruned` adds to the pattern's k. Within the boundary bin
    the spectrum does not know which matrix the ranked weights are in: they are shared in proportion, and `boundary`
    (that bin's weights in the matrix) bounds the error. It is 0 where the count is exact: per-matrix and N:M patterns.
    Raises ValueError for patterns of which the spectrum knows nothing: `patterns.Pattern.in_spectrum`.
    """
    entry = patterns.find(pattern)
    if not entry.in_spectrum:
        raise errors.UserError(f"how many weights of each matrix {pattern!r} prunes is not in the spectrum")
    tensors = frame.drop_duplicates("tensor").sort_values("tensor")
    shapes = [tuple(map(int, shape.split("x"))) for shape in tensors["shape"]]
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=np.int64)
    inside = np.zeros(len(sizes), dtype=np.int64)
    if entry.allocation in ("all", "counts of global"):
        k = level_count(sparsity, int(sizes.sum()))
        below, inside = np.zeros(len(sizes), dtype=np.int64), sizes
        if k and (entry.score == "magnitude" or entry.allocation == "counts of global"):
            counts = np.stack(list(histograms(frame).values()))
            split, _ = boundary(counts.sum(0), k)
            below, inside = counts[:, :split].sum(1), counts[:, split]
        share = inside * ((k - below.sum()) / max(inside.sum(), 1))
        pruned = below + np.floor(share).astype(np.int64)
        pruned[np.argsort(np.floor(share) - share, kind="stable")[: k - pruned.sum()]] += 1
    elif entry.allocation == "erk":
        pruned = np.array(erk_counts(shapes, level_count(sparsity, int(sizes.sum()))))
    elif entry.structure == "nm":
        count = nm_pruned(entry, sparsity)
        inputs = [shape[dim] for shape, dim in zip(shapes, tensors["input_dim"], strict=True)]
        pruned = np.array([size // m * (m // entry.group * count) for size, m in zip(sizes, inputs, strict=True)])
    elif entry.structure == "rows":
        pruned = np.array(
            [rows_count(shape, dim, sparsity) for shape, dim in zip(shapes, tensors["input_dim"], strict=True)]
        )
    else:
        pruned = np.array([level_count(sparsity, int(size)) for size in sizes])
    result = tensors[["tensor", "layer", "role", "sublayer"]].assign(n=sizes, pruned=pruned, boundary=inside)
    return result.reset_index(drop=True)
