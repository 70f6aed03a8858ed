"""The tables of a finished study in a notebook: pandas frames, one curve, its figure.

    from essential_sparsity.reader import read
    read("demo").plot(model="minilm", task="ws353", pattern="global")

What draws is imported when it is asked for. What tables hold stands in docs/tables.md.
"""

from __future__ import annotations

import io
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from essential_sparsity import errors, files, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = "results"
STORE = "store"  # beside the studies


def read(study: str, root: str | Path = ".") -> Results:
    """The results of a study; `root`: the repository's folder, or wherever `results/` lies. Raises UserError, listing the studies there are."""
    folder = Path(root) / RESULTS / study
    if study == STORE or not (folder / "tables").is_dir():
        known = sorted(path.parent.name for path in (Path(root) / RESULTS).glob("*/tables"))
        raise errors.UserError(
            f"{folder}/tables is not there: the study {study!r} has not been run{_near(study, known)} There are: "
            f"{', '.join(known) or 'none'}. `root` says in which folder results/ lies, here {Path(root).resolve()}."
        )
    return Results(folder)


class Results:
    """The tables of one study, each read when it is asked for: `results["runs"]` or `results.runs`.

    A table is checked against its schema, and one of another version refused by name (ValueError): the workflow's code and the study must be
    of one version. Frames are the reader's own copies.
    """

    def __init__(self, folder: str | Path):
        """`folder`: of a study, or one that `make publish` wrote."""
        self.folder = Path(folder)
        self._read: dict[str, pd.DataFrame] = {}

    def __repr__(self) -> str:
        return f"{self.folder.name}: {', '.join(self.names())}"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.names()]

    def __getitem__(self, name: str) -> pd.DataFrame:
        path = self.folder / f"tables/{name}.parquet"
        if not path.is_file():
            raise errors.UserError(
                f"{path} is not there{_near(name, self.names())} This study has: {', '.join(self.names())}."
            )
        if name not in self._read:
            self._read[name] = tables.read(path, name)
            self._compare(path)
        return self._read[name].copy()

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name.startswith("_") or name not in self.names():
            raise AttributeError(f"{name!r} is no table of this study, which has: {', '.join(self.names())}")
        return self[name]

    def _compare(self, path: Path) -> None:
        """Warn of a table that the study's provenance, where there is one, was not written of."""
        from essential_sparsity.tables import crate

        written = self.folder / crate.NAME
        if not written.is_file():
            return
        listed = {entity["@id"]: entity.get("sha256") for entity in files.read_json(written)["@graph"]}
        if listed.get(path.relative_to(self.folder).as_posix()) != files.sha256_file(path):
            warnings.warn(
                f"{path} is no table that {written} was written of: it is of an earlier configuration or another call. Run the study "
                "again (or `make tables`, of what is there), which makes what it asks for and names what it does not.",
                stacklevel=3,
            )

    def names(self) -> list[str]:
        """The tables that are there."""
        return sorted(path.stem for path in (self.folder / "tables").glob("*.parquet"))

    def curve(self, model: str, task: str, pattern: str, metric: str | None = None) -> pd.DataFrame:
        """One row per measured level, dense first: `sparsity`, `value` (mean over seeds), `low` and `high` (of the seeds), `n_seeds`.

        The mean is that of figures and knees, on the metric's fitted scale; where a level lacks seeds, it and the range stand as far from the
        dense mean as the level's own runs do from the dense runs of their seeds. `metric`: default the task's headline. UserError lists what
        there is.
        """
        from essential_sparsity.curves.means import level_means
        from essential_sparsity.curves.metrics import METRICS, headline

        own = self._of(model, task, pattern)
        means = level_means(own)
        means = means[means["pattern"] == pattern]
        if means.empty:
            raise errors.UserError(f"No run of {model} on {task}, pattern {pattern}, has a defined metric.")
        name = metric or headline(own["metric"])
        _known("metric", name, means["metric"], f"{model} on {task}, pattern {pattern}")
        means = means[means["metric"] == name]
        shown = means[["quality", "low", "high"]].map(METRICS[name].value)
        ends = shown[["low", "high"]]
        found = {
            "sparsity": means["sparsity"],
            "value": shown["quality"],
            "low": ends.min(axis=1),
            "high": ends.max(axis=1),
        }
        return pd.DataFrame(found | {"n_seeds": means["n_seeds"]}).reset_index(drop=True)

    def knee(self, model: str, task: str, pattern: str) -> pd.Series:
        """The row of table `knees` of a curve and its headline metric: essential sparsity, interval, bracket, flags. UserError."""
        knees = self["knees"]
        for column, value in {"model": model, "task": task, "pattern": pattern}.items():
            _known(column, value, knees[column], "the table of knees")
            knees = knees[knees[column] == value]
        return knees[knees["headline"]].iloc[0]

    def items(self, model: str, task: str) -> pd.DataFrame:
        """The evaluated items behind the runs of a model and task, the dense ones too: rows of table `items`, of the levels in the study alone.

        Raises UserError listing what there is, or naming a file that is not the one that its runs were written with.
        """
        from essential_sparsity.tables import runs

        own = self._of(model, task, None)
        if published := sorted((self.folder / "items").glob("*.parquet")):
            parts = (tables.read(path, "items") for path in published)
            return pd.concat(
                [part[(part["model"] == model) & (part["task"] == task)] for part in parts], ignore_index=True
            )
        grid = tables.read(self.folder / "grid.parquet", "grid")
        grid["items"] = [str(self.folder.parents[1] / path) for path in grid["items"]]
        return runs.items(grid)(own).merge(own[runs.KEY].drop_duplicates(), on=runs.KEY)

    def plot(self, model: str, task: str, pattern: str | None = None) -> Drawing:
        """The curve of a pattern (default: of all) with its essential sparsity and interval, as the study's figures show it. UserError."""
        from essential_sparsity.figures import curves

        runs, knees = self._of(model, task, pattern), self["knees"]
        if pattern is not None:
            knees = knees[knees["pattern"] == pattern]
        return Drawing(curves.curve(runs, knees, model, task))

    def _of(self, model: str, task: str, pattern: str | None) -> pd.DataFrame:
        """The runs of a curve and of the dense model, over the seeds of the curve; of all patterns where none is named."""
        runs = self["runs"]
        for column, value in {"model": model, "task": task}.items():
            _known(column, value, runs[column], f"the study {self.folder.name}")
            runs = runs[runs[column] == value]
        if pattern is None:
            return runs
        _known("pattern", pattern, set(runs["pattern"]) - {"dense"}, f"{model} on {task}")
        own = runs["pattern"] == pattern
        return runs[own | ((runs["pattern"] == "dense") & runs["seed"].isin(runs.loc[own, "seed"]))]


class Drawing:
    """A figure that a notebook shows where it is the last line of a cell; `figure` is matplotlib's, `save` writes .svg, .png or .pdf."""

    def __init__(self, figure: Figure):
        self.figure = figure

    def save(self, path: str | Path) -> None:
        """Write it, the same bytes for the same data."""
        from essential_sparsity.figures import style

        style.save(self.figure, path)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure.savefig(stream, format="png", dpi=150)
        return stream.getvalue()


def _known(column: str, value: str, known: object, where: str) -> None:
    names = sorted(set(known))
    if value not in names:
        raise errors.UserError(f"{where} has no {column} {value!r}{_near(value, names)} It has: {', '.join(names)}.")


def _near(value: str, known: list[str]) -> str:
    close = get_close_matches(value, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."
