"""Differences of two curves: paired, with intervals that hold the truth, and drawn so that they can be read."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from test_figures import LONG, assert_readable

from essential_sparsity import patterns, tables
from essential_sparsity.curves import bootstrap, differences
from essential_sparsity.figures import gains, tickets

N = 400
LEVELS = (0.2, 0.4, 0.6, 0.8)
KEY = ["model", "task", "pattern", "sparsity", "seed"]


def study(gain, seeds=(0, 1, 2), patterns=("dense", "global", "lth"), item="i"):
    """Tables `runs` and `items` of a classification: tickets are right `gain` more often above 50 %."""
    draw = np.random.default_rng(0)
    ease = draw.random(N)
    runs, items = [], []
    for pattern in patterns:
        for sparsity in (0.0,) if pattern == "dense" else LEVELS:
            for seed in seeds:
                share = 0.8 - 0.2 * sparsity + gain * (pattern == "lth" and sparsity > 0.5)
                score = (ease + 0.05 * draw.normal(size=N) < share).astype(float)
                key = {"model": "m", "task": "t", "pattern": pattern, "sparsity": sparsity, "seed": seed}
                runs.append(key | {"metric": "accuracy", "value": score.mean(), "n_items": N, "protocol": "finetune"})
                names = [f"{item}{i}" for i in range(N)]
                items.append(pd.DataFrame({"item": names, "score": score, "target": 0.5, "weight": 1.0}).assign(**key))
    return pd.DataFrame(runs), pd.concat(items, ignore_index=True)


def table(runs, items, **options):
    return differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), {("m", "t")}, 2000, **options)


def test_levels_and_ranges_hold_the_differences_of_the_means():
    runs, items = study(0.1)
    found = table(runs, items)
    levels, ranges = found[found["n_levels"] == 1], found[found["n_levels"] > 1]
    means = runs.groupby(["pattern", "sparsity"])["value"].mean()
    expected = [means["lth", level] - means["global", level] for level in LEVELS]
    np.testing.assert_allclose(levels["difference"], expected, atol=1e-9)
    assert ranges[["sparsity_from", "sparsity_to", "n_levels"]].to_numpy().tolist() == [[0.2, 0.4, 2], [0.6, 0.8, 2]]
    np.testing.assert_allclose(ranges["difference"], [np.mean(expected[:2]), np.mean(expected[2:])], atol=1e-9)
    assert set(found["pattern_a"]) == {"lth"}
    assert set(found["pattern_b"]) == {"global"}


def test_half_of_the_weights_is_of_the_lower_range():
    """Up to 50 %, and above; items are counted of a run."""
    runs, items = (frame.assign(sparsity=frame["sparsity"].replace(0.4, 0.5)) for frame in study(0.1))
    found = table(runs, items)
    ranges = found[found["n_levels"] > 1]
    assert ranges[["sparsity_from", "sparsity_to", "n_levels"]].to_numpy().tolist() == [[0.2, 0.5, 2], [0.6, 0.8, 2]]
    assert set(found["n_items"]) == {N}


def test_intervals_exclude_zero_where_tickets_win_and_hold_it_where_they_do_not():
    found = table(*study(0.1))
    assert (found["low"] <= found["difference"]).all()
    assert (found["difference"] <= found["high"]).all()
    above = found["sparsity_from"] > 0.5
    assert (found.loc[above, "low"] > 0).all()
    assert ((found.loc[~above, "low"] < 0) & (found.loc[~above, "high"] > 0)).all()


def test_intervals_are_paired_over_items():
    """Items differ far more than the curves: unpaired intervals of one seed would be twenty times as wide."""
    runs, items = study(0.0, seeds=(0,))
    for pattern in ("global", "lth"):
        same = items[(items["pattern"] == "global") & (items["sparsity"] == 0.2)]["score"].to_numpy()
        for level in LEVELS:
            items.loc[(items["pattern"] == pattern) & (items["sparsity"] == level), "score"] = same
    found = table(runs, items)
    assert (found["high"] - found["low"]).max() < 1e-6


def test_intervals_are_paired_over_seeds():
    """Both curves share what a seed does, and it does much: paired with another seed the intervals would hold half of it."""
    runs, items = study(0.0)
    for seed, right in enumerate((0.9, 0.6, 0.3)):
        score = (np.arange(N) < right * N).astype(float)
        for pattern in ("global", "lth"):
            for level in LEVELS:
                chosen = (items["pattern"] == pattern) & (items["sparsity"] == level) & (items["seed"] == seed)
                items.loc[chosen, "score"] = score
    runs["value"] = runs[KEY].merge(items.groupby(KEY)["score"].mean().reset_index(), on=KEY)["score"].to_numpy()
    found = table(runs, items)
    assert (found["difference"].abs() < 1e-9).all()
    assert (found["high"] - found["low"]).max() < 1e-6


def test_the_difference_is_over_the_seeds_that_both_have():
    """Tickets have seeds 0 and 1, one-shot masks 1 and 2; seed 1 alone may be compared."""
    runs, items = study(0.1)
    runs["value"] += 0.1 * runs["seed"]
    kept = runs[
        ~((runs["pattern"] == "lth") & (runs["seed"] == 2)) & ~((runs["pattern"] == "global") & (runs["seed"] == 0))
    ]
    found = table(kept, items)
    one = runs[runs["seed"] == 1].set_index(["pattern", "sparsity"])["value"]
    expected = [one["lth", level] - one["global", level] for level in LEVELS]
    np.testing.assert_allclose(found.loc[found["n_levels"] == 1, "difference"], expected, atol=1e-9)
    assert set(found["n_seeds"]) == {1}


def test_only_runs_that_both_patterns_have_are_compared():
    runs, items = study(0.0)
    fewer = runs[~((runs["pattern"] == "lth") & ((runs["sparsity"] == 0.8) | (runs["seed"] == 2)))]
    found = table(fewer, items)
    assert found["sparsity_to"].max() == 0.6
    assert set(found["n_seeds"]) == {2}
    ranges = found[["sparsity_from", "sparsity_to"]].to_numpy().tolist()
    assert ranges == [[0.2, 0.2], [0.4, 0.4], [0.6, 0.6], [0.2, 0.4]], "a level alone is no range"
    assert table(runs[runs["pattern"] != "global"], items).empty
    assert table(runs.assign(value=None), items).empty


def noise_of(difference, part, moved=None, n_items=1000, replicates=20_000):
    """The replicates' noise at some levels, of a difference (L, S) without noise of items unless it is given."""
    moved = np.zeros((replicates, *difference.shape)) if moved is None else moved
    return differences.resampled(difference, moved, n_items, "t")(np.isin(np.arange(len(difference)), part))


