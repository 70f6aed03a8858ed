"""What a stranger's files say, held against what they hold, before a library believes it: nothing large is made of a small lie.

A number of layers is compared with the tensors that are stored, a length with the bytes of its file.
"""

import contextlib
import json
import pickle
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from essential_sparsity import files
from essential_sparsity.acquire.refusal import FETCH_AGAIN, SourceError, reading

COUNTED = re.compile(
    r"layer|depth|block|expert|head|stage|group|repeat|types|labels"
)  # keys of numbers of things that are made
MEASURED = re.compile(r"size|length|dim|width|theta|channels|vocab")  # of those: keys of what such a thing measures
LABELS = ("label2id", "id2label")  # whose keys and values are a data set's
MANY = 10_000  # parts that a model of few tensors may have
MOST = 100_000  # more of one thing than any model has: some have 16,384 experts
WRAPPED = re.compile(r"(_orig_mod\.|module\.|base_model\.model\.)+")  # what wrappers put before the names of tensors
LFS_POINTER, MOST_OF_POINTER = b"version https://git-lfs", 1024  # how one begins; its most bytes
FETCH_LFS = "Fetch what it stands for with `git lfs pull`."
INDEX = ".index.json"
WEIGHTS = (".safetensors", ".bin")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
CONFIGURATIONS = ("preprocessor_config.json", "processor_config.json", "generation_config.json")


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises SourceError where there is none."""
    with reading(f"{path} cannot be read"):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise SourceError(f"{path} holds {_short(found)}, no object with keys. {FETCH_AGAIN}")
    return found


def regular(folder: Path, names: list[str]) -> list[str]:
    """The names, all of which are files, none a pointer of Git LFS but in place of a tokenizer's model that tokenizer.json makes needless; links
    may lead to one, and those out of the folder are printed. SourceError."""
    outside, root = [], folder.resolve()
    for name in names:
        path = folder / name
        with reading(f"{path} cannot be read", "Take it out of the folder."):
            status, place = path.stat(), path.resolve()
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(
                f"{path} is a device, a pipe or a folder, no file with content. Take it out of the folder."
            )
        needed = not (name.endswith(".model") and "tokenizer.json" in names)
        if needed and status.st_size < MOST_OF_POINTER and path.read_bytes().startswith(LFS_POINTER):
            raise SourceError(f"{path} is a pointer of Git LFS, not the file itself. {FETCH_LFS}")
        if not place.is_relative_to(root):
            outside.append(f"{name} ({place})")
    if outside:
        print(
            f"warning: {folder} holds links to files outside of it, which are read: {files.some(outside)}", flush=True
        )
    return names


# ---- models ----------------------------------------------------------------------------------------------------------


def check_model(folder: Path, names: list[str]) -> int:
    """Hold the configuration and index of a folder of transformers against the tensors that its files store, and return how
    many these are. `names`: the files of the folder that are used. Raises SourceError."""
    config = json_object(folder / "config.json")
    for name in names:
        if name.endswith(INDEX):
            _check_index(folder / name, names)
        if name in CONFIGURATIONS:
            json_object(folder / name)
    stored = [key for name in names for key in _tensors(folder / name)]
    tensors = len(stored)
    check_counts(folder / "config.json", config, tensors)
    _check_names(folder, stored)
    weights = [name for ending in ((INDEX,), WEIGHTS) for name in names if name.endswith(ending)]
    if (other := config.get("transformers_weights")) is not None and other not in weights[:1]:
        raise SourceError(
            f"{folder / 'config.json'}: transformers_weights is {_short(other)}, so transformers would load that file, but {files.some(weights[:1])} "
            "is what is counted and ranked. Take the key out, or keep in the folder what it names, under the usual name."
        )
    if off := [
        f"{key} = {str(value).lower()}"
        for key, value in (("return_dict", False), ("torchscript", True))
        if config.get(key) is value
    ]:
        raise SourceError(
            f"{folder / 'config.json'} says {' and '.join(off)}, so the model would give its outputs without their names, which are read here. Take "
            "the key out."
        )
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        if not isinstance(value := config.get(key, ""), str | dict | None) or "/" in str(value):
            raise SourceError(
                f"{folder / 'config.json'}: {key} is {_short(value)}, code of a hub, which is never run here. Take the key out."
            )
    return tensors


def check_counts(where: object, said: dict[str, Any], tensors: int) -> None:
    """Refuse a number of layers, heads, experts that is beyond any model, and beyond the tensors that are stored. SourceError."""
    most = max(tensors, MOST)
    left: list[tuple[str, Any]] = list(said.items())
    while left:
        key, value = left.pop()
        if key in LABELS or MEASURED.search(str(key)):
            continue
        if isinstance(value, dict):
            left += value.items()
        elif isinstance(value, list):
            left += [(key, part) for part in value]
        elif isinstance(value, int | float) and value > most and COUNTED.search(str(key)):
            raise SourceError(
                f"{where}: {key} is {value:,}, but {tensors:,} tensors are stored. They do not belong together: fetch both again, or do "
                "not use them."
            )


@contextlib.contextmanager
def bounded(where: object, tensors: int) -> Iterator[None]:
    """Let a model be built of about as many parts as tensors are stored, however many `where`, its configuration, asks for.
    SourceError."""
    from torch.nn.modules import module

    made, most = (
        0,
        16 * tensors + MANY,
    )  # a layer of one tensor has several parts; those of several layers may share one

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise SourceError(
                f"{where} describes a model of more than {most:,} parts, but {tensors:,} tensors are stored. They do not belong "
                "together: fetch both again, or do not use them."
            )

    hooks = [
        module.register_module_parameter_registration_hook(count),
        module.register_module_module_registration_hook(count),
        module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_tokenizer(folder: Path) -> None:
    """Refuse files of a tokenizer that are no objects. SourceError."""
    for name in TOKENIZER:
        if (folder / name).is_file():
            json_object(folder / name)


@contextlib.contextmanager
def unasked() -> Iterator[None]:
    """Let transformers refuse code that a folder brings, where it would ask whoever sits at the terminal whether to run it."""
    from transformers import dynamic_module_utils

    with patch.object(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0):
        yield


def _check_index(path: Path, names: list[str]) -> None:
    placed = json_object(path).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise SourceError(f"{path} has no weight_map of tensors and their files. {FETCH_AGAIN}")
    for key, name in placed.items():
        if not isinstance(name, str) or name not in names or not name.endswith(WEIGHTS):
            raise SourceError(
                f"{path}: {key} is in {_short(name)}, which is no file of weights in this folder. {FETCH_AGAIN}"
            )
    if unlisted := sorted({name for name in names if name.endswith(WEIGHTS)} - set(placed.values())):
        raise SourceError(
            f"{path} does not list {files.some(unlisted)}: nothing of it would be read. Take out of the folder what is left of an older "
            "checkpoint, or fetch the index again."
        )


def _check_names(folder: Path, stored: list[str]) -> None:
    """Refuse a checkpoint all of whose tensors are named as inside of a wrapper. SourceError."""
    found = WRAPPED.match(stored[0]) if stored else None
    if found and all(key.startswith(found[0]) for key in stored):
        raise SourceError(
            f"{folder}: the names of all tensors begin with {found[0]!r} ({files.some(stored, 2)}), as where a model was saved in the wrapper that it "
            "was trained in (torch.compile, DistributedDataParallel, peft). Save the model inside of it, with save_pretrained, or take that out of "
            "the names."
        )


def _tensors(path: Path) -> list[str]:
    """The names of the tensors that a file of weights holds; none of another file."""
    import torch
    from safetensors import safe_open

    if path.suffix == ".safetensors":
        with reading(f"{path} is cut short or corrupt"), safe_open(path, framework="np") as handle:
            return list(handle.keys())
    if path.suffix != ".bin":
        return []
    try:
        with reading(f"{path} cannot be read as plain weights"):
            state = torch.load(path, map_location="meta", weights_only=True)
    except SourceError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        # torch's own words are that it will likely succeed where code may run
        raise SourceError(
            f"{path} cannot be read as plain weights: it is damaged, or calls code when it is opened, which is never done here. Fetch it "
            "again, or use a revision with safetensors."
        ) from error
    if not isinstance(state, dict):
        raise SourceError(
            f"{path} cannot be read as plain weights: it holds {_short(state)}, no table of tensors. {FETCH_AGAIN}"
        )
    return list(map(str, state))


def _short(value: object) -> str:
    return f"{str(value)[:60]!r}" if isinstance(value, str) else f"{type(value).__name__} {str(value)[:60]}"
