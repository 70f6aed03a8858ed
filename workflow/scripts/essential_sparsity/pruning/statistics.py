"""What calibrated pruning keeps of the inputs that matrices have: norms, or Hessians; what several share is multiplied once."""

from collections.abc import Sequence

import torch

from essential_sparsity.pruning import sparsegpt, wanda
from essential_sparsity.pruning.matrices import Matrix


class Statistics:
    """The statistics of the inputs of some matrices: norms, or Hessians where the score needs them."""

    def __init__(self, own: Sequence[Matrix], device: torch.device, hessians: bool):
        kind = sparsegpt.Hessian if hessians else wanda.Norms
        self.hessians = hessians
        self.of = {matrix.name: kind(matrix.inputs, device) for matrix in own}
        # inputs, held so that no others have their place in memory, and the place that they had: they may change in it
        self.last, self.at, self.product = None, None, None

    def add(self, matrix: Matrix, values: torch.Tensor) -> None:
        """Take in (tokens, inputs) of a matrix; what several matrices share is multiplied once."""
        if not self.hessians:
            self.of[matrix.name].add(values)
            return
        if _place(values) != self.at:
            wide = values.float()
            self.last, self.at, self.product = values, _place(values), wide.T @ wide
        self.of[matrix.name].add(values, self.product)

    def tokens(self) -> dict[str, int]:
        """Matrix -> how many tokens it saw."""
        self.last = self.at = self.product = None
        return {name: part.tokens for name, part in self.of.items()}

    def norms(self, matrix: Matrix) -> torch.Tensor:
        return self.of[matrix.name].found()

    def hessian(self, matrix: Matrix) -> torch.Tensor:
        return self.of.pop(matrix.name).found()


def _place(values: torch.Tensor) -> tuple:
    return values.data_ptr(), values.shape, values.stride(), values._version
