"""Knees: the four readings on curves whose answer is known, and the table made of them."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essential_sparsity import knees, tables
from essential_sparsity.metrics import METRICS

LEVELS = np.arange(10) / 10
ONES = np.ones(10)
WS353 = [0.729, 0.732, 0.740, 0.743, 0.741, 0.724, 0.701, 0.634, 0.604, 0.568]  # rises first
PERPLEXITY = [16.2, 16.3, 18.2, 28.8, 75, 393, 5.9e3, 1.74e5]  # blows up


def runs_of(values, pattern="global", metric="accuracy", seed=0, task="t", levels=None):
    """Rows of the table `runs` as far as knees read it; the first value is the dense one."""
    levels = np.arange(len(values)) / 10 if levels is None else levels
    return pd.DataFrame(
        {
            "model": "m",
            "task": task,
            "pattern": ["dense" if level == 0 else pattern for level in levels],
            "sparsity": levels,
            "seed": seed,
            "protocol": "zero-shot",
            "metric": metric,
            "value": pd.Series(values, dtype="float64"),
            "n_items": 100,
        }
    )


def only(runs, **kwargs):
    table = knees.table(runs, **kwargs)
    assert len(table) == 1
    return table.iloc[0]


# tolerance


def test_tolerance_of_a_straight_line_is_exact():
    """Quality 1 − s/2 loses 0.01 at s = 0.02; with a tolerance of 0.11 at 0.22."""
    line = 1 - LEVELS / 2
    assert knees.tolerance(LEVELS, line, ONES, 1.0, 0.01) == pytest.approx(0.02)
    assert knees.tolerance(LEVELS, line, ONES, 1.0, 0.11) == pytest.approx(0.22)


def test_tolerance_of_a_concave_curve():
    """Flat to 0.5, then a slope of −1: within 0.01 up to 0.51."""
    curve = 0.9 - np.maximum(LEVELS - 0.5, 0)
    assert knees.tolerance(LEVELS, curve, ONES, 0.9, 0.01) == pytest.approx(0.51)


def test_tolerance_of_a_cliff_at_the_first_level():
    assert knees.tolerance([0, 0.1, 0.2], [0.9, 0.4, 0.4], [1, 1, 1], 0.9, 0.01) == pytest.approx(0.1 * 0.01 / 0.5)


def test_tolerance_that_is_never_crossed():
    assert knees.tolerance(LEVELS, 0.9 - 0.009 * LEVELS, ONES, 0.9, 0.01) is None
    assert knees.tolerance(LEVELS, 0.5 + 0.1 * LEVELS, ONES, 0.5, 0.01) is None


def test_exactly_on_the_tolerance_is_inside():
    """Six items of 600 are one point, but 301/600 − 0.01 is above 295/600 in floating point."""
    dense, edge = 301 / 600, 295 / 600
    assert dense - 0.01 > edge
    assert knees.tolerance([0, 0.1, 0.2], [dense, edge, edge], [1, 1, 1], dense, 0.01) is None
    assert knees.last_compliant([0, 0.1, 0.2], [dense, edge, edge], dense, 0.01) == 0.2
    assert knees.exits([dense, edge, edge], dense, 0.01) == 0
    assert knees.tolerance([0, 0.1, 0.2], [dense, edge, 0.2], [1, 1, 1], dense, 0.01) == pytest.approx(0.1)


def test_a_gain_before_the_drop_counts_from_the_dense_level():
    """Pool adjacent violators averages the first five to 0.737; 0.719 lies between 0.724 and 0.701."""
    found = knees.tolerance(LEVELS, WS353, ONES, 0.729, 0.01)
    assert found == pytest.approx(0.5 + 0.1 * (0.724 - 0.719) / (0.724 - 0.701))


def test_a_dip_is_pooled_by_the_number_of_seeds():
    """(0.88, 0.90) at s = 0.1, 0.2: equal weights pool to 0.89, on the edge; 3 to 1 pool to 0.885, outside."""
    levels, means = [0, 0.1, 0.2, 0.3], [0.9, 0.88, 0.9, 0.5]
    even = knees.tolerance(levels, means, [1, 1, 1, 1], 0.9, 0.01)
    assert even == pytest.approx(0.2)
    uneven = knees.tolerance(levels, means, [1, 3, 1, 1], 0.9, 0.01)
    assert uneven == pytest.approx(0.1 * 0.01 / (0.9 - 0.885))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=3, max_size=12), st.floats(0.001, 0.2), st.floats(0.001, 0.2))
def test_a_larger_tolerance_never_gives_a_smaller_sparsity(means, epsilon, more):
    levels, weights = np.arange(len(means)) / len(means), np.ones(len(means))
    small = knees.tolerance(levels, means, weights, means[0], epsilon)
    large = knees.tolerance(levels, means, weights, means[0], epsilon + more)
    assert (math.inf if large is None else large) >= (math.inf if small is None else small) - 1e-7
    assert small is None or 0 <= small <= levels[-1]


# last_compliant and exits


def test_last_compliant_is_a_level_of_the_grid():
    assert knees.last_compliant(LEVELS, WS353, 0.729, 0.01) == 0.5
    assert knees.last_compliant([0, 0.1, 0.2], [0.9, 0.4, 0.4], 0.9, 0.01) == 0


def test_a_curve_that_comes_back_counts_its_last_exit():
    """SST-2 of Gordon et al. 2020: leaves the band at 50 %, is inside at 60 %, and leaves for good."""
    levels, means = [0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8], [92.1, 91.6, 91.5, 90.9, 91.4, 90.1, 88.1]
    assert knees.last_compliant(levels, means, 92.1, 1.0) == 0.6
    assert knees.exits(means, 92.1, 1.0) == 2
    assert 0.5 < knees.tolerance(levels, means, np.ones(7), 92.1, 1.0) < 0.7


def test_exits_of_plain_curves():
    assert knees.exits(WS353, 0.729, 0.01) == 1
    assert knees.exits([0.9, 0.9, 0.9], 0.9, 0.01) == 0


# kneedle


def test_kneedle_finds_the_bend_of_a_concave_curve():
    assert knees.kneedle(LEVELS, 0.9 - np.maximum(LEVELS - 0.5, 0)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "means", [ONES, 1 - LEVELS, 0.5 + LEVELS / 10, np.r_[1, np.zeros(9)], np.r_[np.zeros(9), 1], [0.9, 0.5]]
)
def test_kneedle_neither_warns_nor_fails(means):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = knees.kneedle(LEVELS[: len(means)], means)
    assert found is None or found in LEVELS
    if np.ptp(means) == 0 or len(means) < 3:
        assert found is None


# hinge


def test_hinge_finds_the_join_of_two_lines_between_levels():
    """The data are a hinge: 0.8 − 0.1 s up to s = 0.437, then −1.3: the fit is exact."""
    curve = 0.8 - 0.1 * LEVELS - 1.2 * np.maximum(LEVELS - 0.437, 0)
    assert knees.hinge(LEVELS, curve, ONES) == pytest.approx(0.437, abs=1e-4)


def test_hinge_after_a_rise():
    curve = 0.7 + 0.1 * LEVELS - 1.1 * np.maximum(LEVELS - 0.55, 0)
    assert knees.hinge(LEVELS, curve, ONES) == pytest.approx(0.55, abs=1e-4)


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
    assert knees.hinge(LEVELS, means, ONES) is None


def test_hinge_of_three_levels_is_none():
    assert knees.hinge([0, 0.1, 0.2], [1, 1, 0], [1, 1, 1]) is None


def test_hinge_obeys_weights():
    """A level without seeds to speak of does not move the join."""
    curve = 0.8 - np.maximum(LEVELS - 0.5, 0)
    spoiled, weights = curve.copy(), ONES.copy()
    spoiled[3], weights[3] = 0.2, 1e-9
    assert knees.hinge(LEVELS, spoiled, weights) == pytest.approx(0.5, abs=1e-3)
    assert knees.hinge(LEVELS, spoiled, ONES) != pytest.approx(0.5, abs=1e-2)


# the table


def test_every_reading_of_one_curve():
    row = only(runs_of(0.9 - np.maximum(LEVELS - 0.45, 0)))
    assert row["tolerance"] == pytest.approx(0.4 + 0.1 * 0.01 / 0.05)
    assert row["metric_at_knee"] == pytest.approx(0.89)
    assert row["last_compliant"] == 0.4
    assert row["hinge"] == pytest.approx(0.45, abs=1e-4)
    assert row["kneedle"] in (0.4, 0.5)
    assert row["dense"] == pytest.approx(0.9)
    assert (row["n_levels"], row["n_seeds"], row["n_items"], row["n_exits"], row["n_undefined"]) == (10, 1, 100, 1, 0)
    assert row["reason"] is None


def test_perplexity_is_read_on_its_logarithm():
    """One per cent of 16.2 is lost between 16.3 at s = 0.1 and 18.2 at 0.2; the blow-up to 1.7e5 changes nothing."""
    row = only(runs_of(PERPLEXITY, metric="perplexity"))
    target = math.log(16.2) + 0.01
    expected = 0.1 + 0.1 * (target - math.log(16.3)) / (math.log(18.2) - math.log(16.3))
    assert row["tolerance"] == pytest.approx(expected)
    assert row["metric_at_knee"] == pytest.approx(math.exp(target))
    assert (row["scale"], row["last_compliant"]) == ("log", 0.1)
    assert row["tolerance"] == only(runs_of(PERPLEXITY[:4], metric="perplexity"))["tolerance"]
    assert 0.3 < row["hinge"] < 0.6


def test_an_infinite_perplexity_is_a_drop():
    row = only(runs_of([16.2, 16.2, math.inf, math.inf], metric="perplexity"))
    assert row["tolerance"] == pytest.approx(0.1, abs=1e-4)
    assert row["n_undefined"] == 0
    assert np.isfinite(row["metric_at_knee"])


def test_a_curve_without_a_drop_says_so():
    row = only(runs_of([0.8, 0.802, 0.795, 0.81]))
    assert row["tolerance"] is None
    assert row["metric_at_knee"] is None
    assert row["last_compliant"] == 0.3
    assert row["reason"] == "no drop: the metric stays within the tolerance up to s=0.300"


def test_seeds_are_averaged_before_reading():
    """Two seeds that leave the band at different levels; their mean is a hinge at 0.5."""
    curve, noise = 0.9 - np.maximum(LEVELS - 0.5, 0), 0.02 * (-1.0) ** np.arange(10)
    runs = pd.concat([runs_of(curve + noise), runs_of(curve - noise, seed=1)])
    row = only(runs)
    assert row["tolerance"] == pytest.approx(0.51)
    assert row["n_seeds"] == 2
    assert only(runs_of(curve + noise))["tolerance"] < 0.5


def test_the_dense_runs_belong_to_every_pattern():
    runs = pd.concat([runs_of(0.9 - 0.5 * LEVELS), runs_of(0.9 - LEVELS, pattern="random").iloc[1:]])
    table = knees.table(runs).set_index("pattern")
    assert table["tolerance"].to_dict() == pytest.approx({"global": 0.02, "random": 0.01})
    assert table["n_levels"].tolist() == [10, 10]


def test_undefined_levels_are_left_out_and_counted():
    curve = (0.9 - np.maximum(LEVELS - 0.5, 0)).tolist()
    row = only(runs_of([*curve[:8], None, math.nan]))
    assert row["tolerance"] == pytest.approx(0.51)
    assert (row["n_levels"], row["n_undefined"]) == (8, 2)


def test_an_undefined_seed_leaves_the_others():
    other = runs_of([0.9, 0.9, None, 0.3], seed=1)
    row = only(pd.concat([runs_of([0.9, 0.9, 0.8, 0.3]), other]))
    assert (row["n_levels"], row["n_undefined"], row["n_seeds"]) == (4, 1, 2)
    assert row["tolerance"] == pytest.approx(0.11)


@pytest.mark.parametrize(
    ("values", "reason", "last"),
    [
        ([0.9, 0.8], "too few levels: 2 levels with", None),
        ([0.9, None, None], "too few levels: 1 level with", None),
        ([None, 0.9, 0.8, 0.7], "no dense value", None),
        ([None, None, None, None], "no dense value", None),
    ],
)
def test_no_reading_has_its_reason(values, reason, last):
    row = only(runs_of(values))
    assert row["reason"].startswith(reason)
    assert all(row[name] is None for name in ("tolerance", "last_compliant", "kneedle", "hinge", "metric_at_knee"))


def test_a_missing_dense_run_has_its_reason():
    row = only(runs_of([0.9, 0.8, 0.7, 0.6]).iloc[1:])
    assert row["reason"].startswith("no dense value")


def test_a_task_has_its_own_tolerance():
    curve = 0.9 - 0.5 * LEVELS
    runs = pd.concat([runs_of(curve, task="a"), runs_of(curve, task="b")])
    table = knees.table(runs, {"a": 0.05, "not in the grid": 0.1}).set_index("task")
    assert table["epsilon"].to_dict() == {"a": 0.05, "b": METRICS["accuracy"].epsilon}
    assert table["tolerance"].to_dict() == pytest.approx({"a": 0.1, "b": 0.02})
    with pytest.raises(ValueError, match="tolerance of the task 'a' is 0"):
        knees.table(runs, {"a": 0})


def test_what_cannot_be_read_is_refused():
    runs = runs_of([0.9, 0.8, 0.7])
    with pytest.raises(ValueError, match="unknown metric 'f2'"):
        knees.table(runs.assign(metric="f2"))
    with pytest.raises(ValueError, match="m on t mix the protocols finetune and probe"):
        knees.table(runs.assign(protocol=["probe", "probe", "finetune"]))
    with pytest.raises(ValueError, match=r"global at s=0\.2: perplexity is 0\.0"):
        knees.table(runs_of([16.0, 17.0, 0.0], metric="perplexity"))


def test_the_table_fits_its_schema(tmp_path):
    runs = pd.concat(
        [
            runs_of(WS353, metric="spearman"),
            runs_of(PERPLEXITY, metric="perplexity", task="p"),
            runs_of([0.9, 0.9], task="short"),
            runs_of([None, 0.9], task="none"),
        ]
    )
    tables.write(knees.table(runs), "knees", tmp_path / "a.parquet")
    back = tables.read(tmp_path / "a.parquet", "knees").set_index("task")
    assert back["reason"].isna().to_dict() == {"none": False, "p": True, "short": False, "t": True}
    tables.write(knees.table(runs[runs["pattern"] == "dense"]), "knees", tmp_path / "b.parquet")
    assert tables.read(tmp_path / "b.parquet", "knees").empty


def test_level_means_average_perplexity_geometrically():
    runs = pd.concat([runs_of([10.0, 20.0], metric="perplexity"), runs_of([10.0, 80.0], metric="perplexity", seed=1)])
    means = knees.level_means(runs).set_index("sparsity")
    assert METRICS["perplexity"].value(means.loc[0.1, "quality"]) == pytest.approx(40.0)
    assert means.loc[0.1, "n_seeds"] == 2
    assert means.loc[0.1, "low"] < means.loc[0.1, "quality"] < means.loc[0.1, "high"]
