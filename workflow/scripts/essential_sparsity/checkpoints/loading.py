"""Checkpoint folders: verify, describe, load, and stream their prunable weights. Nothing is written here."""

import contextlib
import glob
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging as hf_logging

from essential_sparsity import files
from essential_sparsity.checkpoints import stored, verified
from essential_sparsity.checkpoints.prunable import (
    CheckpointError,
    PrunableWeight,
    find_prunable,
    name_base_,
    parameters,
    prunable_parameters,
)

OTHER_INPUTS = re.compile(r"vision|image|audio|speech|vq_")  # in names of parts of a configuration

__all__ = [
    "CheckpointError",
    "PrunableWeight",
    "describe",
    "find_prunable",
    "has_towers",
    "iter_prunable",
    "load_model",
    "numbers",
    "one_tower",
    "parameters",
    "permissions",
    "prunable_parameters",
    "verified_folder",
    "weights_sha256",
]


def verified_folder(manifest_path: str | Path) -> Path:
    """The folder of a manifest, after checking size and SHA-256 of every file that it lists.

    A large file is read for it once on a node, until it changes (`verified`). Raises CheckpointError naming the first file that is missing or differs, and what to do.
    """
    manifest_path = Path(manifest_path)
    manifest = files.read_json(manifest_path)
    folder = _folder(manifest, manifest_path)
    listed = weights_sha256(manifest["files"])
    if not manifest["files"] or manifest.get("weights_sha256", listed) != listed:  # those of data name none
        raise CheckpointError(
            f"{manifest_path} was changed: it does not list the files that were fetched. Delete {manifest_path.parent} and run again."
        )
    for entry in manifest["files"]:
        path = folder / entry["path"]
        again = f"Delete {manifest_path.parent} and run again to fetch it anew."
        if manifest["source"] == "hub":
            again = f"Delete {folder} from the Hugging Face cache and {manifest_path.parent}, and run again."
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; {manifest_path} lists it. {again}")
        size = path.stat().st_size
        if size != entry["size"]:
            raise CheckpointError(f"{path} has {size} bytes; {manifest_path} lists {entry['size']}. {again}")
        if verified.sha256_file(path) != entry["sha256"]:
            raise CheckpointError(f"{path} does not have the SHA-256 that {manifest_path} lists. {again}")
    return folder


def weights_sha256(entries: Iterable[Mapping[str, Any]]) -> str:
    """One digest of all files of weights among those of a manifest (`path`, `sha256`)."""
    weights = [entry for entry in entries if entry["path"].endswith((".safetensors", ".bin"))]
    return files.sha256_text("".join(sorted(f"{entry['sha256']}  {entry['path']}\n" for entry in weights)))


def _folder(manifest: dict, manifest_path: Path) -> Path:
    if manifest.get("folder"):
        own = manifest["source"] == "path" and "model" in manifest  # a user's own folder; all else lies beside it
        return Path(manifest["folder"]) if own else manifest_path.parent / manifest["folder"]
    try:
        wanted = [glob.escape(entry["path"]) for entry in manifest["files"]]  # the rest was never downloaded
        return Path(
            snapshot_download(
                manifest["id"], revision=manifest["revision"], local_files_only=True, allow_patterns=wanted
            )
        )
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{manifest['id']} at revision {manifest['revision']} is not in the Hugging Face cache of this machine. "
            f"Delete {manifest_path.parent} and run again where the hub can be reached, or set HF_HOME to its cache."
        ) from error


