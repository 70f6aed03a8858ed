"""The total order over weights and where to cut it: by magnitude bits, then by a seeded hash of the weight's place.

A threshold is found without sorting the weights: the spectrum gives the bin that holds the k-th smallest magnitude, one
read of the weights gives the exact magnitude (float32) or needs none (16-bit), and where the cut falls among equal
magnitudes, one or two reads give the hash of the last one pruned. All levels are found in the same reads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from essential_sparsity.pruning.bins import LOW_BITS
from essential_sparsity.pruning.parallel import flat_chunks, in_order, spans
from essential_sparsity.pruning.spectrum import boundary

ALL_TIES = (1 << 63) - 1
COLLECT = 1 << 20  # hashes sorted at once; more are first narrowed to a slice of the hash range
TOP_BITS = 16  # of a hash: the slices


@dataclass(frozen=True)
class Threshold:
    """Prune a weight when (magnitude bits, tie hash) ≤ (bits, tie). `bits` = -1 prunes nothing."""

    bits: int
    tie: int = ALL_TIES


NOTHING = Threshold(-1)
EVERYTHING = Threshold((1 << 31) - 1)


@dataclass(frozen=True)
class Ranked:
    """A tensor that takes part in a ranking; `offset` is the place of its first weight in the checkpoint."""

    values: torch.Tensor
    offset: int

    def __len__(self) -> int:
        return self.values.numel()


Array = np.ndarray | torch.Tensor  # NumPy on a processor, where its comparisons are five times as fast; torch on a GPU


def view(tensor: torch.Tensor) -> Array:
    """The same memory as a NumPy array on a processor, the tensor itself on a GPU: operators read alike on both."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def magnitude_bits(piece: torch.Tensor) -> Array:
    """Bits of |w|, comparable as integers: int32 for float32, int16 (the bin itself) for the 16-bit types."""
    if piece.dtype == torch.float32:
        return view(piece.view(torch.int32)) & 0x7FFFFFFF
    return view(piece.view(torch.int16)) & 0x7FFF


def magnitude_columns(rows: torch.Tensor, size: int) -> Array:
    """Magnitude bits of rows cut into groups of `size` consecutive weights, as columns (size, groups)."""
    kind, sign = (torch.int32, 0x7FFFFFFF) if rows.dtype == torch.float32 else (torch.int16, 0x7FFF)
    groups = view(rows.view(kind)).reshape(-1, size)
    if isinstance(groups, np.ndarray):  # a copy in both, also of a single group, which is contiguous as it stands
        columns = np.array(groups.T, order="C")
    else:
        columns = groups.t().clone(memory_format=torch.contiguous_format)
    columns &= sign
    return columns


def tie_hash(index: Array, key: int) -> Array:
    """Signed 64-bit hash of each int64 index: splitmix64's finaliser (Steele et al. 2014), a bijection: none collide."""

    def shift(x: Array, bits: int) -> Array:  # logical, not arithmetic
        y = x >> bits
        y &= (1 << (64 - bits)) - 1
        return y

    x = index ^ key
    x ^= shift(x, 30)
    x *= -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    x ^= shift(x, 27)
    x *= -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    x ^= shift(x, 31)
    return x


def place_hash(start: int, count: int, key: int, device: torch.device) -> Array:
    """Hashes of `count` consecutive places."""
    return tie_hash(view(torch.arange(start, start + count, device=device)), key)


def positions(mask: Array) -> Array:
    """Indices of the true entries of a flat mask."""
    return np.flatnonzero(mask) if isinstance(mask, np.ndarray) else mask.nonzero().squeeze(1)


def counted(values: Array, length: int) -> np.ndarray:
    """How often each whole number below `length` occurs, as int64."""
    if isinstance(values, np.ndarray):
        return np.bincount(values, minlength=length)
    return torch.bincount(values, minlength=length).cpu().numpy()


