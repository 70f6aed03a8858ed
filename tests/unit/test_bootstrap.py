"""Resampled curves against resampling done by hand."""

import numpy as np
import pytest
from scipy.stats import chi2, pearsonr, spearmanr
from scipy.stats import t as student
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import f1_score, matthews_corrcoef

from essential_sparsity.curves import bootstrap, means
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.metrics import METRICS

N, LEVELS = 60, 4
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(1, 9, N).astype(float)
TARGETS = RNG.integers(0, 5, N).astype(float)


def some_scores(seeds, binary=False):
    scores = RNG.normal(size=(LEVELS, seeds, N))
    return (scores > -0.5).astype(float) if binary else scores


def by_hand(value, scores, replicates):
    """`value(scores of one run, drawn items)` of every run, for every resample that the module draws."""
    counts = np.concatenate(list(bootstrap.item_counts(N, "t", replicates))).astype(int)
    drawn = [np.repeat(np.arange(N), count) for count in counts]
    return np.array([[[value(run, items) for run in level] for level in scores] for items in drawn])


def resampled(metric, scores, value, weights=WEIGHTS, targets=TARGETS, replicates=50):
    """What the module says, as qualities: the value of all items and how far each resample moves it."""
    every = np.array([[value(run, np.arange(N)) for run in level] for level in scores])
    return every + bootstrap.moves(METRICS[metric], scores, targets, weights, "t", replicates)


def test_every_resample_has_all_items_and_is_the_same_every_time():
    counts = np.concatenate(list(bootstrap.item_counts(N, "t", 100)))
    assert (counts.sum(axis=1) == N).all()
    assert np.array_equal(counts, np.concatenate(list(bootstrap.item_counts(N, "t", 100))))
    assert not np.array_equal(counts, np.concatenate(list(bootstrap.item_counts(N, "other", 100))))
    assert counts.mean(axis=0).std() < 0.3


def test_draws_are_the_same_whether_they_are_kept_or_not(monkeypatch):
    kept = [np.concatenate(list(bootstrap.item_counts(N, "t", 100))) for _ in range(2)]
    monkeypatch.setattr(bootstrap, "KEPT", 0)
    for counts in kept:
        assert np.array_equal(counts, np.concatenate(list(bootstrap.item_counts(N, "t", 100))))


@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_correlations_of_resamples_do_not_depend_on_how_many_are_worked_on_at_once(name, monkeypatch):
    draw = np.random.default_rng(0)
    targets, scores = np.round(draw.normal(size=40), 1), draw.normal(size=(3, 1, 40))
    found = bootstrap.moves(METRICS[name], scores, targets, np.ones(40), "t", 30)
    monkeypatch.setattr(bootstrap, "BLOCK", 80)
    assert np.array_equal(found, bootstrap.moves(METRICS[name], scores, targets, np.ones(40), "t", 30))


@pytest.mark.parametrize("metric", ["perplexity", "pseudo_perplexity"])
def test_perplexity_is_resampled_by_tokens(metric):
    scores = some_scores(2) + 5

    def value(run, drawn):
        return -run[drawn].sum() / WEIGHTS[drawn].sum()

    assert np.allclose(resampled(metric, scores, value), by_hand(value, scores, 50), atol=1e-5)


def test_chance_is_one_over_the_labels():
    """TARGETS has five labels; in a resample that lacks one they are still five."""
    scores = some_scores(3, binary=True)

    def value(run, drawn):
        return (run[drawn].mean() - 0.2) / 0.8

    assert np.allclose(resampled("chance_corrected_accuracy", scores, value), by_hand(value, scores, 50), atol=1e-6)


def test_rank_correlation_of_a_resample_with_its_ties():
    scores = np.round(some_scores(2), 1)

    def value(run, drawn):
        return spearmanr(run[drawn], TARGETS[drawn]).statistic

    assert np.allclose(resampled("spearman", scores, value), by_hand(value, scores, 50), atol=1e-9)


def test_correlation_of_a_resample():
    scores = some_scores(2)

    def value(run, drawn):
        return pearsonr(run[drawn], TARGETS[drawn]).statistic

    assert np.allclose(resampled("pearson", scores, value), by_hand(value, scores, 50), atol=1e-9)