def test_the_noise_of_seeds_is_that_of_their_mean():
    """A range of levels has a t interval of its seeds' means, whatever the number of seeds."""
    for seeds in (2, 3, 8):
        difference = np.random.default_rng(seeds).normal(size=(4, seeds))
        expected = student.ppf(0.975, seeds - 1) * difference.mean(axis=0).std(ddof=1) / np.sqrt(seeds)
        low, high = np.quantile(noise_of(difference, [0, 1, 2, 3]), [0.025, 0.975])
        assert (high - low) / 2 == pytest.approx(expected, rel=0.1)


def test_neighbouring_levels_lend_each_other_degrees_of_freedom():
    """Independent levels of two seeds have three degrees of freedom together; levels that a seed moves alike have one."""
    draw = np.random.default_rng(1)
    independent = draw.normal(size=(12, 2))
    alike = independent[:1] + np.zeros((12, 1))
    half = {}
    for name, difference in (("independent", independent), ("alike", alike)):
        near = difference[4:7]
        expected = np.sqrt(((near - near.mean(axis=1, keepdims=True)) ** 2).sum() / 3 / 2)
        half[name] = np.quantile(noise_of(difference, [5]), 0.975) / expected
    assert half["alike"] == pytest.approx(student.ppf(0.975, 1), rel=0.1)
    assert half["independent"] < student.ppf(0.975, 2)


