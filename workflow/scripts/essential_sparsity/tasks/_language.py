"""What language models predict: losses of tokens, what stands for one that is no number, and whether the text matters."""

import math

import numpy as np
import torch

from essential_sparsity import tasks
from essential_sparsity.curves.losses import LARGEST

CONSTANT = 1e-3  # nats: log-probabilities that differ by less at all places do so by rounding


class Predictions:
    """Losses of predicted tokens; and how much the predictions change from place to place, over all that were made.

    `low`, `high` (vocabulary): the smallest and largest log-probability of each token so far, at `places` places. A batch
    may be scored again.
    """

    def __init__(self) -> None:
        self.low = self.high = None
        self.places = 0

    def losses(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihoods (n) in nats of `tokens` (n) by `logits` (n, vocabulary), computed in float32."""
        found = torch.log_softmax(logits.float(), dim=1)
        low, high = found.aminmax(dim=0)
        self.low = low if self.low is None else torch.minimum(self.low, low)
        self.high = high if self.high is None else torch.maximum(self.high, high)
        self.places += len(tokens)
        return -found.gather(1, tokens[:, None])[:, 0]

    def collapsed(self) -> str | None:
        """Why the predictions are those of a model that does not read, in words; None where they change."""
        if self.places < 2:
            return None
        apart = torch.where(self.low == self.high, 0.0, self.high - self.low)  # a token that is never predicted: -inf
        return "all predictions are equal" if bool((apart <= CONSTANT).all()) else None


def bounded(losses: np.ndarray, tokens: np.ndarray | int, what: str) -> tuple[np.ndarray, str | None]:
    """Losses (n) in nats, summed over `tokens` each, that are at most LARGEST a token; and how many were not, in words.

    A loss that is not finite (half precision overflows at high sparsity) counts as the largest.
    """
    most = LARGEST * np.broadcast_to(tokens, len(losses))
    beyond = ~(losses < most)  # true for NaN as well
    return np.where(beyond, most, losses), tasks.counted(beyond, f"{what} have no finite perplexity")


def mean_perplexity(losses: np.ndarray, tokens: np.ndarray) -> float:
    """exp of the mean of bounded losses; a finite number."""
    return math.exp(min(losses.sum() / tokens.sum(), LARGEST))  # the mean of the largest can be more, by rounding
