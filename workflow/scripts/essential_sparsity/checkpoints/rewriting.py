"""A checkpoint written anew with other weights in the place of some of its own, as it is stored: names, types, every other tensor."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import accumulate
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file

from essential_sparsity import errors, files
from essential_sparsity.checkpoints import stored

SHARD = 5_000_000_000  # bytes of a file of weights at most


def rewrite(folder: Path, out: Path, weights: Mapping[str, torch.Tensor], allow_pickle: bool) -> None:
    """Write the tensors of the checkpoint `folder` into `out`, those of `weights` (by name in the base model) in the place of its own.

    All tensors keep their names and types; safetensors, in shards of at most SHARD bytes. Raises UserError where the stored type
    cannot hold a weight, or the architecture stores its weights in a way that cannot be turned round.
    """
    with stored.opened(folder, allow_pickle=allow_pickle) as checkpoint:
        replaced = _replaced(checkpoint, weights)
        split = split_state_dict_into_shards_factory(
            checkpoint.entries,
            get_storage_size=_bytes,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=SHARD,
        )
        for name, keys in split.filename_to_tensors.items():
            tensors = {key: replaced[key] if key in replaced else checkpoint.entries[key].read() for key in keys}
            # tied tensors of a pickle share their memory, which safetensors refuses
            tensors = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
            with files.atomic(out / name) as temporary:  # safetensors alone would make it private
                save_file(tensors, temporary, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        files.write_json(out / "model.safetensors.index.json", index)


def _bytes(entry: stored.Entry) -> int:
    bits = re.search(r"\d+", entry.dtype)
    return math.prod(entry.shape) * (int(bits[0]) // 8 if bits else 1)


def _replaced(checkpoint: stored.Stored, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Key in the files -> tensor to store, of all prunable tensors. UserError where the stored type cannot hold the pruned weights."""
    found = {}
    for part in checkpoint.parts:
        own = {
            target: weights[name]
            for target in part.targets
            if (name := target.removeprefix(checkpoint.prefix)) in weights
        }
        for entry, tensor in _as_stored(part, own, checkpoint):
            kept = tensor.to(stored.DTYPES[entry.dtype])
            if not torch.equal(kept.to(tensor.dtype), tensor):
                raise errors.UserError(
                    f"{entry.key} is stored as {entry.dtype}, which cannot hold its pruned weights as they were evaluated "
                    f"({str(tensor.dtype).removeprefix('torch.')}). A pattern that leaves weights as they are can be exported."
                )
            found[entry.key] = kept
    return found


def _as_stored(
    part: stored.Part, weights: Mapping[str, torch.Tensor], checkpoint: stored.Stored
) -> Iterator[tuple[stored.Entry, torch.Tensor]]:
    """Each stored tensor of a part with its weights, by those of the tensors in memory that it makes.

    Where they take more than another name (experts are merged into a stack), numbers of places are converted in the place of weights,
    as loading converts these: each number ends where the weight of that place belongs. UserError for other conversions.
    """
    if part.converter is None:
        yield part.entries[0], weights[part.targets[0]]
        return
    ends = list(accumulate((math.prod(entry.shape) for entry in part.entries), initial=0))
    numbered = {
        id(entry.read): partial(_places, start, entry.shape) for start, entry in zip(ends, part.entries, strict=False)
    }
    reads = part.converter.collected_tensors
    for source in reads:
        reads[source] = [numbered[id(read)] for read in reads[source]]
    made = part.tensors(checkpoint.model)
    places = torch.cat([values.reshape(-1) for values in made.values()])
    if made.keys() != weights.keys() or len(places) != ends[-1] or len(places.unique()) != ends[-1]:
        raise errors.UserError(
            f"{files.some([entry.key for entry in part.entries], 2)} become {files.some(sorted(made), 2)} in memory in a way that cannot "
            "be turned round: this architecture is evaluated, but cannot be exported."
        )
    flat = torch.empty_like(places, dtype=next(iter(weights.values())).dtype)
    flat[places] = torch.cat([weights[name].reshape(-1) for name in made])
    for start, entry in zip(ends, part.entries, strict=False):
        yield entry, flat[start : start + math.prod(entry.shape)].view(entry.shape)


def _places(start: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.arange(start, start + math.prod(shape)).view(shape)
