"""The tables of knees and comparisons, with their intervals and flags."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from essential_sparsity import tables
from essential_sparsity.curves import bootstrap, comparisons, intervals, knees, quality, readings, shapes, single
from essential_sparsity.curves.means import dense_mean, level_means
from essential_sparsity.curves.metrics import ABOVE_CHANCE, METRICS, headline, with_groups
from essential_sparsity.figures import summary

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


def test_the_headline_is_the_first_of_the_known_metrics():
    assert headline(["f1", "accuracy", "matthews"]) == "matthews"
    assert headline(["token_f1", "exact_match"]) == "token_f1"
    assert headline(list(METRICS)[::-1]) == next(iter(METRICS))


def test_a_task_is_shown_by_its_headline_and_by_what_is_of_groups_of_its_items():
    found = ["normalised_accuracy", "accuracy_stem", "accuracy", "accuracy_humanities", "accuracy_other"]
    assert with_groups(found) == ["accuracy", "accuracy_humanities", "accuracy_other", "accuracy_stem"]
    assert with_groups(iter(found[:1])) == ["normalised_accuracy"]
    assert with_groups([]) == []


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_quality_is_higher_where_the_metric_is_better_and_its_value_is_found_again(metric):
    better, worse = (12.0, 16.0) if "perplexity" in metric.name else (0.8, 0.3)
    assert metric.quality(better) > metric.quality(worse)
    assert metric.value(metric.quality(worse)) == pytest.approx(worse)
    lost = metric.value(metric.quality(better) - metric.epsilon)
    assert lost == pytest.approx(12 * math.exp(0.01) if metric.scale == "log" else 0.79), "one per cent, or one point"
    assert metric.value(-1e9) == pytest.approx(1e300) or metric.scale != "log"


def test_what_guessing_gives_is_known_of_accuracies_of_labels_and_of_correlations():
    groups = {metric.name: metric.group for metric in METRICS.values() if metric.group}
    assert groups == {f"accuracy_{name}": name for name in ("stem", "humanities", "social_sciences", "other")}
    known = {metric.name: metric.above_chance for metric in METRICS.values() if metric.above_chance}
    of_labels = dict.fromkeys(["accuracy", "normalised_accuracy", ABOVE_CHANCE, *groups], ABOVE_CHANCE)
    assert known == of_labels | {name: name for name in ("matthews", "pearson", "spearman")}
    assert [metric.name for metric in METRICS.values() if metric.own_items] == ["perplexity"]


# the table


def test_every_reading_of_one_curve():
    row = only(runs_of(0.9 - np.maximum(LEVELS - 0.45, 0)))
    assert row["essential_sparsity"] == pytest.approx(0.4 + 0.1 * 0.01 / 0.05)
    assert row["metric_at_knee"] == pytest.approx(0.89)
    assert row["last_compliant"] == 0.4
    assert row["hinge"] == pytest.approx(0.45, abs=1e-4)
    assert row["kneedle"] in (0.4, 0.5)
    assert row["dense"] == pytest.approx(0.9)
    assert (row["n_levels"], row["n_seeds_max"], row["n_items"], row["n_exits"], row["n_undefined"]) == (
        10,
        1,
        100,
        1,
        0,
    )
    assert row["reason"] is None


def test_perplexity_is_read_on_its_logarithm():
    """One per cent of 16.2 is lost between 16.3 at s = 0.1 and 18.2 at 0.2; the blow-up to 1.7e5 changes nothing."""
    row = only(runs_of(PERPLEXITY, metric="perplexity"))
    target = math.log(16.2) + 0.01
    expected = 0.1 + 0.1 * (target - math.log(16.3)) / (math.log(18.2) - math.log(16.3))
    assert row["essential_sparsity"] == pytest.approx(expected)
    assert row["metric_at_knee"] == pytest.approx(math.exp(target))
    assert (row["scale"], row["last_compliant"]) == ("log", 0.1)
    assert row["essential_sparsity"] == only(runs_of(PERPLEXITY[:4], metric="perplexity"))["essential_sparsity"]
    assert 0.3 < row["hinge"] < 0.6


def test_an_infinite_perplexity_is_a_drop():
    row = only(runs_of([16.2, 16.2, math.inf, math.inf], metric="perplexity"))
    assert row["essential_sparsity"] == pytest.approx(0.1, abs=1e-4)
    assert row["n_undefined"] == 0
    assert np.isfinite(row["metric_at_knee"])


def test_a_curve_without_a_drop_says_so():
    row = only(runs_of([0.8, 0.802, 0.795, 0.81]))
    assert row["essential_sparsity"] is None
    assert row["metric_at_knee"] is None
    assert row["last_compliant"] == 0.3
    assert row["reason"] == "no drop: the metric stays within the tolerance up to s=0.300"


def test_a_curve_that_dips_out_and_comes_back_is_not_said_to_stay_within():
    row = only(runs_of([0.8, 0.802, 0.785, 0.81]))
    assert (row["essential_sparsity"], row["no_drop"], row["n_exits"]) == (None, True, 1)
    assert (
        row["reason"] == "no drop: the isotonic mean, though not each level, stays within the tolerance up to s=0.300"
    )
    assert summary.notes(row)[:2] == ["no drop", "comes back in"]


def test_a_curve_whose_first_level_alone_is_out_is_not_said_to_drop_there():
    row = only(runs_of([0.8, 0.785, 0.802, 0.801, 0.6]))
    assert row["essential_sparsity"] > 0.1
    assert not row["below_tolerance_at_first_level"]


def test_seeds_are_averaged_before_reading():
    """Two seeds that leave the band at different levels; their mean is a hinge at 0.5."""
    curve, noise = 0.9 - np.maximum(LEVELS - 0.5, 0), 0.02 * (-1.0) ** np.arange(10)
    runs = pd.concat([runs_of(curve + noise), runs_of(curve - noise, seed=1)])
    row = only(runs)
    assert row["essential_sparsity"] == pytest.approx(0.51)
    assert row["n_seeds_max"] == 2
    assert only(runs_of(curve + noise))["essential_sparsity"] < 0.5


def test_the_dense_runs_belong_to_every_pattern():
    runs = pd.concat([runs_of(0.9 - 0.5 * LEVELS), runs_of(0.9 - LEVELS, pattern="random").iloc[1:]])
    table = knees.table(runs)[0].set_index("pattern")
    assert table["essential_sparsity"].to_dict() == pytest.approx({"global": 0.02, "random": 0.01})
    assert table["n_levels"].tolist() == [10, 10]


def test_undefined_levels_are_left_out_and_counted():
    curve = (0.9 - np.maximum(LEVELS - 0.5, 0)).tolist()
    row = only(runs_of([*curve[:8], None, math.nan]))
    assert row["essential_sparsity"] == pytest.approx(0.51)
    assert (row["n_levels"], row["n_undefined"]) == (8, 2)


def test_an_undefined_seed_leaves_the_others():
    other = runs_of([0.9, 0.9, None, 0.3], seed=1)
    row = only(pd.concat([runs_of([0.9, 0.9, 0.8, 0.3]), other]))
    assert (row["n_levels"], row["n_undefined"], row["n_seeds_max"]) == (4, 1, 2)
    assert row["essential_sparsity"] == pytest.approx(0.11)


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
    assert all(
        row[name] is None for name in ("essential_sparsity", "last_compliant", "kneedle", "hinge", "metric_at_knee")
    )


def test_a_missing_dense_run_has_its_reason():
    row = only(runs_of([0.9, 0.8, 0.7, 0.6]).iloc[1:])
    assert row["reason"].startswith("no dense value")


def test_a_dense_model_that_collapsed_is_nothing_to_compare_with():
    """Else a checkpoint that is broken has "no drop", and one diverged seed lowers what the others are held against."""
    runs = [runs_of([0.0] * 6, metric="matthews", seed=1), runs_of([0.5, 0.5, 0.5, 0.4, 0.2, 0.1], metric="matthews")]
    told = [table.assign(collapsed=None) for table in runs]
    told[0]["collapsed"] = "one class is predicted for all items"
    for both in ([told[0]], told):
        row = only(pd.concat(both))
        assert row["reason"].startswith("the dense model collapsed: ")
        assert "seed 1, one class is predicted for all items" in row["reason"]
        assert row["essential_sparsity"] is None
        assert row["bracket_low"] is None
        assert not row["no_drop"]
    # of several the order is that of their seeds, whatever that of the rows
    third = told[0].assign(seed=2, collapsed="its outputs are not finite")
    row = only(pd.concat([third, *told]))
    assert "(seed 1, one class is predicted for all items; seed 2, its outputs are not finite)" in row["reason"]
    # a pruned model that collapses is a drop like any other
    told[1].loc[5, "collapsed"] = "one class is predicted for all items"
    assert only(told[1])["essential_sparsity"] == pytest.approx(0.21)


@pytest.mark.parametrize(("corrected", "guesses"), [(-0.01, True), (0.009, True), (0.03, False), (0.8, False)])
def test_a_dense_model_that_guesses_has_nothing_to_lose(corrected, guesses):
    """Of two classes; a curve of noise around one half would have an essential sparsity wherever it dips."""
    above = corrected + np.array([0, 0.01, -0.01, 0.02, -0.03, -0.02])
    runs = pd.concat([runs_of(above, metric="chance_corrected_accuracy"), runs_of(0.5 + above / 2)])
    table = knees.table(runs)[0].set_index("metric")
    assert set(table.index) == {"accuracy", "chance_corrected_accuracy"}
    for reason in table["reason"]:
        told = f"the dense model guesses: its chance_corrected_accuracy is {corrected:.3f}, and 0 is chance"
        assert (reason or "").startswith(told) is guesses
    assert table["essential_sparsity"].isna().all() or not guesses
    assert knees.table(runs_of(0.5 + above / 2))[0]["reason"].isna().all(), (
        "without it nobody knows what guessing gives"
    )
    for metric in ("matthews", "spearman", "pearson"):
        reason = only(runs_of(above, metric=metric))["reason"] or ""
        assert reason.startswith(f"the dense model guesses: its {metric} is") is guesses


@pytest.mark.parametrize("metric", ["token_f1", "exact_match", "answer_accuracy", "f1", "masked_accuracy", "accuracy"])
def test_a_dense_model_that_fails_has_nothing_to_lose(metric):
    """No value is further below it than the tolerance, so it would stay within it at every sparsity."""
    row = only(runs_of([0.008, 0.004, 0.0, 0.002, 0.0], metric=metric))
    assert (
        row["reason"]
        == f"the dense model fails: its {metric} is 0.008, within the tolerance of 0; it has nothing to lose"
    )
    assert row["essential_sparsity"] is None
    assert row["bracket_low"] is None
    assert not row["no_drop"]
    assert only(runs_of([0.02, 0.02, 0.0, 0.0, 0.0], metric=metric))["essential_sparsity"] == pytest.approx(0.15)
    assert only(runs_of([0.02, 0.02, 0.0, 0.0], metric=metric), epsilon={"t": 0.03})["reason"].startswith(
        "the dense model fails"
    )


def test_whether_a_dense_model_guesses_is_said_of_its_mean_over_seeds():
    runs = [runs_of([dense, *[0.0] * 5], metric="matthews", seed=seed) for seed, dense in enumerate((0.03, -0.02))]
    assert only(pd.concat(runs))["reason"].startswith("the dense model guesses: its matthews is 0.005")


def test_missing_dense_runs_count_where_the_pattern_has_their_seed():
    """Another pattern has two seeds: the second dense run is none of the first one's."""
    runs = pd.concat([runs_of(FALLING), runs_of(FALLING, pattern="random").iloc[1:]])
    more = runs_of(FALLING, pattern="random", seed=1)
    asked = pd.concat([runs, more]).assign(metrics="accuracy")
    found = knees.table(pd.concat([runs, more.iloc[1:]]), asked=asked)[0].set_index("pattern")
    assert found["n_missing"].to_dict() == {"global": 0, "random": 1}


