"""What guessing gets: for runs and for curves alike, so it stands apart from what each metric is called."""

from collections.abc import Iterable


def chance_level(targets: Iterable) -> float:
    """Accuracy of guessing among the labels that occur in `targets` (n)."""
    return 1 / len(set(targets))
