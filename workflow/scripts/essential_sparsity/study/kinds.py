"""The kinds of task: each is one module that declares itself, and is read here without being imported.

A module of `essential_sparsity/tasks/`, or of the folder `extensions/` beside the programs, is a kind when it holds a
top-level literal `KIND = {...}`; `text_similarity.py` is the kind `text-similarity`. Its keys:

- `models`: types of model that it can evaluate (column `type` of the models table);
- `protocols`: protocol -> `auto_class`, the transformers class that it loads, and `columns`, those of the tasks table that
  it needs beside the kind's own;
- `columns`: those that the kind needs under any protocol;
- `further_columns`: those that it reads where a row fills them; others that decide numbers are refused. Left out: none is;
- `formats`: formats of data that it alone reads, and it no others; left out, it reads all that no kind has to itself;
- `metrics`: what is tabulated where the column `metrics` is blank, in order; `further_metrics`: what can be asked beside it;
- `cost`: what a run asks a cluster for, see `Cost`.

Standard library only: every parse of the Snakefile and every run reads the declarations.
"""

import ast
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from essential_sparsity import codefiles, errors

PROTOCOLS = (
    "zero-shot",
    "probe",
    "knn",
    "finetune",
)  # those that evaluations know, and what jobs take is worked out for
TRAINING = (
    "epochs",
    "learning_rate",
    "head_learning_rate",
    "batch_size",
    "autocast",
    "gradient_checkpointing",
)  # columns of the tasks table that the protocol finetune reads, of any kind
EVALUATED = ("validation", "test")  # splits that are there to be evaluated, whatever else stands beside train
HELD_OUT = "held-out"  # in the column eval_split: evaluate the training rows that `held_out` keeps from training
# The assignment with the lines that belong to it: blank, indented, or closing. The rest of a module is not parsed.
ASSIGNMENT = re.compile(r"^KIND\b[^\n]*(?:\n(?:[ \t\])}#][^\n]*)?(?=\n|\Z))*", re.MULTILINE)


class KindError(errors.UserError):
    """A declaration is wrong: the message names the file, the key, what was found and what was expected."""


def evaluable(splits: Iterable[str]) -> list[str]:
    """The splits of a data set, of which one is evaluated where no task says which: those of `EVALUATED`, or else all beside train."""
    others = [split for split in splits if split not in ("train", "all")]
    return [split for split in EVALUATED if split in others] or others


@dataclass(frozen=True)
class Protocol:
    """What one protocol of a kind needs."""

    auto_class: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What a run asks for beside the size of its model.

    `passes`: of the model over each evaluated item: a number, or the column that says it (blank there: one a token).
    `scored_at_once`: items of an evaluation batch. `language_logits`: the logits of all words are held for each token.
    `head`: weights of a head that count beside the model's own.
    """

    passes: int | str = 1
    scored_at_once: int = 32
    language_logits: bool = False
    head: int = 0


@dataclass(frozen=True)
class Kind:
    """One kind of task, as the module's docstring says it; `file` holds the declaration."""

    name: str
    file: str
    models: tuple[str, ...]
    protocols: Mapping[str, Protocol]
    metrics: tuple[str, ...]
    further_metrics: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    further_columns: tuple[str, ...] | None = None
    formats: tuple[str, ...] = ()
    cost: Cost = Cost()


def declared() -> dict[str, Kind]:
    """All kinds by name, sorted. Raises KindError for the first declaration that is wrong."""
    return _declared(codefiles.TASKS, codefiles.EXTENSIONS)


@cache
def _declared(*folders: Path) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.py"))):
        kind, name = read(path), path.stem.replace("_", "-")
        if name in found:  # though it declares none: it would be loaded as the code of that kind
            raise KindError(
                f"{os.path.relpath(path)}: the kind {name!r} stands in {found[name].file} already; rename one."
            )
        if kind:
            found[name] = kind
    return dict(sorted(found.items()))


def read_columns(kind: Kind, protocol: str) -> set[str] | None:
    """The columns of a row that its kind reads under a protocol; None where the kind does not say."""
    if kind.further_columns is None:
        return None
    return {*kind.columns, *kind.further_columns, *kind.protocols[protocol].columns} | (
        {*TRAINING} if protocol == "finetune" else set()
    )


def read(path: Path) -> Kind | None:
    """The kind that a module declares; None where it declares none. Raises KindError."""
    match = ASSIGNMENT.search(path.read_text(encoding="utf-8"))
    if not match:
        return None
    file = os.path.relpath(path)
    try:
        value = ast.literal_eval(ast.parse(match[0]).body[0].value)
    except (SyntaxError, TypeError, ValueError) as error:
        raise KindError(
            f"{file}: KIND is no literal ({error}); write one dictionary of texts, numbers, lists and dictionaries, its lines indented."
        ) from None
    known = _record(Kind, DECLARATION, value, f"{file}, KIND")
    return Kind(name=path.stem.replace("_", "-"), file=file, **known)


def tabulated(task: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that the table of runs holds of a task: those that its row names, else the usual ones of its kind."""
    return tuple(task["metrics"].split(",")) if task.get("metrics") else declared()[task["kind"]].metrics


Reader = Callable[[Any, str], Any]  # (value, where it stands) -> the checked value


def _record(type_: type, keys: Mapping[str, Reader], value: Any, where: str) -> dict[str, Any]:
    """A dictionary with these keys, those that `type_` has no default for being required, each read by its own reader."""
    if not isinstance(value, dict):
        raise KindError(f"{where}: {value!r} is no dictionary; expected the keys {', '.join(keys)}.")
    for key in value:
        if key not in keys:
            raise KindError(f"{where}: unknown key {key!r}; known are {', '.join(keys)}.")
    for field in fields(type_):
        if field.name in keys and field.name not in value and field.default is MISSING:
            raise KindError(f"{where}: the key {field.name!r} is missing.")
    return {key: keys[key](given, f"{where}, key {key}") for key, given in value.items()}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise KindError(f"{where}: {value!r} is no text.")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part for part in value):
        raise KindError(f"{where}: {value!r} is no list of texts.")
    return tuple(value)


def _some(value: Any, where: str) -> tuple[str, ...]:
    if not _texts(value, where):
        raise KindError(f"{where}: the list is empty; at least one is needed.")
    return tuple(value)


def _number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise KindError(f"{where}: {value!r} is no whole number from 1 on.")
    return value


def _passes(value: Any, where: str) -> int | str:
    return value if isinstance(value, str) and value else _number(value, where)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise KindError(f"{where}: {value!r} is neither True nor False.")
    return value


def _protocols(value: Any, where: str) -> dict[str, Protocol]:
    keys = {"auto_class": _text, "columns": _texts}
    if not isinstance(value, dict) or not value or set(value) - set(PROTOCOLS):
        raise KindError(
            f"{where}: {value!r} is no dictionary from protocols, of {', '.join(PROTOCOLS)}, to what they need."
        )
    return {name: Protocol(**_record(Protocol, keys, given, f"{where}, {name}")) for name, given in value.items()}


def _cost(value: Any, where: str) -> Cost:
    keys = {"passes": _passes, "scored_at_once": _number, "language_logits": _flag, "head": _number}
    return Cost(**_record(Cost, keys, value, where))


DECLARATION: dict[str, Reader] = {
    "models": _some,
    "protocols": _protocols,
    "metrics": _some,
    "further_metrics": _texts,
    "columns": _texts,
    "further_columns": _texts,
    "formats": _texts,
    "cost": _cost,
}
