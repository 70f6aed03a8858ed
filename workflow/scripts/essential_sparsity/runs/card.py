"""The model card of an exported checkpoint: what it is, how it scores beside its curve, what it was made of, what its zeros buy."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from huggingface_hub import ModelCard, ModelCardData

from essential_sparsity import patterns, tasks
from essential_sparsity.curves.intervals import coarse
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.pruning.masks import Level
from essential_sparsity.runs import sources
from essential_sparsity.runs.chosen import Chosen
from essential_sparsity.study import grid

TEMPLATE = Path(__file__).parents[3] / "report" / "model_card.md.jinja"
LICENCES = {  # of packages, as the hub writes them; any other is `other` there, by its name
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "BSD-3-Clause": "bsd-3-clause",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "LGPL-2.1": "lgpl-2.1",
}
SCORES = {
    "magnitude": "the weights of smallest magnitude",
    "random": "random weights",
    "given": "the weights that a lottery ticket leaves out, found by iterative pruning on this task",
    "wanda": "the weights with the smallest product of magnitude and norm of the input (Wanda)",
    "sparsegpt": "weights chosen by SparseGPT, which changes those that stay to make up for them",
}
ALLOCATIONS = {
    "all": "over all prunable weights together",
    "matrix": "the same share of each matrix",
    "erk": "of each matrix by Erdős–Rényi densities",
    "owl": "of each block by its outliers (OWL)",
    "counts of global": "as many of each matrix as magnitude over all would take",
}


def write(
    path: Path,
    chosen: Chosen,
    manifest: Mapping[str, Any],
    level: Level,
    zeros: int,
    sizes: Mapping[str, int],
    commit: Mapping[str, Any],
    options: Mapping[str, Any],
    again: float | None,
    train: bool = False,
    pixels: Mapping[str, Any] | None = None,
) -> None:
    """Write the card of a run's checkpoint.

    `manifest`: of the checkpoint that was pruned; `zeros`: prunable weights that are zero, pruned or not; `sizes`: bytes, as `exporting.Exported` has them; `commit`: of the workflow; `options`: of
    the model's configuration when it was evaluated; `again`: the headline metric at the export; `train`: the weights are those after fine-tuning;
    `pixels`: how images were fed to it.
    """
    run, row = chosen.found.iloc[0], chosen.row
    settings, model = chosen.study.tasks[row["task"]], chosen.study.models[row["model"]]
    pattern, trained = patterns.find(row["pattern"]), settings["protocol"] == "finetune"
    licence, licence_text = _licence(chosen, manifest)
    hub = manifest["source"] == "hub"
    data = ModelCardData(
        library_name="transformers",
        base_model=manifest["id"] if hub else None,
        license=licence,
        license_name=re.sub(r"[^a-z0-9.]+", "-", licence_text.lower()).strip("-") if licence == "other" else None,
        tags=["essential-sparsity", "pruned", "sparse", pattern.name],
    )
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    body = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        label=model["label"],
        study=chosen.study.name,
        row=row,
        run={name: None if pd.isna(value) else value for name, value in run.items()},
        pattern=pattern,
        chosen_by=_words(pattern),
        level=level,
        zeros=zeros,
        level_text=chosen.level,
        said=chosen.said,
        trained=trained,
        after=train,
        protocol=settings["protocol"],
        settings=settings,
        auto_class="AutoModel" if trained and not train else tasks.auto_class(settings),
        options="".join(f", {name}={value!r}" for name, value in sorted(options.items())),
        vision=model["type"] == "vision",
        bos=bool(manifest.get("add_bos_token")) and (settings["kind"] == "perplexity" or pd.notna(row["calibration"])),
        pixels=pixels,
        own_processor=any(entry["path"].endswith("processor_config.json") for entry in manifest["files"]),
        metric=METRICS[chosen.metric],
        knee=_knee(chosen),
        seeds=sorted(map(int, chosen.curve["seed"].unique())),
        levels=_levels(chosen),
        again=None if again is None else number(again),
        sizes=sizes,
        source=sources.source(manifest),
        revision=manifest["revision"],
        note=manifest["note"],
        weights_sha256=manifest["weights_sha256"],
        commit=commit,
        licence=licence_text,
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(path)


def number(value: float | None) -> str:
    """A value of a metric as the card has it, six digits of it."""
    return "undefined" if value is None or pd.isna(value) else f"{value:.6g}"


def _words(pattern: patterns.Pattern) -> str:
    """Which weights a pattern takes away."""
    score = SCORES.get(pattern.score, f"the weights of smallest score (`{pattern.score}`)")
    if pattern.structure == "nm":
        return f"{score}, so many of every {pattern.group} consecutive inputs of an output"
    if pattern.score == "given":
        return score
    rows = ", alike of each output" if pattern.structure == "rows" else ""
    return f"{score}, {ALLOCATIONS[pattern.allocation]}{rows}"


def _knee(chosen: Chosen) -> dict[str, Any] | None:
    """The row of table `knees` with numbers as the card has them; whether the level is above the essential sparsity."""
    if chosen.knee is None:
        return None
    found = {name: None if pd.isna(value) else value for name, value in chosen.knee.items()}
    known = found["essential_sparsity"]
    found["coarse"] = known is not None and coarse(found)
    found["above"] = known is not None and chosen.row["sparsity"] > known + 1e-9
    names = [f"{name}{end}" for name in ("essential_sparsity", "bracket") for end in ("", "_low", "_high")]
    shown = {name: None if found.get(name) is None else grid.level(found[name]) for name in names}
    return found | {"shown": shown}


def _levels(chosen: Chosen) -> list[dict[str, Any]]:
    """Each measured level of the curve with the metric of each seed."""
    table = chosen.curve.pivot_table(index="sparsity", columns="seed", values="value", dropna=False)
    return [
        {
            "level": grid.level(level),
            "own": abs(level - chosen.row["sparsity"]) < 1e-9,
            "values": [number(value) for value in values],
        }
        for level, values in zip(table.index, table.to_numpy(), strict=True)
    ]


def _licence(chosen: Chosen, manifest: Mapping[str, Any]) -> tuple[str, str]:
    """The licence of the weights as the hub writes it, and as the packages table does."""
    said = sources.licence(chosen.study.packages, manifest)
    if said is None:
        return "unknown", ""
    parts = [part.strip() for part in said.split(",")]
    own = next((part for part in parts if part.endswith("(weights)")), said)
    name = own.removesuffix("(weights)").strip()
    return LICENCES.get(name, "other"), name