def load_model(
    folder: str | Path,
    auto_class: str,
    *,
    dtype: str | torch.dtype | None = None,
    allow_new: Iterable[str] = (),
    allow_unused: Iterable[str] = (),
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    **kwargs: Any,
) -> PreTrainedModel:
    """Load a model, in eval mode, refusing to make up any weight that the checkpoint does not hold.

    auto_class  name in transformers, such as "AutoModelForCausalLM"
    dtype       default: the dtype in which the prunable weights are stored, whatever config.json says
    allow_new   prefixes of parameters that may be new or of another shape, such as "classifier"; with or without the
                base model's own prefix (`pooler` also allows `bert.pooler.dense.weight`)
    allow_unused  prefixes of stored tensors that may be left out although they belong to the model

    Raises CheckpointError for missing parameters, stored tensors without a place, codes in the place of weights, other shapes, files
    that cannot be read, and pickles not allowed.
    """
    allow_new = (allow_new,) if isinstance(allow_new, str) else tuple(allow_new)
    with stored.opened(folder, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle) as checkpoint:
        dtype, entries = dtype or checkpoint.dtype, checkpoint.entries
    loader = getattr(transformers, auto_class, None)
    if loader is None:
        raise CheckpointError(f"transformers has no class named {auto_class}; expected one such as AutoModel.")
    try:
        with quiet():
            model, info = loader.from_pretrained(
                str(folder),
                dtype=dtype,
                local_files_only=True,
                use_safetensors=None if allow_pickle else True,
                trust_remote_code=trust_remote_code,
                ignore_mismatched_sizes=True,  # so that all of them can be named; refused below
                output_loading_info=True,
                **kwargs,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded with {auto_class}: {error}") from error
    name_base_(model)

    def refused(names: Iterable[str]) -> list[str]:
        prefix = f"{model.base_model_prefix}."
        return sorted(n for n in names if not any(t.startswith(allow_new) for t in (n, n.removeprefix(prefix))))

    if missing := refused(info["missing_keys"]):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} parameters of {type(model).__name__} ({files.some(missing)}); they "
            "would be random. Use a checkpoint that was trained for this, or allow them as new where they are trained."
        )
    unplaced = stored.without_place(model, entries, allow_new)
    _refuse_unused(folder, model, unplaced.wrong, allow_unused)
    _refuse_several(folder, model, unplaced.several)
    _refuse_codes(folder, model, unplaced.codes)
    shapes = {name: (tuple(found), tuple(expected)) for name, found, expected in info["mismatched_keys"]}
    _refuse_shapes(folder, model, {name: shapes[name] for name in refused(shapes)})
    _refuse_untied(folder, model)
    if broken := [name for name, weight in model.named_parameters() if not weight.isfinite().all()]:
        raise CheckpointError(
            f"{folder}: there is NaN or infinity in {files.some(broken)}: the checkpoint is broken. Fetch it again, or leave it out."
        )
    # RWKV divides its own weights at its first forward pass, once: those that are ranked or restored later would be others.
    if getattr(model.config, "rescale_every", 0):
        model.config.rescale_every = 0
    return model


def numbers(config: PreTrainedConfig, name: str) -> list[int]:
    """The whole numbers above 0 that a configuration has under a name, each once: a square's two sides ([16, 16]) are one."""
    value = getattr(config, name, None)
    values = value if isinstance(value, list | tuple) else [value]
    return list(dict.fromkeys(each for each in values if isinstance(each, int) and each > 0))


def has_towers(config: PreTrainedConfig) -> bool:
    """Whether a model is of more than texts or images: one of each (CLIP), or one that reads images or sounds with texts (Gemma 3).

    No kind of task evaluates them together.
    """
    return config.model_type in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES or bool(_other_inputs(config))


def _other_inputs(config: PreTrainedConfig) -> list[str]:
    """The parts of a configuration that are of images or sounds, by name."""
    return [
        name for name in config.sub_configs if OTHER_INPUTS.search(name) and getattr(config, name, None) is not None
    ]