@pytest.mark.parametrize(
    ("metric", "reference", "classes"),
    [("f1", f1_score, 2), ("matthews", matthews_corrcoef, 2), ("matthews", matthews_corrcoef, 5)],
)
def test_statistics_of_classes_are_counted_from_predictions(metric, reference, classes):
    """Half of the predictions are right; one level predicts a single class, where the correlation counts as 0."""
    targets = RNG.integers(0, classes, N).astype(float)
    guessed = RNG.integers(0, classes, (LEVELS, 2, N)).astype(float)
    predictions = np.where(RNG.random((LEVELS, 2, N)) < 0.5, targets, guessed)
    predictions[-1] = 1

    def value(run, drawn):
        return reference(targets[drawn], run[drawn])

    found = resampled(metric, predictions, value, targets=targets)
    assert np.allclose(found, by_hand(value, predictions, 50), atol=1e-6)
    assert METRICS[metric].item_column == "prediction"


def test_a_predicted_class_that_no_target_has_counts():
    """As that of a model that collapsed to it, or of a prediction that is none of the labels."""
    targets = RNG.integers(0, 2, N).astype(float)
    predictions = RNG.choice([-1.0, 0.0, 1.0, 2.0], (LEVELS, 2, N))

    def value(run, drawn):
        return matthews_corrcoef(targets[drawn], run[drawn])

    found = resampled("matthews", predictions, value, targets=targets, replicates=10)
    assert np.allclose(found, by_hand(value, predictions, 10), atol=1e-6)


def test_a_run_that_is_missing_stays_missing_and_changes_no_other():
    scores = some_scores(2, binary=True)
    whole = bootstrap.moves(METRICS["accuracy"], scores, TARGETS, np.ones(N), "t", 20)
    scores[1, 0] = np.nan
    found = bootstrap.moves(METRICS["accuracy"], scores, TARGETS, np.ones(N), "t", 20)
    assert np.isnan(found[:, 1, 0]).all()
    assert np.isnan(found).sum() == 20
    kept = ~np.isnan(found)
    assert np.allclose(found[kept], whole[kept], atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "worst"), [("perplexity", LARGEST * 3), ("matthews", -1), ("accuracy", 0), ("spearman", 0)]
)
def test_an_item_without_a_number_counts_at_its_worst(metric, worst):
    scores = np.array([1.0, np.nan, np.inf])
    found = bootstrap.complete(METRICS[metric], scores, np.array([1.0, 3.0, 3.0]))
    assert found.tolist() == [1.0, worst, worst]


def test_levels_with_fewer_seeds_are_compared_with_dense_over_theirs():
    """Seeds differ by a constant, levels by another: whatever runs are missing, the curve is the same but for its height."""
    quality = np.array([0.9, 0.88, 0.7, 0.5])[:, None] + np.array([0.0, 0.05, -0.02])
    there = np.ones((4, 3), bool)
    whole = means.paired_means(quality, there)
    assert np.allclose(whole, quality.mean(axis=1))
    there[2, :2] = there[3, 1] = False
    assert np.allclose(means.paired_means(np.where(there, quality, np.nan), there), whole)


def test_few_items_stretch_resamples_to_the_t_interval():
    """The bootstrap of a mean of 12 values has 0.86 of the width of its t interval without the stretch."""
    values = RNG.normal(size=12)
    scores = np.broadcast_to(values, (1, 1, 12)).copy()
    moved = bootstrap.moves(METRICS["accuracy"], scores, values, np.ones(12), "t", 20_000)[:, 0, 0]
    found = bootstrap.few_items(12) * np.std(moved) * 1.96
    assert found == pytest.approx(student.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12), rel=0.03)


# what seeds do


def plain_isotonic(curve):
    return IsotonicRegression(increasing=False).fit_transform(np.arange(len(curve)), curve)


def plain_replicates(quality, moved, n_items, epsilon, uniform, normal):
    """Bracket percentiles with pooled seed noise, one replicate at a time, from the definition."""
    levels, seeds = quality.shape
    mean = quality.mean(axis=1)
    far = np.flatnonzero(plain_isotonic(mean) < mean[0] - 5 * epsilon)
    k = min(max(far[0] + 1 if len(far) else levels, 3), levels)

    def left(x):
        return x - x.mean(axis=1, keepdims=True) - x.mean(axis=0, keepdims=True) + x.mean()

    degrees = (seeds - 1) * (k - 1)
    v = (left(quality[:k]) ** 2).sum() / degrees
    e = np.mean([(left(move[:k]) ** 2).sum() for move in moved]) / degrees
    factor = np.sqrt(n_items / (n_items - 1)) * student.ppf(0.975, n_items - 1) / 1.959964
    found = []
    for move, u, z in zip(moved, uniform, normal, strict=True):
        spread = np.sqrt(max(0.0, v * degrees / chi2.ppf(u, degrees) - e))
        found.append(mean + factor * move.mean(axis=1) + spread * z.mean(axis=1))
    return np.array(found)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("shape", "fall"), [((5, 2), 0.02), ((9, 3), 0.02), ((4, 5), 0.02), ((6, 3), 0.15)])
