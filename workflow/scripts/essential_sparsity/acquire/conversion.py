"""Models of any source as a folder that `from_pretrained` reads, with its manifest.

Formats: `transformers` (as it is), `gguf` and `dinov2-onnx` (converted once). No code of a package or a repository is
copied or imported; weights that are pickles are taken only where `allow_pickle` says so, and are not opened here.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from essential_sparsity import files
from essential_sparsity.acquire import listing, sources, untrusted
from essential_sparsity.acquire.refusal import FETCH_AGAIN, reading
from essential_sparsity.acquire.sources import Choose, SourceError
from essential_sparsity.checkpoints import loading

# configuration and tokenizer, not in sub-folders but for those of modules of sentence-transformers, such as 1_Pooling
SIDE_FILES = re.compile(r"[^/]+\.(json|txt|model|tiktoken|jinja)|\d+_[A-Za-z]+/config\.json")
WEIGHTS = {  # the names that transformers loads from: one file, or an index with its shards
    "safetensors": ("model.safetensors", re.compile(r"model-\d+-of-\d+\.safetensors")),
    "pickle": ("pytorch_model.bin", re.compile(r"pytorch_model-\d+-of-\d+\.bin")),
}
ADAPTER = re.compile(r"adapter_(config\.json|model.*\.(safetensors|bin))")  # as peft names the files of one
MERGE = "Merge it, with peft: merge_and_unload().save_pretrained(another), and name that folder"
OTHER_CHECKPOINT = "Use the checkpoint that it was made from."
# Tensors of GGUF files that are no weights: what rotates positions, which transformers works out of the header anew.
ROTATIONS = re.compile(r"(rope_freqs|rope_factors_(long|short)|blk\.\d+\.attn_rot_embd)\.weight")
DINOV2_PREPROCESSING = {  # as its publishers state it; mean and standard deviation per channel are ImageNet's
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def fetch_model(model: str, settings: dict[str, Any], work: Path) -> tuple[Path, dict[str, Any]]:
    """Fetch one model; return the folder to load it from, and its manifest without the counts. Raises SourceError.

    `settings`: source, id, revision, format, allow_pickle, allow_unused, packages. A package, and every format that is converted,
    ends in `work/files`; a path or a hub repository of the format `transformers` is used where it is.
    """
    choose, convert = model_format(settings)
    fetched = sources.obtain(settings, work, choose)
    folder, names, known, note = fetched.folder, fetched.names, fetched.sha256, ""
    place = {"path": settings["id"], "hub": None, "package": "files"}[settings["source"]]
    if convert is not None:
        note = convert(folder / names[0], work / "files")
        folder = work / "files"
        names, known = sorted(path.name for path in folder.iterdir()), {}
        place = str(work.parent / "files") if settings["source"] == "path" else "files"
    elif settings["source"] == "package":
        folder = folder.rename(work / "files")
    entries = listing.entries(folder, names, known)
    return folder, {
        "manifest_version": sources.MANIFEST_VERSION,
        "model": model,
        "source": settings["source"],
        "id": settings["id"],
        "revision": fetched.revision,
        "package": fetched.package,
        "folder": place,
        "files": entries,
        "weights_sha256": loading.weights_sha256(entries),
        "format": settings["format"],
        "note": note,
    }


def model_format(settings: dict[str, Any]) -> tuple[Choose, Callable[[Path, Path], str] | None]:
    """How a format chooses files, and converts one into a folder (None: not needed). Raises SourceError."""
    name = settings["format"]
    if name == "transformers":
        if settings["source"] == "hub" and ":" in settings["id"]:
            raise SourceError(f"{settings['id']}: a transformers model is a whole repository; leave out the colon.")
        return partial(transformers_files, allow_pickle=bool(settings.get("allow_pickle"))), None
    if name == "gguf":
        allowed = tuple(filter(None, (settings.get("allow_unused") or "").split(",")))
        return partial(only_file, suffix=".gguf"), partial(convert_gguf, allow_unused=allowed)
    if name == "dinov2-onnx":
        return partial(only_file, suffix=".onnx"), convert_dinov2
    raise SourceError(f"format is {name!r}; a model's format is transformers, gguf or dinov2-onnx.")


def transformers_files(names: list[str], allow_pickle: bool = False) -> list[str]:
    """Of a source's file names, those that a model is loaded from: configuration, tokenizer, one set of weights.

    Weights are safetensors; a pickle can run code when it is loaded, so it needs `allow_pickle`. Raises SourceError.
    """
    side = [name for name in names if SIDE_FILES.fullmatch(name) and not name.endswith(".index.json")]
    if adapter := [name for name in names if ADAPTER.fullmatch(name)]:
        if "config.json" not in side:
            raise SourceError(
                f"There is an adapter alone ({files.some(adapter)}), without the model that it adapts. {MERGE}."
            )
        raise SourceError(
            f"There is an adapter beside the model ({files.some(adapter)}), which would not be read. {MERGE}; or name a copy without it."
        )
    if "config.json" not in side:
        raise SourceError(
            f"There is no config.json among {files.some(names)}: this is no folder of a transformers model. Name the folder "
            "that holds it: in the column id of a path, in the column member of the packages table; or unpack what you "
            "have, add the configuration, and use the source `path`."
        )
    safe, pickled = (_weights(names, *WEIGHTS[kind]) for kind in ("safetensors", "pickle"))
    if safe:
        return sorted(side + safe)
    if not pickled:
        raise SourceError(f"There is no model.safetensors, nor an index with shards, among {files.some(names)}.")
    if not allow_pickle:
        raise SourceError(
            f"The weights are stored only as a pickle ({files.some(pickled)}), which can run code when it is loaded. Use a "
            "revision with safetensors; or, if you trust the publisher, set allow_pickle to true for this model (make study: ALLOW_PICKLE=true)."
        )
    return sorted(side + pickled)


def _weights(names: list[str], whole: str, shard: re.Pattern) -> list[str]:
    index = f"{whole}.index.json"
    if whole in names and index in names and (shards := [name for name in names if shard.fullmatch(name)]):
        raise SourceError(
            f"There are {whole} and {index} with {files.some(shards)}: only the first would be read, and nobody can tell which is the newer. "
            "Take out of the folder what is left of an older checkpoint, or name a copy without it."
        )
    if whole in names or index not in names:
        return [name for name in names if name == whole]
    return [index, *(name for name in names if shard.fullmatch(name))]


def only_file(names: list[str], suffix: str) -> list[str]:
    """The one name with a suffix. Raises SourceError when there are none or several."""
    found = [name for name in names if name.endswith(suffix)]
    if len(found) != 1:
        raise SourceError(
            f"Expected one {suffix} file among {files.some(names)}, found {len(found)}. Name the file itself: at the end of "
            "a path, after a colon in a hub id, or in the column member of the packages table."
        )
    return found


def convert_gguf(path: Path, folder: Path, allow_unused: tuple[str, ...] = ()) -> str:
    """Dequantise a GGUF file into float32 safetensors with its tokenizer; return what is to be said about it. SourceError.

    `allow_unused`: beginnings of the names of tensors that may be left out although the model of the header has no place for them.
    """
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source, name = path.parent, path.name
    weights: Counter[str] = Counter()
    shared = cache(opened_gguf)  # transformers parses the file anew for each part: once is enough
    with loading.quiet(), untrusted.unasked(), patch.object(gguf, "GGUFReader", shared):
        tensors = shared(str(path)).tensors
        for tensor in tensors:
            weights[tensor.tensor_type.name] += int(tensor.n_elements)
        with reading(f"{name} is a GGUF file that transformers cannot read", OTHER_CHECKPOINT):
            config = AutoConfig.from_pretrained(source, gguf_file=name)
            _check_room(path, config, tensors)
            with _without_place() as left:
                loaded, info = AutoModelForCausalLM.from_pretrained(
                    source, gguf_file=name, dtype=torch.float32, output_loading_info=True
                )
            if missing := sorted(info["missing_keys"]):
                raise SourceError(
                    f"{path} lacks {len(missing)} tensors of the model that its header describes ({files.some(missing)}); they would be "
                    f"random. {OTHER_CHECKPOINT}"
                )
            _refuse_unused(path, left, allow_unused)
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
        config = loaded.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        # A model loaded from GGUF refuses to be saved, although its values are ordinary float32: hand them to another.
        model.load_state_dict(loaded.state_dict(), assign=True)
        model.tie_weights()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    _forget_origin(folder)
    stored = weights.most_common(1)[0][0]
    bits = re.match(r"I?Q(\d)", stored)
    told = f"{bits[1]}-bit GGUF ({stored}), dequantised to float32" if bits else f"GGUF ({stored}) as float32"
    return f"{told}; not read: {files.some(left)}" if left else told


@contextlib.contextmanager
def _without_place() -> Iterator[list[str]]:
    """The names of the tensors that transformers leaves out while it loads a GGUF file: it looks each up in one table."""
    from transformers import modeling_gguf_pytorch_utils as library

    left: list[str] = []
    table = library.get_gguf_hf_weights_map

    class Places(dict):
        def __contains__(self, name: object) -> bool:
            found = super().__contains__(name)
            if not found and isinstance(name, str):  # None: its tensor was taken already
                left.append(name)
            return found

    with patch.object(library, "get_gguf_hf_weights_map", lambda *args, **named: Places(table(*args, **named))):
        yield left


def _refuse_unused(path: Path, left: Sequence[str], allowed: tuple[str, ...]) -> None:
    if wrong := sorted(name for name in left if not ROTATIONS.fullmatch(name) and not name.startswith(allowed)):
        raise SourceError(
            f"{path} stores {len(wrong)} tensors that the model of its header has no place for ({files.some(wrong)}): without them it is "
            f"another model. {OTHER_CHECKPOINT[:-1]}, or name what is not used in the column allow_unused of this model."
        )


def opened_gguf(path: str | Path) -> Any:
    """A reader of a GGUF file. Raises SourceError where it is none, not whole, or says what it does not hold."""
    from gguf.gguf_reader import GGUFReader  # not gguf.GGUFReader, which this function stands in for

    class Whole(GGUFReader):
        """Its parent reads nothing where a file ends, as often as a header says."""

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: str | None = None) -> np.ndarray:
            found = super()._get(offset, dtype, count, override_order)
            if len(found) < count:
                raise ValueError(f"it ends at byte {len(self.data):,}, before what its header says")
            return found

    with reading(f"{path} is no whole GGUF file", "Fetch it again."):
        reader = Whole(path)
        numbers = {
            name: field.contents()
            for name, field in reader.fields.items()
            if len(field.data) == 1 and name.partition(".")[0] not in ("GGUF", "tokenizer")
        }
    untrusted.check_counts(path, numbers, len(reader.tensors))
    if not reader.tensors:
        raise SourceError(f"{path} is no whole GGUF file: it holds no tensor. Fetch it again.")
    return reader


def _check_room(path: Path, config: Any, tensors: list[Any]) -> None:
    """Refuse a header that asks for a model of far more weights than the file holds, before one is made."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"), untrusted.bounded(path, len(tensors)):
        asked = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
    there = sum(int(tensor.n_elements) for tensor in tensors)
    if asked > 2 * there + untrusted.MANY:
        raise SourceError(
            f"{path} describes a model of {asked:,} weights, but holds {there:,}. It is damaged, or was made to mislead. {OTHER_CHECKPOINT}"
        )


