"""The tensors of a checkpoint folder, found in its files' headers and read one at a time, under their names in memory.

transformers renames modules while loading and merges experts into one tensor; its own tables and converters are used,
so that a name, a shape and every bit are those of the loaded model.
"""

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

from essential_sparsity import files
from essential_sparsity.checkpoints.prunable import CheckpointError, find_prunable

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # safetensors' names
WEIGHTS = {*DTYPES, "F64", "torch.float64"}  # of tensors that are not ranked: these are rounded
WHOLE = {"BOOL", "U8", "I8", "I16", "I32", "I64", "bool", "uint8", "int8", "int16", "int32", "int64"}
BUFFERS = r"(^|\.)(inv_freq|masked_bias|position_ids|token_type_ids|num_batches_tracked)$"  # computed anew when a model is built
HEADS = re.compile(
    r"head|cls|classif|score|predict|logit|qa_outputs|proj_out|lm_|pooler"
)  # of checkpoints without prefixes
FETCH_AGAIN = "Delete the file and fetch the checkpoint again."


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint file, not read yet."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Part:
    """What one step of loading makes: `targets` in memory out of `entries` on disk.

    Without a converter it is one entry under one name; with one, several may become one (experts) or one several. `others`: entries
    that are stored as well and would make the same.
    """

    targets: tuple[str, ...]
    entries: list[Entry]
    converter: WeightConverter | None
    others: list[Entry] = field(default_factory=list)

    def tensors(self, model: PreTrainedModel) -> dict[str, torch.Tensor]:
        """Read the entries and make the tensors; to be called once. `model` may be on the meta device."""
        if self.converter is None:
            return {self.targets[0]: self.entries[0].read()}
        made = self.converter.convert(self.targets[0], model=model, config=model.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


@dataclass(frozen=True)
class Unplaced:
    """Stored tensors that a model leaves out: parts of other heads, and those without which it is another model; by
    their names in memory those of another shape: (shape stored, shape expected), and those that are stored under several names:
    these; and those that hold codes where it has weights: type."""

    heads: list[str]
    wrong: list[str]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    several: dict[str, list[str]]
    codes: dict[str, str]


@dataclass(frozen=True)
class Stored:
    """An opened checkpoint: its base model on the meta device, the parts that make its prunable weights in a fixed
    order, the names of all parameters that it holds, the path of the base model inside `model`, and all of its entries."""

    model: PreTrainedModel
    parts: list[Part]
    names: set[str]
    prefix: str
    entries: dict[str, Entry]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the prunable weights; float32 where they mix, which holds all of them exactly."""
        dtypes = {DTYPES[entry.dtype] for part in self.parts for entry in part.entries}
        return dtypes.pop() if len(dtypes) == 1 else torch.float32


@contextlib.contextmanager
def opened(folder: str | Path, *, trust_remote_code: bool = False, allow_pickle: bool = False) -> Iterator[Stored]:
    """Open a checkpoint for as long as the context lasts; headers are read, weights are not.

    Raises CheckpointError for files that are missing, corrupt, quantised, pickled (unless allowed) or that do not hold
    every prunable weight as float32, float16 or bfloat16.
    """
    folder = Path(folder)
    _refuse_quantised(folder)
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"{folder} has no model that transformers can build: {reason(error)}.") from error
    prefix = next(f"{path}." if path else "" for path, module in model.named_modules() if module is model.base_model)
    wanted = {prefix + weight.name for weight in find_prunable(model)}
    with contextlib.ExitStack() as stack:
        entries = _entries(folder, allow_pickle, stack)
        parts, _ = _plan(model, entries)
        names = {target for part in parts for target in part.targets}
        if missing := sorted(wanted - names):
            raise CheckpointError(
                f"{folder} lacks {len(missing)} of the {len(wanted)} prunable weights of {type(model).__name__} "
                f"({files.some(missing)}). The files are incomplete, quantised, or do not belong to this config.json."
            )
        prunable = [part for part in parts if wanted.intersection(part.targets)]
        for entry in (entry for part in prunable for entry in part.entries):
            if entry.dtype not in DTYPES:
                raise CheckpointError(
                    f"{folder}: {entry.key} is stored as {entry.dtype}. Only float32, float16 and bfloat16 have the "
                    "magnitudes that pruning ranks: use the checkpoint before it was quantised or converted."
                )
        yield Stored(model, prunable, names, prefix, entries)


def reason(error: Exception) -> str:
    """The first line of what transformers says of a config.json that it cannot build; of one with code, what that means."""
    if "custom code" in str(error):
        return (
            "it asks for code of its own (auto_map), which is never run here: use an architecture that transformers has"
        )
    return str(error).strip().partition("\n")[0].removesuffix(".")


def _plan(model: PreTrainedModel, entries: dict[str, Entry]) -> tuple[list[Part], dict[str, Entry]]:
    """Which entries make which parameters, and by their names in memory those that make none: steps 1 and 2 of
    transformers' own loading loop (`core_model_loading.convert_and_load_state_dict_in_model`), without reading anything."""
    conversions = get_model_conversion_mapping(model)
    renamings = [c for c in conversions if isinstance(c, WeightRenaming)]
    converters = [c for c in conversions if isinstance(c, WeightConverter)]
    by_pattern = {pattern: c for c in converters for pattern in c.source_patterns}
    expected = model.state_dict()
    parts: dict[str, Part] = {}
    unplaced: dict[str, Entry] = {}
    for key in sorted(entries, key=dot_natural_key):  # experts are stacked in this order
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, expected)
        if name not in expected and key in expected:
            name, pattern = rename_source_key(key, [], [], model.base_model_prefix, expected)
        if name not in expected:
            unplaced[name] = entries[key]
            continue
        if name in parts and (pattern is None or parts[name].converter is None):
            parts[name].others.append(entries[key])
            continue
        if pattern is None:
            parts[name] = Part((name,), [entries[key]], None)
            continue
        if name not in parts:
            converter = deepcopy(by_pattern[pattern])
            first = converter.target_patterns[0]
            parts[name] = Part(tuple(name.replace(first, t) for t in converter.target_patterns), [], converter)
        parts[name].entries.append(entries[key])
        parts[name].converter.add_tensor(name, key, pattern, entries[key].read)
    return list(parts.values()), unplaced


