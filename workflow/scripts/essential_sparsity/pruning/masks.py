"""Exact, nested, reproducible masks: which weights a pattern prunes at a sparsity.

Every pattern is one total order over the prunable weights, cut after exactly k of them (`thresholds`). So masks are
nested over sparsity, have the same bits on every device, and ties (16-bit weights tie in tens of thousands) fall where
a fair die would let them fall, not in whole rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import pandas as pd
import torch

from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.files import named_seed
from essential_sparsity.pruning import parallel
from essential_sparsity.pruning.allocation import erk_counts, nm_pruned
from essential_sparsity.pruning.bins import counts_of, histograms
from essential_sparsity.pruning.groups import nm_mask_
from essential_sparsity.pruning.spectrum import boundary, histogram, level_count
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

SCOPE = {  # pattern -> (what is ranked together, is the ranking random)
    "dense": ("all", False),
    "global": ("all", False),
    "layerwise": ("matrix", False),
    "random": ("all", True),
    "erk": ("erk", False),
    "erk-random": ("erk", True),
    "layer-shuffle": ("counts of global", True),
    "deletion": ("all", False),
    "lth": ("given", False),
}
FOUND = {"lth"}  # patterns whose masks are found by training
FREE = {"deletion"}  # patterns whose pruned weights train on from zero instead of being held there


@dataclass(frozen=True)
class Level:
    """What was pruned at one sparsity: k of n weights, per tensor; N:M keeps `keep` of every `group` inputs."""

    sparsity: float
    k: int
    n: int
    keep: int | None = None
    group: int | None = None
    tail: int = 0  # weights in columns past the last whole group, left dense
    per_tensor: dict[str, int] = field(default_factory=dict)


class Plan:
    """The masks of one pattern and seed at several sparsities, resolved once, applied in place.

    `weights`: (description, dense tensor) of every prunable weight. `spectrum`: the stored spectrum of the same
    weights; without it the histograms are counted here. Thresholds are found on construction, in at most three reads
    of the weights for all levels together; later calls read each tensor once. `given`: for the pattern `lth`, sparsity
    -> tensor name -> bool mask. Errors: ValueError for an unknown pattern, a sparsity outside [0, 1] or one that an N:M
    group cannot hold, a spectrum or given masks of other weights.
    """

    def __init__(
        self,
        pattern: str,
        weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
        sparsities: Sequence[float],
        seed: int,
        spectrum: pd.DataFrame | None = None,
        given: Mapping[float, Mapping[str, torch.Tensor]] | None = None,
    ):
        self.pattern, self.seed = pattern, seed
        self.weights = sorted(weights, key=lambda pair: pair[0].name)
        if not self.weights:
            raise ValueError("no prunable weights were given")
        if pattern == "dense" and any(sparsities):
            raise ValueError(f"pattern 'dense' prunes nothing: its one sparsity is 0, not {max(sparsities)}")
        self.sizes = [tensor.numel() for _, tensor in self.weights]
        self.n = sum(self.sizes)
        offsets = [0, *accumulate(self.sizes)]  # a weight's place in the checkpoint, in order of tensor name
        self.ranked = [
            Ranked(tensor.detach(), offset) for (_, tensor), offset in zip(self.weights, offsets, strict=False)
        ]
        self.scope, self.random = SCOPE.get(pattern, ("group", False))
        self.key = named_seed(seed, "random mask" if self.random else "ties") - (1 << 63)
        self.group = None
        if self.scope == "group":
            fitting = {sparsity: nm_pruned(pattern, sparsity) for sparsity in sparsities}
            self.pruned = {sparsity: pruned for sparsity, (pruned, _) in fitting.items()}
            self.group = next(iter(fitting.values()))[1]
        elif self.scope == "given":
            self.given = {sparsity: self._checked((given or {}).get(sparsity), sparsity) for sparsity in sparsities}
        else:
            self.thresholds = self._thresholds(sorted(set(sparsities)), spectrum)

    def masks(self, sparsity: float) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (tensor name, bool mask of the tensor's shape, True = pruned), one tensor at a time."""
        for i, (weight, tensor) in enumerate(self.weights):
            if self.group:
                yield weight.name, self._nm(i, self.pruned[sparsity])
            elif self.scope == "given":
                yield weight.name, self.given[sparsity][weight.name].to(tensor.device)
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
        if self.group:
            keep = self.group - self.pruned[sparsity]
            tail = sum(t.numel() // t.shape[w.input_dim] * (t.shape[w.input_dim] % self.group) for w, t in self.weights)
            expected = (self.n - tail) // self.group * self.pruned[sparsity]
        elif self.scope == "matrix":
            expected = sum(level_count(sparsity, size) for size in self.sizes)
        k = sum(per_tensor.values())
        if k != expected:
            raise RuntimeError(
                f"{self.pattern} at {sparsity}: pruned {k} weights instead of {expected}: please report this"
            )
        return Level(sparsity, k, self.n, keep, self.group, tail, per_tensor)

    def _checked(self, given: Mapping[str, torch.Tensor] | None, sparsity: float) -> Mapping[str, torch.Tensor]:
        if given is None:
            raise ValueError(f"pattern {self.pattern!r} at {sparsity} needs its masks: no ticket was given")
        if {name: mask.shape for name, mask in given.items()} != {w.name: t.shape for w, t in self.weights}:
            raise ValueError(f"the ticket of sparsity {sparsity} is of other weights: delete it and run again")
        return given

    def _nm(self, i: int, pruned: int) -> torch.Tensor:
        (weight, tensor), offset = self.weights[i], self.ranked[i].offset
        moved = tensor.detach().movedim(weight.input_dim, -1)
        inputs = moved.shape[-1]
        rows = moved.reshape(-1, inputs)
        inner = int(np.prod(tensor.shape[weight.input_dim + 1 :], dtype=np.int64))  # distance between two inputs
        groups = inputs // self.group
        mask = torch.zeros(rows.shape, dtype=torch.bool, device=tensor.device)

        out, within = view(mask), view(torch.arange(self.group, device=tensor.device) * inner)

        def hashes(start: int, found: Array) -> Array:  # of whole groups, from the places of their weights
            row, first = found // groups + start, found % groups * self.group
            base = row // inner * (inner * inputs) + row % inner + first * inner + offset
            return tie_hash(base[:, None] + within, self.key)

        step = max(1, parallel.CHUNK // inputs)
        for start in range(0, len(rows) if groups else 0, step):  # too short for threads, which made it slower
            part = rows[start : start + step, : groups * self.group]
            found = out[start : start + step, : groups * self.group].reshape(-1, self.group)
            nm_mask_(found, magnitude_columns(part, self.group), pruned, lambda tied, at=start: hashes(at, tied))
            if groups * self.group < inputs:  # then `found` is a copy
                out[start : start + step, : groups * self.group] = found.reshape(len(part), -1)
        return mask.view(moved.shape).movedim(-1, weight.input_dim)

    def _thresholds(self, sparsities: Sequence[float], spectrum: pd.DataFrame | None) -> dict[float, list[Threshold]]:
        """One threshold per level and tensor; tensors that are ranked together share it."""
        everything = list(range(len(self.weights)))
        if self.scope == "all":
            units = [(everything, [level_count(s, self.n) for s in sparsities])]
        elif self.scope == "matrix":
            units = [([i], [level_count(s, self.sizes[i]) for s in sparsities]) for i in everything]
        elif self.scope == "counts of global":
            one_shot = Plan("global", self.weights, sparsities, self.seed, spectrum)
            per_level = [[int(mask.sum()) for _, mask in one_shot.masks(s)] for s in sparsities]
            units = [([i], [level[i] for level in per_level]) for i in everything]
        else:
            per_level = [
                erk_counts([weight.shape for weight, _ in self.weights], level_count(s, self.n)) for s in sparsities
            ]
            units = [([i], [level[i] for level in per_level]) for i in everything]
        ordered = not self.random and any(sparsities)
        count = self._counter(spectrum) if ordered else None
        result = {sparsity: [NOTHING] * len(self.weights) for sparsity in sparsities}
        for unit, ks in units:
            ranked = [self.ranked[i] for i in unit]
            if self.random:
                found = find_random(ranked, ks, self.key)
            elif count is None:
                found = [NOTHING] * len(ks)
            else:
                found = find(ranked, sum(map(count, unit)), ks, self.key)
            for sparsity, threshold in zip(sparsities, found, strict=True):
                for i in unit:
                    result[sparsity][i] = threshold
        return result

    def _counter(self, spectrum: pd.DataFrame | None) -> Callable[[int], np.ndarray]:
        """The histogram of the i-th tensor; one is held at a time."""
        if spectrum is None:
            return lambda i: histogram(self.weights[i][1], self.weights[i][0].name)
        stored = dict(iter(spectrum.groupby("tensor")))
        for (weight, _), size in zip(self.weights, self.sizes, strict=True):
            if weight.name not in stored or stored[weight.name]["count"].sum() != size:
                raise ValueError(
                    f"the spectrum does not describe {weight.name}: it belongs to other weights, make it anew"
                )
        return lambda i: counts_of(stored[self.weights[i][0].name])


def plan(
    pattern: str,
    weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
    sparsities: Sequence[float],
    seed: int,
    spectrum: pd.DataFrame | None = None,
    given: Mapping[float, Mapping[str, torch.Tensor]] | None = None,
) -> Plan:
    """Resolve a pattern's masks at all sparsities at once; see `Plan`."""
    return Plan(pattern, weights, sparsities, seed, spectrum, given)


def pruned_counts(frame: pd.DataFrame, pattern: str, sparsity: float) -> pd.DataFrame:
    """Where a pattern's pruned weights sit, per matrix, from the stored spectrum alone.

    Columns: tensor, layer, role, kind, n, pruned, boundary. `pruned` adds to the pattern's k. Within the boundary bin
    the spectrum does not know which matrix the ranked weights are in: they are shared in proportion, and `boundary`
    (that bin's weights in the matrix) bounds the error. It is 0 where the count is exact: per-matrix and N:M patterns.
    Raises ValueError for `lth`, of which the spectrum knows nothing.
    """
    tensors = frame.drop_duplicates("tensor").sort_values("tensor")
    shapes = [tuple(map(int, shape.split("x"))) for shape in tensors["shape"]]
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=np.int64)
    inside = np.zeros(len(sizes), dtype=np.int64)
    scope, random = SCOPE.get(pattern, ("group", False))
    if scope == "given":
        raise ValueError(f"the masks of {pattern!r} are found by training: they are not in the spectrum")
    if scope in ("all", "counts of global"):
        k = level_count(sparsity, int(sizes.sum()))
        below, inside = np.zeros(len(sizes), dtype=np.int64), sizes
        if k and (not random or scope == "counts of global"):
            counts = np.stack(list(histograms(frame).values()))
            split, _ = boundary(counts.sum(0), k)
            below, inside = counts[:, :split].sum(1), counts[:, split]
        share = inside * ((k - below.sum()) / max(inside.sum(), 1))
        pruned = below + np.floor(share).astype(np.int64)
        pruned[np.argsort(np.floor(share) - share, kind="stable")[: k - pruned.sum()]] += 1
    elif scope == "matrix":
        pruned = np.array([level_count(sparsity, int(size)) for size in sizes])
    elif scope == "erk":
        pruned = np.array(erk_counts(shapes, level_count(sparsity, int(sizes.sum()))))
    else:
        count, group = nm_pruned(pattern, sparsity)
        inputs = [shape[dim] for shape, dim in zip(shapes, tensors["input_dim"], strict=True)]
        pruned = np.array([size // m * (m // group * count) for size, m in zip(sizes, inputs, strict=True)])
    result = tensors[["tensor", "layer", "role", "kind"]].assign(n=sizes, pruned=pruned, boundary=inside)
    return result.reset_index(drop=True)