def convert_dinov2(path: Path, folder: Path) -> str:
    """Take a DINOv2 backbone out of an ONNX graph; return what is to be said about it. Raises SourceError.

    Biases and norms have their names in the graph (`backbone.…`). Matrices are anonymous and stored [in, out]; the
    name of the node that multiplies by one says which it is. The positions are two anonymous constants, (1, 1, hidden)
    for the class token and (1, patches, hidden).
    """
    import torch
    from safetensors.torch import save_file
    from transformers import Dinov2Model

    with reading(
        f"{path.name} is no graph with a DINOv2 backbone", "Use a graph of DINOv2 as its publishers exported it."
    ):
        state = _backbone(path)
        config = _dinov2_config(state, path)
        with torch.device("meta"), untrusted.bounded(path, len(state)):
            expected = {name: tuple(tensor.shape) for name, tensor in Dinov2Model(config).state_dict().items()}
    if wrong := sorted(name for name in state if name in expected and state[name].shape != expected[name]):
        raise SourceError(
            f"{path.name}: {wrong[0]} has the shape {state[wrong[0]].shape}, where DINOv2 has {expected[wrong[0]]}. {FETCH_AGAIN}"
        )
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    files.write_json(folder / "preprocessor_config.json", DINOV2_PREPROCESSING)
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in sorted(state.items())}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with loading.quiet():
        _, info = Dinov2Model.from_pretrained(folder, output_loading_info=True)
    wrong = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        told = "; ".join(f"{kind}: {files.some(names)}" for kind, names in wrong.items() if names)
        raise SourceError(f"{path.name} does not hold what transformers calls DINOv2 ({told}).")
    _forget_origin(folder)
    return "float32 backbone taken out of an ONNX graph"


