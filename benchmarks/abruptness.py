"""How often is a series called abrupt: without a jump (false alarms), and with one (power)?

    python benchmarks/abruptness.py [--json FILE] [--simulations 100] [--only PREFIX]

Series of 20 and 31 checkpoints, noise of standard deviation 1. Smooth: a constant, a line, a saturating curve, logistic curves
that rise by 20 over 10 to 50 % of the series (`wide` to `steep`), a hinge. Walks: random ones, normal and heavy-tailed (t with
3 degrees of freedom: these do jump), with noise added, on steps 0, 1, 2, 4, …; an AR(1) process. Jumps of 3, 5 and 8
deviations somewhere in the middle three fifths: between constants, on a line, on a saturating curve. At most 5 % false
alarms are asked for of the smooth and of the normal walks; the standard error of 100 simulations is 2 to 5 points.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
from threadpoolctl import threadpool_limits

from essential_sparsity.emergence import measures

LENGTHS = (20, 31)
RISE = 20  # of the logistic curves, in deviations of the noise
Generator = np.random.Generator


def place(generator: Generator) -> float:
    """Of a change, as a share of the series."""
    return generator.uniform(0.2, 0.8)


def uneven(n: int) -> np.ndarray:
    """Steps as published series store them: 0, 1, 2, 4, … for the first half, then evenly."""
    early = 2.0 ** np.arange(n // 2)
    return np.r_[0, early, early[-1] * np.arange(2, n - len(early) + 1)]


def walk(generator: Generator, x: np.ndarray, heavy: bool = False) -> np.ndarray:
    """A random walk over the steps x, of variance 1 a step."""
    draws = generator.standard_t(3, len(x) - 1) if heavy else generator.normal(size=len(x) - 1)
    return np.r_[0, np.cumsum(draws * np.sqrt(np.diff(x)))]


def autoregressive(generator: Generator, n: int, correlation: float) -> np.ndarray:
    """An AR(1) process of variance 1."""
    values = [generator.normal()]
    for draw in generator.normal(size=n - 1) * np.sqrt(1 - correlation**2):
        values.append(correlation * values[-1] + draw)
    return np.array(values)


SMOOTH: dict[str, Callable[[np.ndarray, Generator], np.ndarray]] = {
    "constant": lambda t, _: np.zeros_like(t),
    "line": lambda t, _: 10 * t,
    "saturating": lambda t, _: 10 * (1 - np.exp(-5 * t)),
    "wide logistic": lambda t, generator: RISE / (1 + np.exp(-(t - place(generator)) / 0.12)),
    "logistic": lambda t, generator: RISE / (1 + np.exp(-(t - place(generator)) / 0.06)),
    "steep logistic": lambda t, generator: RISE / (1 + np.exp(-(t - place(generator)) / 0.04)),
    "hinge": lambda t, generator: 15 * np.maximum(t - place(generator), 0),
}
WALKS = ("walk", "heavy walk", "noisy walk", "uneven walk", "autoregressive")
UNDER = {"flat": SMOOTH["constant"], "line": SMOOTH["line"], "saturating": SMOOTH["saturating"]}
JUMPS = (3, 5, 8)
CASES = [*(f"smooth: {name}" for name in SMOOTH), *(f"walk: {name}" for name in WALKS)]
CASES += [f"jump of {size}: {name}" for size in JUMPS for name in UNDER]


def simulate(case: str, n: int, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one series."""
    kind, _, name = case.partition(": ")
    x = uneven(n) if name == "uneven walk" else np.arange(float(n))
    t = x / x[-1]
    if name == "autoregressive":
        return x, autoregressive(generator, n, 0.6)
    if kind == "walk":
        noise = generator.normal(size=n) if name == "noisy walk" else 0
        return x, walk(generator, x, name == "heavy walk") + noise
    values = (SMOOTH if kind == "smooth" else UNDER)[name](t, generator) + generator.normal(size=n)
    return x, values + (int(kind.split()[-1]) * (t > place(generator)) if kind.startswith("jump") else 0)


def report(case: str, n: int, simulations: int) -> dict:
    """Shares of the conclusions."""
    found = [
        measures.conclude(*simulate(case, n, np.random.default_rng([n, index])))["conclusion"]
        for index in range(simulations)
    ]
    shares = {name: found.count(name) / simulations for name in ("abrupt", "gradual", "nothing")}
    print(f"{n:3} {case:26}" + "".join(f" {name} {100 * share:4.0f} %" for name, share in shares.items()), flush=True)
    return {"case": case, "checkpoints": n, **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--only", default="", help="cases whose name starts so")
    args = parser.parse_args()
    started = time.monotonic()
    with threadpool_limits(1):
        rows = [report(case, n, args.simulations) for n in LENGTHS for case in CASES if case.startswith(args.only)]
    print(f"{time.monotonic() - started:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
