"""Tensors between the machine and a GPU, which copies from and to pinned memory many times as fast, and while it computes."""

from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

PINNED = 1 << 20  # bytes from which a copy goes through pinned memory: what is smaller takes no time


def moved(value: Any, device: torch.device) -> Any:
    """Tensors inside lists, tuples and dictionaries on a device; anything else as it is."""
    return tree_map(lambda part: there(part, device) if isinstance(part, torch.Tensor) else part, value)


def there(part: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on a device, itself where it is there."""
    if device.type == "cuda" and _large(part):
        return part.pin_memory().to(device, non_blocking=True)
    return part.to(device)


def _large(part: torch.Tensor) -> bool:
    return part.device.type == "cpu" and part.nbytes >= PINNED and part.is_contiguous()


class Carried:
    """What a batch brings to blocks on a device; what it brings to many, such as rotary tables, is moved there once.

    It stays while the machine's tensor lives, and is moved anew where that was written to in its place.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def moved(self, value: Any) -> Any:
        """As the function `moved`."""
        return tree_map(lambda part: self._there(part) if isinstance(part, torch.Tensor) else part, value)

    def know(self, here: Any, there: Any) -> None:
        """That the tensors `there`, on the device, hold what those of the machine do, in the same places of one structure."""
        for own, other in zip(tree_leaves(here), tree_leaves(there), strict=True):
            if isinstance(own, torch.Tensor) and own is not other:
                self.known[own] = own._version, other

    def _there(self, part: torch.Tensor) -> torch.Tensor:
        if part.device.type == self.device.type:
            return part
        version, found = self.known.get(part, (None, None))
        if version != part._version:
            found = there(part, self.device)
            self.known[part] = part._version, found
        return found


class Away:
    """A module's tensors on a device, and the memory of the machine that they came from and go back to."""

    def __init__(self, module: torch.nn.Module, device: torch.device):
        self.device, every = device, (*module.parameters(), *module.buffers())
        self.came = [(held, held.data) for held in every if held.device.type != device.type]
        self.going: list[torch.Tensor] = []
        self.gone: torch.cuda.Event | None = None
        for held, own in self.came:
            held.data = there(own, device)

    def leave(self) -> None:
        """Begin to bring them back as they are now; what is computed with them on the device meanwhile does not wait for it."""
        self.going = [_leaving(held.data, own) for held, own in self.came]
        if self.came:
            self.gone = torch.cuda.Event()
            self.gone.record(torch.cuda.current_stream(self.device))

    def back(self) -> None:
        """The module where it came from, with what its tensors held when they began to leave."""
        if self.gone:
            self.gone.synchronize()
        for (held, own), now in zip(self.came, self.going, strict=True):
            held.data = own.copy_(now)


def _leaving(part: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """A tensor of the device on its way to the machine, where `own` will hold it."""
    if not _large(own):
        return part.to("cpu")
    return torch.empty(own.shape, dtype=own.dtype, pin_memory=True).copy_(part, non_blocking=True)
