"""Resampled curves against resampling done by hand."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from essential_sparsity.curves import bootstrap, knees, readings
from essential_sparsity.curves.metrics import METRICS

N, LEVELS = 60, 4
RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(1, 9, N).astype(float)
TARGETS = RNG.integers(0, 5, N).astype(float)


def some_scores(seeds, binary=False):
    scores = RNG.normal(size=(LEVELS, seeds, N))
    return (scores > -0.5).astype(float) if binary else scores


def by_hand(value, scores, replicates):
    """`value(scores of one run, drawn items)` averaged over seeds, for every resample that the module draws."""
    counts = np.concatenate(list(bootstrap.item_counts(N, "t", replicates))).astype(int)
    rows = []
    for drawn in (np.repeat(np.arange(N), count) for count in counts):
        rows.append([np.mean([value(run, drawn) for run in level]) for level in scores])
    return np.array(rows)


def items_only(metric, scores, monkeypatch, replicates=50):
    monkeypatch.setattr(bootstrap, "seed_noise", lambda *_: 0.0)
    seeds = range(scores.shape[1])
    return bootstrap.curves(METRICS[metric], scores, TARGETS, WEIGHTS, "t", seeds, replicates)


def test_every_resample_has_all_items_and_is_the_same_every_time(monkeypatch):
    counts = np.concatenate(list(bootstrap.item_counts(N, "t", 100)))
    assert (counts.sum(axis=1) == N).all()
    assert np.array_equal(counts, np.concatenate(list(bootstrap.item_counts(N, "t", 100))))
    assert not np.array_equal(counts, np.concatenate(list(bootstrap.item_counts(N, "other", 100))))
    assert counts.mean(axis=0).std() < 0.3


def test_perplexity_is_resampled_by_tokens(monkeypatch):
    scores = some_scores(2) + 5
    expected = by_hand(lambda run, drawn: -run[drawn].sum() / WEIGHTS[drawn].sum(), scores, 50)
    assert np.allclose(items_only("perplexity", scores, monkeypatch), expected, atol=1e-5)


def test_chance_is_one_over_the_labels(monkeypatch):
    """TARGETS has five labels; in a resample that lacks one they are still five."""
    scores = some_scores(3, binary=True)
    expected = by_hand(lambda run, drawn: (run[drawn].mean() - 0.2) / 0.8, scores, 50)
    assert np.allclose(items_only("chance_corrected_accuracy", scores, monkeypatch), expected, atol=1e-6)


def test_rank_correlation_of_a_resample_with_its_ties(monkeypatch):
    scores = np.round(some_scores(2), 1)
    expected = by_hand(lambda run, drawn: spearmanr(run[drawn], TARGETS[drawn]).statistic, scores, 50)
    assert np.allclose(items_only("spearman", scores, monkeypatch), expected, atol=1e-9)


def test_correlation_of_a_resample(monkeypatch):
    scores = some_scores(2)
    expected = by_hand(lambda run, drawn: pearsonr(run[drawn], TARGETS[drawn]).statistic, scores, 50)
    assert np.allclose(items_only("pearson", scores, monkeypatch), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("metric", "reference", "classes"),
    [("f1", f1_score, 2), ("matthews", matthews_corrcoef, 2), ("matthews", matthews_corrcoef, 5)],
)
def test_statistics_of_classes_are_counted_from_predictions(metric, reference, classes, monkeypatch):
    """Half of the predictions are right; one level predicts a single class, where the correlation counts as 0."""
    targets = RNG.integers(0, classes, N).astype(float)
    guessed = RNG.integers(0, classes, (LEVELS, 2, N)).astype(float)
    predictions = np.where(RNG.random((LEVELS, 2, N)) < 0.5, targets, guessed)
    predictions[-1] = 1
    monkeypatch.setattr("test_bootstrap.TARGETS", targets)
    expected = by_hand(lambda run, drawn: reference(targets[drawn], run[drawn]), predictions, 50)
    assert np.allclose(items_only(metric, predictions, monkeypatch), expected, atol=1e-6)
    assert METRICS[metric].item_column == "prediction"


def test_a_run_that_is_missing_is_left_out_of_its_mean(monkeypatch):
    scores, weights = some_scores(2, binary=True), np.ones(N)
    scores[1, 0] = np.nan
    monkeypatch.setattr(bootstrap, "seed_noise", lambda *_: 0.0)
    found = bootstrap.curves(METRICS["accuracy"], scores, TARGETS, weights, "t", range(2), 20)
    alone = bootstrap.curves(METRICS["accuracy"], scores[1:2, 1:], TARGETS, weights, "t", [1], 20)
    assert np.allclose(found[:, 1:2], alone, atol=1e-6)
    with pytest.raises(ValueError, match="without a defined run"):
        bootstrap.curves(METRICS["accuracy"], np.full((2, 1, N), np.nan), TARGETS, weights, "t", [0], 20)


def test_one_seed_adds_no_noise():
    scores = some_scores(1, binary=True)
    arguments = (METRICS["accuracy"], scores, TARGETS, np.ones(N))
    assert not bootstrap.seed_noise(*arguments, np.ones((LEVELS, 1), bool), [0], 10).any()


def test_seed_noise_has_the_spread_of_a_mean():
    """Every item moves alike, so all of the spread is the seeds': its variance is that of a mean of 40 seeds."""
    shift = RNG.normal(size=(LEVELS, 40, 1))
    scores = np.broadcast_to(shift, (LEVELS, 40, N))
    there = np.ones((LEVELS, 40), bool)
    noise = bootstrap.seed_noise(METRICS["accuracy"], scores, TARGETS, np.ones(N), there, range(40), 20_000)
    expected = np.cov(shift[..., 0]) / 40 * 39 / 37  # the variance of t with 39 degrees of freedom
    assert np.allclose(np.cov(noise.T), expected, rtol=0.1, atol=2e-4)


def test_noise_of_items_is_not_counted_twice():
    """Seeds that differ by nothing but independent items: hardly any seed noise is left."""
    scores = (RNG.random((LEVELS, 10, 5000)) < 0.7).astype(float)
    there = np.ones((LEVELS, 10), bool)
    noise = bootstrap.seed_noise(METRICS["accuracy"], scores, np.zeros(5000), np.ones(5000), there, range(10), 4000)
    assert noise.std() < 0.6 * np.sqrt(0.21 / 5000 / 10)


def test_two_curves_of_a_task_are_resampled_together():
    """A curve and its copy, shifted by a constant, differ by that constant in every replicate."""
    scores = some_scores(3)
    first, second = (
        bootstrap.curves(METRICS["perplexity"], part, TARGETS, np.ones(N), "t", [4, 5, 6], 200)
        for part in (scores, scores + 1)
    )
    assert np.allclose(first - second, 1, atol=1e-4)


def test_more_items_narrow_the_interval():
    levels, falling = np.arange(10) / 10, 0.9 - np.maximum(np.arange(10) / 10 - 0.5, 0)
    widths = []
    for n in (200, 20_000):
        u = np.random.default_rng(1).random(n)
        scores = (u < falling[:, None, None]).astype(float)
        replicates = bootstrap.curves(METRICS["accuracy"], scores, np.zeros(n), np.ones(n), "t", [0], 500)
        estimate = readings.tolerance(levels, scores.mean((1, 2)), np.ones(10), 0.01)
        low, high = knees.interval(estimate, readings.tolerance(levels, replicates, np.ones(10), 0.01))
        assert low <= estimate <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3
