"""One iteration of iterative magnitude pruning with rewinding to the pre-trained weights.

Algorithm of the lottery tickets of pre-trained transformers (Chen et al. 2020, "The Lottery Ticket Hypothesis for
Pre-trained BERT Networks", arXiv 2007.12223), to which Jaiswal et al. 2023 (arXiv 2306.03805) compare one-shot masks:
fine-tune under the mask so far, prune a share of the *original* weights, the smallest trained magnitudes of those that
remain; the next iteration starts from the pre-trained weights again. A ticket is the mask, never the trained weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from essential_sparsity import errors, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import masks
from essential_sparsity.pruning.masks import Level
from essential_sparsity.training import finetuning, resume

Masks = dict[str, torch.Tensor]
LARGEST = 0x7F7FFFFF  # bits of the largest float32


def ticket(
    folder: str | Path,
    data: pd.DataFrame,
    settings: Mapping[str, Any],
    previous: Mapping[str, torch.Tensor],
    sparsity: float,
    seed: int,
    device: torch.device | str = "cpu",
    work: resume.Work | None = None,
    cache: Path | None = None,
) -> tuple[Masks, Level, bool]:
    """The masks after an iteration that starts with the masks `previous` (empty: the first) and ends at `sparsity`.

    And whether its training diverged (`finetuning.train_`): the masks say little then, and all that follow from them.

    `folder` holds the pre-trained checkpoint, `data` the canonical frame of the data set, `settings` the task row with
    the model row's `allow_pickle` and `allow_unused`. Every iteration has the same head, training items and order: those of the seed. `work`:
    where the iteration's training keeps its checkpoints, and what decides checkpoint, data and code. `cache`: the folder of tokenised texts.
    """
    prepared = tasks.load(settings["kind"]).prepare(folder, data, settings, seed, cache)
    load = loading.permissions(settings)
    model = finetuning.load_trainable(
        folder, tasks.auto_class(settings), seed, prepared.model_options, prepared.head, **load
    )
    previous = {name: mask.to(device) for name, mask in previous.items()}
    apply_(loading.prunable_parameters(model.to(device)), previous)
    diverged = finetuning.train_(model, prepared.train, prepared.collate, settings, seed, previous, device, work)
    return *prune_smallest(loading.prunable_parameters(model), previous, sparsity, seed), diverged


@torch.no_grad()
def apply_(weights: Sequence[tuple[PrunableWeight, torch.Tensor]], pruned: Mapping[str, torch.Tensor]) -> None:
    """Set the pruned weights to zero in place; ValueError when the masks are of other weights."""
    shapes = {weight.name: tuple(tensor.shape) for weight, tensor in weights}
    if pruned and shapes != {name: tuple(mask.shape) for name, mask in pruned.items()}:
        raise errors.UserError(
            "The masks of the previous iteration are of other weights: delete results/store/tickets of this model."
        )
    for weight, tensor in weights:
        if pruned:
            tensor.masked_fill_(pruned[weight.name], 0)


def prune_smallest(
    weights: Sequence[tuple[PrunableWeight, torch.Tensor]],
    pruned: Mapping[str, torch.Tensor],
    sparsity: float,
    seed: int,
) -> tuple[Masks, Level]:
    """Prune the smallest of the remaining weights until exactly ⌊sparsity · n + ½⌋ are pruned; ties by the seeded hash.

    `weights`: the trained ones, float32; `pruned`: the masks so far, all of which stay pruned. Raises ValueError when more
    are pruned already than the sparsity allows.
    """
    ranked = [(weight, order_pruned_first(tensor, pruned.get(weight.name))) for weight, tensor in weights]
    plan = masks.plan("global", ranked, [sparsity], seed)
    found = dict(plan.masks(sparsity))
    level = plan.level(sparsity, {name: int(mask.sum()) for name, mask in found.items()})
    if any(bool((mask & ~found[name]).any()) for name, mask in pruned.items()):
        before = sum(int(mask.sum()) for mask in pruned.values())
        raise errors.UserError(f"{before} weights are pruned already, more than the {level.k} of sparsity {sparsity}.")
    return found, level


def order_pruned_first(trained: torch.Tensor, pruned: torch.Tensor | None) -> torch.Tensor:
    """Float32 tensor whose magnitudes rank pruned weights before all others, and the others as |trained| does.

    The bits of a magnitude order like it. With one added to each, 0 is left for the pruned: a remaining weight that is
    exactly 0 comes after them. One that diverged to NaN or infinity counts as the largest number.
    """
    bits = (trained.detach().view(torch.int32) & 0x7FFFFFFF).clamp(max=LARGEST - 1) + 1
    return (bits if pruned is None else bits.masked_fill(pruned, 0)).view(torch.float32)
