"""The tables of a study as one page to look around in: the data inside it, drawn by plotly, nothing loaded from elsewhere."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from essential_sparsity import __version__
from essential_sparsity.figures import explored, inventory, style

MARKUP = "page.html.jinja"
PARTS = (
    "tables",
    "elements",
    "state",
    "charts",
    "curves",
    "pairs",
    "layers",
    "items",
    "controls",
    "page",
)  # in this order


def page(
    found: Mapping[str, pd.DataFrame],
    grid: pd.DataFrame,
    study: str,
    labels: Mapping[str, Mapping[str, str]],
    folder: str | Path,
) -> str:
    """The page (HTML) of a study.

    `found`: name -> table: runs, knees, comparisons, layers, missing_runs, and differences, references where it has them; `labels`: {"models": {id: name}, "tasks": {id: name}}, in the order in which
    they are shown; `folder`: of the page's markup and of what it does.
    """
    data = contents(found, grid, labels)
    scripts = [get_plotlyjs(), _script(Path(folder))]
    rendered = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return rendered.from_string(Path(folder, MARKUP).read_text(encoding="utf-8")).render(
        study=study,
        version=__version__,
        parts=inventory.inventory(found, grid, labels),
        left_out=data["left_out"],
        hashes=[_hash(text) for text in scripts],
        data=_text(data | {"study": study}),
        scripts=scripts,
    )


def _script(folder: Path) -> str:
    """The parts of what the page does, as one function: what a part says, those after it know."""
    parts = [Path(folder, f"{name}.js").read_text(encoding="utf-8") for name in PARTS]
    return "\n".join(['"use strict";', "(() => {", *parts, "})();", ""])


def contents(
    found: Mapping[str, pd.DataFrame], grid: pd.DataFrame, labels: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """What the page draws, as JSON has it; the arguments are those of `page`."""
    left_out: list[str] = []
    runs = found["runs"]
    curves = explored.curves(runs, left_out)
    knees = explored.knees(found["knees"], curves)
    compared = explored.comparisons(found["comparisons"], left_out)
    different = explored.differences(found["differences"], left_out) if "differences" in found else pd.DataFrame()
    layers = explored.layers(found["layers"], left_out)
    flipped, unflipped = explored.items(runs, grid, left_out)
    names = {name for frame in (runs, found["layers"], grid) for name in frame["pattern"]}
    shown = {
        what: _labelled(labels[what], {name for frame in (grid, found["layers"]) for name in frame.get(column, ())})
        for what, column in (("models", "model"), ("tasks", "task"))
    }
    return {
        **shown,
        "patterns": explored.looks(sorted(names)),
        "colours": [[colour, explored.SYMBOLS[marker]] for colour, marker in style.STYLES.values() if colour],
        "metrics": explored.metrics(sorted(set(runs["metric"]))),
        "curves": packed(curves),
        "knees": packed(knees),
        "comparisons": packed(compared),
        "differences": packed(different),
        "layers": {"models": layers["models"], "levels": packed(pd.DataFrame(layers["levels"]))},
        "items": flipped,
        "without_items": unflipped,
        "left_out": left_out,
    }


def _labelled(labels: Mapping[str, str], names: set[str]) -> dict[str, str]:
    """Names that the study has with what figures call them, in the order of the labels."""
    return {name: labels.get(name, name) for name in [*labels, *sorted(names - set(labels))] if name in names}


def packed(frame: pd.DataFrame) -> dict[str, Any]:
    """A table by columns, small: of texts the different ones and the place of each, of what is the same in all rows one."""
    return {"rows": len(frame), "columns": {name: _column(frame[name].tolist()) for name in frame}}


def _column(values: Sequence[Any]) -> dict[str, Any]:
    values = [explored.known(value) for value in values]
    if values and all(type(value) is type(values[0]) and value == values[0] for value in values):
        return {"all": values[0]}
    if any(isinstance(value, str | list) for value in values):
        keys = [json.dumps(value) for value in values]
        different = dict(zip(keys, values, strict=True))
        if len(different) <= len(values) / 2 or all(isinstance(value, str | None) for value in values):
            place = {key: number for number, key in enumerate(different)}
            return {"of": list(different.values()), "at": [place[key] for key in keys]}
    return {"each": values}


def _text(data: Mapping[str, Any]) -> str:
    """JSON that no element of HTML can begin or end in."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _hash(script: str) -> str:
    """What a content security policy calls a script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
