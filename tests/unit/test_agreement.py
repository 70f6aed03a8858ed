"""Values of runs beside what their items give."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as reference

from essential_sparsity import errors
from essential_sparsity.curves import agreement
from essential_sparsity.curves.metrics import METRICS

KEY = {"model": "m", "task": "t", "pattern": "global", "sparsity": 0.5, "seed": 0}
TARGETS = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
PREDICTED = [0.0, 1.0, 1.0, 1.0, 2.0, 0.0]
RATED = [1.0, 2.0, 3.0, 5.0, 4.0, 6.0]
ITEMS = {
    "accuracy": {"score": [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]},
    "chance_corrected_accuracy": {"score": [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]},
    "matthews": {"prediction": PREDICTED},
    "spearman": {"score": RATED},
    "pearson": {"score": RATED},
    "perplexity": {"score": [3.0, 6.0, 9.0, 3.0, 6.0, 9.0], "weight": [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]},
    "accuracy_stem": {"score": [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]},
}
VALUES = {
    "accuracy": 4 / 6,
    "chance_corrected_accuracy": 0.5,  # of three labels
    "matthews": reference.matthews_corrcoef(TARGETS, PREDICTED),
    "spearman": stats.spearmanr(RATED, TARGETS).statistic,
    "pearson": stats.pearsonr(RATED, TARGETS).statistic,
    "perplexity": np.exp(3),
    "accuracy_stem": 2 / 3,
}


def run_of(metric, value):
    return pd.DataFrame([KEY | {"metric": metric, "value": value}])


def items_of(columns):
    rest = {"score": np.nan, "second_score": np.nan, "prediction": np.nan, "weight": 1.0, "target": TARGETS}
    group = ["stem"] * 3 + ["other"] * 3
    frame = pd.DataFrame(KEY | rest | columns | {"item": list("abcdef"), "group": group})
    return lambda runs: frame


@pytest.mark.parametrize("metric", VALUES)
def test_a_value_that_is_that_of_its_items_passes_and_another_is_refused(metric):
    items = items_of(ITEMS[metric])
    assert agreement.checked(items)(run_of(metric, VALUES[metric])) is items(None)
    if METRICS[metric].from_items == "mean above chance":
        return  # how many labels there are is told by the value itself
    for factor in (0.99, 1.01):
        with pytest.raises(errors.UserError, match=f"The {metric} of m/t/global/0.500/0 .* but its items give"):
            agreement.checked(items)(run_of(metric, VALUES[metric] * factor**3))


@pytest.mark.parametrize(("apart", "told"), [(0.05, False), (0.15, True), (-0.15, True)])
def test_the_two_may_be_a_tenth_of_a_tolerance_apart(apart, told):
    read = agreement.checked(items_of(ITEMS["accuracy"]))
    with pytest.raises(errors.UserError) if told else contextlib.nullcontext():
        read(run_of("accuracy", VALUES["accuracy"] + apart * METRICS["accuracy"].epsilon))


def test_a_label_that_no_item_has_counts_among_those_that_are_guessed_from():
    corrected = (4 / 6 - 1 / 4) / (1 - 1 / 4)
    assert len(agreement.checked(items_of(ITEMS["accuracy"]))(run_of("chance_corrected_accuracy", corrected)))


def test_every_run_is_compared_with_its_own_items():
    others = [{}, {"pattern": "nm4"}, {"sparsity": 0.25}, {"seed": 1}]
    scores = [[1.0] * right + [0.0] * (6 - right) for right in (5, 4, 3, 2)]
    runs = [run_of("accuracy", np.mean(each)).assign(**other) for other, each in zip(others, scores, strict=True)]
    items = [items_of({"score": each})(None).assign(**other) for other, each in zip(others, scores, strict=True)]
    frame = pd.concat(items)
    assert agreement.checked(lambda runs: frame)(pd.concat(runs)) is frame


def test_one_run_of_an_accuracy_above_chance_that_disagrees_with_the_others_is_refused():
    runs = [KEY | {"sparsity": level / 10, "metric": "chance_corrected_accuracy", "value": 0.5} for level in range(5)]
    runs[3]["value"] = 0.4
    frame = pd.concat([items_of(ITEMS["accuracy"])(None).assign(sparsity=run["sparsity"]) for run in runs])
    with pytest.raises(errors.UserError, match=r"m/t/global/0\.300/0 .* is 0\.4, but its items give 0\.5"):
        agreement.checked(lambda runs: frame)(pd.DataFrame(runs))


def test_scores_that_are_no_numbers_count_as_the_worst_in_both():
    """A metric of a user's own whose worst score is not 0 has to say so in its items: NaN would be the best of an error."""
    items = items_of({"score": [np.nan, 0.0, 1.0, 1.0, 1.0, 0.0]})
    assert len(agreement.checked(items)(run_of("accuracy", 0.5)))
    with pytest.raises(errors.UserError, match=r"is 0\.75, but its items give 0\.5 by from_items = 'mean'"):
        agreement.checked(items)(run_of("accuracy", 0.75))


def test_runs_without_items_and_undefined_values_are_not_compared():
    runs = pd.concat([run_of("accuracy", None), run_of("accuracy", 0.1).assign(seed=1)])
    assert len(agreement.checked(items_of(ITEMS["accuracy"]))(runs))
