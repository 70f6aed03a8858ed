"""The pruned checkpoint of a run as a folder that transformers alone loads: weights with zeros, masks, tokenizer, model card.

The model is pruned by the functions that evaluation uses, and held against the run in the tables: as many weights, the same calibration,
for calibrated patterns the same score. Only the prunable tensors of the checkpoint's files are replaced; every other tensor, heads included,
is the source's, in its type. What was written is loaded again and compared with what was pruned, bit for bit.

Runs that fine-tune keep no weights. Their export is the pre-trained model under the run's mask, or, where `train` asks for it, the
model trained once more, which must say of every item what the run said.
"""

import hashlib
import importlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
import transformers
from threadpoolctl import threadpool_limits
from transformers import AutoConfig

from essential_sparsity import errors, files, patterns, tables, tasks
from essential_sparsity.checkpoints import loading, rewriting
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.pruning import tickets
from essential_sparsity.pruning.masks import Level
from essential_sparsity.pruning.matrices import matrices
from essential_sparsity.runs import card, evaluation, folders, job
from essential_sparsity.runs.chosen import NOTHING, Chosen
from essential_sparsity.study.grid import STORE
from essential_sparsity.tasks import reading
from essential_sparsity.training import devices, exactness, finetuning

MASKS, CARD = "masks.safetensors", "README.md"
WEIGHTS = re.compile(r".*\.(safetensors|bin)(\.index\.json)?")
SAID = ["score", "second_score", "prediction"]  # columns of the table of items that a model decides
BLOCK = 1 << 26  # bytes that are compressed at a time
COMPRESSION = 3  # level of zstd: its default


@dataclass(frozen=True)
class Pruned:
    """A model as the run had it when it was evaluated, or where it is fine-tuned and not trained again, before training.

    `weights`: its prunable tensors; `masks`: True where pruned; both by names of the base model. `state`: digest of every stored tensor by
    name. `options`: of its configuration, beside those of the checkpoint. `again`: the headline metric, evaluated once more; None where it
    is not. `trained`: the whole model, after training, and `items`: what it says of each item; None where it is not trained.
    `hardware`: what computed it here. `pixels`: how images were fed to it (`_pixels`), None where none were.
    """

    level: Level
    weights: dict[str, torch.Tensor]
    masks: dict[str, torch.Tensor]
    dtype: torch.dtype
    state: dict[str, str]
    options: dict[str, Any]
    again: float | None
    trained: transformers.PreTrainedModel | None = None
    items: pd.DataFrame | None = None
    hardware: str = ""
    pixels: dict[str, Any] | None = None


@dataclass(frozen=True)
class Exported:
    """Where it lies, and bytes: `dense` and `pruned` files of weights, each also under zstd, and `masks`."""

    folder: Path
    sizes: dict[str, int]


def place(chosen: Chosen, train: bool = False) -> Path:
    """The folder that a run is exported to."""
    row, after = chosen.row, f"-{chosen.row['task']}-trained" if train else ""
    return Path(chosen.study.folder) / f"export/{row['model']}-{row['pattern']}-{chosen.level}{after}"


def export(chosen: Chosen, commit: Mapping[str, Any], train: bool = False) -> Exported:
    """Write the checkpoint of a run, whole or not at all; the same run gives the same bytes. `commit`: of the workflow; `train`: fine-tune
    once more, which takes as long as the run did.

    Raises UserError for runs whose model cannot be had again from what is stored, where that is not what was evaluated, and where the
    folder holds anything but an export of the same run.
    """
    target, row = place(chosen, train), chosen.row
    _refuse(chosen, train)
    with folders.alone(target), folders.whole(target) as part:
        folders.check(target, _key(row))
        manifest = files.read_json(row["checkpoint"])
        folder = loading.verified_folder(row["checkpoint"])
        pruned = _prune(chosen, folder, manifest, train)
        _compare(chosen, pruned)
        _write_side_files(part, folder, manifest, pruned.dtype)
        if pruned.trained is not None:
            pruned.trained.config._name_or_path = ""  # a path of this machine
            pruned.trained.save_pretrained(part)
        else:
            allow_pickle = bool(chosen.study.models[row["model"]]["allow_pickle"])
            rewriting.rewrite(folder, part, pruned.weights, allow_pickle)
        tickets.write(part / MASKS, pruned.masks, _key(row) | {"k": pruned.level.k, "n": pruned.level.n})
        _verify(part, chosen, pruned, [] if train else manifest["new"])
        sizes = _sizes(folder, part, manifest)
        zeros = sum(int((tensor == 0).sum()) for tensor in pruned.weights.values())
        card.write(
            part / CARD,
            chosen,
            manifest,
            pruned.level,
            zeros,
            sizes,
            commit,
            pruned.options,
            pruned.again,
            train,
            pruned.pixels,
        )
        made = {name: chosen.found[name].iloc[0] for name in ("digest", "weights_sha256", "checkpoint_sha256")}
        record = {"key": _key(row), "sizes": sizes, "k": pruned.level.k, "n": pruned.level.n, "run": made, **commit}
        folders.seal(part, record)
    return Exported(target, sizes)