def test_replicates_are_those_of_the_definition(shape, fall, seed):
    draw = np.random.default_rng(seed)
    quality = 0.9 - np.cumsum(draw.exponential(fall, shape[0]))[:, None] + 0.01 * draw.normal(size=shape)
    moved, normal = 0.01 * draw.normal(size=(30, *shape)), draw.normal(size=(30, *shape))
    arguments = quality, moved, 40, 0.01, draw.random(30), normal
    assert np.allclose(bootstrap.replicates(*arguments), plain_replicates(*arguments), atol=1e-7)


def test_one_seed_adds_no_noise_and_one_item_is_no_error():
    scores = some_scores(1, binary=True)
    moved = bootstrap.moves(METRICS["accuracy"], scores, TARGETS, np.ones(N), "t", 10)
    quality = scores.mean(axis=2)
    draws = bootstrap.seed_draws({"task": "t", "model": "m", "pattern": "p"}, np.arange(4) / 4, [0], 10)
    found = bootstrap.replicates(quality, moved, N, 0.01, *draws)
    assert np.allclose(found, quality[:, 0] + bootstrap.few_items(N) * moved[..., 0])
    for seeds in (1, 2):
        window = 3 + some_scores(2)[:, :seeds, :1]
        moved = bootstrap.moves(METRICS["perplexity"], window, np.ones(1), np.ones(1), "t", 10)
        draws = bootstrap.seed_draws({"task": "t", "model": "m", "pattern": "p"}, np.arange(4) / 4, range(seeds), 10)
        found = bootstrap.replicates(-window[..., 0], moved, 1, 0.01, *draws)
        assert np.isfinite(found).all()
        assert (np.ptp(found, axis=0) > 0).all() == (seeds > 1), "two seeds differ, one item does not"


def test_the_seeds_spread_is_found_and_is_uncertain():
    """Of 400 studies of three seeds: the variance is right on average, and its χ² makes an interval that holds it."""
    covered, found = [], []
    for number in range(400):
        draw = np.random.default_rng(number)
        quality = 0.9 + 0.02 * draw.normal(size=(1, 3)) + 0.004 * draw.normal(size=(6, 3))
        drawn = bootstrap.seed_spread(quality, np.zeros((400, 6, 3)), 0.1, draw.random(400))
        low, high = np.quantile(drawn, [0.025, 0.975])
        covered.append(low <= 0.004 <= high)
        project, degrees = bootstrap.two_way(np.ones((6, 3), bool))
        found.append(((project @ quality.ravel()) ** 2).sum() / degrees)
    assert np.mean(found) == pytest.approx(0.004**2, rel=0.05)
    assert 0.92 < np.mean(covered) < 0.98


def test_noise_of_items_is_not_counted_as_that_of_seeds():
    """Seeds that differ by nothing but independent items: hardly any seed noise is left, for a count of classes too."""
    targets = (RNG.random(2000) < 0.5).astype(float)
    right = RNG.random((5, 8, 2000)) < 0.8
    for metric, scores in (("accuracy", right.astype(float)), ("matthews", np.where(right, targets, 1 - targets))):
        moved = bootstrap.moves(METRICS[metric], scores, targets, np.ones(2000), "t", 200)
        quality = right.mean(axis=2) if metric == "accuracy" else 2 * right.mean(axis=2) - 1
        spread = bootstrap.seed_spread(quality, moved, 1.0, RNG.random(200))
        assert np.median(spread) < 0.5 * np.std(quality[0], ddof=1)


