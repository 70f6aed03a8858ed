"""What each metric means: direction, the scale it is fitted on, its tolerance. The one place that says so.

Standard library only: the Snakefile reads it while parsing.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from essential_sparsity.curves.losses import LARGEST


@dataclass(frozen=True)
class Metric:
    """One quality measure.

    `scale` is the scale that curves are averaged and fitted on (`log`: natural logarithm, for perplexity, which has no
    ceiling). `epsilon` is the default tolerance on that scale: 0.01 is one point of an accuracy or a correlation, and
    one per cent of a perplexity.

    `from_items` says how the value comes from the rows of table `items`: `mean` (Σ score / Σ weight, the logarithm of a
    perplexity), `mean above chance` (the mean on a scale where `chance_level` is 0 and 1 stays 1), `rank correlation` or
    `correlation` (of score and target), `binary f1` (of prediction and target, where 1 is the positive class) or
    `matthews` (of prediction and target). `item_column` is the column of `items` that stands in the place of the score.
    `above_chance`: the metric of the same runs that is 0 where answers are guessed; None where what guessing gives is not known.
    `own_items`: items are cut by each model's own tokenizer, so two models' cannot be paired although their names agree.
    `group`: the metric is that of the items alone whose column `group` says so; None: of all.
    """

    name: str
    label: str
    higher_is_better: bool
    scale: str = "identity"
    epsilon: float = 0.01
    from_items: str = "mean"
    item_column: str = "score"
    above_chance: str | None = None
    own_items: bool = False
    group: str | None = None

    def quality(self, value: float) -> float:
        """The value on the fitted scale with its sign turned so that higher is better."""
        scaled = math.log(value) if self.scale == "log" else value
        return scaled if self.higher_is_better else -scaled

    def value(self, quality: float) -> float:
        """Inverse of `quality`; where that is the logarithm of a perplexity, of at most LARGEST."""
        scaled = quality if self.higher_is_better else -quality
        return math.exp(min(scaled, LARGEST)) if self.scale == "log" else scaled


ABOVE_CHANCE = "chance_corrected_accuracy"
METRICS = {  # in the order of `headline`
    metric.name: metric
    for metric in (
        Metric(
            "matthews",
            "Matthews correlation",
            higher_is_better=True,
            from_items="matthews",
            item_column="prediction",
            above_chance="matthews",
        ),
        Metric("accuracy", "Accuracy", higher_is_better=True, above_chance=ABOVE_CHANCE),
        Metric(
            ABOVE_CHANCE,
            "Accuracy above chance",
            higher_is_better=True,
            from_items="mean above chance",
            above_chance=ABOVE_CHANCE,
        ),
        Metric(
            "normalised_accuracy",
            "Accuracy by likelihood per length",
            higher_is_better=True,
            item_column="second_score",
            above_chance=ABOVE_CHANCE,
        ),
        Metric("accuracy_stem", "Accuracy, STEM", higher_is_better=True, above_chance=ABOVE_CHANCE, group="stem"),
        Metric(
            "accuracy_humanities",
            "Accuracy, humanities",
            higher_is_better=True,
            above_chance=ABOVE_CHANCE,
            group="humanities",
        ),
        Metric(
            "accuracy_social_sciences",
            "Accuracy, social sciences",
            higher_is_better=True,
            above_chance=ABOVE_CHANCE,
            group="social_sciences",
        ),
        Metric(
            "accuracy_other",
            "Accuracy, other subjects",
            higher_is_better=True,
            above_chance=ABOVE_CHANCE,
            group="other",
        ),
        Metric("f1", "F1", higher_is_better=True, from_items="binary f1", item_column="prediction"),
        Metric("answer_accuracy", "Accuracy of answers", higher_is_better=True),
        Metric("token_f1", "F1 of answers", higher_is_better=True),
        Metric("exact_match", "Exact match", higher_is_better=True, item_column="second_score"),
        Metric(
            "pearson", "Pearson correlation", higher_is_better=True, from_items="correlation", above_chance="pearson"
        ),
        Metric(
            "spearman",
            "Spearman correlation",
            higher_is_better=True,
            from_items="rank correlation",
            above_chance="spearman",
        ),
        Metric("perplexity", "Perplexity", higher_is_better=False, scale="log", own_items=True),
        Metric("pseudo_perplexity", "Pseudo-perplexity", higher_is_better=False, scale="log"),
        Metric("masked_accuracy", "Accuracy at masked tokens", higher_is_better=True, item_column="second_score"),
    )
}


def headline(names: Iterable[str]) -> str:
    """The metric of several that stands for a task: the first of them in the order of METRICS."""
    found = set(names)
    return next(name for name in METRICS if name in found)


def with_groups(names: Iterable[str]) -> list[str]:
    """The headline of several metrics, and those others that are of a group of the items."""
    found = set(names)
    if not found:
        return []
    first = headline(found)
    return [first, *sorted(name for name in found - {first} if METRICS[name].group)]
