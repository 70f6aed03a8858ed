"""Measures of sparsity against dense computation; jumps told from smooth change; groups compared."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kurtosis, t

from essential_sparsity import tables
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.emergence import measures, trajectories
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_matrix_of_zeros_has_no_measure_of_how_its_weights_are_spread(dtype):
    """As output projections are at the first step of many trainings."""
    frame = spectrum.build([(PrunableWeight("a", 0, "a", "mlp", (20, 30), 1), torch.zeros(20, 30, dtype=dtype))])
    found = measures.measures(frame).set_index(["tensor", "measure"])["value"]["a"]
    assert found[["hoyer", "gini", "kurtosis"]].isna().all()
    assert found["std"] == 0
    assert found["zeros"] == 1
    assert [found[f"below {share:g} std"] for share in measures.SHARES] == [0, 0, 0], "nothing is smaller than nothing"
    assert [found[f"below {threshold:g}"] for threshold in measures.THRESHOLDS] == [1, 1, 1, 1]


def test_of_the_weights_in_the_bin_of_a_threshold_those_below_it_count():
    """0.01 lies at 0.84 of a bin that goes from 1 + 35/128 of 1/128 to 1 + 36/128 of it."""
    w = torch.linspace(1 + 35 / 128, 1 + 36 / 128, 1201)[:-1].reshape(40, 30) / 128
    frame = spectrum.build([(PrunableWeight("a", 0, "a", "mlp", (40, 30), 1), w)])
    found = measures.measures(frame).set_index(["tensor", "measure"])["value"]
    assert found["a", "below 0.01"] == pytest.approx(0.84, abs=1e-6)


def test_kurtosis_of_normal_weights_is_three():
    w = torch.randn(400, 500, generator=torch.Generator().manual_seed(1))
    frame = spectrum.build([(PrunableWeight("a", 0, "a", "mlp", tuple(w.shape), 1), w)])
    found = measures.measures(frame).set_index(["tensor", "measure"])["value"]
    assert found["a", "kurtosis"] == pytest.approx(kurtosis(w.numpy().ravel(), fisher=False), rel=1e-3)
    assert found["a", "below 0.01 std"] == pytest.approx(0.00798, rel=0.1)


def test_weights_of_one_bin_are_spread_evenly_over_it():
    """Moments of the uniform distribution from the lower end of the bin to its upper one."""
    low, high = (1 + 35 / 128) / 128, (1 + 36 / 128) / 128
    w = torch.full((40, 30), low)
    frame = spectrum.build([(PrunableWeight("a", 0, "a", "mlp", (40, 30), 1), w)])
    found = measures.measures(frame).set_index(["tensor", "measure"])["value"]["a"]
    moment = {power: (high ** (power + 1) - low ** (power + 1)) / (power + 1) / (high - low) for power in (2, 4)}
    assert found["std"] == pytest.approx(np.sqrt(moment[2]), rel=1e-9)
    assert found["kurtosis"] == pytest.approx(moment[4] / moment[2] ** 2, rel=1e-9)


X = np.arange(0, 3050, 50)


def noise(seed, size=0.01):
    return np.random.default_rng(seed).normal(0, size, len(X))


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_is_found_where_it_is(seed):
    found = measures.conclude(X, 0.2 + 1e-5 * X + 0.3 * (X >= 1200) + noise(seed))
    assert found["conclusion"] == "abrupt"
    assert found["jump_at"] == pytest.approx(1175, abs=51)
    assert found["jump_at_low"] <= 1175 <= found["jump_at_high"]
    assert 0.25 < found["jump_low"] < 0.3 < found["jump_high"] < 0.35
    assert found["change_point"] == pytest.approx(1175, abs=51)


@pytest.mark.parametrize("b", [measures.EDGE, 20 - measures.EDGE])
def test_a_jump_is_found_up_to_three_checkpoints_from_the_ends(b):
    y = 0.01 * np.random.default_rng(0).normal(size=20) + (np.arange(20) >= b)
    found = measures.conclude(np.arange(20.0), y)
    assert (found["conclusion"], found["jump_at"]) == ("abrupt", b - 0.5)


def test_breaks_lie_between_the_checkpoints_around_them():
    found = measures.conclude(X, 0.2 + 0.3 * (X >= 1200) + noise(0, 1e-4))
    assert found["change_point"] == found["jump_at"] == 1175
    assert found["jump"] == pytest.approx(0.3, abs=1e-3)


def test_a_jump_between_two_slopes_is_taken_at_the_middle_of_its_gap():
    x = np.arange(20.0)
    found = measures.conclude(x, np.where(x < 9.5, 0.1 * x, 5 + 0.7 * (x - 9.5)))
    assert found["jump_at"] == 9.5
    assert found["jump"] == pytest.approx(5 - 0.1 * 9.5)


def test_the_rise_of_a_logistic_is_in_steps():
    """From a tenth to nine tenths of it: 2 log 9 times its scale."""
    found = measures.conclude(X, 0.4 / (1 + np.exp(-(X - 1500) / 250)) + noise(0, 1e-4))
    assert found["rise_10_90"] == pytest.approx(2 * np.log(9) * 250, rel=0.05)


@pytest.mark.parametrize(("elsewhere", "places"), [(20, (10, 10)), (30, (0, 20))])
def test_the_intervals_of_a_jump_leave_two_and_a_half_per_cent_out_at_either_end(monkeypatch, elsewhere, places):
    """Of 1000 replicates so many have the jump ten gaps before the others, and as many ten gaps after."""
    gaps = np.repeat([0, 10, 20], [elsewhere, 1000 - 2 * elsewhere, elsewhere])
    monkeypatch.setattr(measures, "_resampled", lambda *_: (gaps, np.linspace(1, 2, 1001)))
    y = 0.3 * (X >= 1200) + noise(0)
    found = measures.conclude(X, y)
    first = 25 + 50 * (measures.EDGE - 1)
    assert (found["jump_at_low"], found["jump_at_high"]) == tuple(first + 50 * gap for gap in places)
    assert (found["jump_low"], found["jump_high"]) == pytest.approx((1.025 * np.ptp(y), 1.975 * np.ptp(y)))


@pytest.mark.parametrize(
    ("shape", "series"),
    [
        ("hinge", lambda t: np.maximum(t - 0.4, 0)),
        ("logistic", lambda t: 1 / (1 + np.exp(-20 * (t - 0.5)))),
        ("cubic", lambda t: 4 * (t - 0.5) ** 3 + t**2),
        ("step", lambda t: t > 0.4),
        ("shift", lambda t: t + (t > 0.4)),
        ("jump", lambda t: np.where(t < 0.4, t, 1 - 3 * t)),
    ],
)
def test_a_shape_has_most_of_the_evidence_of_a_series_that_it_made(shape, series):
    found = measures.conclude(X, series(X / 3000) + noise(0))
    assert found[f"evidence_{shape}"] > 0.6


def test_a_conclusion_does_not_rest_on_where_steps_and_values_are_counted_from():
    y = 0.4 / (1 + np.exp(-(X - 1500) / 250)) + noise(0, 1e-3)
    found, moved = measures.conclude(X, y), measures.conclude(X + 10_000, y + 1e4)
    assert found["conclusion"] == moved["conclusion"] == "gradual"
    assert moved["rise_10_90"] == pytest.approx(found["rise_10_90"], rel=1e-3)
    for place in ("jump_at", "jump_at_low", "jump_at_high", "change_point"):
        assert moved[place] == found[place] + 10_000


@pytest.mark.parametrize(("evidence", "conclusion"), [(0.89, "gradual"), (0.91, "abrupt")])
def test_a_jump_is_abrupt_from_nine_tenths_of_the_evidence(monkeypatch, evidence, conclusion):
    others = len(measures.SMOOTH)

    def weighed(scores):
        return {shape: evidence / 3 if shape in measures.ABRUPT else (1 - evidence) / others for shape in scores}

    monkeypatch.setattr(measures.shapes, "akaike_weights", weighed)
    assert measures.conclude(X, 0.2 + 0.3 * (X >= 1200) + noise(0))["conclusion"] == conclusion


@pytest.mark.parametrize(
    ("least", "most", "conclusion"),
    [(-1.0, 40, "abrupt"), (-1.1, 40, "gradual"), (-40, 1.0, "abrupt"), (-40, 1.1, "gradual")],
)
def test_a_jump_whose_interval_holds_zero_is_not_called_abrupt(monkeypatch, least, most, conclusion):
    """Upwards or downwards: of these sizes two and a half per cent are less than 1.025 above the least, or below the most."""
    monkeypatch.setattr(measures, "_resampled", lambda *_: (np.zeros(1001, int), np.linspace(least, most, 1001)))
    y = np.sign(least + most) * 0.3 * (X >= 1200) + noise(0)
    assert measures.conclude(X, y)["conclusion"] == conclusion


@pytest.mark.parametrize("slope", [0.0, 1e-4, -1e-4])
def test_a_jump_where_the_rest_is_flat_but_for_rounding_is_abrupt_without_an_outlier(slope):
    found = measures.conclude(X, 0.2 + slope * X + 0.3 * (X >= 1200))
    assert (found["conclusion"], found["jump_outlier"]) == ("abrupt", None)


@pytest.mark.parametrize(("worse", "conclusion"), [(5.9, "nothing"), (6.1, "gradual")])
def test_a_constant_is_given_up_where_another_shape_is_better_by_six_units(monkeypatch, worse, conclusion):
    monkeypatch.setattr(
        measures.shapes, "criterion", lambda squares, n, parameters, spread: worse if parameters == 1 else 0.0
    )
    assert measures.conclude(X, noise(0))["conclusion"] == conclusion


def test_the_interval_of_a_jump_knows_that_neighbours_are_alike():
    """Residuals that come in runs leave less known of its size than the same ones in any order."""
    widths = np.zeros(2)
    for seed in range(6):
        for i, order in enumerate((np.arange(len(X)), np.random.default_rng(0).permutation(len(X)))):
            left = ar1(0.8, len(X), seed)[order] * 0.01
            found = measures.conclude(X, 0.2 + 0.6 * (X >= 1200) + left)
            widths[i] += found["jump_high"] - found["jump_low"]
    assert widths[0] > 1.6 * widths[1]


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


def test_a_random_walk_on_uneven_steps_is_not_called_abrupt():
    """Published series store steps 0, 1, 2, 4, … and then every thousandth: a long gap changes more than a short one."""
    x = np.r_[0, 2.0 ** np.arange(10), np.arange(1000, 21_000, 1000)]
    found = []
    for seed in range(40):
        steps = np.random.default_rng(seed).normal(0, 1, len(x) - 1) * np.sqrt(np.diff(x))
        found.append(measures.conclude(x, np.r_[0, np.cumsum(steps)])["conclusion"])
    assert found.count("abrupt") <= 1


@pytest.mark.parametrize(("size", "least"), [(5, 18), (8, 32)])
def test_most_jumps_of_eight_deviations_and_half_of_five_are_found(size, least):
    """Of 40, on a constant and on a line: a shape with more free places than the truth would be held against the jump."""
    found = 0
    for n, slope in ((20, 0.0), (20, 0.5), (31, 0.0), (31, 0.5)):
        x = np.arange(float(n))
        for seed in range(10):
            noise = np.random.default_rng([n, size, seed]).normal(size=n)
            found += measures.conclude(x, slope * x + size * (x > 0.4 * n) + noise)["conclusion"] == "abrupt"
    assert found >= least


@pytest.mark.parametrize("n", range(measures.FEWEST, 20))
def test_a_short_series_has_an_outlier_at_its_jump(n):
    x = np.arange(float(n))
    found = measures.conclude(x, 100.0 * (x >= n // 2) + np.random.default_rng(n).normal(size=n))
    assert found["jump_at"] == n // 2 - 0.5
    assert found["jump_outlier"] > 15
    assert sum(found[f"evidence_{shape}"] for shape in measures.SHAPES) == pytest.approx(1)


@pytest.mark.parametrize(("n", "b", "width"), [(30, 12, 3), (30, 3, 3), (30, 27, 3), (14, 6, 2), (12, 6, 2), (9, 4, 1)])
def test_how_far_a_change_stands_out_is_counted_in_robust_deviations_of_those_elsewhere(n, b, width):
    """From the definition: of means of neighbours, and of these over what a random walk would change on such gaps."""
    draw = np.random.default_rng(n + b)
    x = np.cumsum(draw.integers(1, 9, n)).astype(float)
    y = draw.normal(size=n) + 9 * (np.arange(n) >= b)
    changes, walks = {}, {}
    for place in range(width, n - width + 1):
        changes[place] = y[place : place + width].mean() - y[place - width : place].mean()
        share = np.array([width - abs(gap) for gap in range(-width + 1, width)]) / width
        walks[place] = np.sqrt((share**2 * np.diff(x[place - width : place + width])).sum())
    elsewhere = [place for place in changes if abs(place - b) >= width]
    assert len(elsewhere) >= measures.OTHERS or width == 1
    expected = []
    for scaled in (changes, {place: changes[place] / walks[place] for place in changes}):
        middle = np.median([scaled[place] for place in elsewhere])
        spread = 1.4826 * np.median([abs(scaled[place] - middle) for place in elsewhere])
        expected.append(abs(scaled[b] - middle) / spread)
    assert measures._outlier(x, y, b) == pytest.approx(min(expected))


def test_a_jump_over_a_long_gap_stands_out_by_less():
    x = np.r_[np.arange(10.0), np.arange(109, 119)]
    y = 0.01 * np.random.default_rng(0).normal(size=20) + (x > 50)
    found = measures.conclude(x, y)
    even = measures.conclude(np.arange(20.0), y)
    # a walk changes as much as this from the mean of three to that of the next three, across gaps of 1 and of 100
    usual, across = np.sqrt(1 + 2 * (4 + 1) / 9), np.sqrt(100 + 2 * (4 + 1) / 9)
    assert found["jump_outlier"] == pytest.approx(even["jump_outlier"] * usual / across, rel=0.05)


def contrasts_of(values, lines=("more", "less"), marked=None):
    """Table `contrasts` of two groups whose difference at each position is given; group `less` is 0."""
    rows = [
        {
            "series": "s",
            "group": group,
            "training": line,
            "position": step,
            "suspect": None,
            "tensor": "all",
            "beyond": None,
        }
        | {"measure": "gini", "value": value if group == "more" else 0.0}
        for group, line in zip(("more", "less"), lines, strict=True)
        for step, value in enumerate(values)
    ]
    if marked is not None:
        rows[0] |= {"value": marked, "suspect": "the same weights as 2"}
    return measures.contrasts(pd.DataFrame(rows))


def test_groups_are_compared_over_the_steps_that_both_have_without_marked_ones():
    found = contrasts_of([0.1] * 7, marked=9.0).iloc[0]
    assert (found["group_a"], found["group_b"], found["n_positions"]) == ("less", "more", 6)
    assert found["difference"] == found["low"] == found["high"] == pytest.approx(-0.1)
    assert (found["last_position"], found["last_a"], found["last_b"]) == (6, 0, 0.1)
    assert (found["n_trainings_a"], found["n_trainings_b"]) == (1, 1)
    assert "nothing is known about the recipes" in found["scope"]


def test_groups_of_the_same_trainings_do_not_differ_where_one_of_them_was_saved_less_often():
    """Two trainings at 1 and 3 in each group; of the second group that at 3 has every other step: a mean of those there would be 1 between."""
    rows = [
        {
            "series": "s",
            "group": group,
            "training": group + line,
            "position": step,
            "suspect": None,
            "tensor": "all",
            "beyond": None,
        }
        | {"measure": "std", "value": value + 0.001 * step}
        for group in "ab"
        for line, value in (("low", 1.0), ("high", 3.0))
        for step in range(0, 40, 2 if group + line == "bhigh" else 1)
    ]
    found = measures.contrasts(pd.DataFrame(rows)).iloc[0]
    assert found[["difference", "low", "high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert (found["n_positions"], found["n_trainings_a"], found["n_trainings_b"]) == (20, 2, 2)
    assert (found["last_position"], found["last_a"], found["last_b"]) == (38, 2.038, 2.038)
    odd = [row for row in rows if row["training"] != "bhigh"] + [row | {"position": 99} for row in rows[-1:]]
    assert measures.contrasts(pd.DataFrame(odd)).empty, "no checkpoint that all have"


def test_each_two_of_several_groups_are_compared_over_the_steps_that_these_two_have():
    rows = [
        {"series": series, "group": group, "training": group, "position": step, "suspect": None, "tensor": "all"}
        | {"measure": "std", "beyond": None, "value": value}
        for series in ("s", "t")
        for group, value, every in (("a", 1.0, 1), ("b", 2.0, 1), ("c", 4.0, 2))
        for step in range(0, 20, every)
    ]
    found = measures.contrasts(pd.DataFrame(rows)).set_index(["series", "group_a", "group_b"])
    pairs = {("a", "b"): (20, -1), ("a", "c"): (10, -3), ("b", "c"): (10, -2)}
    for column, place in (("n_positions", 0), ("difference", 1)):
        assert found[column].to_dict() == {(s, *pair): told[place] for s in "st" for pair, told in pairs.items()}


def test_a_contrast_is_worth_the_points_of_the_end_that_has_fewer():
    """Beyond the last level b is anywhere from 0.9 to 1, and the difference from a wanders otherwise at either end."""
    table = essentials({"b": {*range(8)}}, {"a": 0.6, "b": 0.8}, noise=0.05)
    wide = table.pivot_table(index="position", columns="group", values="value")
    ends = (wide["a"] - wide["b"].fillna(end) for end in (1.0, 0.9))
    effective = [measures.steady_interval(end.to_numpy())[0] for end in ends]
    assert effective[0] != pytest.approx(effective[1])
    for swapped in ({}, {"a": "b", "b": "a"}):
        found = measures.contrasts(table.assign(group=table["group"].replace(swapped))).iloc[0]
        assert found["n_effective"] == pytest.approx(min(effective))


def test_a_few_points_have_no_interval_however_alike_they_are():
    assert measures.steady_interval(np.full(measures.FEWEST_EFFECTIVE - 1, 0.3)) == (4.0, None, None)
    assert measures.steady_interval(np.full(measures.FEWEST_EFFECTIVE, 0.5)) == (5.0, 0.5, 0.5)


def test_contrasts_fit_their_schema(tmp_path):
    tables.write(contrasts_of([0.1, 0.3, 0.2, 0.1, 0.4, 0.2, 0.3]), "contrasts", tmp_path / "a.parquet")
    few = contrasts_of([0.1, 0.3, 0.2, 0.1])
    assert few[["low", "high"]].isna().all(axis=None), "four positions are worth fewer than five"
    tables.write(few, "contrasts", tmp_path / "b.parquet")


def ar1(rho, n, seed):
    noise = np.random.default_rng(seed).normal(size=n + 100)
    values = np.zeros(n + 100)
    for i in range(1, n + 100):
        values[i] = rho * values[i - 1] + noise[i]
    return values[100:]


@pytest.mark.parametrize(("rho", "told", "most"), [(0.0, 0.99, 1.0), (0.6, 0.8, 1.0), (0.9, 0.0, 0.3)])
def test_the_interval_of_a_contrast_knows_autocorrelation(rho, told, most):
    """Of 400 series without a difference at most 6 % get an interval that excludes it; a wandering one mostly none."""
    found = [measures.steady_interval(ar1(rho, 50, seed)) for seed in range(400)]
    given = [(low, high) for _, low, high in found if low is not None]
    assert told * len(found) <= len(given) <= most * len(found)
    assert sum(low > 0 or high < 0 for low, high in given) <= 0.06 * len(found)
    assert np.mean([effective for effective, _, _ in found]) == pytest.approx(50 * (1 - rho) / (1 + rho), rel=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_a_contrast_is_a_t_interval_of_its_effective_points(seed):
    """The same from the matrix of the process' correlations: the variance of the mean, and what the mean takes from the squares."""
    values, n = ar1(0.3, 40, seed), 40
    left = values - values.mean()
    rho = float(left[1:] @ left[:-1] / (left @ left))
    rho += (1 + 4 * rho) / n
    rho = max(rho + np.sqrt((1 - rho**2) / n), 0)
    together = rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    centred = np.eye(n) - 1 / n
    variance = (left @ left) / np.trace(centred @ together @ centred)
    half = t.ppf(0.975, n**2 / together.sum() - 1) * np.sqrt(variance * together.sum()) / n
    found = measures.steady_interval(values)
    assert found == pytest.approx((n**2 / together.sum(), values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("unit", [1e-200, 1e290])
def test_the_interval_of_a_contrast_is_as_wide_in_any_unit(unit):
    """A perplexity that overflowed counts as 1e300: its square is no number, and the interval was the mean alone."""
    values = ar1(0.3, 40, 0)
    effective, low, high = measures.steady_interval(values)
    assert measures.steady_interval(values * unit) == pytest.approx(
        (effective, low * unit, high * unit), rel=1e-9, abs=0
    )


@pytest.mark.parametrize(
    ("lines", "scope", "difference"), [((3, 2), measures.SEVERAL, 7 / 6), ((3, 1), measures.ONE_EACH, 5 / 3)]
)
def test_the_trainings_of_a_contrast_are_counted_and_averaged_in_each_group(lines, scope, difference):
    rows = [
        {
            "series": "s",
            "group": group,
            "training": f"{group}{line}",
            "position": step,
            "suspect": None,
            "tensor": "all",
        }
        | {"measure": "std", "beyond": None, "value": 1.0 + line**2 + 0.1 * step}
        for group, count in zip("ab", lines, strict=True)
        for line in range(count)
        for step in range(6)
    ]
    found = measures.contrasts(pd.DataFrame(rows)).iloc[0]
    assert (found["n_trainings_a"], found["n_trainings_b"], found["scope"]) == (*lines, scope)
    assert found["difference"] == pytest.approx(difference)


# --- trajectories


def knees_of(*rows):
    names = ("model", "task", "pattern", "metric", "headline", "essential_sparsity", "dense", "bracket_low", "no_drop")
    return pd.DataFrame(rows, columns=names)


def test_runs_of_a_series_are_its_headline_under_one_ranking():
    members = [
        {"series": "s", "group": "g", "training": "l", "model": name, "position": i} for i, name in enumerate("abc")
    ]
    found = trajectories.of_runs(
        members,
        knees_of(
            ("a", "t", "global", "accuracy", True, 0.3, 0.9, 0.2, False),
            ("a", "t", "global", "f1", False, 0.5, 0.8, 0.4, False),
            ("a", "t", "random", "accuracy", True, 0.1, 0.9, 0.0, False),
            ("b", "t", "global", "accuracy", True, None, 0.7, 0.9, True),
            ("c", "t", "global", "accuracy", True, None, 0.5, None, False),
        ),
    )
    reached = found[found["measure"] == "essential sparsity t"]
    np.testing.assert_array_equal(reached["value"].astype(float), [0.3, np.nan, np.nan])
    np.testing.assert_array_equal(
        reached["beyond"].astype(float), [np.nan, 0.9, np.nan], "of a model that guesses nothing is known"
    )
    assert found[found["measure"] == "dense t"]["value"].tolist() == [0.9, 0.7, 0.5]
    assert found[found["measure"] == "dense t"]["beyond"].isna().all()
    assert len(found) == 6


def essentials(beyond: dict[str, set[int]], values: dict[str, float], noise: float = 0.01) -> pd.DataFrame:
    """Rows of table `trajectory`: groups of one training of forty checkpoints, with those whose essential sparsity was not reached."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {"series": "s", "group": group, "training": group, "position": step, "suspect": None, "tensor": "all"}
        | {
            "measure": "essential sparsity t",
            "value": None if step in beyond.get(group, ()) else value + noise * draw.normal(),
        }
        | {"beyond": 0.9 if step in beyond.get(group, ()) else None}
        for group, value in values.items()
        for step in range(40)
    )


def test_no_difference_rests_on_leaving_out_checkpoints_whose_curves_do_not_drop(tmp_path):
    """Of b, which is at 0.4 at first, the later half is beyond 0.9: by the first half alone a at 0.6 would have more."""
    known = measures.contrasts(essentials({}, {"a": 0.6, "b": 0.4})).iloc[0]
    assert known["low"] > 0.15
    assert known["n_beyond"] == 0
    half = measures.contrasts(essentials({"b": {*range(20, 40)}}, {"a": 0.6, "b": 0.4}))
    tables.write(half, "contrasts", tmp_path / "a.parquet")
    half = tables.read(tmp_path / "a.parquet", "contrasts").iloc[0]
    assert (half["n_positions"], half["n_beyond"]) == (40, 20)
    assert half[["difference", "last_b"]].isna().all()
    assert half["last_a"] == pytest.approx(0.6, abs=0.05)
    assert half[["low", "high"]].isna().all(), "nothing is concluded"
    whole = measures.contrasts(essentials({"b": {*range(40)}}, {"a": 0.6, "b": 0.4})).iloc[0]
    assert whole["difference"] is None
    assert (whole["low"], whole["high"]) == pytest.approx((-0.4, -0.3), abs=0.03), "whatever it is from 0.9 to 1"
    both = measures.contrasts(essentials({"a": {*range(40)}, "b": {*range(40)}}, {"a": 0.6, "b": 0.4})).iloc[0]
    assert (both["low"], both["high"]) == pytest.approx((-0.1, 0.1))


def test_a_position_that_several_trainings_are_beyond_at_counts_once():
    both = essentials({"a": {3, 4}, "b": {4, 5}}, {"a": 0.6, "b": 0.4})
    assert measures.contrasts(both).iloc[0]["n_beyond"] == 3


def test_nothing_is_concluded_of_jumps_where_curves_do_not_drop(tmp_path):
    """By the other checkpoints alone there would be no jump where there is one, or one where there is none."""
    losses = pd.DataFrame(columns=["training", "step", "loss"])
    table = essentials({"b": {38, 39}, "c": {*range(40)}}, {"a": 0.6, "b": 0.4, "c": 0.4})
    found = trajectories.abruptness(table, losses)
    tables.write(found, "abruptness", tmp_path / "a.parquet")
    assert found["conclusion"].tolist() == ["nothing", "beyond the levels", "beyond the levels"]
    assert found["n_checkpoints"].tolist() == [40, 38, 0]
    assert found.iloc[1:][["jump", "jump_at", "evidence_line"]].isna().all(axis=None)
    suspect = table.assign(suspect=table["beyond"].map(lambda end: None if pd.isna(end) else "the same weights as 1"))
    assert "beyond the levels" not in trajectories.abruptness(suspect, losses)["conclusion"].tolist()


def test_suspect_checkpoints_are_left_out_of_fits():
    """A checkpoint that holds another's weights makes a jump of what is a line; without it there is none."""
    rows = [
        {"series": "s", "group": "g", "training": "l", "tensor": tensor, "measure": "gini", "position": 10 * i}
        | {"beyond": None, "value": 0.01 * i + 5.0 * (i == 6), "suspect": "the same weights as 90" if i == 6 else None}
        for i in range(14)
        for tensor in ("all", "layer.0")
    ]
    losses = pd.DataFrame({"training": "l", "step": range(0, 140, 10), "loss": [9.0] * 6 + [50.0] + [9.0] * 7})
    found = trajectories.abruptness(pd.DataFrame(rows), losses).set_index("measure")
    assert found["n_checkpoints"].to_dict() == {"gini": 13, "loss": 13}
    assert found.loc["loss", "conclusion"] == "nothing"
    assert abs(found.loc["gini", "jump"]) < 0.1
    assert list(found["training"]) == ["l", "l"]


def test_a_training_of_two_series_is_read_in_each():
    rows = [
        {"series": series, "group": group, "training": "l", "tensor": "all", "measure": "gini", "position": step}
        | {"beyond": None, "suspect": None, "value": float(step >= jump) + 0.001 * (step % 3)}
        for series, group, jump in (("s", "g", 6), ("s", "h", 8), ("t", "g", 10))
        for step in range(16)
    ]
    losses = pd.DataFrame(columns=["training", "step", "loss"])
    found = trajectories.abruptness(pd.DataFrame(rows), losses).set_index(["series", "group"])
    assert found["jump_at"].to_dict() == {("s", "g"): 5.5, ("s", "h"): 7.5, ("t", "g"): 9.5}


def test_each_training_is_read_in_the_order_of_its_checkpoints_with_its_own_losses():
    """One jumps at 60 in what is measured and at 80 in its loss, the other where the first one does not."""
    jumps = {"first": (60, 80), "second": (80, 60)}
    rows = [
        {"series": "s", "group": "g", "training": name, "tensor": "all", "measure": "gini", "position": step}
        | {"beyond": None, "suspect": None, "value": float(step >= own) + 0.001 * (step % 30)}
        for name, (own, _) in jumps.items()
        for step in range(0, 140, 10)
    ]
    losses = pd.DataFrame(
        {"training": name, "step": step, "loss": 9.0 - (step >= own) + 0.001 * (step % 30)}
        for name, (_, own) in jumps.items()
        for step in range(0, 145, 5)  # more often than there are checkpoints
    )
    rows = pd.DataFrame(rows).sample(frac=1, random_state=0)
    found = trajectories.abruptness(rows, losses.sample(frac=1, random_state=0)).set_index(["training", "measure"])
    places = {("first", "gini"): 55, ("first", "loss"): 75, ("second", "gini"): 75, ("second", "loss"): 55}
    assert found["jump_at"].to_dict() == places
    assert set(found["n_checkpoints"]) == {14}


def test_the_losses_of_a_training_are_its_own():
    rows = [
        {"series": "s", "group": "g", "training": training, "tensor": "all", "measure": "gini", "position": 10 * i}
        | {"beyond": None, "value": 0.01 * i, "suspect": None}
        for training in ("falls", "rests")
        for i in range(20)
    ]
    losses = pd.concat(
        pd.DataFrame({"training": training, "step": range(0, 195, 5), "loss": loss})
        for training, loss in (("falls", [9.0] * 20 + [2.0] * 19), ("rests", [5.0] * 39))
    )
    found = trajectories.abruptness(pd.DataFrame(rows), losses).set_index(["training", "measure"])
    assert set(found["n_checkpoints"]) == {20}, "and those at its checkpoints"
    assert found.loc[("falls", "loss"), "jump"] == pytest.approx(-7, abs=0.01)
    assert found.loc[("rests", "loss"), "conclusion"] == "nothing"
    assert found.loc[("rests", "loss"), "jump"] is None or np.isnan(found.loc[("rests", "loss"), "jump"])


@pytest.mark.parametrize("n", [measures.FEWEST_EFFECTIVE, 12])
def test_a_series_whose_neighbours_are_not_alike_has_the_plain_t_interval(n):
    values = np.tile([0.0, 1.0], 6)[:n] + 0.01 * np.arange(n)
    effective, low, high = measures.steady_interval(values)
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    assert effective == pytest.approx(n)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