def without_place(model: PreTrainedModel, entries: dict[str, Entry], allow_new: tuple[str, ...] = ()) -> Unplaced:
    """The stored tensors that a model (which may be on the meta device) has no place for, and which of these matter.

    A head that another use of the base model had is left out, and so are a pooler, whatever transformers itself leaves
    out for the architecture, and buffers that its older versions stored. What lies inside the base model, or in a module
    of the head that the model has (unless `allow_new`: it is new anyway), belongs to another model than this one.
    """
    parts, unplaced = _plan(model, entries)
    state = model.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    weights = (
        part for part in parts if any(name in state and state[name].is_floating_point() for name in part.targets)
    )
    codes = {entry.key: entry.dtype for part in weights for entry in part.entries if entry.dtype not in WEIGHTS}
    whole = [part for part in parts if part.converter is None]
    makers: dict[str, list[str]] = {}
    for part in parts:
        for name in part.targets:
            makers.setdefault(name, []).extend(entry.key for entry in (part.entries[0], *part.others))
    several = {name: keys for name, keys in makers.items() if len(keys) > 1}
    found = {part.targets[0]: part.entries[0].shape for part in whole}
    shapes = {name: (shape, expected[name]) for name, shape in sorted(found.items()) if shape != expected[name]}
    base, prefix = model.base_model, f"{model.base_model_prefix}."
    prefixed = any(key.startswith(prefix) for key in entries)
    own = {name.partition(".")[0] for name, _ in (*base.named_parameters(), *base.named_buffers())}
    modules = {name for name, _ in model.named_modules() if name}
    ignored = [*(model._keys_to_ignore_on_load_unexpected or ()), BUFFERS]
    heads, wrong = [], []
    for name, entry in unplaced.items():
        inside = name.removeprefix(prefix)
        first = inside.partition(".")[0]
        if any(re.search(pattern, name) for pattern in ignored) or _is_buffer(entry):
            continue
        if name.startswith(prefix) or (not prefixed and (first in own or not HEADS.search(first))):
            (heads if first == "pooler" else wrong).append(entry.key)
        else:
            known = name.rpartition(".")[0] in modules and not name.startswith(allow_new)
            (wrong if known else heads).append(entry.key)
    return Unplaced(sorted(heads), sorted(wrong), shapes, several, codes)


