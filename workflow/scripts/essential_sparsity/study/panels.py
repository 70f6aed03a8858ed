"""Which curves stand beside each other in a figure of many panels, as the configuration's `figures: panels` says.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from essential_sparsity import errors, patterns
from essential_sparsity.study import kinds
from essential_sparsity.study.claims import MODEL_TYPES
from essential_sparsity.study.configuration import ConfigError, hint

ANY = set("*?[")  # of words that stand for several
FEWEST = 2  # tasks: one task has a figure of its own
KNOWN = {"types": MODEL_TYPES, "protocols": kinds.PROTOCOLS}


def check(panels: Mapping[str, Mapping[str, Any] | None] | None, where: str) -> None:
    """Refuse words that no model, task or pattern can have. ConfigError.

    Models and tasks are not looked up: a figure may be about rows that a study's own tables lack.
    """
    for name, wanted in (panels or {}).items():
        for key, words in (wanted or {}).items():
            place = f"{where}, figures.panels.{name}.{key}"
            for word in () if key == "caption" else words:
                if not ANY.isdisjoint(word):
                    continue
                if key in ("patterns", "beside"):
                    try:
                        patterns.find(word)
                    except errors.UserError as error:
                        raise ConfigError(f"{place}: {error}") from None
                if word not in KNOWN.get(key, (word,)):
                    raise ConfigError(
                        f"{place}: there is no {word!r}{hint(word, KNOWN[key])} Known: {', '.join(KNOWN[key])}."
                    )


def chosen(
    panels: Mapping[str, Mapping[str, Any] | None] | None,
    curves: Mapping[tuple[str, str], Sequence[str]],
    models: Mapping[str, Mapping[str, Any]],
    tasks: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, list]]:
    """Name of a figure -> its `lines`, (model, pattern), and its `tasks`, for those with two tasks or more.

    One that would show what another before it shows is left out.

    `curves`: the patterns of each (model, task) of the grid. A curve is in a figure when type of model, protocol, model, task and
    pattern are among those that its entry names (those it does not name: all; `*` stands for any letters), and its model and
    task also have a pattern of `beside`, where there is one.
    """
    found = {}
    for name, wanted in (panels or {}).items():
        if wanted is None:  # switched off
            continue
        lines, shown = set(), set()
        for (model, task), beside in curves.items():
            values = {
                "types": models[model]["type"],
                "protocols": tasks[task]["protocol"],
                "models": model,
                "tasks": task,
            }
            if not all(_among(value, wanted.get(key)) for key, value in values.items()):
                continue
            if "beside" in wanted and not any(_among(pattern, wanted["beside"]) for pattern in beside):
                continue
            own = [pattern for pattern in beside if pattern != "dense" and _among(pattern, wanted.get("patterns"))]
            lines |= {(model, pattern) for pattern in own}
            shown |= {task} if own else set()
        figure = {"lines": sorted(lines), "tasks": sorted(shown)}
        if len(shown) >= FEWEST and figure not in found.values():
            found[name] = figure
    return found


def _among(value: str, wanted: Sequence[str] | None) -> bool:
    return wanted is None or any(fnmatchcase(value, one) for one in wanted)
