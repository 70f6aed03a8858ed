"""Measures of sparsity against dense computation; jumps told from smooth change; groups compared."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kurtosis

from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.emergence import measures
from essential_sparsity.pruning import spectrum


def weights(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {"a": torch.randn(64, 48, generator=generator) * 0.01, "b": torch.randn(32, 40, generator=generator) ** 3}
    values["b"][:5] = 0
    return {name: value.to(dtype) for name, value in values.items()}


def dense(values, measure):
    w = values.double().abs().numpy().ravel()
    n, std = w.size, np.sqrt((w**2).mean())
    if measure.startswith("below"):
        threshold = float(measure.split()[1]) * (std if measure.endswith("std") else 1)
        return (w < threshold).mean()
    ordered = np.sort(w)
    return {
        "zeros": (w == 0).mean(),
        "hoyer": (np.sqrt(n) - w.sum() / np.sqrt((w**2).sum())) / (np.sqrt(n) - 1),
        "gini": ((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()),
        "kurtosis": (w**4).mean() / (w**2).mean() ** 2,
        "std": std,
    }[measure]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_measures_equal_a_dense_computation(dtype):
    values = weights(dtype)
    frame = spectrum.build((PrunableWeight(n, 0, n, "mlp", tuple(v.shape), 1), v) for n, v in values.items())
    found = measures.measures(frame).set_index(["tensor", "measure"])["value"]
    values[measures.WHOLE] = torch.cat([value.flatten() for value in values.values()])
    assert set(found.index) == {(tensor, measure) for tensor in values for measure in measures.MEASURES}
    for (tensor, measure), value in found.items():
        exact = measure == "zeros" or dtype != torch.float32
        # The places of weights inside a float32 bin are not known; few weights make the kurtosis of `b`.
        tolerance = 1e-9 if exact else 1e-2 if measure == "kurtosis" else 2e-3
        assert value == pytest.approx(dense(values[tensor], measure), rel=tolerance, abs=tolerance), (
            tensor,
            measure,
            value,
        )


def test_kurtosis_of_normal_weights_is_three():
    w = torch.randn(400, 500, generator=torch.Generator().manual_seed(1))
    frame = spectrum.build([(PrunableWeight("a", 0, "a", "mlp", tuple(w.shape), 1), w)])
    found = measures.measures(frame).set_index(["tensor", "measure"])["value"]
    assert found["a", "kurtosis"] == pytest.approx(kurtosis(w.numpy().ravel(), fisher=False), rel=1e-3)
    assert found["a", "below 0.01 std"] == pytest.approx(0.00798, rel=0.1)


X = np.arange(0, 3050, 50)


def noise(seed, size=0.01):
    return np.random.default_rng(seed).normal(0, size, len(X))


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_is_found_where_it_is(seed):
    found = measures.conclude(X, 0.2 + 1e-5 * X + 0.3 * (X >= 1200) + noise(seed))
    assert found["conclusion"] == "abrupt"
    assert found["jump_at"] == pytest.approx(1175, abs=51)
    assert found["jump_at_low"] <= 1175 <= found["jump_at_high"]
    assert found["jump_low"] < 0.3 < found["jump_high"]
    assert found["change_point"] == pytest.approx(1175, abs=51)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "smooth",
    [
        lambda x: 1e-4 * x,
        lambda x: 0.5 * (1 - np.exp(-x / 600)),
        lambda x: 0.4 / (1 + np.exp(-(x - 1500) / 250)),
        lambda x: 1e-4 * np.maximum(x - 1200, 0),
    ],
    ids=["line", "saturating", "logistic", "hinge"],
)
def test_smooth_change_is_not_called_abrupt(smooth, seed):
    assert measures.conclude(X, smooth(X) + noise(seed))["conclusion"] == "gradual"


def test_noise_alone_is_nothing():
    found = [measures.conclude(X, 0.5 + noise(seed))["conclusion"] for seed in range(20)]
    assert found.count("nothing") >= 16
    assert "abrupt" not in found


def test_a_random_walk_is_hardly_ever_called_abrupt():
    walks = [np.cumsum(noise(seed)) for seed in range(60)]
    found = [measures.conclude(X, walk) for walk in walks]
    assert sum(row["conclusion"] == "abrupt" for row in found) <= 1
    assert sum(row["evidence_jump"] > measures.CONVINCING for row in found) > 1, "evidence alone would say so"


def test_a_constant_and_a_short_series_have_no_fit():
    assert measures.conclude(X, np.zeros(len(X)))["conclusion"] == "nothing"
    assert measures.conclude(X[:5], X[:5])["conclusion"] == "too few checkpoints"


def test_groups_are_compared_over_the_steps_that_both_have_without_suspect_ones():
    rows = [
        {"series": "s", "group": group, "training": group, "position": step, "value": value, "suspect": suspect}
        | {"tensor": "all", "measure": "gini"}
        for group, offset in (("more", 0.1), ("less", 0.0))
        for step, value, suspect in [(0, 0.5 + offset, None), (1, 0.6 + offset, None), (2, 0.7 + offset, None)]
    ]
    rows.append(rows[0] | {"position": 3, "value": 9.0, "suspect": "the same weights as 2"})
    rows.append(rows[3] | {"position": 3, "value": 0.0})
    found = measures.contrasts(pd.DataFrame(rows)).iloc[0]
    assert (found["group_a"], found["group_b"], found["n_positions"]) == ("less", "more", 3)
    assert found["difference"] == pytest.approx(-0.1)
    assert found["low"] == pytest.approx(-0.1)
    assert found["last_position"] == 2
