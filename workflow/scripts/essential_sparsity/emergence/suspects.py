"""Suspect checkpoints of a series, which are not what their step says: repeated weights, another step's shard.

Published series carry such mistakes: many step revisions hold the weights of another step, wholly or in one shard.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from essential_sparsity import errors

NEAR = 1e-3  # of the usual distance between neighbours: nearer than this, no training step lies between two of them


def among(series: pd.DataFrame, fingerprints: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Model -> what makes it suspect, of those that are to be left out; trainings of one checkpoint are not checked.

    `series`: the table; `fingerprints`: model -> table `fingerprints`. Raises ValueError naming the training whose
    checkpoints have other tensors.
    """
    found: dict[str, str] = {}
    for name, checkpoints in series.groupby("training", sort=True):
        if len(checkpoints) == 1:
            continue
        try:
            reasons = of_training((row.position, fingerprints[row.model]) for row in checkpoints.itertuples())
        except ValueError as error:
            raise errors.UserError(f"{name}: {error}") from error
        found |= {row.model: reasons[row.position] for row in checkpoints.itertuples() if row.position in reasons}
    return found


def of_training(checkpoints: Iterable[tuple[float, pd.DataFrame]]) -> dict[float, str]:
    """What is wrong with each checkpoint of one training: position -> reason, for those that should be left out.

    `checkpoints`: (position, table `fingerprints`), at least two. Of two checkpoints that share tensors the one is named
    that lies farther from its neighbours; of two neighbours the later one. Tensors that are the same in all
    checkpoints were never trained: they say nothing. Raises ValueError when the checkpoints have other tensors.
    """
    ordered = sorted(checkpoints, key=lambda pair: pair[0])
    positions = [position for position, _ in ordered]
    hashes = [dict(zip(frame["tensor"], frame["sha256"], strict=True)) for _, frame in ordered]
    for position, found in zip(positions, hashes, strict=True):
        if set(found) != set(hashes[0]):
            odd = sorted(set(found) ^ set(hashes[0]))[0]
            raise errors.UserError(
                f"The checkpoint at {position:g} and that at {positions[0]:g} differ in the tensor {odd}."
            )
    trained = [name for name in hashes[0] if len({found[name] for found in hashes}) > 1]
    values = [frame.sort_values(["tensor", "number"])["value"].to_numpy() for _, frame in ordered]
    apart = np.array([[np.linalg.norm(a - b) for b in values] for a in values])
    usual = float(np.median([apart[i, j] for i, j in pairwise(range(len(values)))]))
    reasons: dict[float, str] = {}
    for i in range(len(ordered)):
        for j in range(i + 1, len(ordered)):
            shared = sum(hashes[i][name] == hashes[j][name] for name in trained)
            if not shared and trained and apart[i, j] > NEAR * usual:
                continue
            wrong, other = (j, i) if j == i + 1 or _lonely(apart, j, i) >= _lonely(apart, i, j) else (i, j)
            if shared == len(trained):
                told = "the same weights as"
            elif shared:
                told = f"{shared} of {len(trained)} tensors are those of"
            else:
                told = "hardly any difference to"
            reasons.setdefault(positions[wrong], f"{told} {positions[other]:g}")
    return reasons


def _lonely(apart: np.ndarray, i: int, partner: int) -> float:
    """Mean distance of a checkpoint to its neighbours, its partner left out."""
    near = [k for k in (i - 1, i + 1) if 0 <= k < len(apart) and k != partner]
    return float(np.mean([apart[i, k] for k in near])) if near else 0.0