def _key(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("model", "task", "pattern", "sparsity", "seed")}


def _refuse(chosen: Chosen, train: bool) -> None:
    """What was evaluated under some patterns is no sparse model, and not every run trains."""
    pattern, task = patterns.find(chosen.row["pattern"]), chosen.study.tasks[chosen.row["task"]]
    if train and task["protocol"] != "finetune":
        raise errors.UserError(
            f"The task {chosen.row['task']!r} trains no model (protocol {task['protocol']}). Leave TRAIN out (without make: --train)."
        )
    if train and not Path(chosen.row["items"]).is_file():
        raise errors.UserError(
            f"What the run said of its items is gone ({chosen.row['items']}), and what is trained is held to it. Run the study again, then export."
        )
    if not pattern.held:
        raise errors.UserError(
            f"The pattern {pattern.name!r} lets pruned weights train again: what was evaluated is no sparse model, and trained weights are "
            "not kept. The set that it starts from is that of the pattern 'global': export that."
        )


def _prune(chosen: Chosen, folder: Path, manifest: Mapping[str, Any], train: bool = False) -> Pruned:
    """The model of the run: loaded, its inputs prepared and its pattern applied (and trained) as `evaluation.evaluate` does it."""
    row, seed, sparsity = chosen.row, int(chosen.row["seed"]), float(chosen.row["sparsity"])
    pattern, calibration = row["pattern"], chosen.study.calibration(row["model"], row["pattern"])
    settings = json.loads(chosen.study.settings(row["task"], calibration))
    settings |= {"task": row["task"], "metrics": None, **job.of_manifest(manifest)}
    settings |= {"allow_pickle": bool(chosen.study.models[row["model"]]["allow_pickle"])}
    torch.set_num_threads(settings["threads"])
    exactness.ask()
    calibrated = patterns.find(pattern).needs == "calibration"
    # masks of other patterns have the same bits on every device
    device = devices.find(chosen.study.given["resources"]["device"]) if calibrated or train else "cpu"
    gpus = int(chosen.study.models[row["model"]].get("gpus_per_job") or 1)
    hardware = devices.hardware(device, gpus)
    if train and device != (ran := chosen.found["device"].iloc[0]):
        raise errors.UserError(
            f"The run was trained on {ran}, and this machine computes on {device}: trained here, the model would be another one. Export it "
            "on a machine like that of the run, or with `resources: {device: " + ran + "}`."
        )
    with threadpool_limits(settings["threads"]):
        task, data = tasks.load(settings["kind"]), _data(row["dataset"])
        prepared = task.prepare(folder, data, settings, seed, Path(STORE) / "tokens" / row["task"])
        auto_class, load = tasks.auto_class(settings), loading.permissions(settings)
        trained, again, items = settings["protocol"] == "finetune", None, None
        if trained:
            model = finetuning.load_trainable(folder, auto_class, seed, prepared.model_options, prepared.head, **load)
            if train and not type(model).__module__.startswith("transformers."):
                raise errors.UserError(
                    f"What is trained on {row['task']!r} has a head of this project's own ({type(model).__name__}), which transformers alone "
                    "cannot load. Leave TRAIN out (without make: --train): then the encoder is exported, as it was before training."
                )
        else:
            model = loading.load_model(folder, auto_class, allow_new=("pooler.",), **prepared.model_options, **load)
        if calibrated:
            calibrating = importlib.import_module(evaluation.CALIBRATING)
            texts = calibrating.documents(data, prepared)
            drawn = calibrating.draw(
                settings["calibration"],
                folder,
                _data(row["calibration"]),
                prepared,
                texts,
                seed,
                settings["add_bos_token"],
            )
            made = importlib.import_module(evaluation.CALIBRATED).Plan
            plan = made(pattern, model=model, calibration=drawn, seed=seed, device=device, remember=True)
        else:
            measured = evaluation.statistics(model, pattern, seed)
            plan = evaluation.make_plan(model, pattern, [sparsity], seed, _tickets(row, manifest), measured)
        masks = {name: mask.to("cpu") for name, mask in plan.masks(sparsity)}
        level = plan.prune_(sparsity)
        if calibrated and not trained:
            devices.place(model, device, gpus)
            again = task.run(model, prepared, settings, seed, device).metrics.get(chosen.metric)
            devices.gather(model)
        if train:
            held = {name: mask.to(device) for name, mask in masks.items()}
            finetuning.train_(model.to(device), prepared.train, prepared.collate, settings, seed, held, device)
            outcome = task.run(model, prepared, settings, seed, device)
            again, items = outcome.metrics.get(chosen.metric), outcome.items
            model.to("cpu")
    weights = {weight.name: tensor for weight, tensor in loading.prunable_parameters(model)}
    options = {} if trained else dict(prepared.model_options)
    dtype, state = next(iter(weights.values())).dtype, _state(model, trained and not train)
    return Pruned(
        level,
        weights,
        masks,
        dtype,
        state,
        options,
        again,
        model if train else None,
        items,
        hardware,
        _pixels(prepared),
    )


