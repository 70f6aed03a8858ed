"""The four readings on curves whose answer is known, one at a time and many at once."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from essential_sparsity.curves import readings, shapes

LEVELS = np.arange(10) / 10
ONES = np.ones(10)
WS353 = [0.729, 0.732, 0.740, 0.743, 0.741, 0.724, 0.701, 0.634, 0.604, 0.568]  # rises first


# tolerance


def test_tolerance_of_a_straight_line_is_exact():
    """Quality 1 − s/2 loses 0.01 at s = 0.02; with a tolerance of 0.11 at 0.22."""
    line = 1 - LEVELS / 2
    assert readings.essential_sparsity(LEVELS, line, ONES, 0.01) == pytest.approx(0.02)
    assert readings.essential_sparsity(LEVELS, line, ONES, 0.11) == pytest.approx(0.22)


def test_tolerance_of_a_concave_curve():
    """Flat to 0.5, then a slope of −1: within 0.01 up to 0.51."""
    curve = 0.9 - np.maximum(LEVELS - 0.5, 0)
    assert readings.essential_sparsity(LEVELS, curve, ONES, 0.01) == pytest.approx(0.51)


def test_tolerance_between_levels_that_are_not_evenly_spaced():
    """A gap of 0.3 after one of 0.1, of which a twentieth and a half are within."""
    levels, means = [0, 0.1, 0.4, 0.8], [0.9, 0.9, 0.7, 0.3]
    assert readings.essential_sparsity(levels, means, ONES[:4], 0.01) == pytest.approx(0.1 + 0.3 / 20)
    assert readings.essential_sparsity(levels, means, ONES[:4], 0.1) == pytest.approx(0.1 + 0.3 / 2)
    assert readings.essential_sparsity(levels, means, ONES[:4], 0.4) == pytest.approx(0.4 + 0.4 / 2)


def test_tolerance_of_a_cliff_at_the_first_level():
    assert readings.essential_sparsity([0, 0.1, 0.2], [0.9, 0.4, 0.4], [1, 1, 1], 0.01) == pytest.approx(
        0.1 * 0.01 / 0.5
    )


def test_tolerance_that_is_never_crossed():
    assert np.isnan(readings.essential_sparsity(LEVELS, 0.9 - 0.009 * LEVELS, ONES, 0.01))
    assert np.isnan(readings.essential_sparsity(LEVELS, 0.5 + 0.1 * LEVELS, ONES, 0.01))


def test_exactly_on_the_tolerance_is_inside():
    """Six items of 600 are one point, but 301/600 − 0.01 is above 295/600 in floating point."""
    dense, edge = 301 / 600, 295 / 600
    assert dense - 0.01 > edge
    assert np.isnan(readings.essential_sparsity([0, 0.1, 0.2], [dense, edge, edge], [1, 1, 1], 0.01))
    assert readings.last_compliant([0, 0.1, 0.2], [dense, edge, edge], 0.01) == 0.2
    assert readings.exits([dense, edge, edge], 0.01) == 0
    assert readings.essential_sparsity([0, 0.1, 0.2], [dense, edge, 0.2], [1, 1, 1], 0.01) == pytest.approx(0.1)


def test_a_level_exactly_on_the_tolerance_is_not_outside():
    dense, edge = 301 / 600, 295 / 600
    assert readings.first_outside([dense, edge, edge], ONES[:3], 0.01) == 3
    assert readings.first_outside([dense, edge, 294 / 600], ONES[:3], 0.01) == 2


def test_one_point_less_is_inside_whatever_the_value_and_a_ten_thousandth_more_is_outside():
    for right in range(6, 601):  # of 600 items; in floating point about half are below dense − 0.01
        dense, edge = right / 600, (right - 6) / 600
        assert readings.first_outside([dense, edge, edge], ONES[:3], 0.01) == 3
        assert readings.last_compliant([0, 0.1, 0.2], [dense, edge, edge], 0.01) == 0.2
        assert np.isnan(readings.essential_sparsity([0, 0.1, 0.2], [dense, edge, edge], ONES[:3], 0.01))
        below = edge - 5e-5
        assert readings.first_outside([dense, below, below], ONES[:3], 0.01) == 1
        assert readings.last_compliant([0, 0.1, 0.2], [dense, below, below], 0.01) == 0
        assert readings.essential_sparsity([0, 0.1, 0.2], [dense, below, below], ONES[:3], 0.01) < 0.1


def test_a_gain_before_the_drop_counts_from_the_dense_level():
    """Pool adjacent violators averages the first five to 0.737; 0.719 lies between 0.724 and 0.701."""
    found = readings.essential_sparsity(LEVELS, WS353, ONES, 0.01)
    assert found == pytest.approx(0.5 + 0.1 * (0.724 - 0.719) / (0.724 - 0.701))


def test_a_dip_is_pooled_by_the_number_of_seeds():
    """(0.88, 0.90) at s = 0.1, 0.2: equal weights pool to 0.89, on the edge; 3 to 1 pool to 0.885, outside."""
    levels, means = [0, 0.1, 0.2, 0.3], [0.9, 0.88, 0.9, 0.5]
    even = readings.essential_sparsity(levels, means, [1, 1, 1, 1], 0.01)
    assert even == pytest.approx(0.2)
    uneven = readings.essential_sparsity(levels, means, [1, 3, 1, 1], 0.01)
    assert uneven == pytest.approx(0.1 * 0.01 / (0.9 - 0.885))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=12), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_a_larger_tolerance_never_gives_a_smaller_sparsity(means, epsilon, more):
    levels, weights = np.arange(len(means)) / len(means), np.ones(len(means))
    small = readings.essential_sparsity(levels, means, weights, epsilon)
    large = readings.essential_sparsity(levels, means, weights, epsilon + more)
    assert np.nan_to_num(large, nan=math.inf) >= np.nan_to_num(small, nan=math.inf) - 1e-7
    assert np.isnan(small) or 0 <= small <= levels[-1]


# last_compliant and exits


def test_last_compliant_is_a_level_of_the_grid():
    assert readings.last_compliant(LEVELS, WS353, 0.01) == 0.5
    assert readings.last_compliant([0, 0.1, 0.2], [0.9, 0.4, 0.4], 0.01) == 0


def test_a_curve_that_comes_back_counts_its_last_exit():
    """SST-2 of Gordon et al. 2020: leaves the band at 50 %, is inside at 60 %, and leaves for good."""
    levels, means = [0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8], [92.1, 91.6, 91.5, 90.9, 91.4, 90.1, 88.1]
    assert readings.last_compliant(levels, means, 1.0) == 0.6
    assert readings.exits(means, 1.0) == 2
    assert 0.5 < readings.essential_sparsity(levels, means, np.ones(7), 1.0) < 0.7


def test_exits_of_plain_curves():
    assert readings.exits(WS353, 0.01) == 1
    assert readings.exits([0.9, 0.9, 0.9], 0.01) == 0


# the gap that holds the essential sparsity


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=3, max_size=9), st.floats(0.001, 0.2))
def test_the_essential_sparsity_lies_in_its_gap(values, epsilon):
    levels, means, weights = np.arange(len(values)) / 10, np.array(values) / 20, np.ones(len(values))
    first = int(readings.first_outside(means, weights, epsilon))
    found = float(readings.essential_sparsity(levels, means, weights, epsilon))
    assert first > 0
    if first == len(levels):
        assert np.isnan(found)
    else:
        assert levels[first - 1] - 1e-9 <= found <= levels[first] + 1e-9


def test_the_essential_sparsity_lies_in_its_gap_where_levels_hug_the_tolerance():
    """The second level is below it by less than rounding counts for, the third by a little more."""
    levels, means = [0, 0.1, 0.2], [0.5, 0.49 - 0.9e-9, 0.49 - 1.2e-9]
    assert readings.first_outside(means, ONES[:3], 0.01) == 2
    assert 0.1 <= readings.essential_sparsity(levels, means, ONES[:3], 0.01) <= 0.2


# kneedle


def test_kneedle_finds_the_bend_of_a_concave_curve():
    assert readings.kneedle(LEVELS, 0.9 - np.maximum(LEVELS - 0.5, 0)) == pytest.approx(0.5)


@pytest.mark.parametrize("last", [8, 10])
@pytest.mark.parametrize(
    "means",
    [
        pytest.param(np.exp(-5 * LEVELS), id="lost from the start"),
        pytest.param(np.r_[0.9, [0.5] * 9], id="falls at the first level, then flat"),
        pytest.param(0.5 + LEVELS / 10, id="rises all the way"),
        pytest.param([0.729, 0.70, 0.68, 0.655, 0.62, 0.587, 0.56, 0.54, 0.545, 0.562], id="random masks"),
    ],
)
def test_kneedle_of_a_curve_without_a_bend_is_none(means, last):
    """An independent reading: inner maxima of what the normalised curve stands above its chord."""
    x, y = LEVELS[:last], np.asarray(means)[:last]
    above = (y - y.min()) / np.ptp(y) + (x - x[0]) / np.ptp(x) - 1
    bends = [x[i] for i in range(1, last - 1) if above[i] > above[i - 1] and above[i] >= above[i + 1] and above[i] > 0]
    found = float(readings.kneedle(x, y))
    assert found in bends if bends and not np.isnan(found) else np.isnan(found)
    assert found not in (x[0], x[-1])


@pytest.mark.parametrize(
    "means", [ONES, 1 - LEVELS, 0.5 + LEVELS / 10, np.r_[1, np.zeros(9)], np.r_[np.zeros(9), 1], [0.9, 0.5]]
)
def test_kneedle_neither_warns_nor_fails(means):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = readings.kneedle(LEVELS[: len(means)], means)
    assert np.isnan(found) or found in LEVELS[1:-1]
    if np.ptp(means) == 0 or len(means) < 3:
        assert np.isnan(found)


@pytest.mark.parametrize("at", [3, 4, 5, 6])
@pytest.mark.parametrize("uneven", [False, True])
def test_kneedle_finds_the_edge_of_a_cliff_though_the_broken_model_is_flat(at, uneven):
    """As far above its chord as nowhere else, with both ends of the grid on it."""
    levels = np.array([0, 0.1, 0.2, 0.3, 0.32, 0.34, 0.4, 0.5, 0.7, 0.9]) if uneven else LEVELS
    assert readings.kneedle(levels, np.where(levels <= levels[at], 0.9, 0.5)) == levels[at]


@pytest.mark.parametrize("seed", range(5))
def test_kneedle_of_a_fall_to_guessing_is_its_upper_bend(seed):
    """An accuracy that stays at one half once the model is broken, with noise of a tenth of a point."""
    draw, levels = np.random.default_rng(seed), np.arange(20) / 20
    means = 0.9 - 0.4 / (1 + np.exp(-(levels - 0.6) / 0.03)) + 0.001 * draw.normal(size=20)
    above = (means - means.min()) / np.ptp(means) + levels / levels[-1] - 1
    assert readings.kneedle(levels, means) == levels[above.argmax()]
    assert 0.5 <= levels[above.argmax()] < 0.6


@pytest.mark.parametrize(("bump", "size"), [(7, 0.09), (8, 0.06)])
def test_kneedle_of_a_fall_is_no_bump_of_the_broken_model(bump, size):
    """Noise of a model that guesses stands above the chord too, near the end of the grid, but not as high as the bend."""
    means = np.array([0.8, 0.8, 0.79, 0.76, 0.6, 0.55, 0.55, 0.5, 0.5, 0.5])
    means[bump] += size
    assert readings.kneedle(LEVELS, means) == LEVELS[3]
    assert readings._bends(LEVELS, means, LEVELS[bump])


def test_a_bump_below_the_chord_is_no_bend():
    levels = np.arange(5) / 4
    assert not readings._bends(levels, np.array([1, 0.2, 0.3, 0, 0]), 0.5)
    assert readings._bends(levels, np.array([1, 0.8, 0.9, 0, 0]), 0.5)
    assert not readings._bends(levels, np.array([1, 0.8, 0.9, 0, 0]), 0.25), "the next level stands higher"


def test_kneedle_of_what_falls_by_rounding_alone_is_none():
    assert np.isnan(readings.kneedle(LEVELS, 0.9 - 1e-12 * np.maximum(LEVELS - 0.5, 0)))
    assert readings.kneedle(LEVELS, 0.9 - 1e-6 * np.maximum(LEVELS - 0.5, 0)) == pytest.approx(0.5)


# hinge


def test_hinge_finds_the_join_of_two_lines_between_levels():
    """The data are a hinge: 0.8 − 0.1 s up to s = 0.437, then −1.3: the fit is exact."""
    curve = 0.8 - 0.1 * LEVELS - 1.2 * np.maximum(LEVELS - 0.437, 0)
    assert readings.hinge(LEVELS, curve, ONES) == pytest.approx(0.437, abs=1e-4)


def test_hinge_after_a_rise():
    curve = 0.7 + 0.1 * LEVELS - 1.1 * np.maximum(LEVELS - 0.55, 0)
    assert readings.hinge(LEVELS, curve, ONES) == pytest.approx(0.55, abs=1e-4)


@pytest.mark.parametrize(
    "means",
    [
        pytest.param(1 - LEVELS, id="straight"),
        pytest.param(ONES, id="flat"),
        pytest.param(1 - LEVELS + 0.8 * np.maximum(LEVELS - 0.4, 0), id="second less steep"),
        pytest.param(0.5 + LEVELS - 0.5 * np.maximum(LEVELS - 0.4, 0), id="still rising"),
    ],
)
def test_hinge_without_a_steeper_second_line_is_none(means):
    assert np.isnan(readings.hinge(LEVELS, means, ONES))


def test_hinge_of_what_falls_by_rounding_alone_is_none():
    falling = np.maximum(LEVELS - 0.5, 0)
    assert np.isnan(readings.hinge(LEVELS, 0.9 - 1e-12 * falling, ONES))
    assert readings.hinge(LEVELS, 0.9 - 1e-6 * falling, ONES) == pytest.approx(0.5, abs=1e-3)


def test_hinge_of_three_levels_is_none():
    assert np.isnan(readings.hinge([0, 0.1, 0.2], [1, 1, 0], [1, 1, 1]))
    assert readings.hinge([0, 0.1, 0.2, 0.3], [1, 1, 0.5, 0], [1, 1, 1, 1]) == pytest.approx(0.1)


def test_hinge_obeys_weights():
    """A level without seeds to speak of does not move the join."""
    curve = 0.8 - np.maximum(LEVELS - 0.5, 0)
    spoiled, weights = curve.copy(), ONES.copy()
    spoiled[3], weights[3] = 0.2, 1e-9
    assert readings.hinge(LEVELS, spoiled, weights) == pytest.approx(0.5, abs=1e-3)
    assert readings.hinge(LEVELS, spoiled, ONES) != pytest.approx(0.5, abs=1e-2)


# many curves at once

curves = st.lists(st.lists(st.integers(0, 20), min_size=6, max_size=6), min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(curves, st.lists(st.integers(1, 5), min_size=6, max_size=6))
def test_isotonic_is_that_of_scikit_learn(rows, weights):
    means = np.array(rows) / 20
    expected = [isotonic_regression(row, sample_weight=np.array(weights, float), increasing=False) for row in means]
    assert np.allclose(readings.isotonic(means, weights), expected, atol=1e-12)


@settings(max_examples=50, deadline=None)
@example([[0] * 6] * 4 + [[0, 0, 0, 7, 6, 6]], [1] * 6)  # its second line is level but for rounding
@example([[0] * 6, [13, 1, 15, 10, 16, 8]], [1] * 6)  # two hinges that are as good as one another
@given(curves, st.lists(st.integers(1, 5), min_size=6, max_size=6))
def test_a_reading_of_many_curves_is_that_of_each(rows, weights):
    levels, means = np.arange(6) / 10, np.array(rows) / 20
    for read in (
        lambda values: readings.essential_sparsity(levels, values, weights, 0.01),
        lambda values: readings.last_compliant(levels, values, 0.01),
        lambda values: readings.kneedle(levels, values),
        lambda values: readings.hinge(levels, values, weights),
        lambda values: shapes.polynomial(levels, values, 1, weights),
        lambda values: shapes.power(levels, values, weights),
    ):
        found = read(means)
        assert found.shape == (len(means),)
        assert np.allclose(found, [read(row) for row in means], equal_nan=True)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=5, max_size=9), st.data())
def test_no_join_fits_better_than_the_hinge(values, data):
    """Against a dense search over joins by plain least squares."""
    levels, means = np.arange(len(values)) / len(values), np.array(values) / 20
    weights = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(values), max_size=len(values))), float)
    join, _, _, squares = shapes.hinge(levels, means, weights)
    assert levels[1] <= join <= levels[-2]
    root = np.sqrt(weights)
    for other in [*np.linspace(levels[1], levels[-2], 57), join]:
        design = np.column_stack([np.ones_like(levels), levels, np.maximum(levels - other, 0)])
        line = np.linalg.lstsq(design * root[:, None], means * root, rcond=None)[0]
        plain = (((design @ line - means) * root) ** 2).sum()
        assert squares <= plain + 1e-9
    assert squares == pytest.approx(plain, abs=1e-9)  # the last one was the join itself


def test_a_power_law_is_found_by_its_own_family():
    levels = np.arange(20) / 20
    curve = 0.9 - 0.3 * levels**4
    assert shapes.power(levels, curve, np.ones(20)) < shapes.hinge(levels, curve, np.ones(20))[-1] / 10


def test_more_parameters_must_earn_their_place():
    """Akaike's criterion with the small-sample correction, from its definition: two parameters, a variance, 20 values."""
    assert shapes.criterion(2.0, 20, 2, 1.0) == pytest.approx(20 * np.log(0.1) + 2 * 3 + 2 * 3 * 4 / (20 - 3 - 1))
    same = {name: shapes.criterion(2.0, 20, parameters, 1.0) for name, parameters in (("few", 2), ("many", 4))}
    weights = shapes.akaike_weights(same)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["few"] / weights["many"] == pytest.approx(np.exp((same["many"] - same["few"]) / 2))
    assert weights["few"] > 0.9
    assert shapes.criterion(0.0, 20, 2, 1.0) == shapes.criterion(1e-9, 20, 2, 1.0), "rounding is not a better fit"


@pytest.mark.parametrize(("at", "width"), [(0.3, 0.05), (0.6, 0.1), (0.8, 0.04)])
def test_a_logistic_curve_is_found_by_its_own_family(at, width):
    levels = np.arange(20) / 20
    curve = 0.9 - 0.4 / (1 + np.exp(-(levels - at) / width))
    rise, squares = shapes.logistic(levels, curve)
    assert rise == pytest.approx(2 * np.log(9) * width, rel=0.02)
    assert squares < 1e-7
    assert shapes.logistic(levels, np.full(20, 0.5)) == (None, pytest.approx(0))