def test_a_level_with_one_seed_tells_nothing_about_the_spread():
    there = np.ones((4, 3), bool)
    whole = bootstrap.two_way(there)[1]
    there[2, 1:] = False
    assert (whole, bootstrap.two_way(there)[1]) == (6, 4)
    there[1:, 1:] = False
    assert bootstrap.two_way(there)[1] == 0
    quality = np.where(there, 0.9, np.nan)
    assert not bootstrap.seed_spread(quality, np.zeros((5, 4, 3)), 0.01, np.full(5, 0.5)).any()


def test_a_second_seed_at_levels_that_decide_nothing_is_no_second_seed():
    quality = np.full((8, 2), np.nan)
    quality[:, 0] = [0.9, 0.9, 0.89, 0.87, 0.8, 0.7, 0.6, 0.5]
    assert bootstrap.seed_freedom(quality[:, :1], 0.01) == 0
    quality[0, 1], quality[6:, 1] = 0.9, (0.6, 0.5)
    assert bootstrap.seed_freedom(quality, 0.01) == 0, "it is there beyond the first level five tolerances below alone"
    quality[2, 1] = 0.89
    assert bootstrap.seed_freedom(quality, 0.01) == 1
    quality[:, 1] = quality[:, 0]
    quality[7, 1] = np.nan
    assert bootstrap.seed_freedom(quality, 0.01) == 4, "a seed that is lost far out changes nothing"


def test_seeds_that_collapse_past_the_knee_do_not_blur_what_lies_before_it():
    quality = np.array([[0.9, 0.901, 0.899], [0.9, 0.9, 0.901], [0.89, 0.0, 0.0], [0.0, 0.0, 0.0]])
    spread = bootstrap.seed_spread(quality, np.zeros((100, 4, 3)), 0.01, np.linspace(0.01, 0.99, 100))
    assert spread.max() < 0.02


@pytest.mark.parametrize(
    ("last", "size"),
    [
        pytest.param((0.75, 0.84, 0.75), 3, id="apart by less than ten tolerances"),
        pytest.param((0.75, 0.86, 0.75), 2, id="apart by more"),
        pytest.param((0.9, 0.9, 0.789), 3, id="apart by more, but not five tolerances below"),
    ],
)
def test_seeds_are_apart_at_five_times_the_spread_of_others_and_ten_tolerances(last, size):
    quality = np.array([[0.9, 0.9, 0.9], [0.9, 0.901, 0.9], last])
    assert len(bootstrap.deciding(quality, 0.01)) == size


def test_levels_decide_up_to_the_first_far_one_by_means_that_weigh_their_seeds():
    quality = np.array([[0.9] * 3, [0.83] * 3, [0.9] * 3, [0.8] * 3, [0.3] * 3])
    assert len(bootstrap.deciding(quality, 0.01)) == 4
    quality[2, 1:] = np.nan
    assert len(bootstrap.deciding(quality, 0.01)) == 3


def test_a_run_has_its_own_draws_and_curves_share_those_of_dense():
    key = {"task": "t", "model": "m", "pattern": "a"}
    first = bootstrap.seed_draws(key, [0, 0.1, 0.2], [0, 1], 50)
    other = bootstrap.seed_draws(key | {"pattern": "b"}, [0, 0.2], [1], 50)
    assert np.array_equal(first[1][:, 0, 1], other[1][:, 0, 0])
    assert abs(np.corrcoef(first[1][:, 2, 1], other[1][:, 1, 0])[0, 1]) < 0.5
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(first[1], bootstrap.seed_draws(key, [0, 0.1, 0.2], [0, 1], 50)[1])


def test_what_a_seed_does_is_drawn_anew_for_each_model_and_each_level():
    """Else two models would be compared as if their seeds did the same to both."""
    key = {"task": "t", "model": "m", "pattern": "a"}
    spread, noise = bootstrap.seed_draws(key, [0, 0.32, 0.34], [0], 50)
    other_spread, other_noise = bootstrap.seed_draws(key | {"model": "n"}, [0, 0.32, 0.34], [0], 50)
    assert len({draws.tobytes() for found in (noise, other_noise) for draws in found[:, :, 0].T.copy()}) == 6
    assert not np.array_equal(spread, other_spread)


def test_two_curves_of_a_task_are_resampled_together():
    """A curve and its copy, shifted by a constant, are moved alike in every replicate."""
    scores = some_scores(3)
    first, second = (
        bootstrap.moves(METRICS["perplexity"], part, TARGETS, np.ones(N), "t", 200) for part in (scores, scores + 1)
    )
    assert np.allclose(first, second, atol=1e-4)