def test_levels_that_a_seed_moves_half_alike_lend_some_degrees_of_freedom():
    """Half of what the seeds do is the same at all levels: three degrees of freedom over 1 + 2 · (intraclass correlation)²."""
    own = np.tile([1, -1], 6)[:, None] * [1, -1]
    difference = own + [1, -1] + 0.0
    between, within = 12 * 2, 2 * 12 / 11
    alike = (between - within) / 12 / ((between - within) / 12 + within)
    expected = np.sqrt((difference[4:7] ** 2).sum() / 3 / 2)
    found = np.quantile(noise_of(difference, [5], replicates=100_000), 0.975) / expected
    assert found == pytest.approx(student.ppf(0.975, 3 / (1 + 2 * alike**2)), rel=0.1)


def test_a_neighbour_of_one_seed_lends_nothing():
    """Two levels of two seeds that a seed moves alike have one degree of freedom, whatever stands beside them."""
    difference = np.array([0.01, -0.01]) + np.zeros((12, 1))
    difference[4, 1] = np.nan
    moved = np.where(np.isnan(difference), np.nan, np.zeros((100_000, 1, 1)))
    half = np.quantile(noise_of(difference, [5], moved), 0.975)
    assert half == pytest.approx(student.ppf(0.975, 1) * 0.01, rel=0.1)


@pytest.mark.parametrize("common", [0.0, 0.03])
@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_of_equal_curves_hold_zero(seeds, common):
    """300 studies: what a seed does to a level is its own, or much of it is the same at all levels."""
    missed = 0
    for number in range(300):
        draw = np.random.default_rng(number)
        difference = common * draw.normal(size=(1, seeds)) + 0.01 * draw.normal(size=(8, seeds))
        low, high = np.quantile(difference[3].mean() + noise_of(difference, [3], replicates=400), [0.025, 0.975])
        missed += not low <= 0 <= high
    assert missed <= 0.08 * 300


@pytest.mark.parametrize("sometimes", [1, 2, 3])
def test_intervals_of_a_range_hold_zero_where_a_seed_is_missing_at_some_levels(sometimes):
    """400 studies of four levels, of which seeds 0 and 1 have all, and seed 2 some: what it does there says little of the range."""
    part, missed = np.ones(4, dtype=bool), 0
    for number in range(400):
        draw = np.random.default_rng(number)
        difference = 0.02 * draw.normal(size=(1, 3)) + 0.002 * draw.normal(size=(4, 3))
        difference[sometimes:, 2] = np.nan
        moved = np.where(np.isnan(difference), np.nan, np.zeros((400, 1, 1)))
        noise = differences.resampled(difference, moved, 1000, f"t {number}")(part)
        low, high = np.quantile(differences.of_shared_seeds(difference, part).mean() + noise, [0.025, 0.975])
        missed += not low <= 0 <= high
    assert missed <= 0.08 * 400


def test_a_range_is_over_the_seeds_that_all_its_levels_have():
    """Seed 2 of the upper levels has 60 % alone, where it is far better; without a seed in common there is no range."""
    runs, items = study(0.1)
    runs.loc[(runs["pattern"] == "lth") & (runs["seed"] == 2), "value"] += 0.3
    kept = ~((runs["seed"] == 2) & (runs["sparsity"] == 0.8))
    found = table(runs[kept], items).set_index(["sparsity_from", "sparsity_to"])
    assert found["n_seeds"].to_dict() == {
        (0.2, 0.2): 3,
        (0.4, 0.4): 3,
        (0.6, 0.6): 3,
        (0.8, 0.8): 2,
        (0.2, 0.4): 3,
        (0.6, 0.8): 2,
    }
    means = runs[runs["seed"] < 2].groupby(["pattern", "sparsity"])["value"].mean()
    expected = np.mean([means["lth", level] - means["global", level] for level in (0.6, 0.8)])
    assert found.loc[(0.6, 0.8), "difference"] == pytest.approx(expected)
    assert found.loc[(0.6, 0.6), "difference"] > expected + 0.05, "a level has all its seeds"
    parted = runs[(runs["sparsity"] < 0.5) | (runs["seed"] == (runs["sparsity"] > 0.7))]
    assert table(parted, items).query("n_levels > 1")["sparsity_to"].tolist() == [0.4]


