"""Arithmetic expressions in prefix order over the numbers of a problem: read, evaluated, and as ids of a vocabulary.

A token is an operator (str), a constant (float) or the index of one of the problem's numbers (int), which is written
`number0`, `number1`, …: "- number0 / number1 100.0". Standard library only.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Token = str | float | int
OPERATORS = ("+", "-", "*", "/")  # always in the vocabulary
POWER = "^"  # where it occurs
NUMBER = re.compile(r"\bnumber([0-9]+)\b")


def read(text: str) -> list[Token]:
    """The tokens of one whole expression, separated by blanks. Raises ValueError, which says what is wrong."""
    tokens = [_token(word) for word in text.split()]
    open_ = 1  # operands that are still to come
    for place, token in enumerate(tokens, 1):
        open_ += 1 if isinstance(token, str) else -1
        if not open_ and place < len(tokens):
            raise ValueError(f"it is complete after {place} of {len(tokens)} tokens")
    if open_:
        raise ValueError(f"it ends {open_} operands too early" if tokens else "it is empty")
    return tokens


def _token(word: str) -> Token:
    if word in (*OPERATORS, POWER):
        return word
    if number := NUMBER.fullmatch(word):
        return int(number[1])
    try:
        constant = float(word)
    except ValueError:
        constant = math.nan
    if not math.isfinite(constant):
        raise ValueError(
            f"{word!r} is no operator ({' '.join((*OPERATORS, POWER))}), no number0, number1, … and no constant"
        )
    return constant


def value(tokens: Sequence[Token], numbers: Sequence[float]) -> float:
    """The value of an expression; NaN where it has none that is a finite real number (division by zero, overflow)."""
    found: list[float] = []
    try:
        for token in reversed(tokens):
            if isinstance(token, str):
                found.append(_applied(token, found.pop(), found.pop()))
            else:
                found.append(numbers[token] if isinstance(token, int) else token)
    except (ZeroDivisionError, OverflowError):
        return math.nan
    (result,) = found
    return result if not isinstance(result, complex) and math.isfinite(result) else math.nan


def _applied(operator: str, left: float, right: float) -> float:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left / right if operator == "/" else left**right


@dataclass(frozen=True)
class Vocabulary:
    """Operators, then constants in ascending order: their ids count from 0; the problem's numbers follow them."""

    operators: tuple[str, ...]
    constants: tuple[float, ...]

    @classmethod
    def of(cls, expressions: Iterable[Sequence[Token]]) -> "Vocabulary":
        """What occurs in some expressions, and the four operators."""
        tokens = {token for expression in expressions for token in expression if not isinstance(token, int)}
        constants = tuple(sorted(token for token in tokens if isinstance(token, float)))
        return cls((*OPERATORS, POWER) if POWER in tokens else OPERATORS, constants)

    @property
    def symbols(self) -> int:
        """How many ids are no number of a problem."""
        return len(self.operators) + len(self.constants)

    def ids(self, expression: Sequence[Token]) -> list[int]:
        """The ids of an expression whose operators and constants are in the vocabulary."""
        known: tuple[Token, ...] = (*self.operators, *self.constants)
        return [self.symbols + token if isinstance(token, int) else known.index(token) for token in expression]

    def tokens(self, ids: Iterable[int]) -> list[Token]:
        """The inverse of `ids`."""
        known: tuple[Token, ...] = (*self.operators, *self.constants)
        return [known[id_] if id_ < self.symbols else id_ - self.symbols for id_ in ids]