def mask_of(ranked: Ranked, threshold: Threshold, key: int) -> torch.Tensor:
    """Bool mask of the tensor's shape, True = pruned, for a ranking by magnitude."""
    mask = torch.empty(len(ranked), dtype=torch.bool, device=ranked.values.device)
    if threshold in (NOTHING, EVERYTHING):
        return mask.fill_(threshold == EVERYTHING).view(ranked.values.shape)
    out = view(mask)

    def fill(first: int, piece: torch.Tensor) -> None:
        for start, part in flat_chunks(piece):
            bits, start = magnitude_bits(part), start + first
            end = start + part.numel()
            if threshold.tie == ALL_TIES:
                out[start:end] = bits <= threshold.bits
                continue
            out[start:end] = bits < threshold.bits
            tied = positions(bits == threshold.bits) + start
            out[tied] = tie_hash(tied + ranked.offset, key) <= threshold.tie

    for _ in in_order(lambda span: fill(*span), spans(ranked.values)):
        pass
    return mask.view(ranked.values.shape)


def random_mask_of(ranked: Ranked, threshold: Threshold, key: int) -> torch.Tensor:
    """Bool mask of the tensor's shape, True = pruned, for a ranking by hash alone."""
    mask = torch.empty(len(ranked), dtype=torch.bool, device=ranked.values.device)
    if threshold in (NOTHING, EVERYTHING):
        return mask.fill_(threshold == EVERYTHING).view(ranked.values.shape)

    def fill(first: int, piece: torch.Tensor) -> None:
        for start, part in flat_chunks(piece):
            place = ranked.offset + first + start
            view(part)[:] = place_hash(place, part.numel(), key, mask.device) <= threshold.tie

    for _ in in_order(lambda span: fill(*span), spans(mask)):
        pass
    return mask.view(ranked.values.shape)


def find(ranked: Sequence[Ranked], counts: np.ndarray, ks: Sequence[int], key: int) -> list[Threshold]:
    """Thresholds after exactly k of the tensors' weights, for each k, ranked by magnitude and tie hash together.

    `counts`: the tensors' histograms added up, int64 of 32,768.
    """
    size = int(counts.sum())
    cuts = {k: boundary(counts, k) for k in ks if 0 < k < size}
    if cuts and ranked[0].values.dtype == torch.float32:
        cuts, tied = _refine(ranked, cuts)
    else:
        tied = {bits: int(counts[bits]) for bits, _ in cuts.values()}
    inside = {(bits, rank) for bits, rank in cuts.values() if rank < tied[bits]}
    hashes = _hash_cuts(lambda: _tied_hashes(ranked, {bits for bits, _ in inside}, key), tied, inside)
    found = {k: Threshold(bits, hashes.get((bits, rank), ALL_TIES)) for k, (bits, rank) in cuts.items()}
    return [found.get(k, EVERYTHING if k else NOTHING) for k in ks]


def find_random(ranked: Sequence[Ranked], ks: Sequence[int], key: int) -> list[Threshold]:
    """Thresholds after exactly k weights ranked by hash alone: every weight ties with every other."""

    def hashes() -> Iterator[tuple[int, Array]]:
        return in_order(lambda part: (0, place_hash(part[0], part[1].numel(), key, part[1].device)), _places(ranked))

    size = sum(map(len, ranked))
    cuts = _hash_cuts(hashes, {0: size}, {(0, k) for k in ks if 0 < k < size})
    return [NOTHING if k == 0 else EVERYTHING if k == size else Threshold(0, cuts[0, k]) for k in ks]


Cut = tuple[int, int]  # (bin or magnitude bits, how many of the weights there are pruned)


