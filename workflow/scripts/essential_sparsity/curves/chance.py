"""What guessing gets: for runs and for curves alike, so it stands apart from what each metric is called."""

from collections.abc import Iterable


def chance_level(targets: Iterable[float], labels: int = 0) -> float:
    """Accuracy of guessing among the labels of the data, of which `targets` (n) are indices and need not hold all.

    Without the number of `labels`, the largest index tells how many there are at least.
    """
    return 1 / max(labels, int(max(targets)) + 1)
