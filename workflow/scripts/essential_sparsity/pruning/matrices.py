"""The matrices inside the prunable weights: a tensor is one, or, where experts are merged, a stack of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from essential_sparsity.checkpoints.prunable import PrunableWeight


@dataclass(frozen=True, eq=False)
class Matrix:
    """One matrix of a prunable tensor: all of it, or the slice `part` of a stack; the place of its first weight is `offset`."""

    weight: PrunableWeight
    stored: torch.Tensor
    part: int | None
    offset: int  # of the stored tensor, in the checkpoint's order

    @property
    def name(self) -> str:
        """The tensor's name, with the number of an expert."""
        return self.weight.name if self.part is None else f"{self.weight.name}[{self.part}]"

    @property
    def inputs(self) -> int:
        """How many inputs it has."""
        return self.weight.shape[self.weight.input_dim]

    def tensor(self) -> torch.Tensor:
        """Its weights as they are stored."""
        return self.stored.data if self.part is None else self.stored.data[self.part]

    def rows(self) -> torch.Tensor:
        """A view (outputs, inputs) of its weights."""
        input_dim = self.weight.input_dim - (self.part is not None)
        return self.tensor().movedim(input_dim, -1)

    def places(self, rows: torch.Tensor, start: int = 0, end: int | None = None) -> torch.Tensor:
        """int64 (len(rows), end − start): where weights of these rows lie in the checkpoint, which orders equal scores."""
        shape = self.tensor().shape
        first = self.offset + (self.part or 0) * shape.numel()
        inputs = torch.arange(start, self.inputs if end is None else end, device=rows.device)
        if self.weight.input_dim == self.stored.ndim - 1:
            return first + rows[:, None] * shape[1] + inputs
        return first + inputs * shape[1] + rows[:, None]


def matrices(weights: Iterable[tuple[PrunableWeight, torch.Tensor]]) -> Iterator[Matrix]:
    """The matrices of (description, tensor or parameter) each, in order of name, which is the checkpoint's."""
    offset = 0
    for weight, stored in sorted(weights, key=lambda pair: pair[0].name):
        for part in range(weight.shape[0]) if len(weight.shape) == 3 else (None,):
            yield Matrix(weight, stored, part, offset)
        offset += stored.numel()
