"""One job: a model, a task and a pattern over one or more sparsities, with everything shared loaded once."""

import copy
import dataclasses
import functools
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import transformers

import essential_sparsity
from essential_sparsity import errors, patterns, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import masks
from essential_sparsity.pruning.masks import Level
from essential_sparsity.runs import smoke
from essential_sparsity.tasks import Outcome
from essential_sparsity.training import devices, finetuning, resume

DIVERGED = "training diverged"
CALIBRATION_COLUMNS = {
    "calibration": "string",
    "calibration_sequences": "Int64",
    "calibration_tokens": "Int64",
    "calibration_seed": "Int64",
    "calibration_drawn_sha256": "string",
    "damping": "Float64",
    "uncalibrated": "Int64",
}
CALIBRATED, CALIBRATING = (
    "essential_sparsity.pruning.calibrated",
    "essential_sparsity.tasks.calibrating",
)  # loaded by name:
# they decide the runs of patterns that need calibration alone


def evaluate(
    folder: str | Path,
    data: pd.DataFrame,
    settings: Mapping[str, Any],
    pattern: str,
    sparsities: Sequence[float],
    seed: int,
    device: str = "cpu",
    tickets: Mapping[float, Mapping[str, torch.Tensor]] | None = None,
    work: resume.Work | None = None,
    cache: Path | None = None,
    gpus: int = 1,
    calibration: pd.DataFrame | None = None,
) -> Iterator[tuple[Level, Outcome]]:
    """Yield (Level, Outcome) per sparsity, ascending.

    `folder` holds the checkpoint, `data` the canonical frame of the data set; `settings` is the task row with the
    model row's `allow_pickle`, `allow_unused` and `add_bos_token`. Masks are chosen on the weights in their stored dtype. Zero-shot and probe prune one
    loaded model further and further (masks are nested); fine-tuning starts from the dense weights at every level, and
    holds the masks but where the pattern lets them go: there the zeros train like any other weight, and the Level says
    how sparse the model was before training. A model whose training diverged is evaluated as it stands. `tickets`: where training found the masks, sparsity -> tensor name -> bool
    mask. A dense model goes through a smoke evaluation first (`smoke.check`). What a pattern's score reads beside the weights is measured once, on the dense model. `work`: where
    fine-tuning keeps its checkpoints, and what decides checkpoint, data and code; its caller clears it when the results are
    safe. `cache`: the folder of tokenised texts. `gpus`: over how many a model is spread that is not trained here.
    `calibration`: the frame of the data that the pattern is calibrated on, as `settings["calibration"]` says; each level of
    such a pattern starts from the dense weights.
    """
    task = tasks.load(settings["kind"])
    auto_class = tasks.auto_class(settings)
    load = loading.permissions(settings)
    prepared = task.prepare(folder, data, settings, seed, cache)
    sparsities = sorted(sparsities)
    calibrated = None
    if patterns.find(pattern).needs == "calibration":
        calibrating = importlib.import_module(CALIBRATING)
        texts = calibrating.documents(data, prepared)
        bos = settings.get("add_bos_token", False)
        drawn = calibrating.draw(settings["calibration"], folder, calibration, prepared, texts, seed, bos)
        calibrated = functools.partial(
            importlib.import_module(CALIBRATED).Plan, pattern, calibration=drawn, seed=seed, device=device
        )
    if settings["protocol"] == "finetune":
        pristine = finetuning.load_trainable(folder, auto_class, seed, prepared.model_options, prepared.head, **load)
        measured = None
        for sparsity in sparsities:
            model = copy.deepcopy(pristine) if len(sparsities) > 1 else pristine
            if pattern == "dense":
                smoke.check(model.to(device), prepared, settings, device)
            if calibrated:
                kept = work and functools.partial(pruned_blocks, work, pattern, settings, drawn, device)
                plan = calibrated(model=model.to("cpu"), place=kept, remember=True)
            else:
                if measured is None:
                    measured = statistics(model.to(device), pattern, seed)
                plan = make_plan(model.to(device), pattern, [sparsity], seed, tickets, measured)
            pruned = dict(plan.masks(sparsity))
            level = plan.prune_(sparsity)
            model.to(device)
            pruned = {name: mask.to(device) for name, mask in pruned.items()}
            held = pruned if plan.pattern.held else {}
            told = {} if plan.pattern.held else {"pruned": resume.digest(pruned)}
            told |= {"pruned": resume.digest(pruned), "drawn": drawn.sha256} if calibrated else {}
            place = work and work.of(f"{sparsity:.3f}", pattern=pattern, sparsity=sparsity, **told)
            diverged = finetuning.train_(model, prepared.train, prepared.collate, settings, seed, held, device, place)
            check_count(pruned, level)
            outcome = task.run(model, prepared, settings, seed, device)
            yield level, dataclasses.replace(outcome, collapsed=DIVERGED) if diverged else outcome
        return
    # a pooler is not read here, and many checkpoints lack the one that AutoModel adds: it may be anything
    model = loading.load_model(folder, auto_class, allow_new=("pooler.",), **prepared.model_options, **load)
    if calibrated:
        kept = work and functools.partial(pruned_blocks, work, pattern, settings, drawn, device)
        plan = calibrated(model=model, place=kept)
        for sparsity in sparsities:
            if sparsity != sparsities[0]:
                devices.gather(model)
                importlib.import_module(CALIBRATED).restore_(model, folder, load["allow_pickle"])
            level = plan.prune_(sparsity)
            devices.place(model, device, gpus)
            yield level, task.run(model, prepared, settings, seed, device)
            plan.forget(sparsity)
        return
    devices.place(model, device, gpus)
    if pattern == "dense":
        smoke.check(model, prepared, settings, device)
    measured = statistics(model, pattern, seed)
    plan = make_plan(model, pattern, sparsities, seed, tickets, measured)
    for sparsity in sparsities:
        level = plan.prune_(sparsity)
        yield level, task.run(model, prepared, settings, seed, device)


