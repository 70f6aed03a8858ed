"""Suspect checkpoints, which carry another step's weights are found, and the right one of the two is named."""

import numpy as np
import pandas as pd
import pytest
import torch

from essential_sparsity.checkpoints import fingerprints
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.emergence import suspects

STEPS = [0, 10, 20, 30, 40, 50, 60]


def series_of(steps=STEPS, seed=0):
    """Random walks of three tensors and one that is never trained: step -> tensor name -> values."""
    generator = np.random.default_rng(seed)
    found, state = {}, {name: generator.normal(0, 0.02, (40, 30)).astype(np.float32) for name in "abc"}
    frozen = generator.normal(0, 0.02, (40, 30)).astype(np.float32)
    for step in steps:
        found[step] = {**{name: value.copy() for name, value in state.items()}, "frozen": frozen}
        for value in state.values():
            value += generator.normal(0, 0.004, value.shape).astype(np.float32)
    return found


def check(found):
    def frame(tensors):
        parts = [
            fingerprints.of_tensor(PrunableWeight(name, 0, name, "mlp", value.shape, 1), torch.from_numpy(value))
            for name, value in tensors.items()
        ]
        return pd.concat(parts)

    return suspects.of_training([(step, frame(tensors)) for step, tensors in found.items()])


def test_a_sound_series_has_no_suspect_although_a_tensor_is_never_trained():
    assert check(series_of()) == {}


def test_a_step_that_holds_the_weights_of_a_far_one_is_named():
    found = series_of()
    found[20] = found[60]
    assert check(found) == {20.0: "the same weights as 60"}


def test_of_two_equal_neighbours_the_later_is_named():
    found = series_of()
    found[30] = found[20]
    assert check(found) == {30.0: "the same weights as 20"}


def test_a_step_with_a_later_steps_shard_is_named():
    found = series_of()
    found[10] = found[10] | {"b": found[50]["b"]}
    assert check(found) == {10.0: "1 of 3 tensors are those of 50"}


def test_nearly_the_same_weights_are_named():
    found = series_of()
    found[40] = {name: value * np.float32(1 + 1e-6) for name, value in found[30].items()} | {
        "frozen": found[0]["frozen"]
    }
    assert check(found) == {40.0: "hardly any difference to 30"}


def test_checkpoints_of_another_model_are_refused():
    found = series_of()
    found[30] = {"z" if name == "a" else name: value for name, value in found[30].items()}
    with pytest.raises(ValueError, match="at 30 and that at 0 differ in the tensor a"):
        check(found)


def test_the_training_of_checkpoints_that_do_not_belong_together_is_named():
    def frame(name):
        values = torch.ones(3, 2)
        return fingerprints.of_tensor(PrunableWeight(name, 0, name, "mlp", (3, 2), 1), values)

    series = pd.DataFrame({"training": "run", "model": ["run-0", "run-1"], "position": [0, 1]})
    with pytest.raises(ValueError, match="run: The checkpoint at 1 and that at 0 differ in the tensor a"):
        suspects.among(series, {"run-0": frame("a"), "run-1": frame("b")})
    assert suspects.among(series, {"run-0": frame("a"), "run-1": frame("a")}) == {"run-1": "the same weights as 0"}
    assert suspects.among(series[:1], {"run-0": frame("a")}) == {}