def one_tower(config: PreTrainedConfig) -> str:
    """What to do with such a model, for a person."""
    if config.model_type not in MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES:
        text = getattr(getattr(config, "text_config", None), "model_type", None)
        return (
            f"{config.model_type} has weights for more than texts in it ({', '.join(_other_inputs(config))} in its config.json), which no kind of "
            "task uses: they would be counted, and pruned beside those that it does use. Use a checkpoint of its model of texts alone"
            f"{f' (model_type {text})' if text else ''}."
        )
    named = type(config).__name__.removesuffix("Config") + "VisionModel"
    vision = named if hasattr(transformers, named) else "its class of the images alone"
    return (
        f"{config.model_type} is a model of images beside one of texts, and no kind of task evaluates both. Take the one of "
        f"images out of it, with transformers: {vision}.from_pretrained(folder).save_pretrained(another); put its "
        "preprocessor_config.json beside it, and name that folder."
    )


def _refuse_shapes(folder: str | Path, model: PreTrainedModel, shapes: Mapping[str, tuple[tuple, tuple]]) -> None:
    for name, (found, expected) in shapes.items():
        raise CheckpointError(
            f"{folder}: {name} is stored as {found} but {type(model).__name__} expects {expected}. "
            "config.json does not belong to these weights: fetch both again."
        )


def _refuse_several(folder: str | Path, model: PreTrainedModel, several: Mapping[str, list[str]]) -> None:
    for name, keys in several.items():
        raise CheckpointError(
            f"{folder} stores {' and '.join(keys)}, which are both {name} of {type(model).__name__}: only one can count. Save the checkpoint "
            "anew, without what is left of another."
        )


def _refuse_untied(folder: str | Path, model: PreTrainedModel) -> None:
    """Refuse weights that config.json says are one, and that are stored with two contents: transformers takes both without a word."""
    for name, other in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if model.get_parameter(name) is not model.get_parameter(other):
            raise CheckpointError(
                f"{folder} stores {name} and {other} with different values, but its config.json says that they are one (tie_word_embeddings). "
                "Write false there if both are meant, or take the one out that is not."
            )


def _refuse_codes(folder: str | Path, model: PreTrainedModel, codes: Mapping[str, str]) -> None:
    if codes:
        named = [f"{name} as {dtype}" for name, dtype in sorted(codes.items())]
        raise CheckpointError(
            f"{folder} stores {files.some(named)}, where {type(model).__name__} has weights: these are codes, or numbers of another kind. "
            "Use the checkpoint before it was quantised or converted."
        )


def _refuse_unused(folder: str | Path, model: PreTrainedModel, names: list[str], allowed: Iterable[str]) -> None:
    prefix = f"{model.base_model_prefix}."
    if left := [n for n in names if not any(t.startswith(tuple(allowed)) for t in (n, n.removeprefix(prefix)))]:
        raise CheckpointError(
            f"{folder} stores {len(left)} tensors that {type(model).__name__} has no place for ({files.some(left)}): "
            "without them it is another model. Correct its config.json (number of layers, biases, architecture), or name "
            "what is not used in the column allow_unused of this model."
        )


