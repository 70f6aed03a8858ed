"""Shapes fitted to a curve by least squares, and how much the data speak for each (Akaike's criterion).

`x` (L): places, ascending. `y` (…, L): values there; leading axes are replicates. `weights` (L): of the values, equal
where none are given. A fit returns the weighted sum of squares around it, of the shape of the leading axes.
"""

from collections.abc import Mapping

import numpy as np
from scipy.optimize import least_squares as minimise

EXPONENTS = np.geomspace(1, 64, 121)  # of the power law
ROUNDING = 1e-4  # of a curve's range: smaller deviations are rounding, not a better fit
# Of the squares of a curve's range: of hinges that differ by less, the first is taken, whatever rounding says.
ALIKE = 1e-9


def linear(design: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares on the columns of `design` (L, columns), every curve at once: coefficients (columns, …)."""
    root = np.sqrt(np.ones(len(design)) if weights is None else np.asarray(weights, float))
    found = (y * root) @ np.linalg.pinv(design * root[:, None]).T
    return np.moveaxis(found, -1, 0), (((found @ design.T - y) * root) ** 2).sum(axis=-1)


def polynomial(x: np.ndarray, y: np.ndarray, degree: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The best polynomial: 0 a constant, 1 a straight line."""
    scaled = (x - x[0]) / (x[-1] - x[0])
    return linear(np.vander(scaled, degree + 1), y, weights)[1]


def power(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The best smooth loss: a constant minus a multiple of x^p, 1 ≤ p ≤ 64."""
    designs = (np.column_stack([np.ones_like(x), x**exponent]) for exponent in EXPONENTS)
    return np.minimum.reduce([linear(design, y, weights)[1] for design in designs])


def hinge(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The best two connected straight lines: join, slope before, slope after, weighted sum of squares, each (…).

    Exact (Hudson 1966, "Fitting segmented curves whose join points have to be estimated"): either the two lines fitted
    apart meet between their places, or the join is a place. At least two places lie on each line.
    """
    x = np.asarray(x, float)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    best = [np.full(y.shape[:-1], fill) for fill in (np.nan, np.nan, np.nan, np.inf)]
    slack = ALIKE * weights.sum() * np.ptp(y, axis=-1) ** 2

    def keep(valid: np.ndarray, *found: np.ndarray) -> None:
        better = valid & (found[-1] < best[-1] - slack)
        for target, value in zip(best, found, strict=True):
            target[better] = np.broadcast_to(value, better.shape)[better]

    for i in range(1, len(x) - 1):
        design = np.column_stack([np.ones_like(x), x, np.maximum(x - x[i], 0)])
        (_, slope, bend), squares = linear(design, y, weights)
        keep(np.full(squares.shape, True), np.full(squares.shape, x[i]), slope, slope + bend, squares)
    for i in range(2, len(x) - 1):
        (start, slope), left = linear(np.column_stack([np.ones(i), x[:i]]), y[..., :i], weights[:i])
        (other, steep), right = linear(np.column_stack([np.ones_like(x[i:]), x[i:]]), y[..., i:], weights[i:])
        with np.errstate(divide="ignore", invalid="ignore"):
            join = (other - start) / (slope - steep)
        keep((join > x[i - 1]) & (join < x[i]), join, slope, steep, left + right)
    return tuple(best)


def logistic(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> tuple[float | None, float]:
    """The best logistic curve through one row y (L): (from 10 % to 90 % of its rise in units of x, sum of squares).

    Place and width are searched on a grid and then refined, the two levels follow by linear least squares. It is never
    narrower than half the usual step between places: that is a jump. (None, squares) where no logistic beats a constant.
    """
    span = x[-1] - x[0]
    t, root = (x - x[0]) / span, np.sqrt(np.ones(len(x)) if weights is None else np.asarray(weights, float))
    least = min(float(np.median(np.diff(t))) / 2, 0.25)

    def residuals(found: np.ndarray) -> np.ndarray:
        at, width = found
        rise = 1 / (1 + np.exp(-np.clip((t - at) / width, -50, 50)))
        design = np.column_stack([np.ones_like(t), rise]) * root[:, None]
        return y * root - design @ np.linalg.lstsq(design, y * root, rcond=None)[0]

    starts = [(at, width) for at in np.linspace(-0.4, 1.4, 28) for width in np.geomspace(least, 1.0, 8)]
    start = min(starts, key=lambda found: (residuals(np.array(found)) ** 2).sum())
    inner = np.clip(start, [-0.499, least * 1.0001], [1.499, 0.9999])
    found = minimise(residuals, inner, bounds=([-0.5, least], [1.5, 1.0]), x_scale=[0.1, 0.1], max_nfev=50)
    squares = min(float((residuals(np.array(start)) ** 2).sum()), 2 * float(found.cost))
    constant = float(polynomial(x, y, 0, weights))
    return (float(found.x[1] * 2 * np.log(9) * span), squares) if squares < constant else (None, constant)


def criterion(squares: float, size: int, parameters: int, spread: float) -> float:
    """Akaike's criterion with the small-sample correction, of a fit with `parameters` besides the variance.

    `size`: the number of values; `spread`: their range. Needs size > parameters + 2.
    """
    counted = parameters + 1
    penalty = 2 * counted + 2 * counted * (counted + 1) / (size - counted - 1)
    return size * np.log(max(float(squares) / size, (ROUNDING * spread) ** 2)) + penalty


def akaike_weights(criteria: Mapping[str, float]) -> dict[str, float]:
    """How much the data speak for each shape, adding to 1 (Burnham and Anderson 2002)."""
    least = min(criteria.values())
    weights = {shape: np.exp(-(value - least) / 2) for shape, value in criteria.items()}
    return {shape: float(weight / sum(weights.values())) for shape, weight in weights.items()}
