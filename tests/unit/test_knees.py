"""The tables of knees and comparisons, with their intervals and flags."""

import math

import numpy as np
import pandas as pd
import pytest

from essential_sparsity import tables
from essential_sparsity.curves import comparisons, knees
from essential_sparsity.curves.metrics import METRICS

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
    table = knees.table(runs, **kwargs)[0]
    assert len(table) == 1
    return table.iloc[0]


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
    table = knees.table(runs)[0].set_index("pattern")
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
    table = knees.table(runs, epsilon={"a": 0.05, "not in the grid": 0.1})[0].set_index("task")
    assert table["epsilon"].to_dict() == {"a": 0.05, "b": METRICS["accuracy"].epsilon}
    assert table["tolerance"].to_dict() == pytest.approx({"a": 0.1, "b": 0.02})
    with pytest.raises(ValueError, match="tolerance of the task 'a' is 0"):
        knees.table(runs, epsilon={"a": 0})


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
    tables.write(knees.table(runs)[0], "knees", tmp_path / "a.parquet")
    back = tables.read(tmp_path / "a.parquet", "knees").set_index("task")
    assert back["reason"].isna().to_dict() == {"none": False, "p": True, "short": False, "t": True}
    tables.write(knees.table(runs[runs["pattern"] == "dense"])[0], "knees", tmp_path / "b.parquet")
    assert tables.read(tmp_path / "b.parquet", "knees").empty


def test_level_means_average_perplexity_geometrically():
    runs = pd.concat([runs_of([10.0, 20.0], metric="perplexity"), runs_of([10.0, 80.0], metric="perplexity", seed=1)])
    means = knees.level_means(runs).set_index("sparsity")
    assert METRICS["perplexity"].value(means.loc[0.1, "quality"]) == pytest.approx(40.0)
    assert means.loc[0.1, "n_seeds"] == 2
    assert means.loc[0.1, "low"] < means.loc[0.1, "quality"] < means.loc[0.1, "high"]


# intervals, flags, sharpness and comparisons


def items_of(*curves, n=400, seeds=(0,), spread=0.0):
    """Runs and their items for curves {pattern: means}: the same items at every level, right where u < mean."""
    generator = np.random.default_rng(3)
    u, runs, items = generator.random(n), [], []
    for pattern, means, model in curves:
        for seed in seeds:
            shift = spread * generator.normal(size=len(means))
            for i, mean in enumerate(means):
                key = {
                    "model": model,
                    "task": "t",
                    "pattern": pattern if i else "dense",
                    "sparsity": i / 10,
                    "seed": seed,
                }
                score = (u < mean + shift[i]).astype(float)
                part = pd.DataFrame(
                    {"item": [f"{j:05}" for j in range(n)], "score": score, "target": 0.0, "weight": 1.0}
                )
                items.append(part.assign(**key))
                runs.append(key | {"protocol": "probe", "metric": "accuracy", "value": score.mean(), "n_items": n})
    keys = ["model", "task", "pattern", "sparsity", "seed"]
    runs, items = pd.DataFrame(runs).drop_duplicates(keys), pd.concat(items).drop_duplicates([*keys, "item"])
    return runs, lambda chosen: items.merge(chosen[keys].drop_duplicates(), on=keys)


@pytest.mark.parametrize(
    ("metric", "column"), [("f1", "prediction"), ("exact_match", "second_score"), ("accuracy", "score")]
)
def test_a_metric_is_resampled_from_its_own_column(metric, column, monkeypatch):
    runs, items = items_of(("global", [0.9, 0.7, 0.5, 0.3], "m"), n=20)
    runs, seen = runs.assign(metric=metric), []
    numbers = {"score": 1.0, "second_score": 2.0, "prediction": 3.0}
    monkeypatch.setattr(
        knees.bootstrap, "curves", lambda metric, scores, *_: seen.append(scores) or scores.mean(axis=1)[:, :1].T
    )
    knees.table(runs, lambda chosen: items(chosen).assign(**numbers))
    assert np.unique(seen[0]).tolist() == [numbers[column]]


FALLING = 0.9 - np.maximum(LEVELS - 0.45, 0)