def permissions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of the models table allows, as arguments of `load_model`; blank is nothing."""
    return {
        "allow_pickle": bool(settings.get("allow_pickle")),
        "allow_unused": tuple(settings.get("allow_unused") or ()),
    }


def describe(
    folder: str | Path,
    *,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    allow_unused: Iterable[str] = (),
) -> dict[str, Any]:
    """Facts about a checkpoint for its manifest; headers are read, weights are not.

    n_total counts the parameters of the model without a head that the checkpoint holds, tied ones once. `stored`: numbers
    by type; `prunable` and `other`: parameters by role; `unused`: stored tensors that the base model leaves out, those of
    heads; `new`: its parameters that are not stored, which can only be a pooler's. Raises CheckpointError for stored
    tensors without a place, unless they begin as `allow_unused` says, for codes in the place of weights, and for parameters of
    which nothing is stored.
    """
    with stored.opened(folder, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle) as checkpoint:
        base, config = checkpoint.model, checkpoint.model.config  # not its base model: DINOv3's is its blocks alone
        names: dict[int, list[str]] = {}
        for name, parameter in base.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
        weights = find_prunable(checkpoint.model)
        unplaced = stored.without_place(checkpoint.model, checkpoint.entries)
        _refuse_unused(folder, checkpoint.model, unplaced.wrong, allow_unused)
        _refuse_several(folder, checkpoint.model, unplaced.several)
        _refuse_codes(folder, checkpoint.model, unplaced.codes)
        _refuse_shapes(folder, checkpoint.model, unplaced.shapes)
        new = sorted(
            min(names[id(p)]).removeprefix(checkpoint.prefix)
            for p in base.parameters()
            if not checkpoint.names.intersection(names[id(p)])
        )
        ignored = checkpoint.model._keys_to_ignore_on_load_missing or ()
        lacking = [name for name in new if not any(re.search(pattern, name) for pattern in (*ignored, r"^pooler\."))]
        if lacking:
            raise CheckpointError(
                f"{folder} lacks {len(lacking)} parameters of {type(base).__name__} ({files.some(lacking)}); they would be "
                "random. The files are incomplete, or do not belong to this config.json: correct it, or fetch them again."
            )
        roles = {weight.name: weight.role for weight in weights}
        own = {name.removeprefix(checkpoint.prefix): parameter for name, parameter in base.named_parameters()}
        dtypes, prunable, other = Counter(), Counter(), Counter()
        for entry in checkpoint.entries.values():
            name = stored.DTYPES.get(entry.dtype, entry.dtype)
            dtypes[str(name).removeprefix("torch.")] += math.prod(entry.shape)
        for name, parameter in own.items():
            role = roles.get(name) or ".".join(part for part in name.split(".")[:-1] if not part.isdigit())
            (prunable if name in roles else other)[role or name] += parameter.numel() if name not in new else 0
        return {
            "stored": dict(sorted(dtypes.items())),
            "n_tensors": len(checkpoint.entries),
            "prunable": dict(sorted(prunable.items())),
            "other": {role: count for role, count in sorted(other.items()) if count},
            "unused": sorted(unplaced.heads + unplaced.wrong),
            "new": new,
            "dtype": str(checkpoint.dtype).removeprefix("torch."),
            "architecture": (config.architectures or [type(checkpoint.model).__name__])[0],
            "model_type": config.model_type,
            "input": checkpoint.model.main_input_name,
            "n_total": sum(p.numel() for p in base.parameters() if checkpoint.names.intersection(names[id(p)])),
            "n_prunable": sum(math.prod(weight.shape) for weight in weights),
            "n_prunable_tensors": len(weights),
            "prunable_set": files.sha256_text(
                "".join(f"{weight.name} {'x'.join(map(str, weight.shape))}\n" for weight in weights)
            ),
        }


def iter_prunable(
    folder: str | Path, *, trust_remote_code: bool = False, allow_pickle: bool = False
) -> Iterator[tuple[PrunableWeight, torch.Tensor]]:
    """Yield each prunable weight and its tensor, in the stored dtype, with one tensor in memory at a time.

    The order is the same for one file and for shards. In the rare checkpoint that mixes dtypes all come in the widest,
    which is exact. Tensors may be views of the file: do not write to them.
    """
    with stored.opened(folder, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle) as checkpoint:
        weights = {checkpoint.prefix + weight.name: weight for weight in find_prunable(checkpoint.model)}
        for part in checkpoint.parts:
            for target, tensor in part.tensors(checkpoint.model).items():
                weight = weights.get(target)
                if weight is None:
                    continue
                if tuple(tensor.shape) != weight.shape:
                    raise CheckpointError(
                        f"{folder}: {weight.name} is stored as {tuple(tensor.shape)} but its config.json makes it "
                        f"{weight.shape}. They do not belong together: fetch both again."
                    )
                yield weight, tensor.to(checkpoint.dtype)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its report of dropped heads: what matters is raised as an error."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
