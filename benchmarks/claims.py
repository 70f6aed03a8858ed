"""How often a claim of several pieces that is true is refuted, by how the interval of each is widened for all of them at once.

    python benchmarks/claims.py

Studies without any true difference, whose pieces are means over a few seeds with Student's interval; the claim says that no mean is
below 0. By Bonferroni at most 2.5 % of the studies may refute it. Beside the quantiles of Student's t stand those of the normal
distribution, as for many seeds.
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
from scipy.stats import t as student

from essential_sparsity.curves.intervals import ALPHA
from essential_sparsity.curves.pieces import Piece


def refuted(seeds: int, pieces: int, studies: int, freedom: float) -> float:
    """The share of the studies of which a piece lies below 0, widened with these degrees of freedom."""
    draws = np.random.default_rng(0).normal(size=(studies, pieces, seeds))
    means, errors = draws.mean(axis=2), draws.std(axis=2, ddof=1) / math.sqrt(seeds)
    half = student.ppf(1 - ALPHA / 2, seeds - 1) * errors
    found = [
        any(
            Piece("a mean", mean, mean - own, mean + own, freedom=freedom).widened(pieces)[1] < 0
            for mean, own in zip(*row, strict=True)
        )
        for row in zip(means, half, strict=True)
    ]
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    args = parser.parse_args()
    print("seeds  pieces  normal  Student's t")
    for seeds in (2, 3, 5):
        for pieces in (1, 6, 10):
            normal, t = (refuted(seeds, pieces, args.studies, freedom) for freedom in (math.inf, seeds - 1))
            print(f"{seeds:5}{pieces:8}{normal:8.1%}{t:13.1%}")


if __name__ == "__main__":
    main()