def _backbone(path: Path) -> dict[str, np.ndarray]:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        graph = onnx.load(path, load_external_data=False).graph
        outside = [item.name for item in graph.initializer if item.data_location == onnx.TensorProto.EXTERNAL]
        arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer if not outside}
    except (ValueError, DecodeError) as error:
        raise SourceError(f"{path.name} cannot be read as ONNX ({error}).") from error
    if outside:
        raise SourceError(
            f"{path.name} keeps {files.some(outside)} in other files. Save it as one file, with onnx.save."
        )
    state = {name.removeprefix("backbone."): array for name, array in arrays.items() if name.startswith("backbone.")}
    for node in graph.node:
        matrix = next((name for name in node.input if name in arrays), None)
        if node.op_type == "MatMul" and node.name.startswith("/backbone/encoder/") and matrix:
            parts = node.name.removesuffix("/MatMul").split("/")[2:]
            state[".".join([*parts, "weight"])] = arrays[matrix].T
    hidden = state["embeddings.cls_token"].shape[2] if "embeddings.cls_token" in state else None
    positions = [
        array
        for name, array in arrays.items()
        if array.ndim == 3 and array.shape[2] == hidden and not name.startswith("backbone.")
    ]
    if len(positions) != 2:
        raise SourceError(f"{path.name} is not a graph with a DINOv2 backbone: its positions were not found.")
    state["embeddings.position_embeddings"] = np.concatenate(sorted(positions, key=lambda a: a.shape[1]), axis=1)
    return state