def _pixels(prepared: tasks.Prepared) -> dict[str, Any] | None:
    """How images are fed to a model: `size` in pixels, `mean` and `std` of values in 0..1, `options` of its call, as code; None: no images."""
    images = prepared.inputs
    if not hasattr(images, "encoded"):
        return None
    batch = prepared.collate([images[0]])
    options = "".join(f", {name}={value!r}" for name, value in sorted(batch.items()) if not torch.is_tensor(value))
    said = {
        name: [float(f"{value:.9g}") for value in getattr(images, name).ravel().tolist()] for name in ("mean", "std")
    }
    return {"size": images.size, **said, "options": options}


def _data(manifest: str) -> Any:
    return reading.read(loading.verified_folder(manifest) / "data.parquet")


def _tickets(row: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[float, dict[str, torch.Tensor]] | None:
    if not row["ticket"]:
        return None
    path = Path(row["ticket"]).with_suffix(".safetensors")
    own = _key(row) | {"weights_sha256": manifest["weights_sha256"]}
    return {
        row["sparsity"]: tickets.read(path, {name: value for name, value in own.items() if name != "pattern"}).masks()
    }


def _state(model: transformers.PreTrainedModel, base: bool) -> dict[str, str]:
    """SHA-256 of each tensor, by name in the base model (`base`: of that alone) or in the head."""
    prefix = "" if base else f"{model.base_model_prefix}."
    found = (model.base_model if base else model).state_dict()
    return {name.removeprefix(prefix): _sha256(tensor) for name, tensor in found.items()}


def _sha256(tensor: torch.Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy()).hexdigest()


def _compare(chosen: Chosen, pruned: Pruned) -> None:
    """The model is the one that the run evaluated, as far as its row says. UserError."""
    run, level = chosen.found.iloc[0], pruned.level
    told = {"k": (level.k, run["k"]), "n_prunable": (level.n, run["n_prunable"])}
    if drawn := level.calibration.get("calibration_drawn_sha256"):
        told["calibration_drawn_sha256"] = (drawn, run["calibration_drawn_sha256"])
    value, metric = chosen.value, METRICS[chosen.metric]
    if pruned.trained is not None:
        told |= {library.__name__: (library.__version__, run[library.__name__]) for library in (torch, transformers)}
        told[chosen.metric] = (pruned.again, value)
        told["items of which it says something else"] = (_otherwise(chosen, pruned.items), 0)
    elif pruned.again is not None and value is not None:
        apart = abs(metric.quality(pruned.again) - metric.quality(value))
        if apart > metric.epsilon:
            told[chosen.metric] = (pruned.again, value)
    for name, (found, expected) in told.items():
        if found != expected:
            raise errors.UserError(
                f"Pruned again, the model has {name} = {found}, but the run in the tables has {expected}: it is another model. The code, a "
                f"library or the machine has changed since (the run: {run['hardware']}; here: {pruned.hardware}). Delete the run's file and run "
                "the study again, then export."
            )


def _otherwise(chosen: Chosen, items: pd.DataFrame) -> int:
    """Of how many items the run's own file says anything else, to the last digit."""
    kept = tables.read(chosen.row["items"], "items")
    kept = kept[(kept["sparsity"] - chosen.row["sparsity"]).abs() < NOTHING].set_index("item")
    found = items.set_index("item")[SAID]
    if not found.index.symmetric_difference(kept.index).empty:
        return len(found.index.union(kept.index))
    return len(found.compare(kept.loc[found.index, SAID]))


def _write_side_files(part: Path, folder: Path, manifest: Mapping[str, Any], dtype: torch.dtype) -> None:
    """Configuration, tokenizer and image processor, as they are; config.json names the type of the weights that were evaluated."""
    for name in (entry["path"] for entry in manifest["files"] if not WEIGHTS.fullmatch(entry["path"])):
        if name in (folders.RECORD, MASKS, CARD):
            raise errors.UserError(f"{folder / name} has the name of a file that an export writes: rename it.")
        (part / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, part / name)
    if AutoConfig.from_pretrained(str(part), local_files_only=True).dtype != dtype:
        settings = files.read_json(part / "config.json")
        settings.pop("torch_dtype", None)
        files.write_json(part / "config.json", settings | {"dtype": str(dtype).removeprefix("torch.")})


def _verify(part: Path, chosen: Chosen, pruned: Pruned, new: list[str]) -> None:
    """What was written loads as the model that was pruned, bit for bit, and is as sparse as its pattern says, group by group.

    `new`: parameters that the checkpoint does not hold, and this does not either. RuntimeError: that would be a fault of this program.
    """
    settings = json.loads(chosen.study.settings(chosen.row["task"]))
    base = settings["protocol"] == "finetune" and pruned.trained is None
    auto_class = "AutoModel" if base else tasks.auto_class(settings)
    unused = job.of_manifest(files.read_json(chosen.row["checkpoint"]))["allow_unused"]
    model = loading.load_model(part, auto_class, allow_new=("pooler.",), allow_unused=unused, **pruned.options)
    found = _state(model, base)
    wrong = [name for name in found.keys() & pruned.state.keys() if found[name] != pruned.state[name]]
    if (wrong := sorted(set(wrong) - set(new))) or not pruned.weights.keys() <= found.keys():
        raise RuntimeError(f"{part}: {files.some(wrong)} are not the tensors that were pruned: please report this")
    written = loading.prunable_parameters(model)
    for weight, tensor in written:
        if bool(tensor[pruned.masks[weight.name]].any()):
            raise RuntimeError(f"{part}: {weight.name} has weights where its mask has zeros: please report this")
    if group := pruned.level.group:
        check_groups(written, group, pruned.level.keep)


def check_groups(weights: list[tuple[PrunableWeight, torch.Tensor]], group: int, keep: int) -> None:
    """No whole group of consecutive inputs of an output holds more than `keep` weights. UserError names the first matrix with one."""
    for matrix in matrices(weights):
        rows = matrix.rows()[:, : matrix.inputs // group * group]
        held = rows.reshape(len(rows), -1, group).count_nonzero(dim=-1)
        if wrong := int((held > keep).sum()):
            raise errors.UserError(
                f"{matrix.name}: {wrong} groups of {group} inputs hold more than {keep} weights: this is no {keep}:{group} checkpoint."
            )


def _sizes(folder: Path, part: Path, manifest: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of the weights before and after, each as they are and under zstd, and of the masks."""
    names = [entry["path"] for entry in manifest["files"] if re.fullmatch(r".*\.(safetensors|bin)", entry["path"])]
    before = [folder / name for name in names]
    after = sorted(path for path in part.glob("model*.safetensors"))
    found = {}
    for what, paths in (("dense", before), ("pruned", after)):
        found[what] = sum(path.stat().st_size for path in paths)
        found[f"{what}_zstd"] = sum(map(_compressed, paths))
    return found | {"masks": (part / MASKS).stat().st_size}


def _compressed(path: Path) -> int:
    """Bytes of a file under zstd, block by block."""
    codec = pa.Codec("zstd", compression_level=COMPRESSION)
    with open(path, "rb") as handle:
        return sum(codec.compress(block).size for block in iter(lambda: handle.read(BLOCK), b""))


def lines(chosen: Chosen, made: Exported, train: bool = False) -> list[str]:
    """What was exported, for a person."""
    size = {name: f"{count / 1e6:,.1f} MB" for name, count in made.sizes.items()}
    found = [
        f"{made.folder}: {chosen.row['model']}, {chosen.row['pattern']} at {chosen.level}, {int(chosen.found['k'].iloc[0]):,} weights pruned",
        f"weights {size['pruned']}, under zstd {size['pruned_zstd']} (before pruning {size['dense_zstd']}); masks {size['masks']}",
    ]
    if train:
        found.append(
            f"Trained once more, it says of every item what the run said, and scores the same ({chosen.metric} {card.number(chosen.value)})."
        )
    elif chosen.study.tasks[chosen.row["task"]]["protocol"] == "finetune":
        found.append(
            "Fine-tuned weights are not kept: these are the pre-trained weights under the mask of the run. TRAIN=true trains them once more."
        )
    return found