def statistics(model: torch.nn.Module, pattern: str, seed: int) -> Mapping[str, Any] | None:
    """What the pattern's score reads beside the weights, by its own function on the dense model; None where it has none."""
    reference = patterns.find(pattern).statistics
    return patterns.load(reference)(model, loading.prunable_parameters(model), seed) if reference else None


def make_plan(
    model: torch.nn.Module,
    pattern: str,
    sparsities: Sequence[float],
    seed: int,
    tickets: Mapping[float, Mapping[str, torch.Tensor]] | None = None,
    measured: Mapping[str, Any] | None = None,
) -> masks.Plan:
    """The plan over the model's own weights, which it zeroes in place."""
    return masks.plan(pattern, loading.prunable_parameters(model), sparsities, seed, tickets, measured)


def pruned_blocks(
    work: resume.Work, pattern: str, settings: Mapping[str, Any], drawn: Any, device: str, sparsity: float
) -> tuple[Path, dict]:
    """Where the blocks of a level that are pruned already outlive a killed job, and what decides their bits."""
    told = {"pattern": pattern, "sparsity": sparsity, "drawn": drawn.sha256, "drawn_with": drawn.seed}
    found = work.of(f"calibrated-{sparsity:.3f}", settings=dict(settings), **told, **resume.versions(device))
    return found.folder, dict(found.identity)


def check_count(pruned: Mapping[str, torch.Tensor], level: Level) -> None:
    """The masks that training was given are the ones that the level counts."""
    count = sum(int(mask.sum()) for mask in pruned.values())
    if count != level.k:
        raise finetuning.TrainingError(f"Training held {count} pruned weights, but the level has {level.k}.")


def run_rows(level: Level, outcome: Outcome, manifest: Mapping[str, Any], protocol: str) -> pd.DataFrame:
    """One row per metric of table `runs`, but for the key columns model, task, pattern and seed.

    Raises ValueError when the model that was loaded has other prunable weights than its manifest says.
    """
    if level.n != manifest["n_prunable"]:
        raise errors.UserError(
            f"{level.n} prunable weights were loaded, but the manifest counts {manifest['n_prunable']}: this version "
            "of the workflow or of transformers finds other weights. Delete the manifest's folder and run again."
        )
    return pd.DataFrame(
        {
            "metric": list(outcome.metrics),
            "value": pd.Series(list(outcome.metrics.values()), dtype="float64"),
            "sparsity": level.sparsity,
            "protocol": protocol,
            "collapsed": pd.array([outcome.collapsed] * len(outcome.metrics), dtype="string"),
            "n_items": [outcome.counts.get(name, len(outcome.items)) for name in outcome.metrics],
            "sparsity_actual": level.k / level.n,
            "sparsity_total": level.k / manifest["n_total"],
            "k": level.k,
            "n_prunable": level.n,
            "n_total": manifest["n_total"],
            "keep": pd.array([level.keep] * len(outcome.metrics), dtype="Int64"),
            "group": pd.array([level.group] * len(outcome.metrics), dtype="Int64"),
            "dtype": manifest["dtype"],
            "weights_sha256": manifest["weights_sha256"],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "workflow": essential_sparsity.__version__,
            **{
                name: pd.array([level.calibration.get(name)] * len(outcome.metrics), dtype=dtype)
                for name, dtype in CALIBRATION_COLUMNS.items()
            },
        }
    )
