"""What the prunable matrices of a block are multiplied with, seen while the block runs.

The products themselves are watched, not the layers: a linear layer, GPT-2's Conv1D and one expert of a merged stack all
multiply inputs with (a part of) a stored tensor, and each sees its own inputs alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from essential_sparsity.pruning.matrices import Matrix

PLACES = {  # function -> places of the inputs and of the matrix among its arguments
    torch.nn.functional.linear: (0, 1),
    torch.addmm: (1, 2),
    torch.matmul: (0, 1),
    torch.Tensor.matmul: (0, 1),
    torch.Tensor.__matmul__: (0, 1),
    torch.mm: (0, 1),
    torch.Tensor.mm: (0, 1),
}
STACKED = (torch.bmm, torch.Tensor.bmm)  # of a batch of inputs, each with a matrix of its own
NAMES = {torch.nn.functional.linear: ("input", "weight"), torch.addmm: ("mat1", "mat2")}


class Enough(BaseException):  # no `except Exception` of a model keeps it
    """Ends a forward pass of which nothing is left to see."""


class Watching(TorchFunctionMode):
    """Inside it, each product with one of the `matrices` calls `seen(matrix, inputs)`, inputs as (tokens, inputs).

    Inputs that a model makes once for all `sequences` of a batch (DeBERTa's relative positions, by the matrices of the texts) count
    once for each: else how often they do would depend on how many go through at once. Where all experts of a stack are multiplied at
    once (Llama 4), each has a row for every token, all zeros for those that do not come to it: these are no inputs of it. Nothing is
    seen of a product where a token has other rows for all experts: which of them it comes to is not told there.

    `count`: how many were seen since it was set; when there are `enough`, Enough is raised before the product is computed.
    """

    enough: int | None = None

    def __init__(self, matrices: Sequence[Matrix], seen: Callable[[Matrix, torch.Tensor], None]):
        super().__init__()
        self.known = {matrix.tensor().data_ptr(): matrix for matrix in matrices}
        self.seen, self.sequences, self.count = seen, 1, 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in PLACES:
            values, weight = (
                args[place] if place < len(args) else kwargs.get(name)
                for place, name in zip(PLACES[function], NAMES.get(function, ("", "")), strict=True)
            )
            if function not in NAMES and self._is_matrix(values) and weight.ndim > 1:
                values, weight = weight.mT, values
            matrix = self.known.get(weight.data_ptr()) if isinstance(weight, torch.Tensor) else None
            if matrix and weight.numel() == matrix.tensor().numel() and values.shape[-1] == matrix.inputs:
                found = values.detach()
                if values.ndim == 3 and len(values) == 1 < self.sequences:
                    found = found.expand(self.sequences, -1, -1)
                self._take(matrix, found.reshape(-1, matrix.inputs))
        if function in STACKED:
            values, stack = (
                args[place] if place < len(args) else kwargs.get(name) for place, name in enumerate(("input", "mat2"))
            )
            if not isinstance(stack, torch.Tensor) or stack.data_ptr() not in self.known:  # as in attention
                return function(*args, **kwargs)
            comes = values.detach().ne(0).any(dim=2)
            for found, weight, there in (
                () if len(stack) > 1 and comes.all(dim=0).any() else zip(values.detach(), stack, comes, strict=True)
            ):
                matrix = self.known.get(weight.data_ptr())
                if matrix and weight.numel() == matrix.tensor().numel() and found.shape[-1] == matrix.inputs:
                    self._take(matrix, found[there])
        return function(*args, **kwargs)

    def _take(self, matrix: Matrix, values: torch.Tensor) -> None:
        self.seen(matrix, values)
        self.count += 1
        if self.count == self.enough:
            raise Enough

    def _is_matrix(self, values: Any) -> bool:
        """Whether it is one of the matrices, (outputs, inputs), which then stands before inputs in columns (the steps of Mamba)."""
        matrix = self.known.get(values.data_ptr()) if isinstance(values, torch.Tensor) else None
        if matrix is None:
            return False
        rows = matrix.rows()
        return (values.shape, values.stride()) == (rows.shape, rows.stride())