def test_noise_of_items_is_not_counted_twice():
    """Seeds that differ by their items' noise alone: the interval is that of the items."""
    draw = np.random.default_rng(0)
    difference, moved = 0.01 * draw.normal(size=(6, 8)), 0.01 * draw.normal(size=(3000, 6, 8))
    items = 0.01 / np.sqrt(8)
    assert 0.95 * items < np.std(noise_of(difference, [2], moved)) < 1.35 * items
    assert np.std(noise_of(difference, range(6), moved)) < 1.25 * items / np.sqrt(6)


def test_noise_of_items_is_not_counted_twice_at_a_level_either():
    """So many seeds that their variance is known: at one level it is that of the items, or twice as much."""
    draw = np.random.default_rng(0)
    moved, items = 0.01 * draw.normal(size=(1000, 3, 200)), 0.01 / np.sqrt(200)
    for times, expected in ((1.0, 1.0), (math.sqrt(2), math.sqrt(2))):
        difference = times * 0.01 * draw.normal(size=(3, 200))
        for part in ([1], range(3)):
            size = items / math.sqrt(len(part))
            assert np.std(noise_of(difference, part, moved)) == pytest.approx(expected * size, rel=0.15)


def test_each_pair_of_curves_has_draws_of_its_own(monkeypatch):
    streams, resampled = [], differences.resampled
    monkeypatch.setattr(differences, "resampled", lambda *given: streams.append(given[-1]) or resampled(*given))
    runs, items = study(0.0, seeds=(0, 1), patterns=("dense", "global", "lth", "random"))
    both = [[frame.assign(model=m, task=t) for m, t in (("m", "t"), ("n", "t"), ("m", "u"))] for frame in (runs, items)]
    runs, items = map(pd.concat, both)
    differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), {("m", "t"), ("n", "t"), ("m", "u")}, 50)
    assert len(streams) == len(set(streams)) == 6


def test_one_seed_has_the_noise_of_its_items_alone():
    moved = np.random.default_rng(0).normal(size=(10, 4, 1))
    found = noise_of(np.ones((4, 1)), [1], moved)
    assert np.allclose(found, bootstrap.few_items(1000) * moved[:, 1, 0])


def test_items_that_differ_cannot_be_paired():
    runs, items = study(0.0)
    _, others = study(0.0, item="j")
    mixed = pd.concat([items[items["pattern"] == "global"], others[others["pattern"] == "lth"]])
    with pytest.raises(ValueError, match="lth and global of m on t were evaluated on different items"):
        table(runs, mixed)


def test_the_table_can_be_written_and_read(tmp_path):
    found = table(*study(0.0, patterns=("dense", "global", "lth", "random")))
    tables.write(found, "differences", tmp_path / "a.parquet")
    assert len(tables.read(tmp_path / "a.parquet", "differences")) == 2 * 6


# --- figures


@pytest.mark.parametrize("labels", [None, LONG], ids=["short", "long"])
def test_differences_are_readable_in_one_column(labels):
    figure = tickets.difference(table(*study(0.1)), "m", "t", labels)
    assert figure.get_figwidth() * 25.4 == pytest.approx(85)
    assert_readable(figure)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[0] == "one level (95 % interval)"
    assert said[2].startswith("mean of 60–80 %: +")


