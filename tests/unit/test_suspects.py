"""Suspect checkpoints, which carry another step's weights are found, and the right one of the two is named."""

from itertools import pairwise

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


PYTHIA = [0, *(2**i for i in range(10)), *range(1000, 12001, 1000), 20000, 21000, 22000]


def trained(steps, rate, seed=0, drift=0.05, dtype=np.float32):
    """As Adam moves weights: at each step by about `rate(step)`, partly in a direction that turns slowly."""
    generator = np.random.default_rng(seed)
    state = {name: generator.normal(0, 0.02, (40, 30)) for name in "abc"}
    towards = {name: generator.normal(size=(40, 30)) for name in "abc"}
    found = {steps[0]: {name: value.astype(dtype) for name, value in state.items()}}
    for before, step in pairwise(steps):
        rates = np.array([rate(s) for s in range(before + 1, step + 1)])
        for name, value in state.items():
            towards[name] = 0.9 * towards[name] + 0.44 * generator.normal(size=value.shape)
            noise = generator.normal(size=value.shape) * np.sqrt((rates**2).sum())
            value += noise + drift * rates.sum() * towards[name]
        found[step] = {name: value.astype(dtype) for name, value in state.items()}
    return found


def warmed(step):
    """Pythia's learning rate: a linear warm-up over 1,430 steps."""
    return 1e-3 * min(step / 1430, 1)


def nearly(tensors):
    """The same but for rounding."""
    return {name: value * np.float32(1 + 1e-6) for name, value in tensors.items()}


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


def test_the_order_in_which_checkpoints_are_listed_changes_nothing():
    found = series_of()
    found[30] = found[20]
    assert check(dict(reversed(found.items()))) == {30.0: "the same weights as 20"}


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
    for step in (0, 30):  # one tensor less, or one more
        found = series_of()
        del found[step]["c"]
        with pytest.raises(ValueError, match="differ in the tensor c"):
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


# --- checkpoints that are not evenly spaced


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("drift", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_early_checkpoints_a_step_apart_are_no_copies(seed, drift, dtype):
    assert check(trained(PYTHIA, warmed, seed, drift, dtype)) == {}


@pytest.mark.parametrize("steps", [[0, 1, 1000, 2000, 3000], [0, 1000, 2000, 2001, 3000], [0, 1, 2]])
def test_one_small_step_among_large_ones_is_no_copy(steps):
    assert check(trained(steps, warmed)) == {}


def test_a_training_that_comes_to_rest_is_no_copy_of_itself():
    """A cosine schedule to 0: from the last checkpoint but one to the last hardly anything happens, as it should."""
    steps = list(range(0, 10001, 500))
    assert check(trained(steps, lambda step: 5e-4 * (1 + np.cos(np.pi * step / 10000)), drift=1.0)) == {}


@pytest.mark.parametrize("copy", [dict, nearly])
@pytest.mark.parametrize(
    ("at", "holds"), [(1, 22000), (8, 3000), (256, 2000), (2000, 22000), (5000, 21000), (9000, 4), (22000, 0)]
)
def test_a_far_checkpoint_in_the_place_of_another_is_marked_alone(at, holds, copy):
    found = trained(PYTHIA, warmed)
    found[at] = copy(found[holds])
    told = "the same weights as" if copy is dict else "hardly any difference to"
    assert check(found) == {float(at): f"{told} {holds}"}


@pytest.mark.parametrize("at", [2, 16, 512, 2000, 10000, 21000])
def test_a_checkpoint_that_repeats_the_one_before_is_marked_whatever_the_gap(at):
    found, before = trained(PYTHIA, warmed), PYTHIA[PYTHIA.index(at) - 1]
    found[at] = {name: np.nextafter(value, np.float32(1)) for name, value in found[before].items()}
    assert check(found) == {float(at): f"hardly any difference to {before}"}


def test_the_pace_of_a_gap_is_that_of_the_others():
    positions, moved = np.array([0.0, 1, 2, 4]), np.array([1.0, 100, 6])
    np.testing.assert_allclose(suspects.expected(positions, moved), [51.5, 2, 101])
    assert suspects.expected(positions[:2], moved[:1]).tolist() == [0]


def test_of_two_checkpoints_those_that_share_tensors_are_suspect_and_no_others():
    found = series_of([0, 10])
    assert check(found) == {}
    found[10]["b"] = found[0]["b"]
    assert check(found) == {}, "a tensor that is the same in all was never trained"
    assert check({0: found[0], 10: found[0]}) == {10.0: "the same weights as 0"}


# --- one weight on a line, so that distances are exact


def on_a_line(places):
    """Step -> what is wrong, of a training that has one weight: `places` has its value at each step."""
    return suspects.of_training(
        [
            (step, pd.DataFrame({"tensor": ["a"], "number": [0], "value": [value], "sha256": [str(value)]}))
            for step, value in places.items()
        ]
    )


@pytest.mark.parametrize("moved", [0.0095, 0.0105])
def test_hardly_any_difference_is_less_than_a_thousandth_of_what_is_usual(moved):
    found = on_a_line({0: 0, 10: 10, 20: 20, 30: 20 + moved, 40: 40, 50: 50, 60: 60})
    assert found == ({30: "hardly any difference to 20"} if moved < 0.01 else {})


@pytest.mark.parametrize("apart", [0.0095, 0.0105])
def test_a_training_that_returns_is_compared_with_the_longest_gap_and_not_with_all_of_them(apart):
    found = on_a_line({0: 0, 10: 10, 20: 20, 30: 30, 40: 20 + apart, 50: 9})
    assert found == ({40: "hardly any difference to 20"} if apart < 0.01 else {})


def test_the_order_of_the_values_of_a_checkpoint_changes_nothing():
    """The one that repeats another lists its tensors, and the values of each, the other way round."""
    steps = {step: step for step in range(0, 70, 10)} | {30: 20.001}
    frames = []
    for step, place in steps.items():
        values = [place, -place, 3.0 * place]
        frame = pd.DataFrame({"tensor": ["a", "a", "b"], "number": [0, 1, 0], "value": values, "sha256": str(place)})
        frames.append((step, frame[::-1] if step == 30 else frame))
    assert suspects.of_training(frames) == {30: "hardly any difference to 20"}


def test_a_wrong_checkpoint_makes_no_suspects_of_those_around_it():
    steps = [0, 10, 20, 30, 40, 50, 60, 50000]
    found = on_a_line({step: step / 10 for step in steps} | {20: 5000.0001})
    assert found == {20: "hardly any difference to 50000"}


def test_three_gaps_on_either_side_say_the_pace():
    found = suspects.expected(np.arange(8.0), 2.0 ** np.arange(7))
    assert found.tolist() == [4, 6, 8, 10, 8, 12, 16]