def test_intervals_hold_their_readings_and_the_dense_run():
    runs, items = items_of(("global", FALLING, "m"))
    row = only(runs, items=items, replicates=300)
    assert row["n_replicates"] == 300
    for name in ("tolerance", "last_compliant", "hinge"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert 0.3 < row["tolerance_low"] < row["tolerance_high"] < 0.7
    assert row["slope_ratio"] is None or row["slope_ratio"] > 1
    again = only(runs, items=items, replicates=300)
    assert row.dropna().to_dict() == again.dropna().to_dict()


def test_the_order_of_items_and_runs_changes_nothing():
    runs, items = items_of(("global", FALLING, "m"), seeds=(0, 1), spread=0.01)
    row = only(runs, items=items, replicates=100)
    shuffled = only(runs.sample(frac=1, random_state=0), items=lambda chosen: items(chosen).iloc[::-1], replicates=100)
    assert row.dropna().to_dict() == shuffled.dropna().to_dict()


def test_a_curve_that_may_not_drop_has_an_open_interval():
    """Three points are lost at the last level, within the noise of 100 items of which few change."""
    runs, items = items_of(("global", [0.9, 0.9, 0.9, 0.9, 0.87], "m"), n=100)
    row = only(runs, items=items, replicates=1000)
    assert row["tolerance"] is not None
    assert row["tolerance_low"] is not None
    assert row["tolerance_high"] is None


def test_items_that_do_not_fit_the_runs_are_refused():
    runs, items = items_of(("global", FALLING, "m"))
    with pytest.raises(ValueError, match=r"m/t/global/0\.3/0 .*cannot be paired"):
        knees.table(runs, lambda chosen: items(chosen).query("not (sparsity == 0.3 and item == '00007')"))


@pytest.mark.parametrize(
    ("means", "flags"),
    [
        pytest.param(WS353, {"rises_first", "non_monotone"}, id="rises first"),
        pytest.param([0.8] * 6, {"no_drop"}, id="flat"),
        pytest.param([0.9, 0.4, 0.3, 0.3], {"below_tolerance_at_first_level"}, id="cliff"),
        pytest.param([0.9, 0.9, 0.7, 0.9, 0.5], {"non_monotone"}, id="comes back"),
        pytest.param([0.9, 0.5], {"too_few_levels"}, id="short"),
        pytest.param(FALLING, set(), id="plain"),
    ],
)
def test_flags(means, flags):
    row = only(runs_of(means))
    names = ("non_monotone", "rises_first", "no_drop", "below_tolerance_at_first_level", "too_few_levels")
    assert {name for name in names if row[name]} == flags


def test_a_rise_within_noise_is_not_flagged():
    """Two of 200 items turn right, four turn wrong and back: with items that is noise, without them it is a rise."""
    runs, items = items_of(("global", [0.8, 0.81, 0.8, 0.81, 0.5], "m"), n=200)
    assert only(runs)["rises_first"]
    assert not only(runs, items=items, replicates=500)["rises_first"]
    runs, items = items_of(("global", [0.7, 0.9, 0.9, 0.9, 0.5], "m"), n=200)
    assert only(runs, items=items, replicates=500)["rises_first"]


def test_a_hinge_a_line_and_a_power_law_are_told_apart():
    levels, noise = np.arange(20) / 20, 1e-3 * np.random.default_rng(0).normal(size=20)
    shapes = {
        "hinge": 0.9 - 0.05 * levels - np.maximum(levels - 0.6, 0),
        "linear": 0.9 - 0.4 * levels,
        "power": 0.9 - 0.5 * levels**3,
    }
    for shape, means in shapes.items():
        row = only(runs_of(means + noise, levels=levels))
        assert row["shape"] in {"hinge": ["hinge"], "linear": ["smooth", None], "power": ["smooth"]}[shape]
        assert sum(row[f"evidence_{name}"] for name in shapes) == pytest.approx(1)
    row = only(runs_of(shapes["hinge"], levels=levels))
    assert row["slope_before"] == pytest.approx(-0.05)
    assert row["slope_ratio"] == pytest.approx(21)
    assert only(runs_of(FALLING[:6]))["shape"] is None
    bent_up = only(runs_of(0.9 - levels + 0.9 * np.maximum(levels - 0.3, 0), levels=levels))
    assert bent_up["evidence_hinge"] > 0.9
    assert bent_up["shape"] is None


def test_the_interval_is_corrected_for_bias():
    """Replicates that lie lower than the estimate as a rule: the estimate itself is low, so the interval moves up."""
    replicates = np.random.default_rng(0).normal(size=100_000)
    centred, shifted = (np.array(knees.interval(estimate, replicates)) for estimate in (0.0, 0.5))
    assert centred == pytest.approx([-1.96, 1.96], abs=0.03)
    assert shifted == pytest.approx(centred + 1.0, abs=0.03)
    far = knees.interval(9.0, np.append(replicates, np.inf))
    assert far[0] == pytest.approx(1.96, abs=0.03)
    assert far[1] is None
    assert knees.interval(1.0, np.ones(50)) == (1.0, 1.0)


def test_comparisons_are_paired():
    later = 0.9 - np.maximum(LEVELS - 0.65, 0)
    runs, items = items_of(("global", FALLING, "m"), ("layerwise", later, "m"), ("global", FALLING, "copy"))
    found, read = knees.table(runs, items, replicates=300)
    compared = comparisons.table(read, ["pattern", "model"]).set_index("between")
    row = compared.loc["pattern"]
    assert (row["pattern_a"], row["pattern_b"]) == ("global", "layerwise")
    assert row["difference"] == pytest.approx(row["tolerance_a"] - row["tolerance_b"])
    assert row["low"] <= row["difference"] <= row["high"] < 0
    assert row["share_a_larger"] == 0
    same = compared.loc["model"]  # two models with the very same outcomes: no noise is left in the difference
    assert (same["difference"], same["low"], same["high"], same["share_a_larger"]) == (0, 0, 0, 0.5)
    width = (found["tolerance_high"] - found["tolerance_low"]).max()
    assert width > 0.01


def test_comparisons_fit_their_schema(tmp_path):
    runs = pd.concat([runs_of(WS353), runs_of(FALLING, pattern="random").iloc[1:]])
    tables.write(comparisons.table(knees.table(runs)[1], ["pattern", "model"]), "comparisons", tmp_path / "a.parquet")
    assert tables.read(tmp_path / "a.parquet", "comparisons")["low"].isna().all()
    tables.write(comparisons.table(knees.table(runs)[1], []), "comparisons", tmp_path / "b.parquet")
