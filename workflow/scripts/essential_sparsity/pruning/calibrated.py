"""Pruning with data: block by block, each with the inputs that the blocks before it give after they were pruned.

As Wanda and SparseGPT are published: the inputs of a block are recorded for all of its matrices in one pass, all are pruned,
and the pruned block gives the inputs of the next. Each sparsity starts from the dense weights: masks of different sparsities
are not nested. Where the pattern measures the dense model once (`inputs` = "dense"), one pass serves all sparsities and
masks nest. One block is on the device at a time, the rest of the model, and what it is given, on the host.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from essential_sparsity import errors, files, markers, patterns
from essential_sparsity.checkpoints import loading, prunable
from essential_sparsity.pruning import smallest, sparsegpt, wanda
from essential_sparsity.pruning.allocation import nm_pruned, nm_tail, rows_count
from essential_sparsity.pruning.inputs import Enough, Watching
from essential_sparsity.pruning.masks import Level
from essential_sparsity.pruning.matrices import Matrix, matrices
from essential_sparsity.pruning.spectrum import check, level_count
from essential_sparsity.pruning.statistics import Statistics
from essential_sparsity.pruning.thresholds import tie_hash
from essential_sparsity.pruning.walking import Visit, walk

OWL_THRESHOLD, OWL_SPREAD = 5.0, 0.08  # M and lambda of the published commands


@dataclass(frozen=True)
class Calibration:
    """What a model is calibrated on: `batches` are arguments of its forward pass, on the host, without padding.

    `name`: its row; `sequences`, of `tokens` in all (None: images), drawn with `seed`; `sha256` of what was drawn, in order.
    """

    name: str
    batches: Sequence[Mapping[str, torch.Tensor]]
    sequences: int
    tokens: int | None
    seed: int
    sha256: str


@dataclass
class Facts:
    """What pruning some matrices came to."""

    per_tensor: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    damping: float | None = None  # the largest that was needed, of the mean diagonal of a Hessian
    unseen: list[str] = field(default_factory=list)  # experts that no token of the calibration came to

    def add(self, name: str, count: int, damping: float | None = None) -> None:
        self.per_tensor[name] += count
        self.damping = max(filter(None, (self.damping, damping)), default=None)

    def take(self, other: Mapping[str, Any]) -> None:
        """Add those of another block, as JSON gives them."""
        for name, count in other["per_tensor"].items():
            self.add(name, count, other["damping"])
        self.unseen += other["unseen"]


class Plan:
    """The masks of a pattern that needs calibration, applied in place on a model; see `masks.Plan`.

    `model`: on the host (put into eval mode), dense when a level begins: `prune_` of one level after another needs its dense
    weights restored between them; its parameters may be other objects by then. `device`: where blocks are calibrated. `place`: a function from a level to the folder where pruned blocks
    outlive a killed job, with what decides them, or None. `remember`: keep the masks, for training. Raises CheckpointError
    for models that cannot be walked, and for a matrix whose inputs are not seen; UserError for weights, inputs and updated
    weights that are not finite.
    """

    def __init__(
        self,
        pattern: str,
        model: PreTrainedModel,
        calibration: Calibration,
        seed: int,
        device: torch.device | str = "cpu",
        place: Callable[[float], tuple[Path, Mapping[str, Any]]] | None = None,
        remember: bool = False,
    ):
        self.pattern, self.model, self.calibration = patterns.find(pattern), model.eval(), calibration
        self.device, self.place, self.remember = torch.device(device), place, remember
        self.key = files.named_seed(seed, "ties") - (1 << 63)
        for weight, tensor in prunable.prunable_parameters(model):
            check(tensor, weight.name)
        self.own = self._matrices()
        self.n = sum(matrix.tensor().numel() for own in self.own.values() for matrix in own)
        widest = max((matrix.inputs for own in self.own.values() for matrix in own), default=0)
        if self.pattern.score == "sparsegpt" and calibration.tokens is not None and calibration.tokens < widest:
            print(
                f"warning: the calibration {calibration.name!r} has {calibration.tokens:,} tokens, fewer than the {widest:,} inputs of "
                "the widest matrix: SparseGPT fits its weights to so few and can be worse than Wanda. Raise sequences or length.",
                flush=True,
            )
        self.norms: dict[str, torch.Tensor] = {}
        self.kept: dict[str, torch.Tensor] = {}
        self.shares: list[float] = []
        self.unseen: list[str] = []
        self.done: Level | None = None
        if self.pattern.inputs == "dense" or self.pattern.allocation == "owl":
            self._measure()

    @torch.no_grad()
    def prune_(self, sparsity: float) -> Level:
        """Prune the dense model in place and count what was pruned; nothing where this level was pruned last."""
        if self.done and self.done.sparsity == sparsity:
            return self.done
        self.kept, facts, self.own = {}, Facts(), self._matrices()
        of_blocks = self._sparsities(sparsity)
        if self.pattern.inputs == "dense":
            facts.unseen += self.unseen
            for path, own in self.own.items():
                for matrix in own:
                    self._apply(matrix, self._wanda(matrix, self.norms[matrix.name], of_blocks[path]), facts)
        else:
            walk(
                self.model,
                self.calibration.batches,
                self.device,
                lambda seen: self._visit(seen, sparsity, of_blocks, facts),
            )
        if facts.unseen:
            print(
                f"warning: {len(facts.unseen)} experts saw no token of the calibration {self.calibration.name!r} and are pruned by "
                f"magnitude: {files.some(facts.unseen)}. More sequences may reach them.",
                flush=True,
            )
        if facts.damping is not None and facts.damping > sparsegpt.DAMPING:
            print(f"warning: the damping of a Hessian had to be raised to {facts.damping:g}.", flush=True)
        self.done = self._level(sparsity, of_blocks, facts)
        return self.done

    def masks(self, sparsity: float) -> Iterator[tuple[str, torch.Tensor]]:
        """(tensor name, bool mask, True = pruned), one tensor at a time; the model is pruned for it. Only where they are remembered."""
        self.prune_(sparsity)
        yield from sorted(self.kept.items())

    def forget(self, sparsity: float) -> None:
        """Delete what would let the level go on after a kill: it has been evaluated."""
        if self.place:
            shutil.rmtree(self.place(sparsity)[0], ignore_errors=True)

    def _matrices(self) -> dict[str, list[Matrix]]:
        """The matrices of each block that has any, of the parameters that the model has now."""
        parameters, blocks = prunable.parameters(self.model), dict(prunable.blocks(self.model.base_model))
        _refuse_shared(self.model, blocks, {id(parameter) for parameter in parameters.values()})
        every = list(matrices((weight, parameters[weight.name]) for weight in prunable.find_prunable(self.model)))
        found = {path: [own for own in every if own.weight.name.startswith(f"{path}.")] for path in blocks}
        return {path: own for path, own in found.items() if own}

    def _measure(self) -> None:
        """One pass over the dense model: the norms of all inputs, or with OWL each block's share of outliers."""
        found = {path: Statistics(own, self.device, hessians=False) for path, own in self.own.items()}

        def visit(seen: Visit) -> None:
            if own := self.own.get(seen.path):
                self._watch(seen, own, found[seen.path].add)
                found[seen.path].settle()

        walk(self.model, self.calibration.batches, self.device, visit, once=False)
        norms, tokens = {}, {}
        for path, own in self.own.items():
            tokens |= found[path].tokens()
            norms |= {matrix.name: found[path].norms(matrix).cpu() for matrix in own}
            self.unseen += self._checked(own, tokens)
            if self.pattern.allocation == "owl":
                scored = [self._scores(matrix, self._norms(matrix, norms)) for matrix in own]
                self.shares.append(wanda.outliers(scored, OWL_THRESHOLD))
        if self.pattern.inputs == "dense":
            self.norms = {matrix.name: self._norms(matrix, norms) for own in self.own.values() for matrix in own}

    def _norms(self, matrix: Matrix, norms: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Those of an expert that saw nothing are alike: magnitude decides."""
        return torch.ones(matrix.inputs) if matrix.name in self.unseen else norms[matrix.name]

    def _watch(self, seen: Visit, own: Sequence[Matrix], take: Callable[[Matrix, torch.Tensor], None]) -> None:
        """Run a block on all batches and hand over what its matrices are multiplied with.

        Batches of the first one's shapes stop at its last product, since nothing asks here for what the block makes of that; but
        for experts, which have as many products as tokens choose them.
        """
        routed, products = any(prunable.EXPERTS.search(matrix.weight.role) for matrix in own), None
        with Watching(own, take) as watching:
            for batch, watching.sequences in enumerate(seen.sizes):
                alike = batch and not routed and seen.shapes(batch) == seen.shapes(0)
                watching.count, watching.enough = 0, products if alike else None
                with suppress(Enough):
                    seen.output(batch)
                if not batch:
                    products = watching.count

    def _checked(self, own: Sequence[Matrix], tokens: Mapping[str, int]) -> list[str]:
        """The experts that saw nothing. Raises CheckpointError for a matrix that must have seen every token, and where no
        expert saw any: a token always comes to some of them."""
        unseen = [matrix for matrix in own if not tokens.get(matrix.name)]
        routed = {matrix.weight.role for matrix in own if tokens.get(matrix.name)}
        routed = {role for role in routed if prunable.EXPERTS.search(role)}
        if wrong := [matrix.name for matrix in unseen if matrix.weight.role not in routed]:
            raise prunable.CheckpointError(
                f"{type(self.model).__name__}: the inputs of {files.some(wrong, 3)} cannot be seen: it is multiplied in a way that is "
                "not known here. Use a pattern without calibration for this model."
            )
        return [matrix.name for matrix in unseen]

    def _sparsities(self, sparsity: float) -> dict[str, float]:
        """The sparsity of each block."""
        if self.pattern.allocation != "owl":
            return dict.fromkeys(self.own, sparsity)
        sizes = [sum(matrix.tensor().numel() for matrix in own) for own in self.own.values()]
        return dict(zip(self.own, wanda.owl(self.shares, sizes, sparsity, OWL_SPREAD), strict=True))

    def _visit(self, seen: Visit, sparsity: float, of_blocks: Mapping[str, float], facts: Facts) -> None:
        """Prune one block with the inputs that it has now, or take what an attempt before this one made of it."""
        own = self.own.get(seen.path)
        if own is None:  # it has no weights
            return
        folder = identity = None
        if self.place:
            top, decided = self.place(sparsity)
            folder, identity = top / f"{list(self.own).index(seen.path):04d}", json.loads(json.dumps(decided))
            if self._taken(own, folder, identity, facts):
                return
        made = Facts()
        statistics = self._statistics(own)
        self._watch(seen, own, statistics.add)
        made.unseen += self._checked(own, statistics.tokens())
        for matrix in own:
            self._prune_matrix(matrix, statistics, of_blocks[seen.path], made)
        if folder:
            self._keep(own, folder, identity, made)
        facts.take(vars(made))

    def _prune_matrix(self, matrix: Matrix, statistics: Statistics, sparsity: float, made: Facts) -> None:
        unseen = matrix.name in made.unseen
        if self.pattern.score == "wanda" or unseen:
            norms = torch.ones(matrix.inputs, device=self.device) if unseen else statistics.norms(matrix)
            self._apply(matrix, self._wanda(matrix, norms, sparsity), made)
            return
        hashes = partial(self._hashes, matrix)
        count = self._count(matrix, sparsity)
        group = self.pattern.group
        per_unit = nm_pruned(self.pattern, sparsity) if group else count
        found = sparsegpt.prune(matrix.rows(), statistics.factors(matrix), per_unit, hashes, group)
        matrix.rows().copy_(found.rows)
        if not bool(matrix.rows().isfinite().all()):
            raise errors.UserError(
                f"{matrix.name}: weights that make up for pruned ones are too large for {self.model.dtype}, in which the model is "
                "stored. Use a pattern that leaves weights as they are (wanda), or a checkpoint in a wider data type."
            )
        self._note(matrix, found.mask, made, found.damping)

    def _wanda(self, matrix: Matrix, norms: torch.Tensor, sparsity: float) -> torch.Tensor:
        """The mask of a matrix by Wanda's score."""
        scored = self._scores(matrix, norms)
        if group := self.pattern.group:
            return smallest.of_groups(scored, group, nm_pruned(self.pattern, sparsity), partial(self._hashes, matrix))
        if self.pattern.structure == "rows":
            count = level_count(sparsity, matrix.inputs)
            return smallest.of_rows(scored, count, partial(self._hashes, matrix))
        return smallest.of_all(scored, self._count(matrix, sparsity), partial(self._hashes, matrix))

    def _scores(self, matrix: Matrix, norms: torch.Tensor) -> torch.Tensor:
        """Wanda's scores of a matrix; UserError where they are not finite."""
        rows = matrix.rows()
        found = wanda.scores(rows, norms.to(rows.device))
        if not bool(found.isfinite().all()):
            raise errors.UserError(
                f"{matrix.name}: its inputs on the calibration {self.calibration.name!r} are not finite. The model overflows on these "
                "texts in the data type that it is stored in."
            )
        return found

    def _hashes(self, matrix: Matrix, rows: torch.Tensor, start: int = 0, end: int | None = None) -> torch.Tensor:
        return tie_hash(matrix.places(rows, start, end), self.key)

    def _count(self, matrix: Matrix, sparsity: float) -> int:
        """How many weights of a matrix are pruned."""
        size, inputs = matrix.tensor().numel(), matrix.inputs
        if group := self.pattern.group:
            return size // inputs * (inputs // group) * nm_pruned(self.pattern, sparsity)
        if self.pattern.structure == "rows":
            return rows_count((size // inputs, inputs), 1, sparsity)
        return level_count(sparsity, size)

    def _apply(self, matrix: Matrix, mask: torch.Tensor, made: Facts) -> None:
        matrix.rows().masked_fill_(mask, 0)
        self._note(matrix, mask, made)

    def _note(self, matrix: Matrix, mask: torch.Tensor, made: Facts, damping: float | None = None) -> None:
        made.add(matrix.weight.name, int(mask.sum()), damping)
        if self.remember:
            whole = self.kept.setdefault(
                matrix.weight.name, torch.zeros(matrix.weight.shape, dtype=torch.bool, device="cpu")
            )
            Matrix(matrix.weight, whole, matrix.part, 0).rows().copy_(mask)

    def _statistics(self, own: Sequence[Matrix]) -> Statistics:
        return Statistics(own, self.device, hessians=self.pattern.score == "sparsegpt")

    def _keep(self, own: Sequence[Matrix], folder: Path, identity: Mapping[str, Any], made: Facts) -> None:
        folder.mkdir(parents=True)
        wholes = _wholes(own)
        tensors = {f"weights.{name}": whole.data.cpu().contiguous() for name, whole in wholes.items()}
        tensors |= {f"mask.{name}": self.kept[name] for name in wholes if self.remember}
        save_file(tensors, folder / "block.safetensors")
        markers.write(folder, identity, facts=vars(made))

    def _taken(self, own: Sequence[Matrix], folder: Path, identity: Mapping[str, Any], facts: Facts) -> bool:
        """Whether the block was pruned by an attempt before this one; its weights are taken then."""
        if not folder.is_dir():
            return False
        marker, reason = markers.read(folder, identity, "pruning")
        if reason:
            print(f"{folder} is not used: {reason}.", flush=True)
            shutil.rmtree(folder)
            return False
        stored = load_file(folder / "block.safetensors")
        for name, whole in _wholes(own).items():
            whole.data.copy_(stored[f"weights.{name}"])
            if self.remember:
                self.kept[name] = stored[f"mask.{name}"]
        facts.take(marker["facts"])
        return True

    def _level(self, sparsity: float, of_blocks: Mapping[str, float], facts: Facts) -> Level:
        """Describe the level from what was counted. RuntimeError where that is not exactly what was asked for."""
        expected = sum(self._count(matrix, of_blocks[path]) for path, own in self.own.items() for matrix in own)
        k = sum(facts.per_tensor.values())
        if k != expected:
            raise RuntimeError(
                f"{self.pattern.name} at {sparsity}: pruned {k} weights instead of {expected}: please report this"
            )
        keep, group, tail = None, self.pattern.group, 0
        if group:
            keep = group - nm_pruned(self.pattern, sparsity)
            every = [matrix for own in self.own.values() for matrix in own]
            tail = nm_tail(self.pattern, ((matrix.tensor().numel(), matrix.inputs) for matrix in every))
        told = {
            "calibration": self.calibration.name,
            "calibration_sequences": self.calibration.sequences,
            "calibration_tokens": self.calibration.tokens,
            "calibration_seed": self.calibration.seed,
            "calibration_drawn_sha256": self.calibration.sha256,
            "damping": facts.damping,
            "uncalibrated": len(facts.unseen),
        }
        return Level(sparsity, k, self.n, keep, group, tail, dict(facts.per_tensor), told)


def _wholes(own: Sequence[Matrix]) -> dict[str, torch.Tensor]:
    """The stored tensors of matrices by name: a stack of experts once."""
    return {matrix.weight.name: matrix.stored for matrix in own}


def _refuse_shared(model: PreTrainedModel, blocks: Mapping[str, torch.nn.Module], weights: set[int]) -> None:
    """A weight of two blocks would be pruned by the inputs of the first alone."""
    owners: dict[int, str] = {}
    for path, block in blocks.items():
        for own in weights.intersection(map(id, block.parameters())):
            if (first := owners.setdefault(own, path)) != path:
                raise prunable.CheckpointError(
                    f"{type(model).__name__}: its blocks {first} and {path} share weights, which have inputs in both. Use a pattern "
                    "without calibration for this model."
                )


def restore_(model: PreTrainedModel, folder: str | Path, allow_pickle: bool = False) -> None:
    """Put the dense weights of a checkpoint's folder back into a model, one tensor in memory at a time."""
    parameters = prunable.parameters(model)
    for weight, tensor in loading.iter_prunable(folder, allow_pickle=allow_pickle):
        parameters[weight.name].data.copy_(tensor)