def test_a_curve_that_lacks_one_pruned_run_is_read():
    runs = runs_of(FALLING)
    row = only(runs.drop(index=3), asked=runs.assign(metrics="accuracy"))
    assert (row["n_missing"], row["reason"]) == (1, None)
    assert row["essential_sparsity"] == pytest.approx(0.4 + 0.1 * 0.01 / 0.05)


def test_a_task_has_its_own_tolerance():
    curve = 0.9 - 0.5 * LEVELS
    runs = pd.concat([runs_of(curve, task="a"), runs_of(curve, task="b")])
    table = knees.table(runs, epsilon={"a": 0.05, "not in the grid": 0.1})[0].set_index("task")
    assert table["epsilon"].to_dict() == {"a": 0.05, "b": METRICS["accuracy"].epsilon}
    assert table["essential_sparsity"].to_dict() == pytest.approx({"a": 0.1, "b": 0.02})
    back = knees.table(runs_of([0.9, 0.87, 0.9, 0.7], task="a"), epsilon={"a": 0.05})[0]
    assert back["n_exits"].tolist() == [1]
    with pytest.raises(ValueError, match="tolerance of the task 'a' is 0"):
        knees.table(runs, epsilon={"a": 0})


def test_a_metric_that_dense_runs_alone_have_has_no_row():
    runs = pd.concat([runs_of(FALLING), runs_of([0.7], metric="f1")])
    assert knees.table(runs)[0]["metric"].tolist() == ["accuracy"]


def test_undefined_runs_and_those_without_a_dense_run_are_counted_apart():
    other = runs_of(FALLING, seed=1).iloc[1:].assign(value=lambda rows: rows["value"].where(rows["sparsity"] != 0.2))
    row = only(pd.concat([runs_of(FALLING), other]))
    assert (row["n_undefined"], row["n_unpaired"]) == (1, 8)


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
    means = level_means(runs).set_index(["pattern", "sparsity"]).loc["global"]
    assert METRICS["perplexity"].value(means.loc[0.1, "quality"]) == pytest.approx(40.0)
    assert means.loc[0.1, "n_seeds"] == 2
    assert means.loc[0.1, "low"] < means.loc[0.1, "quality"] < means.loc[0.1, "high"]


def test_a_pattern_starts_at_the_dense_runs_of_the_seeds_that_it_has_on_that_task():
    """Of task b the second seed has a dense run alone; of task a it has both."""
    parts = [runs_of([0.9, 0.8, 0.7], task=task) for task in "ab"]
    parts += [runs_of([0.5, 0.4], task="a", seed=1), runs_of([0.5], task="b", seed=1)]
    means = level_means(pd.concat(parts)).set_index(["task", "pattern", "sparsity"])
    assert means.loc[("a", "global", 0.0), ["quality", "n_seeds"]].tolist() == pytest.approx([0.7, 2])
    assert means.loc[("b", "global", 0.0), ["quality", "n_seeds"]].tolist() == pytest.approx([0.9, 1])
    assert means.loc[("b", "dense", 0.0), ["quality", "n_seeds"]].tolist() == pytest.approx([0.7, 2])
    assert means[means["ragged"]].index.tolist() == [("a", "global", 0.2)]


