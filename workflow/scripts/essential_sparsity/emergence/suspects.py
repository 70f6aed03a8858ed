"""Suspect checkpoints of a series, which are not what their step says: repeated weights, another step's shard.

Published series carry such mistakes: many step revisions hold the weights of another step, wholly or in one shard.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from essential_sparsity import errors

NEAR = 1e-3  # of the distance to be expected: nearer than this, hardly any training lies between two checkpoints
AROUND = 3  # gaps on either side from which the pace of a training is taken


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

    `checkpoints`: (position, table `fingerprints`), at least two. Suspect are two that share tensors, and two that are
    NEAR each other for the steps between them. Of two checkpoints the one is named that lies farther from its neighbours;
    of two neighbours the later one. Tensors that are the same in all checkpoints were never trained: they say nothing.
    Raises ValueError when the checkpoints have other tensors.
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
    shared = np.array([[sum(a[name] == b[name] for name in trained) for b in hashes] for a in hashes])
    left, reasons = list(range(len(ordered))), {}
    # one by one, the surest first: each that stays would blur the pace around it
    while pair := _surest(np.array(positions, float), apart, shared, left, bool(trained)):
        wrong, other = pair
        if shared[pair] == len(trained):
            told = "the same weights as"
        elif shared[pair]:
            told = f"{shared[pair]} of {len(trained)} tensors are those of"
        else:
            told = "hardly any difference to"
        reasons[positions[wrong]] = f"{told} {positions[other]:g}"
        left.remove(wrong)
    return reasons


def _surest(
    positions: np.ndarray, apart: np.ndarray, shared: np.ndarray, left: list[int], trained: bool
) -> tuple[int, int] | None:
    """Of the checkpoints `left`, the one that is most surely wrong and the one that it repeats; None where none does."""
    here = apart[np.ix_(left, left)]
    usual = expected(positions[left], np.diagonal(here, 1))
    found = []
    for i in range(len(left)):
        for j in range(i + 1, len(left)):
            equal, near = shared[left[i], left[j]], NEAR * usual[i:j].max()
            if equal or not trained or here[i, j] < near:
                found.append((-equal, here[i, j] / near if near else 0.0, i, j))
    if not found:
        return None
    _, _, i, j = min(found)
    later = j == i + 1 or _lonely(here, j, i) >= _lonely(here, i, j)
    return (left[j], left[i]) if later else (left[i], left[j])


def expected(positions: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """How far neighbours (n - 1 gaps) should be apart, from the pace around them; 0 where no other gap tells it.

    `positions` (n); `moved` (n - 1): how far neighbours are apart. The pace is the median distance per step of up to
    AROUND gaps on either side, so that neither a gap's own distance nor one wrong checkpoint beside it sets it: early
    checkpoints of published series are a step apart while the learning rate still rises, late ones a thousand.
    """
    pace = moved / np.diff(positions)
    around = [np.r_[pace[max(k - AROUND, 0) : k], pace[k + 1 : k + 1 + AROUND]] for k in range(len(pace))]
    return np.array([np.median(paces) if len(paces) else 0.0 for paces in around]) * np.diff(positions)


def _lonely(apart: np.ndarray, i: int, partner: int) -> float:
    """Mean distance of a checkpoint to its neighbours, its partner left out."""
    near = [k for k in (i - 1, i + 1) if 0 <= k < len(apart) and k != partner]
    return float(np.mean([apart[i, k] for k in near])) if near else 0.0