def _is_buffer(entry: Entry) -> bool:
    """Whether a tensor is no weight: whole numbers that are not called one (codes are), or a causal mask of 1 x 1 x tokens x
    tokens (GPT-2, GPT-NeoX)."""
    square = len(entry.shape) == 4 and entry.shape[:2] == (1, 1) and entry.shape[2] == entry.shape[3] > 1
    whole = entry.dtype.removeprefix("torch.") in WHOLE
    return square or (whole and not entry.key.endswith((".weight", ".bias")))


def _entries(folder: Path, allow_pickle: bool, stack: contextlib.ExitStack) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for path in _weight_files(folder, allow_pickle):
        found = _entries_of(path, stack)
        if twice := sorted(entries.keys() & found):
            raise CheckpointError(
                f"{path} stores {files.some(twice)}, which another file of {folder} stores too: only one can count. Fetch the checkpoint "
                "again, or save it anew."
            )
        entries |= found
    return entries


def _entries_of(path: Path, stack: contextlib.ExitStack) -> dict[str, Entry]:
    """The entries of one file, which stays open as long as the stack."""
    entries: dict[str, Entry] = {}
    if path.suffix == ".safetensors":
        try:
            handle = stack.enter_context(safe_open(path, framework="pt"))
            for key in handle.keys():  # noqa: SIM118 (not a dict)
                read = functools.partial(handle.get_tensor, key)
                header = handle.get_slice(key)
                entries[key] = Entry(key, header.get_dtype(), tuple(header.get_shape()), read)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is cut short or corrupt ({error}). {FETCH_AGAIN}") from error
        return entries
    names = {dtype: name for name, dtype in DTYPES.items()}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))  # not before 1.6
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise CheckpointError(f"{path} cannot be read as plain weights ({error}). {FETCH_AGAIN}") from error
    for key, tensor in ((key, value) for key, value in state.items() if isinstance(value, torch.Tensor)):
        dtype = names.get(tensor.dtype, str(tensor.dtype))
        entries[key] = Entry(key, dtype, tuple(tensor.shape), lambda tensor=tensor: tensor)
    return entries


def _weight_files(folder: Path, allow_pickle: bool) -> list[Path]:
    """The files that transformers would read, in its order of preference."""
    for name in ("model.safetensors", *(("pytorch_model.bin",) if allow_pickle else ())):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            shards = [folder / shard for shard in sorted(set(files.read_json(index).get("weight_map", {}).values()))]
            if absent := [shard.name for shard in shards if not shard.is_file()]:
                raise CheckpointError(
                    f"{index} lists files that are not there: {files.some(absent)}. Fetch them again."
                )
            return shards
    if not allow_pickle and list(folder.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{folder} has only pickled weights (pytorch_model.bin), which can run code when they are opened. Use a "
            "revision with model.safetensors, or set allow_pickle for this model if you trust its source."
        )
    raise CheckpointError(f"{folder} has no weights: expected model.safetensors or model.safetensors.index.json.")


def _refuse_quantised(folder: Path) -> None:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing: a checkpoint is a folder with config.json and weights.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}). {FETCH_AGAIN}") from error
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if method := part.get("quantization_config") or part.get("compression_config"):
            kind = method.get("quant_method", "unnamed method") if isinstance(method, dict) else method
            raise CheckpointError(
                f"{path} says that the weights are quantised ({kind}). Codes have no magnitudes to rank: use the "
                "float32, float16 or bfloat16 checkpoint that it was made from."
            )
