"""The packed masks of one checkpoint: one-shot masks from its weights, lottery tickets from their files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from essential_sparsity import files
from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import masks, tickets
from essential_sparsity.study import iterations


class Bitmasks:
    """Masks of `model` in the folder `results`; its weights are read once, for all one-shot masks together.

    `levels`, `seeds`: those of the one-shot `global` masks. Raises ValueError for weights that
    cannot be ranked, and CheckpointError for damaged files.
    """

    def __init__(
        self, results: Path, model: str, levels: Sequence[str], seeds: Iterable[int], allow_pickle: bool = False
    ):
        manifest = results / f"checkpoints/{model}/manifest.json"
        found = list(loading.iter_prunable(loading.verified_folder(manifest), allow_pickle=allow_pickle))
        self.weights = [weight for weight, _ in found]
        self._plans = {seed: masks.plan("global", found, [float(name) for name in levels], seed) for seed in seeds}
        self._folder = results / "tickets"
        self._made = {"model": model, "weights_sha256": files.read_json(manifest)["weights_sha256"]}

    def of(self, sparsity: str, mask: iterations.Mask) -> dict[str, np.ndarray]:
        """Tensor name -> packed mask; ValueError for a ticket that is damaged or of something else."""
        _, task, seed = mask
        if not task:
            return {name: tickets.pack(found) for name, found in self._plans[seed].masks(float(sparsity))}
        path = self._folder / f"{iterations.path((self._made['model'], task, seed, sparsity))}.safetensors"
        return tickets.read(path, self._made | {"task": task, "seed": seed, "sparsity": float(sparsity)}).bits
