"""Exact, nested, reproducible masks: which weights a pattern prunes at a sparsity.

Every pattern is one total order over the prunable weights, cut after exactly k of them: by magnitude bits, then by a
seeded hash of the weight's place. So masks are nested over sparsity, have the same bits on every device, and ties
(16-bit weights tie in tens of thousands) fall where a fair die would let them fall, not in whole rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import pandas as pd
import torch

from essential_sparsity.prunable import PrunableWeight
from essential_sparsity.files import named_seed
from essential_sparsity.grid import NM_PATTERN
from essential_sparsity.spectrum import BINS, CHUNK, LOW_BITS, boundary, histogram, histograms, level_count, magnitude_bits

SCOPE = {  # pattern -> (one threshold for all weights or one per matrix, is the order random)
    "global": ("all", False),
    "layerwise": ("matrix", False),
    "random": ("all", True),
    "erk": ("erk", False),
    "erk-random": ("erk", True),
}
ALL_TIES = (1 << 63) - 1
COLLECT = 1 << 20  # ties ordered by sorting at once; more are first narrowed by a histogram of their hashes


@dataclass(frozen=True)
class Threshold:
    """Prune a weight when (magnitude bits, tie hash) ≤ (bits, tie). `bits` = -1 prunes nothing."""

    bits: int
    tie: int = ALL_TIES


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


def tie_hash(index: torch.Tensor, key: int) -> torch.Tensor:
    """Signed 64-bit hash of each int64 index: splitmix64's finaliser (Steele et al. 2014), a bijection, so no two collide."""

    def shift(x: torch.Tensor, bits: int) -> torch.Tensor:  # logical, not arithmetic
        return (x >> bits) & ((1 << (64 - bits)) - 1)

    x = index ^ key
    x = (x ^ shift(x, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x = (x ^ shift(x, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ shift(x, 31)


def erk_counts(shapes: Sequence[tuple[int, ...]], k: int) -> list[int]:
    """Pruned weights per matrix under Erdős–Rényi-kernel densities (Mocanu et al. 2018; Evci et al. 2020), adding to k.

    The density of a matrix is proportional to (inputs + outputs) / (inputs · outputs), capped at 1 with the excess
    given to the others. Counts are steps of one rising path over sparsity, so they never fall as k rises: masks nest.
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
            density = np.where(capped, 1.0, np.clip(scale, 0, None) * raw)
            if not (over := free & (density > 1)).any():
                return np.floor((1 - density) * sizes + 0.5).astype(np.int64)
            capped |= over

    low, high = 0.0, 1.0
    if k == 0:
        return [0] * len(sizes)
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if counts(middle).sum() < k else (low, middle)
    result = counts(low)
    for i in range(len(sizes)):  # matrices of one shape step together: give the last few in order of name
        result[i] += min(counts(high)[i] - result[i], k - result.sum())
    return [int(c) for c in result]


def nm_pruned(pattern: str, sparsity: float) -> tuple[int, int]:
    """(pruned, group) of an N:M pattern: `nm4` at 0.5 prunes 2 of every 4 inputs. ValueError when it does not fit."""
    match = NM_PATTERN.fullmatch(pattern)
    if not match:
        raise ValueError(f"{pattern!r} is not an N:M pattern (nm2, nm4, nm8, …)")
    group = int(match[1])
    pruned = sparsity * group
    if abs(pruned - round(pruned)) > 1e-6:
        raise ValueError(f"{pattern} prunes whole weights of every {group}: sparsity {sparsity:.3f} would be {pruned:.3f}")
    return round(pruned), group


def nm_mask(bits: torch.Tensor, index: torch.Tensor, pruned: int, key: int) -> torch.Tensor:
    """Mask (groups, M) of the `pruned` smallest of each row of magnitude bits (groups, M), ties by hash of `index`."""
    columns = bits.t().contiguous()
    group = len(columns)
    smaller = torch.zeros_like(columns, dtype=torch.uint8)  # how many of the group are smaller than each weight
    for i in range(group):
        for j in range(i + 1, group):
            smaller[j] += columns[i] < columns[j]
            smaller[i] += columns[j] < columns[i]
    mask = (smaller < pruned).t().contiguous()
    tied = (mask.sum(1, dtype=torch.int32) > pruned).nonzero().squeeze(1)
    if tied.numel():
        order = torch.argsort(tie_hash(index[tied], key), dim=1)
        order = order.gather(1, torch.argsort(bits[tied].gather(1, order), dim=1, stable=True))
        mask[tied] = torch.zeros_like(mask[tied]).scatter_(1, order[:, :pruned], True)
    return mask


class Plan:
    """The masks of one pattern and seed at several sparsities, resolved once, applied in place.

    `weights`: (description, dense tensor) of every prunable weight. `spectrum`: the stored spectrum of the same
    weights; without it the histograms are counted here. Thresholds are found on construction, in at most three reads
    of the weights for all levels together; later calls read each tensor once. Errors: ValueError for an unknown
    pattern, a sparsity outside [0, 1] or one that an N:M group cannot hold, a spectrum of other weights.
    """

    def __init__(
        self,
        pattern: str,
        weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
        sparsities: Sequence[float],
        seed: int,
        spectrum: pd.DataFrame | None = None,
        chunk: int = CHUNK,
    ):
        self.pattern, self.seed, self.chunk = pattern, seed, chunk
        self.weights = sorted(weights, key=lambda pair: pair[0].name)
        if not self.weights:
            raise ValueError("no prunable weights were given")
        self.sizes = [tensor.numel() for _, tensor in self.weights]
        self.offsets = [0, *accumulate(self.sizes)][:-1]  # a weight's place in the checkpoint, in order of tensor name
        self.n = sum(self.sizes)
        self.group = None
        self.random = SCOPE[pattern][1] if pattern in SCOPE else False
        self.key = named_seed(seed, "random mask" if self.random else "ties") - (1 << 63)
        self._levels: dict[float, list[Threshold] | int] = {}
        if pattern in SCOPE:
            self._levels = self._thresholds(sorted(set(sparsities)), spectrum)
        elif NM_PATTERN.fullmatch(pattern):
            for sparsity in sparsities:
                self._levels[sparsity], self.group = nm_pruned(pattern, sparsity)
        else:
            raise ValueError(f"unknown pattern {pattern!r}: expected one of {', '.join(SCOPE)}, or nm2, nm4, nm8, …")

    def masks(self, sparsity: float) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (tensor name, bool mask of the tensor's shape, True = pruned), one tensor at a time."""
        for i, (weight, tensor) in enumerate(self.weights):
            if self.group:
                yield weight.name, self._nm(i, self._levels[sparsity])
            else:
                pieces = [self._piece(i, start, piece, self._levels[sparsity][i]) for start, piece in self._chunks(i)]
                yield weight.name, torch.cat(pieces).view(tensor.shape)

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
            keep = self.group - self._levels[sparsity]
            tail = sum(t.numel() // t.shape[w.input_dim] * (t.shape[w.input_dim] % self.group) for w, t in self.weights)
            expected = (self.n - tail) // self.group * self._levels[sparsity]
        elif SCOPE[self.pattern][0] == "matrix":
            expected = sum(level_count(sparsity, size) for size in self.sizes)
        k = sum(per_tensor.values())
        if k != expected:
            raise RuntimeError(f"{self.pattern} at {sparsity}: pruned {k} weights instead of {expected}: please report this")
        return Level(sparsity, k, self.n, keep, self.group, tail, per_tensor)

    def _chunks(self, i: int) -> Iterator[tuple[int, torch.Tensor]]:
        flat = self.weights[i][1].detach().reshape(-1)
        for start in range(0, flat.numel(), self.chunk):
            yield start, flat[start : start + self.chunk]

    def _bits(self, piece: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(piece, dtype=torch.int32) if self.random else magnitude_bits(piece)

    def _hash(self, i: int, index: torch.Tensor) -> torch.Tensor:
        return tie_hash(index + self.offsets[i], self.key)

    def _piece(self, i: int, start: int, piece: torch.Tensor, threshold: Threshold) -> torch.Tensor:
        bits = self._bits(piece)
        if threshold.tie == ALL_TIES:
            return bits <= threshold.bits
        mask = bits < threshold.bits
        tied = (bits == threshold.bits).nonzero().squeeze(1)
        mask[tied] = self._hash(i, tied + start) <= threshold.tie
        return mask

    def _nm(self, i: int, pruned: int) -> torch.Tensor:
        weight, tensor = self.weights[i]
        moved = tensor.detach().movedim(weight.input_dim, -1)
        rows = moved.reshape(-1, moved.shape[-1])
        whole = rows.shape[1] // self.group * self.group
        mask = torch.zeros(rows.shape, dtype=torch.bool, device=tensor.device)
        place = torch.arange(tensor.numel(), device=tensor.device).view(tensor.shape).movedim(weight.input_dim, -1)
        place = place.reshape(rows.shape) + self.offsets[i]
        step = max(1, self.chunk // rows.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            bits = magnitude_bits(rows[part, :whole].contiguous()).reshape(-1, self.group)
            groups = nm_mask(bits, place[part, :whole].reshape(-1, self.group), pruned, self.key)
            mask[part, :whole] = groups.view(-1, whole)
        return mask.view(moved.shape).movedim(-1, weight.input_dim)

    def _thresholds(self, sparsities: Sequence[float], spectrum: pd.DataFrame | None) -> dict[float, list[Threshold]]:
        """One threshold per level and tensor; tensors that are ranked together share it."""
        scope = SCOPE[self.pattern][0]
        counts = None if self.random else self._histograms(spectrum)
        everything = list(range(len(self.weights)))
        result = {sparsity: [Threshold(-1)] * len(self.weights) for sparsity in sparsities}
        if scope == "all":
            tasks = [(everything, [level_count(s, self.n) for s in sparsities])]
        elif scope == "matrix":
            tasks = [([i], [level_count(s, self.sizes[i]) for s in sparsities]) for i in everything]
        else:
            shapes = [weight.shape for weight, _ in self.weights]
            per_level = [erk_counts(shapes, level_count(s, self.n)) for s in sparsities]
            tasks = [([i], [level[i] for level in per_level]) for i in everything]
        for unit, ks in tasks:
            for sparsity, threshold in zip(sparsities, self._resolve(unit, ks, counts), strict=True):
                for i in unit:
                    result[sparsity][i] = threshold
        return result

    def _histograms(self, spectrum: pd.DataFrame | None) -> list[np.ndarray]:
        if spectrum is None:
            return [histogram(tensor, weight.name, self.chunk) for weight, tensor in self.weights]
        stored = histograms(spectrum)
        counts = [stored.get(weight.name) for weight, _ in self.weights]
        for (weight, _), size, count in zip(self.weights, self.sizes, counts, strict=True):
            if count is None or count.sum() != size:
                raise ValueError(f"the spectrum does not describe {weight.name}: it belongs to other weights, make it anew")
        return counts

    def _resolve(self, unit: list[int], ks: list[int], counts: list[np.ndarray] | None) -> list[Threshold]:
        """Thresholds after exactly ks[j] weights of a unit, for all levels in the same reads."""
        size = sum(self.sizes[i] for i in unit)
        found = [Threshold(-1) if k == 0 else Threshold((1 << 31) - 1) if k == size else None for k in ks]
        open_levels = [j for j, threshold in enumerate(found) if threshold is None]
        if not open_levels:
            return found
        if self.random:
            ranks = {j: (0, ks[j]) for j in open_levels}
            tied = {0: size}
        else:
            total = sum(counts[i] for i in unit)
            ranks = {j: boundary(total, ks[j]) for j in open_levels}
            if self.weights[unit[0]][1].dtype == torch.float32:
                ranks, tied = self._refine(unit, ranks)
            else:
                tied = {b << LOW_BITS: int(total[b]) for b, _ in ranks.values()}
                ranks = {j: (b << LOW_BITS, rank) for j, (b, rank) in ranks.items()}
        partial = {bits: tied[bits] for bits, rank in ranks.values() if rank < tied[bits]}
        cuts = self._tie_cuts(unit, partial, ranks) if partial else {}
        for j, (bits, rank) in ranks.items():
            found[j] = Threshold(bits, cuts[bits, rank] if rank < tied[bits] else ALL_TIES)
        return found

    def _refine(self, unit: list[int], ranks: dict[int, tuple[int, int]]) -> tuple[dict, dict[int, int]]:
        """float32: from (bin, rank in bin) to (exact bits, rank among equals), by a histogram of the lower 16 bits."""
        bins = sorted({b for b, _ in ranks.values()})
        device = self.weights[unit[0]][1].device
        slot = torch.full((BINS,), -1, dtype=torch.int32)
        slot[bins] = torch.arange(len(bins), dtype=torch.int32)
        slot = slot.to(device)
        low = torch.zeros(len(bins) << LOW_BITS, dtype=torch.int64, device=device)
        for i in unit:
            for _, piece in self._chunks(i):
                bits = magnitude_bits(piece)
                slots = torch.index_select(slot, 0, bits >> LOW_BITS)
                inside = (slots >= 0).nonzero().squeeze(1)
                key = (slots[inside] << LOW_BITS) | (bits[inside] & 0xFFFF)
                low.index_add_(0, key, torch.ones_like(key, dtype=torch.int64))
        low = low.view(len(bins), -1).cpu().numpy()
        exact, tied = {}, {}
        for j, (b, rank) in ranks.items():
            lower, left = boundary(low[bins.index(b)], rank)
            exact[j] = ((b << LOW_BITS) | lower, left)
            tied[exact[j][0]] = int(low[bins.index(b)][lower])
        return exact, tied

    def _tied_hashes(self, unit: list[int], values: list[int]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (magnitude bits, hashes) of the weights whose magnitude is one of `values`, piece by piece."""
        for i in unit:
            for start, piece in self._chunks(i):
                bits = self._bits(piece)
                for value in values:
                    index = (bits == value).nonzero().squeeze(1)
                    if index.numel():
                        yield value, self._hash(i, index + start)

    def _tie_cuts(self, unit: list[int], tied: dict[int, int], ranks: dict) -> dict[tuple[int, int], int]:
        """The hash of the rank-th tie at each magnitude that a level cuts through."""
        wanted = {(bits, rank) for bits, rank in ranks.values() if bits in tied and rank < tied[bits]}
        window: dict[tuple[int, int], tuple[int, int]] = {cut: (cut[1], -1) for cut in wanted}
        many = [bits for bits, count in tied.items() if count > COLLECT]
        if many:  # narrow to one 2^-16 slice of the hash range first: memory stays flat however many weights tie
            top = {bits: torch.zeros(1 << 16, dtype=torch.int64) for bits in many}
            for bits, hashes in self._tied_hashes(unit, many):
                top[bits] += torch.bincount((hashes >> 48) + (1 << 15), minlength=1 << 16).cpu()
            for bits, rank in wanted:
                if bits in top:
                    part, left = boundary(top[bits].numpy(), rank)
                    window[bits, rank] = (left, part)
        kept: dict[tuple[int, int], list[torch.Tensor]] = {cut: [] for cut in wanted}
        for bits, hashes in self._tied_hashes(unit, sorted(tied)):
            for cut, (_, part) in window.items():
                if cut[0] == bits:
                    kept[cut].append((hashes if part < 0 else hashes[(hashes >> 48) + (1 << 15) == part]).cpu())
        return {cut: int(torch.cat(kept[cut]).sort().values[window[cut][0] - 1]) for cut in wanted}


def plan(
    pattern: str,
    weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
    sparsities: Sequence[float],
    seed: int,
    spectrum: pd.DataFrame | None = None,
) -> Plan:
    """Resolve a pattern's masks at all sparsities at once; see `Plan`."""
    return Plan(pattern, weights, sparsities, seed, spectrum)


def pruned_counts(frame: pd.DataFrame, pattern: str, sparsity: float) -> pd.DataFrame:
    """Where a pattern's pruned weights sit, per matrix, from the stored spectrum alone.

    Columns: tensor, layer, role, kind, n, pruned, boundary. `pruned` adds to the pattern's k. Within the boundary bin
    the spectrum does not know which matrix the ranked weights are in: they are shared in proportion, and `boundary`
    (that bin's weights in the matrix) bounds the error. It is 0 where the count is exact: per-matrix and N:M patterns.
    """
    tensors = frame.drop_duplicates("tensor").sort_values("tensor")
    shapes = [tuple(map(int, shape.split("x"))) for shape in tensors["shape"]]
    sizes = np.array([np.prod(shape) for shape in shapes], dtype=np.int64)
    inside = np.zeros(len(sizes), dtype=np.int64)
    if pattern in SCOPE and SCOPE[pattern][0] == "all":
        k = level_count(sparsity, int(sizes.sum()))
        below, inside = np.zeros(len(sizes), dtype=np.int64), sizes
        if not SCOPE[pattern][1] and k:
            counts = np.stack(list(histograms(frame).values()))
            split, _ = boundary(counts.sum(0), k)
            below, inside = counts[:, :split].sum(1), counts[:, split]
        share = inside * ((k - below.sum()) / max(inside.sum(), 1))
        pruned = below + np.floor(share).astype(np.int64)
        pruned[np.argsort(np.floor(share) - share, kind="stable")[: k - pruned.sum()]] += 1
    elif pattern in SCOPE and SCOPE[pattern][0] == "matrix":
        pruned = np.array([level_count(sparsity, int(size)) for size in sizes])
    elif pattern in SCOPE:
        pruned = np.array(erk_counts(shapes, level_count(sparsity, int(sizes.sum()))))
    else:
        p, group = nm_pruned(pattern, sparsity)
        inputs = [shape[dim] for shape, dim in zip(shapes, tensors["input_dim"], strict=True)]
        pruned = np.array([size // m * (m // group * p) for size, m in zip(sizes, inputs, strict=True)])
    result = tensors[["tensor", "layer", "role", "kind"]].assign(n=sizes, pruned=pruned, boundary=inside)
    return result.reset_index(drop=True)
