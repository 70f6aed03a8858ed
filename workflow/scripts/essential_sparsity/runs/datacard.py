"""The data card of a published study: what it asked and found, what the numbers mean, how to load it, what it was made of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from huggingface_hub import DatasetCard, DatasetCardData

from essential_sparsity import __version__, codefiles, patterns
from essential_sparsity.curves.intervals import COARSE, coarse, seeds
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.runs import sources
from essential_sparsity.runs.settled import Settled
from essential_sparsity.study import grid

TEMPLATE = Path(__file__).parents[3] / "report" / "data_card.md.jinja"
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")  # as the hub has them
UNKNOWN = "unknown"  # of a licence, as the hub writes it


def write(
    path: Path,
    found: Settled,
    rows: Mapping[str, int],
    packed: Mapping[str, list[Path]],
    licence: str,
    manifests: list[dict[str, Any]],
    commit: Mapping[str, Any],
) -> None:
    """Write the card of a study.

    `rows`, `packed`: rows and files of each table, beside the card; `licence`: of the tables, as the hub writes it; `manifests`: of the
    checkpoints and data sets; `commit`: of the workflow that writes it.
    """
    configurations = [
        {
            "config_name": name,
            **({"default": True} if name == "runs" else {}),
            "data_files": [{"split": "train", "path": [part.relative_to(path.parent).as_posix() for part in parts]}],
        }
        for name, parts in packed.items()
        if rows[name]
    ]
    data = DatasetCardData(
        pretty_name=f"Essential sparsity: {found.study.name}",
        license=licence,
        tags=["essential-sparsity", "pruning", "sparsity", "evaluation"],
        size_categories=[SIZES[min(max(len(str(sum(rows.values()))) - 3, 0), len(SIZES) - 1)]],
        configs=configurations,
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        study=found.study.name,
        asked=_asked(found),
        knees=_knees(found.knees),
        tables=[
            {"name": name, "rows": count, "says": codefiles.described(name)["description"]}
            for name, count in rows.items()
        ],
        apart=f"{COARSE:g}",
        shown=_example(found.knees),
        missing=found.missing.to_dict("records"),
        n_runs=len(found.grid) + len(found.missing),
        said=found.said,
        licence=None if licence == UNKNOWN else licence,
        models=[_source(found, manifest) for manifest in manifests if "model" in manifest],
        data=[_source(found, manifest) for manifest in manifests if "model" not in manifest],
        versions={
            name: sorted(found.runs[name].unique()) for name in ("workflow", "torch", "transformers", "hardware")
        },
        workflow=__version__,
        commit=commit,
    )
    DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(path)


def _asked(found: Settled) -> list[dict[str, Any]]:
    """What was measured on each task: models, patterns with their levels, seeds."""
    asked = []
    for task, own in found.grid.groupby("task", sort=True):
        pruned = own[own["pattern"] != "dense"]
        row = found.study.tasks[task]
        asked.append(
            {
                "task": task,
                "label": row["label"],
                "kind": row["kind"],
                "protocol": row["protocol"],
                "models": sorted(own["model"].unique()),
                "patterns": [
                    f"{_named(name)} at {_levels(part['sparsity'])}"
                    for name, part in pruned.groupby("pattern", sort=True)
                ],
                "seeds": sorted(map(int, own["seed"].unique())),
            }
        )
    return asked


def _named(pattern: str) -> str:
    """A pattern as it is typed, with its label where that says more."""
    label = patterns.find(pattern).label
    return f"`{pattern}`" if label == pattern else f"`{pattern}` ({label})"


def _levels(levels: pd.Series) -> str:
    found = sorted(set(levels))
    return (
        grid.level(found[0])
        if len(found) == 1
        else f"{len(found)} sparsities from {grid.level(found[0])} to {grid.level(found[-1])}"
    )


def _knees(knees: pd.DataFrame) -> list[dict[str, Any]]:
    """The headline rows of table `knees` with numbers as the card has them."""
    shown = []
    for row in knees[knees["headline"]].to_dict("records"):
        row = {name: None if pd.isna(value) else value for name, value in row.items()}
        bracket = _interval(row["bracket_low"], row["bracket_high"])
        if row["essential_sparsity"] is None:
            essential = f"none: {row['reason']}"
        else:
            essential = bracket if coarse(row) else grid.level(row["essential_sparsity"])
        shown.append(
            {name: row[name] for name in ("model", "task", "pattern", "metric", "epsilon", "scale")}
            | {
                "essential": essential,
                "interval": _interval(row["essential_sparsity_low"], row["essential_sparsity_high"]),
                "bracket": bracket,
                "dense": "undefined" if row["dense"] is None else f"{row['dense']:.6g}",
                "seeds": seeds(row, " to "),
                "better": "higher" if METRICS[row["metric"]].higher_is_better else "lower",
            }
        )
    return shown


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return "–"
    return f"{grid.level(low)} to {'beyond the last level' if high is None else grid.level(high)}"


def _example(knees: pd.DataFrame) -> dict[str, Any] | None:
    """A curve that the reader draws."""
    return next(iter(knees[knees["headline"]].to_dict("records")), None)


def _source(found: Settled, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint or data set, where it is from and under which licence."""
    return {
        "name": manifest.get("model") or manifest["dataset"],
        "source": sources.source(manifest),
        "revision": manifest.get("revision"),
        "licence": sources.licence(found.study.packages, manifest) or "see its source",
    }