@pytest.mark.parametrize(("metric", "times", "unit"), [("accuracy", 100, " (points)"), ("spearman", 1, "")])
def test_differences_are_drawn_in_the_unit_that_the_axis_names(metric, times, unit):
    """Hundredths of an accuracy are points; a correlation is as it is."""
    found = table(*study(0.1)).assign(metric=metric)
    figure = tickets.difference(found, "m", "t")
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == len(LEVELS))
    assert line.get_ydata() == pytest.approx(times * found.loc[found["n_levels"] == 1, "difference"].to_numpy())
    assert figure.axes[0].get_ylabel().endswith(f"ticket − one-shot{unit}")


def test_of_a_perplexity_the_share_is_drawn_by_which_it_is_lower():
    """A third of it is 67 % less, not 110 %."""
    third = {"metric": "perplexity", "difference": math.log(3), "low": math.log(2), "high": math.log(4)}
    figure = tickets.difference(table(*study(0.1)).assign(**third), "m", "t")
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == len(LEVELS))
    assert line.get_ydata() == pytest.approx([200 / 3] * len(LEVELS))
    assert figure.axes[0].get_ylabel().endswith("(% less)")
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[1].endswith(": +66.7 (+50.0 to +75.0)")


@pytest.mark.parametrize(
    ("value", "scale", "said"),
    [(-0.04, 100, "0.0"), (0.0, 100, "0.0"), (0.04, 1, "+0.040"), (-1.26, 100, "−1.3"), (-0.0004, 1, "0.000")],
)
def test_a_difference_that_rounds_to_zero_has_no_sign(value, scale, said):
    assert tickets._signed(value, scale) == said


def test_intervals_far_wider_than_the_differences_cut_the_axis_and_say_so():
    found = table(*study(0.1))
    wide = found.assign(low=found["low"] - 2, high=found["high"] + 2)
    figure = tickets.difference(wide, "m", "t")
    assert_readable(figure)
    assert figure.axes[0].get_ylim()[1] < 40
    assert "axis is cut: bars from −20" in figure.axes[0].get_xlabel()


def test_a_range_that_one_seed_shares_says_so():
    runs, items = study(0.1)
    figure = tickets.difference(table(runs[(runs["seed"] == 0) | (runs["sparsity"] != 0.8)], items), "m", "t")
    assert_readable(figure)
    said = [text.get_text() for text in figure.legends[0].get_texts()[1:]]
    assert ["one seed" in text for text in said] == [False, True]


def test_one_level_alone_is_drawn():
    found = table(*study(0.1))
    assert_readable(tickets.difference(found[found["sparsity_to"] == 0.6][:1], "m", "t"))


def masks_compared(kinds=("pattern", "task", "seed")):
    rows = []
    for between in kinds:
        for s in (0.1, 0.4, 0.7):
            for value in (0.0, 0.02):
                row = {"model_a": "m", "between": between, "scope": "model", "sparsity": s}
                row |= {"cosine_kept": 1 - s / 5 - value, "cosine_kept_chance": 1 - s}
                row |= {"iou_pruned": 0.7 + s / 5 - value, "iou_pruned_chance": s / (2 - s)}
                row |= {name + "_matrix": row[name] + 0.03 for name in ("cosine_kept_chance", "iou_pruned_chance")}
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("kinds", [("pattern",), ("pattern", "task", "seed")])
@pytest.mark.parametrize("label", [None, LONG["model"]], ids=["short", "long"])
def test_similarity_is_readable_in_one_column(kinds, label):
    figure = tickets.similarity(masks_compared(kinds), "m", label)
    assert figure.get_figwidth() * 25.4 == pytest.approx(85)
    assert_readable(figure)
    said = {text.get_text() for text in figure.legends[0].get_texts()}
    assert said == {tickets.BETWEEN[kind][0] for kind in kinds} | {"chance", "chance within each matrix"}


