"""Masks along a training: how alike those of each checkpoint and of the one before it are.

The checkpoints are walked in the order of their axis, so the packed masks of two of them are held at any time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity import errors
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import similarity
from essential_sparsity.study.iterations import Mask

ONE_SHOT: Mask = ("global", "", 0)


@dataclass(frozen=True)
class Held:
    """The masks of one checkpoint. `bits`: (sparsity, mask) -> tensor name -> packed."""

    weights: list[PrunableWeight]
    bits: dict[tuple[str, Mask], dict[str, np.ndarray]]


def compared(members: Iterable[Mapping[str, Any]], read: Callable[[str], Held]) -> Iterator[pd.DataFrame]:
    """Rows of table `similarity` for every two neighbours of one training, and every mask that both have.

    `members`: the training's rows of table `series`; `read(model)` gives a checkpoint's masks, and is called once for each.
    Raises ValueError naming both checkpoints when their prunable tensors differ in name or shape.
    """
    before = None
    for member in sorted(members, key=lambda member: member["position"]):
        here = member, read(member["model"])
        if before:
            yield from _pair(before, here)
        before = here


def _pair(before: tuple[Mapping, Held], here: tuple[Mapping, Held]) -> Iterator[pd.DataFrame]:
    (a, masks_a), (b, masks_b) = before, here
    _check_same(a["model"], masks_a.weights, b["model"], masks_b.weights)
    place = {name: a[name] for name in ("series", "group", "training", "axis")}
    place |= {"position_a": a["position"], "position_b": b["position"]}
    for sparsity, mask in sorted(masks_a.bits.keys() & masks_b.bits.keys()):
        key = similarity.key("checkpoint", sparsity, (a["model"], *mask), (b["model"], *mask), place)
        bits = masks_a.bits[sparsity, mask], masks_b.bits[sparsity, mask]
        yield similarity.compare(masks_a.weights, *bits).assign(**key)


def _check_same(a: str, weights_a: list[PrunableWeight], b: str, weights_b: list[PrunableWeight]) -> None:
    shapes = [{weight.name: weight.shape for weight in weights} for weights in (weights_a, weights_b)]
    differing = sorted(name for name, _ in set(shapes[0].items()) ^ set(shapes[1].items()))
    if differing:
        said = ["x".join(map(str, found[differing[0]])) if differing[0] in found else "missing" for found in shapes]
        raise errors.UserError(
            f"The masks of {a} and {b} cannot be compared: the tensor {differing[0]} is {said[0]} in the former and "
            f"{said[1]} in the latter. Checkpoints of one row of the models table have the same prunable weights: mend "
            "its id or leave the value out."
        )