def test_seeds_that_agree_are_as_many_seeds():
    means = level_means(pd.concat([runs_of([0.9, 0.8, 0.7], seed=seed) for seed in range(3)]))
    assert set(means["n_seeds"]) == {3}
    assert not means["ragged"].any()


def test_a_metric_that_dense_runs_alone_have_is_that_of_no_pattern():
    runs = pd.concat([runs_of([0.9, 0.8]), runs_of([0.7], metric="f1")])
    means = level_means(runs)
    assert set(means[["metric", "pattern"]].itertuples(index=False, name=None)) == {
        ("accuracy", "dense"), ("accuracy", "global"), ("f1", "dense")
    }  # fmt: skip


def test_the_means_of_no_runs_are_a_table_without_rows():
    means = level_means(runs_of([0.9, 0.8]).iloc[:0])
    assert means.empty
    assert {*means} == {*level_means(runs_of([0.9, 0.8]))}


def test_the_dense_mean_is_where_the_first_pattern_starts_or_else_that_of_all_dense_runs():
    runs = pd.concat(
        [runs_of([0.9, 0.8]), runs_of([0.9, 0.8], "random").iloc[1:], runs_of([0.7, 0.6], "random", seed=1)]
    )
    means = level_means(runs)
    assert dense_mean(means, ["random", "global"]) == (pytest.approx(0.8), "random")
    assert dense_mean(means, ["global", "random"]) == (pytest.approx(0.9), "global")
    assert dense_mean(means, ["gone", "global"]) == (pytest.approx(0.9), None)
    assert dense_mean(means[means["pattern"] == "dense"], ["global"]) == (pytest.approx(0.8), None)
    assert dense_mean(means[means["sparsity"] > 0], ["global"]) == (None, None)


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
    ("metric", "column"),
    [
        *((name, "prediction") for name in ("f1", "matthews")),
        *((name, "second_score") for name in ("exact_match", "masked_accuracy", "normalised_accuracy")),
        *((name, "score") for name in ("accuracy", "spearman", "token_f1")),
    ],
)
def test_a_metric_is_resampled_from_its_own_column(metric, column, monkeypatch):
    runs, items = items_of(("global", [0.9, 0.7, 0.5, 0.3], "m"), n=20)
    runs, seen = runs.assign(metric=metric), []
    numbers = {"score": 1.0, "second_score": 2.0, "prediction": 3.0}
    monkeypatch.setattr(bootstrap, "moves", lambda metric, scores, *_: seen.append(scores) or scores.mean(-1)[None])
    knees.table(runs, lambda chosen: items(chosen).assign(**numbers))
    assert np.unique(seen[0]).tolist() == [numbers[column]]


def test_a_metric_of_a_group_is_that_of_its_items_alone():
    """Its own knee and interval, as if no other item had been evaluated; curves of it are paired."""
    curves = [("global", 0.9 - np.maximum(LEVELS - 0.35, 0), "m"), ("layerwise", 0.9 - LEVELS / 2, "m")]
    runs, items = items_of(*curves, n=300)
    every = items(runs).assign(group=lambda rows: np.where(rows["item"] < "00100", "stem", "other"))
    own = every[every["group"] == "stem"]
    keys = ["model", "task", "pattern", "sparsity", "seed"]
    value = own.groupby(keys)["score"].mean().rename("value").reset_index()
    of_group = runs.drop(columns="value").merge(value, on=keys).assign(metric="accuracy_stem", n_items=100)

    def among(rows):
        return lambda chosen: rows.merge(chosen[keys].drop_duplicates(), on=keys)

    beside, kept = knees.table(pd.concat([runs, of_group]), among(every), replicates=200)
    alone, kept_alone = knees.table(of_group, among(own), replicates=200)
    ours = beside[beside["metric"] == "accuracy_stem"].reset_index(drop=True)
    assert not ours["headline"].any()
    assert ours["n_items"].tolist() == [100, 100]
    pd.testing.assert_frame_equal(ours.drop(columns="headline"), alone.drop(columns="headline"))
    found = comparisons.table(kept, ["pattern"]).set_index("metric")
    assert found["paired"].all()
    assert found.loc["accuracy_stem"].equals(comparisons.table(kept_alone, ["pattern"]).set_index("metric").iloc[0])


FALLING = 0.9 - np.maximum(LEVELS - 0.45, 0)


def test_intervals_hold_their_readings_and_the_dense_run():
    runs, items = items_of(("global", FALLING, "m"))
    row = only(runs, items=items, replicates=300)
    assert row["n_replicates"] == 300
    for name in ("essential_sparsity", "last_compliant", "hinge"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert 0.2 < row["essential_sparsity_low"] < row["essential_sparsity_high"] < 0.7
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
    assert row["essential_sparsity"] is not None
    assert row["essential_sparsity_low"] is not None
    assert row["essential_sparsity_high"] is None


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.query("not (sparsity == 0.3 and item == '00007')"),
        lambda found: found.query("not sparsity == 0.3"),
        # as many, of which one is another
        lambda found: found.assign(
            item=found["item"].mask((found["sparsity"] == 0.3) & (found["item"] == "00007"), "x")
        ),
    ],
    ids=["an item less", "none", "another item"],
)
def test_items_that_do_not_fit_the_runs_are_refused(change):
    runs, items = items_of(("global", FALLING, "m"), n=40)
    with pytest.raises(ValueError, match=r"m/t/(global/0\.3|dense/0\.0)/0 .*cannot be paired"):
        knees.table(runs, lambda chosen: change(items(chosen)))