def test_chance_is_seen_beside_a_single_sparsity():
    table = masks_compared()
    figure = tickets.similarity(table[table["sparsity"] == 0.4], "m")
    assert_readable(figure)
    for axes in figure.axes:
        assert all(len(line.get_xdata()) == 2 for line in axes.lines[-2:])


def test_a_ticket_without_a_defined_metric_is_a_sentence_not_an_error():
    figure = tickets.difference(table(*study(0.1)), "m", "u")
    assert_readable(figure)
    assert [text.get_text() for text in figure.texts] == [
        "Nothing to compare for m on u: no metric is defined for a ticket and its one-shot mask."
    ]


def test_masks_that_were_not_compared_are_a_sentence_not_an_error():
    figure = tickets.similarity(masks_compared(), "n")
    assert_readable(figure)
    assert [text.get_text() for text in figure.texts] == ["Nothing to compare: no ticket of n is there."]


def test_pairs_are_tickets_minus_one_shot_and_calibrated_minus_its_peer():
    tickets_alone = {"dense", "global", "lth", "erk", "random"}
    assert differences.pairs(tickets_alone, True) == [("erk", "global"), ("lth", "global"), ("random", "global")]
    assert differences.pairs(tickets_alone, False) == [("random", "global")]
    names = {
        "dense",
        "layerwise",
        "rowwise",
        "nm4",
        "wanda",
        "wanda-onepass",
        "wanda-nm4",
        "sparsegpt",
        "sparsegpt-nm4",
        "owl-wanda",
    }
    assert differences.pairs(names, False) == [
        ("owl-wanda", "layerwise"),
        ("owl-wanda", "rowwise"),
        ("owl-wanda", "wanda"),
        ("sparsegpt", "layerwise"),
        ("sparsegpt", "wanda"),
        ("sparsegpt-nm4", "nm4"),
        ("sparsegpt-nm4", "wanda-nm4"),
        ("wanda", "layerwise"),
        ("wanda", "rowwise"),
        ("wanda-nm4", "nm4"),
        ("wanda-onepass", "layerwise"),
        ("wanda-onepass", "rowwise"),
        ("wanda-onepass", "wanda"),
    ]
    for name in names:
        assert {*patterns.find(name).peers} <= {*names, "layerwise"}, "each is a pattern"
    assert differences.pairs({"dense", "wanda", "global"}, False) == [], "without a peer there is nothing to subtract"


def calibrated(names=("dense", "rowwise", "layerwise", "wanda", "sparsegpt"), seeds=(0, 1)):
    runs, items = study(0.0, seeds, patterns=names)
    better = {"wanda": 0.1, "sparsegpt": 0.15}
    for name, gain in better.items():
        own = items["pattern"] == name
        items.loc[own, "score"] = (items.loc[own, "score"] + (np.arange(own.sum()) % 100 < 100 * gain)).clip(upper=1)
    means = items.groupby(KEY)["score"].mean().rename("value").reset_index()
    return runs.drop(columns="value").merge(means, on=KEY), items


def test_what_calibration_gains_is_measured_and_drawn():
    runs, items = calibrated()
    found = differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), set(), 500)
    assert set(zip(found["pattern_a"], found["pattern_b"], strict=True)) == {
        ("wanda", "rowwise"),
        ("wanda", "layerwise"),
        ("sparsegpt", "layerwise"),
        ("sparsegpt", "wanda"),
    }
    against_magnitude = found[found["pattern_b"] != "wanda"]
    assert (against_magnitude["difference"] > 0.02).all()
    assert (against_magnitude["low"] < against_magnitude["difference"]).all()
    figure = gains.gain(found, "m", "t", LONG)
    assert_readable(figure)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["SparseGPT beside layerwise", "Wanda beside rowwise"]
    assert figure.axes[0].get_ylabel() == "Accuracy:\ngain by calibration (points)"
    without = gains.gain(found[found["pattern_b"] != "rowwise"], "m", "t", LONG)
    entries = [text.get_text() for text in without.legends[0].get_texts()]
    assert entries == ["SparseGPT beside layerwise", "Wanda beside layerwise"], "the closest that is there"


