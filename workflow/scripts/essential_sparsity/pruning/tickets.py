"""Masks on disk: one bit a weight, with where they come from, in one safetensors file.

Each prunable matrix is one uint8 tensor of ⌈n / 8⌉ bytes (`numpy.packbits`, row-major, first weight in the highest bit,
1 = pruned). The header's metadata hold the provenance as JSON under the key `ticket`.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from essential_sparsity import errors, files

KEY = "ticket"
AGAIN = "Delete it and run again to make it anew."


@dataclass(frozen=True)
class Ticket:
    """One stored mask. `provenance`: as given to `write`, with `shapes` and `bits_sha256`; `bits`: tensor -> packed."""

    provenance: dict[str, Any]
    bits: dict[str, np.ndarray]

    @property
    def collapsed(self) -> str | None:
        """Why runs with this mask say little, in words: the first iteration of its chain whose training diverged."""
        first = self.provenance["diverged"]
        return None if first is None else f"the training of its ticket diverged in iteration {first}"

    @property
    def sizes(self) -> dict[str, int]:
        """Weights of each matrix."""
        return {name: math.prod(shape) for name, shape in self.provenance["shapes"].items()}

    def masks(self) -> dict[str, torch.Tensor]:
        """Tensor name -> bool mask of the tensor's shape, True = pruned."""
        shapes = self.provenance["shapes"]
        return {name: unpack(bits, shapes[name]) for name, bits in self.bits.items()}


def pack(mask: torch.Tensor) -> np.ndarray:
    """A bool tensor as ⌈n / 8⌉ bytes."""
    return np.packbits(mask.detach().cpu().reshape(-1).numpy())


def unpack(bits: np.ndarray, shape: list[int]) -> torch.Tensor:
    """Back from the bytes of `pack` to a bool tensor."""
    return torch.from_numpy(np.unpackbits(bits, count=math.prod(shape)).astype(bool)).reshape(shape)


def write(path: str | os.PathLike, masks: Mapping[str, torch.Tensor], provenance: Mapping[str, Any]) -> None:
    """Write a mask, whole or not at all; the same masks and provenance give the same bytes.

    `provenance` must hold `k`, the number of pruned weights, and for runs `diverged`, the first iteration of the chain
    whose training diverged, or None; anything else in it is the caller's (JSON types).
    """
    bits = {name: pack(mask) for name, mask in sorted(masks.items())}
    shapes = {name: list(mask.shape) for name, mask in sorted(masks.items())}
    record = dict(provenance) | {"shapes": shapes, "bits_sha256": _digest(bits)}
    with files.atomic(path) as temporary:
        save_file(bits, temporary, metadata={KEY: json.dumps(record, sort_keys=True)})


def read(path: str | os.PathLike, expected: Mapping[str, Any]) -> Ticket:
    """Read a mask and check it: whole, as many bits as its provenance says, and what was `expected` of the provenance.

    Raises ValueError naming the file, what is wrong and what to do, FileNotFoundError when it is not there.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not there: a ticket of iterative pruning should have been written to it.")
    try:
        with safe_open(path, framework="numpy") as file:
            record = json.loads((file.metadata() or {}).get(KEY, "null"))
            bits = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, ValueError, OSError) as error:
        raise errors.UserError(f"{path} is not a whole safetensors file ({error}). {AGAIN}") from error
    if not isinstance(record, dict):
        raise errors.UserError(f"{path} holds no ticket: its header has no {KEY!r}. {AGAIN}")
    ticket = Ticket(record, bits)
    for name, value in expected.items():
        if record.get(name) != value:
            raise errors.UserError(f"{path} is a ticket whose {name} is {record.get(name)!r}, not {value!r}. {AGAIN}")
    if _digest(bits) != record["bits_sha256"] or set(bits) != set(record["shapes"]):
        raise errors.UserError(f"{path}: the masks are not the ones that were written (SHA-256 differs). {AGAIN}")
    counted = sum(int(np.bitwise_count(part).sum()) for part in bits.values())
    if counted != record["k"]:
        raise errors.UserError(f"{path}: {counted} weights are pruned, but its provenance says {record['k']}. {AGAIN}")
    return ticket


def _digest(bits: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, part in sorted(bits.items()):
        digest.update(f"{name}\0{part.size}\0".encode())
        digest.update(part)
    return digest.hexdigest()