def _dinov2_config(state: dict[str, np.ndarray], path: Path):
    from transformers import Dinov2Config

    try:
        hidden, channels, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
        inner = len(state["encoder.layer.0.mlp.fc1.bias"])
    except KeyError as error:
        raise SourceError(f"{path.name} is not a graph with a DINOv2 backbone: {error} was not found.") from error
    return Dinov2Config(
        hidden_size=hidden,
        num_channels=channels,
        num_hidden_layers=len({name.split(".")[2] for name in state if name.startswith("encoder.layer.")}),
        num_attention_heads=hidden // 64,  # 64 in every size that was published
        mlp_ratio=inner // hidden,
        image_size=round((state["embeddings.position_embeddings"].shape[1] - 1) ** 0.5) * patch,
        patch_size=patch,
        layerscale_value=1.0,
        qkv_bias=True,
        use_mask_token=False,  # only pre-training uses it, and the graph has none
        architectures=["Dinov2Model"],
        dtype="float32",
    )


def _forget_origin(folder: Path) -> None:
    """Remove the place of conversion from saved settings: the same bytes on every machine."""
    for path in folder.glob("*config.json"):
        settings = files.read_json(path)
        origin = {"_name_or_path", "name_or_path", "is_local", "local_files_only"}
        files.write_json(path, {key: value for key, value in settings.items() if key not in origin})