def test_a_gain_of_a_perplexity_is_a_ratio_and_one_pattern_stands_at_its_levels():
    runs, items = calibrated(("dense", "rowwise", "wanda"))
    found = differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), set(), 200)
    figure = gains.gain(
        found.assign(metric="perplexity", difference=np.log(3), low=np.log(2), high=np.log(5)), "m", "t"
    )
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "Perplexity:\nmagnitude ÷ calibrated"
    points = next(line for line in axes.lines if len(line.get_xdata()) == len(LEVELS))
    np.testing.assert_allclose(points.get_ydata(), 3)
    np.testing.assert_allclose(np.asarray(points.get_xdata(), dtype=float), [100 * level for level in LEVELS])
    both = [
        found.assign(metric="pseudo_perplexity", difference=0.02, low=0.01, high=0.03),
        found.assign(metric="masked_accuracy", difference=0.6, low=0.5, high=0.7),
    ]
    axes = gains.gain(pd.concat(both), "m", "t").axes[0]
    assert axes.get_ylim()[1] < 1.1, "what is not drawn makes no room"


def test_a_ratio_of_a_broken_model_hides_no_other_and_the_axis_says_that_it_is_cut():
    """Its bar overflows, and an axis that matplotlib chooses then would be from 1 to 10 whatever else there is."""
    runs, items = calibrated(("dense", "rowwise", "wanda"))
    found = differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), set(), 200)
    found = found[found["n_levels"] == 1].assign(metric="perplexity")
    found["difference"] = np.select([found["sparsity_to"] == 0.2, found["sparsity_to"] == 0.8], [-0.7, 687], 3)
    found = found.assign(low=found["difference"] - 0.1, high=1.05 * found["difference"] + 0.2)
    figure = gains.gain(found, "m", "t")
    assert_readable(figure)
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert low < math.exp(-0.8)
    assert math.exp(3.35) < high < 20_000
    assert axes.get_xlabel().endswith("vertical axis is cut at ratios of 10,000 and 1/10,000; they reach 1e313")
    whole = gains.gain(found[found["sparsity_to"] < 0.8], "m", "t").axes[0]
    assert "cut" not in whole.get_xlabel()
    assert whole.get_ylim()[1] < 50


def test_a_gain_of_one_seed_says_so_and_nothing_to_compare_is_a_sentence():
    runs, items = calibrated(seeds=(0,))
    found = differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), set(), 200)
    figure = gains.gain(found, "m", "t")
    assert all(text.get_text().endswith(", one seed") for text in figure.legends[0].get_texts())
    assert "Nothing to compare for m on other" in gains.gain(found, "m", "other").texts[0].get_text()


def test_groups_of_the_items_have_panels_of_their_own():
    runs, items = calibrated()
    found = differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), set(), 200)
    groups = ["accuracy_humanities", "accuracy_other", "accuracy_social_sciences", "accuracy_stem"]
    figure = gains.gain(pd.concat([found, *(found.assign(metric=name) for name in groups)]), "m", "t")
    assert len(figure.axes) == 5
    assert_readable(figure)
    assert len({axes.get_title() for axes in figure.axes}) == 5


def test_of_groups_of_the_items_alone_each_has_one_panel_in_points():
    runs, items = calibrated()
    found = differences.table(runs, lambda wanted: items.merge(wanted[KEY], on=KEY), set(), 200)
    figure = gains.gain(pd.concat([found.assign(metric=f"accuracy_{name}") for name in ("other", "stem")]), "m", "t")
    assert [axes.get_title() for axes in figure.axes] == ["STEM", "other subjects"]
    assert figure.axes[0].get_ylabel() == "gain by calibration (points)"
    drawn = np.concatenate([line.get_ydata() for line in figure.axes[0].lines if len(line.get_xdata()) == len(LEVELS)])
    assert drawn.max() > 5