def _refine(ranked: Sequence[Ranked], cuts: dict[int, Cut]) -> tuple[dict[int, Cut], dict[int, int]]:
    """float32: from (bin, rank) to (exact bits, rank) and how many weights have these bits, counting lower halves."""
    bins = sorted({b for b, _ in cuts.values()})
    slots = torch.zeros(1 << 15, dtype=torch.int64)
    slots[bins] = torch.arange(len(bins)) << LOW_BITS
    at = {device: view(slots.to(device)) for device in {tensor.values.device for tensor in ranked}}
    counts = np.zeros(len(bins) << LOW_BITS, dtype=np.int64)

    def lower_halves(part: tuple[int, torch.Tensor]) -> Array:
        bits = magnitude_bits(part[1])
        upper = bits >> LOW_BITS
        inside = positions(_any_of(upper, bins))
        return at[part[1].device][upper[inside]] | (bits[inside] & 0xFFFF)

    kept, size = [], 0
    for found in in_order(lower_halves, _places(ranked)):
        kept.append(found)
        size += len(found)
        if size > COLLECT:
            counts += _counted_pieces(kept, len(counts))
            kept, size = [], 0
    counts = (counts + _counted_pieces(kept, len(counts))).reshape(len(bins), -1)
    exact, tied = {}, {}
    for k, (b, rank) in cuts.items():
        lower, left = boundary(counts[bins.index(b)], rank)
        exact[k] = ((b << LOW_BITS) | lower, left)
        tied[exact[k][0]] = int(counts[bins.index(b)][lower])
    return exact, tied


def _places(ranked: Sequence[Ranked]) -> Iterator[tuple[int, torch.Tensor]]:
    """(place of its first weight in the checkpoint, piece) over all weights."""
    return ((tensor.offset + start, piece) for tensor in ranked for start, piece in flat_chunks(tensor.values))


def _counted_pieces(pieces: list[Array], length: int) -> np.ndarray:
    if not pieces:
        return np.zeros(length, dtype=np.int64)
    if isinstance(pieces[0], np.ndarray):
        return counted(np.concatenate(pieces), length)
    devices = {piece.device for piece in pieces}
    return sum(counted(torch.cat([piece for piece in pieces if piece.device == on]), length) for on in devices)


def _any_of(values: Array, wanted: Sequence[int]) -> Array:
    hit = values == wanted[0]
    for value in wanted[1:]:
        hit |= values == value
    return hit


def _tied_hashes(ranked: Sequence[Ranked], wanted: set[int], key: int) -> Iterator[tuple[int, Array]]:
    """(magnitude bits, tie hashes) of the weights that have one of the wanted magnitudes, piece by piece."""
    values = sorted(wanted)

    def hashes(part: tuple[int, torch.Tensor]) -> list[tuple[int, Array]]:
        bits = magnitude_bits(part[1])
        tied = positions(_any_of(bits, values))
        found, bits = tie_hash(tied + part[0], key), bits[tied]
        return [(value, found[bits == value]) for value in values] if len(tied) else []

    for found in in_order(hashes, _places(ranked)):
        yield from found


def _hash_cuts(
    stream: Callable[[], Iterator[tuple[int, Array]]], counts: dict[int, int], wanted: set[Cut]
) -> dict[Cut, int]:
    """The rank-th smallest hash among the streamed hashes of a label, for each wanted (label, rank).

    `counts`: hashes per label. Where a label has many, a first pass counts them in slices of the hash range and the
    second keeps the one slice that a cut falls into, so that memory does not grow with the number of ties.
    """
    if not wanted:
        return {}
    slices: dict[Cut, tuple[int | None, int]] = {cut: (None, cut[1]) for cut in wanted}
    many = {label for label, _ in wanted if counts[label] > COLLECT}
    if many:
        tops = {label: np.zeros(1 << TOP_BITS, dtype=np.int64) for label in many}
        for label, hashes in stream():
            if label in many:
                tops[label] += counted(_slice(hashes), 1 << TOP_BITS)
        slices |= {cut: boundary(tops[cut[0]], cut[1]) for cut in wanted if cut[0] in many}
    kept: dict[Cut, list[np.ndarray]] = {cut: [] for cut in wanted}
    for label, hashes in stream():
        for cut, (slice_, _) in slices.items():
            if cut[0] == label:
                part = hashes if slice_ is None else hashes[_slice(hashes) == slice_]
                kept[cut].append(part if isinstance(part, np.ndarray) else part.cpu().numpy())
    return {cut: int(np.partition(np.concatenate(kept[cut]), slices[cut][1] - 1)[slices[cut][1] - 1]) for cut in wanted}


def _slice(hashes: Array) -> Array:
    return (hashes >> (64 - TOP_BITS)) + (1 << (TOP_BITS - 1))
