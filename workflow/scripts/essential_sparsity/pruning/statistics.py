"""What calibrated pruning keeps of the inputs that matrices have: norms, or Hessians; once for matrices with the same inputs."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch

from essential_sparsity.pruning import sparsegpt, wanda
from essential_sparsity.pruning.matrices import Matrix


@dataclass
class Shared:
    """The statistics of the matrices `names`, all of which saw the same; `factors`: of their Hessian, once they were asked for."""

    kept: "wanda.Norms | sparsegpt.Hessian | None"
    names: set[str]
    factors: sparsegpt.Factors | None = None


class Statistics:
    """The statistics of the inputs of some matrices: norms, or Hessians where the score needs them.

    Matrices of one width share theirs until they see different inputs: queries, keys and values do not.
    """

    def __init__(self, own: Sequence[Matrix], device: torch.device, hessians: bool):
        self.kind = sparsegpt.Hessian if hessians else wanda.Norms
        widths: dict[int, Shared] = {}
        self.of: dict[str, Shared] = {}
        for matrix in own:
            shared = widths.setdefault(matrix.inputs, Shared(self.kind(matrix.inputs, device), set()))
            shared.names.add(matrix.name)
            self.of[matrix.name] = shared
        # inputs, held so that no others have their place in memory, and the place that they had: they may change in it
        self.last, self.at, self.piece = None, None, None
        self.saw: set[str] = set()  # the matrices that these are the inputs of

    def add(self, matrix: Matrix, values: torch.Tensor) -> None:
        """Take in (tokens, inputs) of a matrix; what several matrices share is multiplied once."""
        if _place(values) != self.at or matrix.name in self.saw:
            self.settle()
            self.last, self.at, self.piece = values, _place(values), self.kind.piece(values)
        self.saw.add(matrix.name)

    def settle(self) -> None:
        """Add what was seen last where it belongs, and let go of it."""
        for shared in {id(self.of[name]): self.of[name] for name in self.saw}.values():
            if others := shared.names - self.saw:
                seen = Shared(deepcopy(shared.kept), shared.names & self.saw)
                self.of |= dict.fromkeys(seen.names, seen)
                shared.names, shared = others, seen
            shared.kept.add(self.piece, len(self.last))
        self.last = self.at = self.piece = None
        self.saw = set()

    def tokens(self) -> dict[str, int]:
        """Matrix -> how many tokens it saw."""
        self.settle()
        return {name: shared.kept.tokens for name, shared in self.of.items()}

    def norms(self, matrix: Matrix) -> torch.Tensor:
        return self.of[matrix.name].kept.found()

    def factors(self, matrix: Matrix) -> sparsegpt.Factors:
        """Those of its Hessian; asked for once a matrix. Raises UserError naming the matrix where there are none."""
        shared = self.of.pop(matrix.name)
        if shared.factors is None:
            shared.factors, shared.kept = sparsegpt.factors(shared.kept.found(), matrix.name), None
        return shared.factors


def _place(values: torch.Tensor) -> tuple:
    return values.data_ptr(), values.shape, values.stride(), values._version