@pytest.mark.parametrize(
    ("means", "flags"),
    [
        pytest.param(WS353, {"rises_first", "non_monotone"}, id="rises first"),
        pytest.param([0.8] * 6, {"no_drop"}, id="flat"),
        pytest.param([0.9, 0.4, 0.3, 0.3], {"below_tolerance_at_first_level"}, id="cliff"),
        pytest.param([0.9, 0.9, 0.7, 0.9, 0.5], {"non_monotone"}, id="comes back"),
        pytest.param([0.9, 0.5], {"too_few_levels"}, id="short"),
        pytest.param(FALLING, set(), id="plain"),
        pytest.param([0.9, 0.895, 0.8, 0.5], set(), id="a little at first"),
        pytest.param([0.8, 0.85, 0.7, 0.5], {"rises_first"}, id="rises, then falls"),
        pytest.param(
            [0.9, 0.4, 0.95, 0.3], {"below_tolerance_at_first_level", "non_monotone"}, id="rises after a cliff"
        ),
        pytest.param([0.9, 0.3, 0.1 + 0.2, 0.1], {"below_tolerance_at_first_level"}, id="rises by rounding"),
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


def drawn_around(values, spread):
    """A curve with replicates that lie around it, independent at each level."""
    key = {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy"}
    curve = single.curve_of(key, quality.with_quality(runs_of(values)))
    curve.replicates = curve.means + spread * np.random.default_rng(0).normal(size=(4000, len(values)))
    return curve


def test_one_of_many_pairs_of_levels_rises_only_beyond_what_the_largest_of_so_many_would():
    """The sixth level stands 2.6 standard errors of a difference above the others."""
    curve = drawn_around([*[0.9] * 5, 0.91, *[0.9] * 4], 0.01 / 2.6 / math.sqrt(2))
    assert knees._rises(curve, [(4, 5)])
    assert not knees._rises(curve, [(i, j) for i in range(1, 10) for j in range(i + 1, 10)])


def test_a_rise_is_one_beyond_all_but_two_and_a_half_per_cent():
    """Between two levels alone: 1.8 standard errors are none, 2.1 are."""
    for errors, rises in ((1.8, False), (2.1, True)):
        assert knees._rises(drawn_around([0.9, 0.8, 0.81], 0.01 / errors / math.sqrt(2)), [(1, 2)]) is rises


def test_a_reading_that_some_replicates_lack_has_no_interval():
    """Where noise takes the bend from one replicate in twenty or more, those that bend say nothing of the others."""
    bent = 0.9 - 0.02 * LEVELS - 0.1 * np.maximum(LEVELS - 0.5, 0)
    for spread, known in ((1e-4, True), (0.05, False)):
        curve = drawn_around(bent, spread)
        lacking = np.isnan(readings.hinge(curve.levels, curve.replicates, curve.weights)).mean()
        assert bool(lacking < 0.05) is known
        row = knees._others(curve)
        assert row["hinge"] == pytest.approx(0.5, abs=1e-4)
        assert ("hinge_low" in row) is known


@pytest.mark.parametrize(("lacking", "known"), [(0, True), (5, True), (6, False)])
def test_up_to_one_replicate_in_twenty_may_lack_a_reading(lacking, known):
    """The interval is that of the others, which agree."""
    bent = 0.9 - 0.02 * LEVELS - 0.1 * np.maximum(LEVELS - 0.5, 0)
    curve = drawn_around(bent, 0)
    curve.replicates = np.array([0.9 - 0.02 * LEVELS] * lacking + [bent] * (100 - lacking))
    row = knees._others(curve)
    ends = [row.get(f"hinge_{end}") for end in ("low", "high")]
    assert ends == ([pytest.approx(0.5, abs=1e-4)] * 2 if known else [None, None])


def test_a_curve_that_rises_and_then_falls_has_no_ratio_of_slopes():
    row = only(runs_of(0.5 + 0.1 * LEVELS - np.maximum(LEVELS - 0.5, 0)))
    assert row["slope_before"] == pytest.approx(0.1)
    assert row["slope_after"] == pytest.approx(-0.9)
    assert row["slope_ratio"] is None


def test_a_slow_rise_shows_between_levels_that_are_no_neighbours():
    """Of 28 pairs of levels none but distant ones differ by more than 3.1 standard errors."""
    curve = drawn_around([0.9, *(0.8 + 0.01 * np.arange(8))], 0.01 / math.sqrt(2))
    curve.found = {"essential_sparsity": 0.05}
    assert knees._flags(curve)["non_monotone"]
    assert not knees._rises(curve, list(itertools.pairwise(range(1, 9))))


def test_a_curve_that_leaves_at_its_first_level_is_within_there():
    values = [0.75, 0.5, 0.25, 0.125]  # exact in binary
    row = only(runs_of(values), epsilon={"t": 0.25})
    assert (row["essential_sparsity"], row["below_tolerance_at_first_level"]) == (LEVELS[1], False)
    assert only(runs_of(values), epsilon={"t": 0.24})["below_tolerance_at_first_level"]


def test_the_evidence_for_shapes_is_that_of_plain_fits():
    """Akaike's weights from least squares of NumPy and SciPy: a line has two parameters, a power law three, a hinge four."""
    draw, levels = np.random.default_rng(0), np.arange(1, 21) / 20 - 0.05
    means = 0.9 - 0.35 * levels**2.2 + 0.01 * draw.normal(size=20)
    row, n = only(runs_of(means, levels=levels)), len(levels)
    line = ((np.polyval(np.polyfit(levels, means, 1), levels) - means) ** 2).sum()
    fitted, _ = curve_fit(lambda x, a, b, p: a - b * x**p, levels, means, p0=[0.9, 0.3, 2])
    power = ((fitted[0] - fitted[1] * levels ** fitted[2] - means) ** 2).sum()
    hinges = (np.column_stack([np.ones(n), levels, np.maximum(levels - at, 0)]) for at in np.linspace(0.05, 0.9, 851))
    hinge = min(np.linalg.lstsq(design, means, rcond=None)[1][0] for design in hinges)

    def corrected(squares, parameters):  # Hurvich and Tsai 1989, with the variance as a parameter
        k = parameters + 1
        return n * math.log(squares / n) + 2 * k * n / (n - k - 1)

    expected = {"linear": corrected(line, 2), "power": corrected(power, 3), "hinge": corrected(hinge, 4)}
    for one, other in itertools.combinations(expected, 2):
        ratio = math.log(row[f"evidence_{one}"] / row[f"evidence_{other}"])
        assert ratio == pytest.approx((expected[other] - expected[one]) / 2, abs=0.2)


def test_shapes_are_weighed_where_the_correction_for_few_levels_is_finite():
    """Four parameters and a variance: of six levels the denominator n − k − 1 is 0."""
    few, enough = only(runs_of(FALLING[:6])), only(runs_of(FALLING[:7]))
    assert few["evidence_hinge"] is None
    assert enough["evidence_hinge"] is not None


@pytest.mark.parametrize(("evidence", "shape"), [(0.91, "hinge"), (0.89, None), (0.11, None), (0.09, "smooth")])
def test_a_shape_is_named_from_nine_tenths_of_the_evidence(evidence, shape, monkeypatch):
    weights = {"linear": 0, "power": 0, "logistic": 1 - evidence, "hinge": evidence}
    monkeypatch.setattr(shapes, "akaike_weights", lambda _: weights)
    assert only(runs_of(FALLING))["shape"] == shape


def test_a_ratio_of_slopes_is_open_upwards_where_some_first_lines_do_not_fall():
    falling = [0.9, 0.899, 0.898, 0.897, 0.7, 0.5]
    row = knees._sharpness(drawn_around(falling, 1e-5))
    assert row["slope_ratio_low"] < row["slope_ratio"] < row["slope_ratio_high"]
    row = knees._sharpness(drawn_around(falling, 0.01))
    assert row["slope_ratio_low"] < row["slope_ratio"]
    assert row["slope_ratio_high"] is None


def test_the_metric_at_the_knee_is_on_the_mean_that_is_drawn():
    row = only(runs_of([0.9, 0.92, 0.88, 0.9, 0.7, 0.7]))
    drawn = np.interp(row["essential_sparsity"], LEVELS[:6], [0.9, 0.92, 0.88, 0.9, 0.7, 0.7])
    assert row["metric_at_knee"] == pytest.approx(drawn)
    assert abs(drawn - 0.89) > 1e-3, "not on the isotonic mean, which crosses the tolerance there"


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
        assert sum(row[f"evidence_{name}"] for name in knees.SHAPES) == pytest.approx(1)
    row = only(runs_of(shapes["hinge"], levels=levels))
    assert row["slope_before"] == pytest.approx(-0.05)
    assert row["slope_ratio"] == pytest.approx(21)
    assert only(runs_of(FALLING[:6]))["shape"] is None
    bent_up = only(runs_of(0.9 - levels + 0.9 * np.maximum(levels - 0.3, 0), levels=levels))
    assert bent_up["evidence_hinge"] > 0.9
    assert bent_up["shape"] is None


@pytest.mark.parametrize("height", [0.8, 0.888, 0.9, 0.7, 0.3])
@pytest.mark.parametrize("flat", [3, 5, 7])
def test_a_line_that_is_level_but_for_rounding_has_no_slope(flat, height):
    """Else the ratio of two slopes would be 1e16, or its logarithm −36, or nothing, as the last bit falls."""
    early, late = [height] * flat, height - 0.1 * np.arange(1, 10 - flat)
    sharp = only(runs_of([*early, *late], levels=LEVELS[:9]))
    assert sharp["slope_before"] == 0
    assert sharp["slope_after"] < -0.9
    assert sharp["slope_ratio"] is None
    floor = only(runs_of([height, height - 0.1, *[height - 0.2] * 7], levels=LEVELS[:9]))
    assert floor["slope_after"] == floor["slope_ratio"] == 0
    assert not np.signbit(floor["slope_ratio"])


def test_a_line_that_hardly_falls_has_its_slope():
    sharp = only(runs_of(0.9 - 1e-4 * LEVELS - np.maximum(LEVELS - 0.5, 0)))
    assert sharp["slope_before"] == pytest.approx(-1e-4, rel=1e-3)
    assert sharp["slope_ratio"] == pytest.approx(10001, rel=1e-3)


def test_replicates_that_are_level_before_the_join_have_no_ratio():
    means = np.array([0.9] * 7 + [0.5, 0.1])
    curve = single.Curve({}, METRICS["accuracy"], 0.01, LEVELS[:9], [0], means[:, None], found={"hinge": 0.6})
    curve.replicates = np.tile(means, (10, 1))
    found = knees._sharpness(curve)
    assert found["slope_ratio_low"] is found["slope_ratio_high"] is None


@pytest.mark.parametrize("steep", [12, 25])
def test_a_smooth_knee_is_not_called_a_hinge(steep):
    levels = np.arange(20) / 20
    noise = 1e-3 * np.random.default_rng(1).normal(size=20)
    sigmoid = 0.9 - 0.4 / (1 + np.exp(-steep * (levels - 0.6)))
    row = only(runs_of(sigmoid + noise, levels=levels))
    assert row["shape"] == "smooth"
    assert row["evidence_logistic"] > 0.9


def test_an_interval_is_plain_percentiles_that_hold_the_estimate():
    replicates = np.random.default_rng(0).normal(size=100_000)
    for estimate in (0.0, 0.5):
        assert np.array(intervals.interval(estimate, replicates)) == pytest.approx([-1.96, 1.96], abs=0.03)
    assert intervals.interval(9.0, replicates)[1] == 9.0
    assert intervals.interval(0.5, np.full(50, 0.4)) == (0.4, 0.5)
    assert intervals.interval(1.0, np.ones(50)) == (1.0, 1.0)
    some = np.append(replicates[:97], [np.inf] * 3)
    assert intervals.interval(0.0, some)[1] is None


def test_ends_are_the_order_statistics_that_leave_two_and_a_half_per_cent_out():
    """Of 40 replicates the lowest one may lie below, and the highest one above: ceil(0.025 · 40) = 1, ceil(39) = 39."""
    values = np.arange(40.0)
    assert intervals.percentiles((20, 20), values, values) == (0, 38)
    values = np.arange(50.0)  # ceil(1.25) = 2 and ceil(48.75) = 49
    assert intervals.percentiles((20, 20), values, values) == (1, 48)
    assert intervals.percentiles((-3, 60), values, values) == (-3, 60)
    assert intervals.percentiles((20, 20), values, values, 0.2) == (4, 44), "ten per cent at either end"


def test_the_interval_ends_at_levels_and_holds_the_gap():
    runs, items = items_of(("global", FALLING, "m"))
    row = only(runs, items=items, replicates=300)
    assert (row["bracket_low"], row["bracket_high"]) == (0.4, 0.5)
    assert row["bracket_low"] <= row["essential_sparsity"] <= row["bracket_high"]
    assert {row["essential_sparsity_low"], row["essential_sparsity_high"]} <= set(LEVELS)
    assert row["essential_sparsity_low"] <= 0.4
    assert row["essential_sparsity_high"] >= 0.5
    coarse = only(runs[runs["sparsity"].isin([0, 0.2, 0.8])], items=items, replicates=300)
    assert (coarse["essential_sparsity_low"], coarse["essential_sparsity_high"]) == (0.2, 0.8), (
        "nothing is known inside"
    )


@pytest.mark.parametrize(("others", "interval"), [(0.15, (0.1, 0.5)), (0.45, (0.4, 0.5)), (0.75, (0.4, 0.8))])
def test_the_interval_holds_the_gap_of_the_curve_itself_though_no_replicate_leaves_there(others, interval):
    curve = drawn_around(FALLING, 0)
    curve.replicates = np.tile(0.9 - np.maximum(LEVELS - others, 0), (40, 1))
    row = single.read_headline(curve)
    assert (row["bracket_low"], row["bracket_high"]) == (0.4, 0.5)
    assert (row["essential_sparsity_low"], row["essential_sparsity_high"]) == interval


def test_a_curve_may_have_hundreds_of_levels():
    levels = np.arange(400) / 400
    key = {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy"}
    curve = single.curve_of(key, quality.with_quality(runs_of(np.where(levels < 0.75, 0.9, 0.5), levels=levels)))
    curve.replicates = np.tile(curve.means, (40, 1))
    row = single.read_headline(curve)
    assert (row["essential_sparsity_low"], row["essential_sparsity_high"]) == (levels[299], levels[300])


def test_a_curve_is_resampled_with_its_own_tolerance_and_the_draws_of_its_runs(monkeypatch):
    runs, items = items_of(("global", FALLING, "m"), n=20, seeds=(3, 5))
    key = {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy"}
    curve, seen = single.curve_of(key, quality.with_quality(runs), 0.05), []
    monkeypatch.setattr(bootstrap, "replicates", lambda quality, moved, *given: seen.extend(given))
    single.resample(curve, runs, items(runs), 6)
    n_items, epsilon, *draws = seen
    assert (n_items, epsilon) == (20, 0.05)
    for found, expected in zip(draws, bootstrap.seed_draws(key, LEVELS, [3, 5], 6), strict=True):
        assert np.array_equal(found, expected)


def test_runs_stand_by_their_seeds_whatever_numbers_these_have():
    """Seeds 3 and 5 are 0 and 1 but for their names: resampled items move their runs alike."""
    moved = []
    for seeds in ((0, 1), (3, 5)):
        runs, items = items_of(("global", FALLING, "m"), n=20, seeds=seeds, spread=0.1)
        curve = single.curve_of(
            {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy"}, quality.with_quality(runs)
        )
        moved.append(single.moves(curve, runs, items(runs), 6)[0])
    assert np.array_equal(*moved)
    assert not np.array_equal(moved[0][..., 0], moved[0][..., 1])


@pytest.mark.parametrize(("freedom", "one"), [(0, True), (1, False)])
def test_an_interval_is_of_one_seed_where_no_other_is_at_the_levels_that_decide(freedom, one):
    knee = {"seed_freedom": freedom, "essential_sparsity_low": 0.1, "pattern": "random", "protocol": "zero-shot"}
    assert intervals.of_one_seed(knee) is one


def test_the_bracket_above_the_last_level_is_open():
    row = only(runs_of([0.8, 0.802, 0.795, 0.81]))
    assert row["bracket_low"] == 0.3
    assert row["bracket_high"] is None


# pairs of seeds


def test_dense_is_averaged_over_the_seeds_that_the_pattern_has():
    """A flat curve of one seed beside three dense seeds does not drop, though the other seeds are better."""
    dense = pd.concat([runs_of([value], seed=seed) for seed, value in enumerate((0.88, 0.9, 0.92))])
    row = only(pd.concat([dense, runs_of([0.88] * 6).iloc[1:]]))
    assert row["dense"] == pytest.approx(0.88)
    assert row["reason"].startswith("no drop")
    assert (row["n_seeds_min"], row["n_seeds_max"], row["ragged"], row["n_unpaired"]) == (1, 1, False, 0)


def test_a_level_with_fewer_seeds_is_compared_with_dense_over_them_and_said():
    """Seed 1 is five points below seed 0; it alone has the two last levels, and nothing drops."""
    runs = pd.concat([runs_of([0.9] * 4), runs_of([0.85] * 6, seed=1)])
    row = only(runs)
    assert row["reason"].startswith("no drop")
    assert row["ragged"]
    assert row["ragged_levels"] == "0.400: 1; 0.500: 1"
    assert (row["n_seeds_min"], row["n_seeds_max"]) == (1, 2)
    assert not only(runs[runs["sparsity"] < 0.4])["ragged"]


def test_a_level_with_more_seeds_weighs_more_in_every_reading():
    """Three seeds fall by two points, one alone stands where dense does: pooled three to one they are outside, else on the edge."""
    values = [0.9, 0.88, 0.9, 0.5, 0.4]
    runs = pd.concat([runs_of(values, seed=seed) for seed in range(3)])
    runs = runs[(runs["seed"] == 0) | (runs["sparsity"] != 0.2)]
    row, weights = only(runs), [3, 3, 1, 3, 3]
    assert row["essential_sparsity"] == pytest.approx(0.1 * 0.01 / (0.9 - 0.885))
    assert (row["bracket_low"], row["bracket_high"]) == (0, 0.1)
    _, before, after, _ = shapes.hinge(LEVELS[:5], np.array(values), weights)
    assert (row["slope_before"], row["slope_after"]) == pytest.approx((float(before), float(after)))
    assert row["hinge"] == pytest.approx(float(readings.hinge(LEVELS[:5], values, weights)))
    key = {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy"}
    curve = single.curve_of(key, quality.with_quality(runs))
    curve.replicates = np.tile(curve.means, (40, 1))
    row = single.read_headline(curve)
    assert (row["essential_sparsity_low"], row["essential_sparsity_high"]) == (0, 0.1)


def test_a_run_without_a_dense_run_of_its_seed_is_left_out_and_counted():
    runs = pd.concat([runs_of(FALLING), runs_of(FALLING - 0.1, seed=1).iloc[1:]])
    row = only(runs)
    assert (row["n_unpaired"], row["n_undefined"]) == (9, 0)
    assert only(runs.assign(n_items=np.where(runs["sparsity"] == 0.3, 90, 100)))["n_items"] == 90
    assert row["essential_sparsity"] == only(runs_of(FALLING))["essential_sparsity"]


def test_the_last_compliant_level_of_a_curve_that_does_not_drop_is_a_lower_bound():
    for values, drops in ((ONES * 0.9, False), (0.9 - np.maximum(LEVELS - 0.45, 0), True)):
        runs, items = items_of(("global", values, "m"), seeds=(0,), spread=0)
        row = only(runs, items=items, replicates=100)
        assert row["last_compliant_low"] <= row["last_compliant"]
        assert pd.notna(row["last_compliant_high"]) == drops


def test_ragged_curves_have_seed_noise_by_the_seeds_there_are():
    runs, items = items_of(("global", FALLING, "m"), seeds=(0, 1, 2), spread=0.02)
    whole = only(runs, items=items, replicates=400)
    fewer = runs[~((runs["sparsity"] == 0.7) & (runs["seed"] > 0))]
    row = only(fewer, items=items, replicates=400)
    assert (row["n_seeds_min"], row["n_seeds_max"]) == (1, 3)
    assert row["essential_sparsity_low"] <= whole["essential_sparsity_low"] + 0.1
    means = {}
    for name, chosen in (("whole", runs), ("fewer", fewer)):
        curve = single.curve_of(
            {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy"}, quality.with_quality(chosen)
        )
        single.resample(curve, chosen, items(chosen), 400)
        means[name] = curve.replicates.std(axis=0)
    assert means["fewer"][7] > 1.2 * means["whole"][7]
    assert np.allclose(np.delete(means["fewer"], 7), np.delete(means["whole"], 7), rtol=0.3)


# collapse is a value


@pytest.mark.parametrize("metric", ["matthews", "f1", "spearman", "accuracy"])
def test_a_metric_of_zero_is_a_drop(metric):
    row = only(runs_of([0.55, 0.552, 0.545, 0.0, 0.0], metric=metric))
    assert 0.2 <= row["essential_sparsity"] < 0.21
    assert (row["bracket_low"], row["bracket_high"], row["n_undefined"]) == (0.2, 0.3, 0)
    seeds = [[0.55, 0.55, 0.55, 0.545, 0], [0.55, 0.55, 0.55, 0, 0], [0.55, 0.55, 0.55, 0, 0]]
    row = only(pd.concat([runs_of(values, metric=metric, seed=i) for i, values in enumerate(seeds)]))
    assert (row["bracket_low"], row["bracket_high"]) == (0.2, 0.3)


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_a_perplexity_that_overflows_has_an_interval(broken):
    """Losses of the items are infinite or no number from 0.3 on; the run's value is infinite: the worst, not missing."""
    runs, items = items_of(("global", [0.5] * 5, "m"), n=30)
    runs["metric"], runs["value"] = "perplexity", np.where(runs["sparsity"] < 0.3, 12.0, np.inf)

    def losses(chosen):
        found = items(chosen)
        noise = 0.1 * np.random.default_rng(0).normal(size=len(found))
        return found.assign(score=np.where(found["sparsity"] < 0.3, np.log(12) + noise, broken))

    row = only(runs, items=losses, replicates=200)
    assert row["n_undefined"] == 0
    assert (row["bracket_low"], row["bracket_high"], row["essential_sparsity_high"]) == (0.2, 0.3, 0.3)
    assert row["metric_at_knee"] < 13


def test_items_count_by_their_weight_in_intervals():
    """All tokens but a few are in ten of 40 windows; resampled by windows alike the perplexity would hardly move."""
    runs, items = items_of(("global", [0.5] * 4, "m"), n=40)
    runs["metric"], heavy = "perplexity", np.arange(40) < 10

    def losses(chosen):
        found = items(chosen)
        place = found["item"].astype(int).to_numpy()
        weight = np.where(heavy[place], 1000.0, 1.0)
        return found.assign(weight=weight, score=weight * (3 + 0.05 * (place % 10) + 0.01 * found["sparsity"]))

    runs["value"] = 20.0
    key = {"model": "m", "task": "t", "pattern": "global", "metric": "perplexity"}
    curve = single.curve_of(key, quality.with_quality(runs))
    moved, n_items, stream = single.moves(curve, runs, losses(runs), 50)
    part = losses(runs).query("sparsity == 0").sort_values("item")
    score, weight = part["score"].to_numpy(), part["weight"].to_numpy()
    counts = np.concatenate(list(bootstrap.item_counts(40, stream, 50)))
    expected = score.sum() / weight.sum() - (counts @ score) / (counts @ weight)
    assert n_items == 40
    assert np.allclose(moved[:, 0, 0], expected, atol=1e-5)


def test_chance_is_that_of_the_value_though_not_all_labels_are_evaluated():
    """Of three labels two are among the evaluated items: value and resamples are above one third."""
    runs, items = items_of(("global", [0.5] * 4, "m"), n=40)
    of_items = items(runs).assign(target=lambda found: found["item"].astype(int) % 2, weight=1.0)
    accuracy = of_items.groupby(["pattern", "sparsity", "seed"])["score"].mean()
    places = pd.MultiIndex.from_frame(runs[["pattern", "sparsity", "seed"]])
    moved = []
    for metric, value in (("accuracy", accuracy), ("chance_corrected_accuracy", (accuracy - 1 / 3) / (2 / 3))):
        of_metric = runs.assign(metric=metric, value=value.loc[places].to_numpy())
        key = {"model": "m", "task": "t", "pattern": "global", "metric": metric}
        curve = single.curve_of(key, quality.with_quality(of_metric))
        moved.append(single.moves(curve, of_metric, of_items, 50)[0])
    assert np.nanmax(np.abs(moved[0])) > 0.01
    assert np.allclose(moved[1], moved[0] * 1.5, atol=1e-5, equal_nan=True)
    assert single.labels_of(np.array([1.0, np.nan]), np.array([1.0, np.nan])) == 0


@pytest.mark.parametrize("labels", [2, 3, 4, 5, 6, 7, 20, 77])
def test_values_say_how_many_labels_there_are(labels):
    """Exactly, whatever is lost in the last bits; runs in which all answers are right, or which are not there, say nothing."""
    accuracies = np.append(np.arange(1, 200) / 200, [1.0, np.nan])
    corrected = (accuracies - 1 / labels) / (1 - 1 / labels)
    for some in (slice(1), slice(7, 8), slice(None)):
        assert single.labels_of(accuracies[some], corrected[some]) == labels


def test_a_tolerance_of_a_task_is_that_of_its_headline_metric():
    runs = pd.concat([runs_of(0.9 - LEVELS / 2), runs_of(0.8 - LEVELS / 2, metric="f1")])
    found = knees.table(runs, epsilon={"t": 0.05})[0].set_index("metric")
    assert found["headline"].to_dict() == {"accuracy": True, "f1": False}
    assert found["epsilon"].to_dict() == {"accuracy": 0.05, "f1": METRICS["f1"].epsilon}


# comparisons


def of_replicates(outside, found=2, levels=(0.0, 0.1, 0.2, 0.3, 0.4), **key):
    """A row of the table `resamples`: `found` and `outside`, the first levels beyond the tolerance of the curve and its replicates."""
    ends = [*levels, None]
    return (
        {"model": "m", "task": "t", "pattern": "global", "metric": "accuracy", "stream": "s"}
        | {"essential_sparsity": ends[found] and ends[found] - 0.05}
        | {"bracket_low": ends[found - 1], "bracket_high": ends[found]}
        | {"levels": json.dumps(levels), "outside": outside and json.dumps(outside)}
        | key
    )


def test_curves_are_compared_that_differ_in_one_column_alone():
    names = {"model": "nm", "task": "ut", "pattern": ["random", "global"], "metric": ["f1", "accuracy"]}
    rows = [of_replicates([2] * 9, **dict(zip(names, key, strict=True))) for key in itertools.product(*names.values())]
    found = comparisons.table(pd.DataFrame(rows), ["pattern", "model"])
    expected = [
        (between, task, metric, *sides)
        for task, metric in itertools.product("tu", ["accuracy", "f1"])
        for between, sides in (
            ("pattern", ("m", "global", "m", "random")),
            ("pattern", ("n", "global", "n", "random")),
            ("model", ("m", "global", "n", "global")),
            ("model", ("m", "random", "n", "random")),
        )
    ]
    told = found[["between", "task", "metric", "model_a", "pattern_a", "model_b", "pattern_b"]]
    assert sorted(told.itertuples(index=False, name=None)) == sorted(expected)


def compared(a, b):
    rows = [of_replicates(pattern=name, **side) for name, side in (("a", a), ("b", b))]
    return comparisons.table(pd.DataFrame(rows), ["pattern"]).iloc[0]


def test_the_interval_of_a_comparison_holds_what_the_curves_themselves_say():
    """Replicates of both lie between 0.1 and 0.2; what was found lies elsewhere, for one of the curves beyond the levels."""
    here = {"outside": [2] * 40}
    for found, low, high in ((4, -0.1, 0.3), (1, -0.2, 0.1), (5, -0.1, None)):
        row = compared(here | {"found": found}, here)
        assert (row["low"], row["high"]) == (pytest.approx(low), high and pytest.approx(high))
        assert (row["essential_sparsity_b"], row["n_replicates"]) == (pytest.approx(0.15), 40)
        row = compared(here, here | {"found": found})
        assert (row["low"], row["high"]) == (high and pytest.approx(-high), pytest.approx(-low))


def test_a_curve_without_replicates_has_no_interval_beside_one_that_has_them():
    for bare in "ab":
        row = compared(*({"outside": [2] * 40} | ({"outside": None} if name == bare else {}) for name in "ab"))
        assert row["difference"] == 0
        assert row[["low", "high", "share_a_larger", "larger"]].isna().all()
        assert (row["paired"], row["n_replicates"]) == (False, 0)


@pytest.mark.parametrize(
    ("above", "below", "share", "larger"),
    [
        (98, 0, 0.99, "a"),
        (96, 1, 0.975, None),
        (94, 2, 0.96, None),
        (0, 98, 0.01, "b"),
        (1, 96, 0.025, None),
        (2, 94, 0.04, None),
    ],
)
def test_the_later_of_two_curves_is_named_beyond_all_but_two_and_a_half_per_cent(above, below, share, larger):
    """Of 100 replicates some have the gap of a above that of b, some below, and in the others they overlap."""
    outside = {"a": [3] * above + [1] * below + [2] * (100 - above - below), "b": [2] * 100}
    rows = [of_replicates(found, pattern=name) for name, found in outside.items()]
    row = comparisons.table(pd.DataFrame(rows), ["pattern"]).iloc[0]
    assert (row["share_a_larger"], row["larger"]) == (pytest.approx(share), larger)


@pytest.mark.parametrize(
    ("low", "high", "coarse"), [(0.2, 0.3, False), (0.7, 0.8, False), (0.3, 0.401, True), (0.1, 0.25, True)]
)
def test_levels_more_than_ten_points_apart_are_coarse(low, high, coarse):
    assert intervals.coarse({"bracket_low": low, "bracket_high": high}) is coarse


def test_comparisons_are_paired():
    later = 0.9 - np.maximum(LEVELS - 0.65, 0)
    runs, items = items_of(("global", FALLING, "m"), ("layerwise", later, "m"), ("global", FALLING, "copy"))
    compared = comparisons.table(knees.table(runs, items, replicates=300)[1], ["pattern", "model"]).set_index("between")
    row = compared.loc["pattern"]
    assert (row["pattern_a"], row["pattern_b"]) == ("global", "layerwise")
    assert row["difference"] == pytest.approx(row["essential_sparsity_a"] - row["essential_sparsity_b"])
    assert row["low"] <= row["difference"] <= row["high"] <= 0
    assert (row["larger"], row["paired"]) == ("b", True)
    assert row["share_a_larger"] < 0.025
    same = compared.loc["model"]  # two models with the very same outcomes: nothing but the gap of the grid is left
    assert (same["difference"], same["share_a_larger"]) == (0, 0.5)
    assert pd.isna(same["larger"])
    assert (same["low"], same["high"]) == pytest.approx((-0.1, 0.1))


def test_two_models_are_paired_only_where_they_saw_the_same_items():
    """Windows of a perplexity are cut by each model's tokenizer; other items of a task have other names."""
    runs, items = items_of(("global", FALLING, "m"), ("global", FALLING, "n"), ("random", FALLING, "m"))

    def pairs(runs, items):
        found = comparisons.table(knees.table(runs, items, replicates=50)[1], ["model", "pattern"])
        return found.set_index("between")["paired"].to_dict()

    def renamed(chosen):
        found = items(chosen)
        return found.assign(item=np.where(found["model"] == "n", "other " + found["item"], found["item"]))

    losses = runs.assign(metric="perplexity", value=12.0)
    assert pairs(runs, items) == {"model": True, "pattern": True}
    assert pairs(runs, renamed) == {"model": False, "pattern": True}
    assert pairs(losses, items) == {"model": False, "pattern": True}
    assert pairs(losses.assign(metric="pseudo_perplexity"), items) == {"model": True, "pattern": True}


def test_a_curve_that_never_drops_is_compared_as_far_as_it_is_known():
    runs, items = items_of(("global", FALLING, "m"), ("layerwise", [0.9] * 10, "m"), ("random", [0.9] * 10, "m"))
    found = comparisons.table(knees.table(runs, items, replicates=200)[1], ["pattern"])
    found = found.set_index(["pattern_a", "pattern_b"])
    row = found.loc["global", "layerwise"]
    assert pd.isna(row["difference"])
    assert pd.isna(row["low"])
    assert row["high"] < 0
    assert row["larger"] == "b"
    both = found.loc["layerwise", "random"]
    assert both[["difference", "low", "high", "larger"]].isna().all()
    assert both["share_a_larger"] == 0.5


def test_the_interval_of_a_comparison_has_the_gaps_of_both_grids_in_it():
    """Replicate by replicate from the definition; 0.2 and 0.25 apart at the least, since nothing is known inside a gap."""
    draw, curves = np.random.default_rng(0), []
    for pattern, levels, own in (("a", np.arange(10) / 10, 3), ("b", np.arange(6) / 4 * 0.99, 3)):
        key = {"model": "m", "task": "t", "pattern": pattern, "metric": "accuracy"}
        curve = single.Curve(key, METRICS["accuracy"], 0.01, levels, [0], 0.9 - levels[:, None])
        curve.found["essential_sparsity"] = levels[own] - 0.01
        curve.gap, curve.outside = (levels[own - 1], levels[own]), draw.integers(1, len(levels) + 1, 400)
        curves.append(curve)
    row = comparisons.table(pd.DataFrame(map(knees.resampled, curves)), ["pattern"]).iloc[0]
    lows, highs, share = [], [], []
    ends = [[*curve.levels, np.inf] for curve in curves]
    for i, j in zip(*(curve.outside for curve in curves), strict=True):
        (low_a, high_a), (low_b, high_b) = ends[0][i - 1 : i + 1], ends[1][j - 1 : j + 1]
        lows.append(low_a - high_b)
        highs.append(high_a - low_b)
        share.append(1.0 if low_a >= high_b else 0.0 if low_b >= high_a else 0.5)
    low, high = sorted(lows)[9], sorted(highs)[389]
    assert (row["low"], row["high"]) == (low if np.isfinite(low) else None, high if np.isfinite(high) else None)
    assert row["share_a_larger"] == np.mean(share)


def test_curves_fitted_one_model_at_a_time_are_those_fitted_together(tmp_path):
    """Through the tables that jobs leave: every column, and the comparisons of curves of different jobs."""
    later = 0.9 - np.maximum(LEVELS - 0.65, 0)
    runs, items = items_of(("global", FALLING, "m"), ("random", later, "m"), ("global", later, "n"), seeds=(0, 1))
    together = knees.table(runs, items, replicates=60)
    for name, frame in zip(("knees", "resamples"), together, strict=True):
        tables.write(frame, name, tmp_path / f"{name}.parquet")
    for model in ("n", "m"):
        bootstrap._kept.cache_clear()
        for name, frame in zip(
            ("knees", "resamples"), knees.table(runs[runs["model"] == model], items, replicates=60), strict=True
        ):
            tables.write(frame, name, tmp_path / f"{model}/{name}.parquet")
    for name in ("knees", "resamples"):
        gathered = tables.collect([tmp_path / f"{model}/{name}.parquet" for model in ("m", "n")], name)
        pd.testing.assert_frame_equal(gathered, tables.read(tmp_path / f"{name}.parquet", name))
    pd.testing.assert_frame_equal(
        comparisons.table(gathered, ["pattern", "model"]), comparisons.table(together[1], ["pattern", "model"])
    )


def test_comparisons_fit_their_schema(tmp_path):
    runs = pd.concat([runs_of(WS353), runs_of(FALLING, pattern="random").iloc[1:]])
    tables.write(comparisons.table(knees.table(runs)[1], ["pattern", "model"]), "comparisons", tmp_path / "a.parquet")
    assert tables.read(tmp_path / "a.parquet", "comparisons")["low"].isna().all()
    tables.write(comparisons.table(knees.table(runs)[1], []), "comparisons", tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("choices", "level", "guesses"),
    [(4, 0.22, True), (4, 0.245, True), (4, 0.5, False), (2, 0.47, True), (2, 0.62, False)],
)
def test_without_accuracy_above_chance_the_right_answers_of_the_items_say_what_guessing_gives(choices, level, guesses):
    """As of suites of lm-eval, and of tasks whose metrics leave it out; it would "not drop" at any sparsity."""
    runs, read = items_of(("global", [level] * 8, "m"), n=2000)

    def answered(chosen):
        return read(chosen).assign(target=lambda frame: frame["item"].astype(int) % choices)

    rows = knees.table(runs, answered, replicates=50)[0]
    told = (rows["reason"].iloc[0] or "").startswith("the dense model guesses: above chance its accuracy is ")
    assert told is guesses
    assert rows["essential_sparsity_low"].isna().all() if guesses else rows["essential_sparsity_low"].notna().all()


def test_an_accuracy_above_chance_of_the_runs_is_what_says_whether_they_guess():
    """Of three labels the items show two, of which 50 % is guessing; of three it is not."""
    runs, read = items_of(("global", [0.5] * 8, "m"), n=2000)
    above = runs.assign(metric=ABOVE_CHANCE, value=(runs["value"] - 1 / 3) / (2 / 3))
    rows = knees.table(
        pd.concat([runs, above]), lambda chosen: read(chosen).assign(target=lambda frame: frame["item"].astype(int) % 2)
    )[0]
    assert rows["no_drop"].tolist() == [True, True]


def test_what_guessing_gives_in_a_group_of_the_items_is_of_its_own_right_answers():
    """Yes or no in one group, four choices in the other: 47 % is guessing in the first."""
    runs, read = items_of(("global", [0.47] * 8, "m"), n=2000)

    def answered(chosen):
        frame = read(chosen)
        number = frame["item"].astype(int)
        choices = np.where(number % 2, 2, 4)
        return frame.assign(target=number // 2 % choices, group=np.where(number % 2, "stem", "other"))

    told = {
        name: knees.table(runs.assign(metric=name), answered, replicates=50)[0]["reason"].iloc[0]
        for name in ("accuracy_stem", "accuracy_other")
    }
    assert told["accuracy_stem"].startswith("the dense model guesses: above chance its accuracy is -0.0")
    assert told["accuracy_other"].startswith("no drop")
