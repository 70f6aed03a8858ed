"""What a job computes on: a GPU, several that share a model, or the processor; a job that was given a GPU needs one."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence

import accelerate
import torch
import transformers
from accelerate.utils import compute_module_sizes, get_balanced_memory

from essential_sparsity import errors

MOST_WORKERS = 4  # processes that decode and pad batches ahead of the model
NOT_GIVEN = {"SLURM_JOB_GPUS": "", "SLURM_STEP_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}  # their numbers, and how many
SHARED, ROOM_OF_BATCHES = "/dev/shm", 1 << 30  # where processes hand batches over; bytes of eight of 224 pixels
ROOM = 0.9  # of a GPU's free memory, for the weights; the rest is for what a batch needs


class DeviceError(errors.UserError):
    """A job that needs a GPU finds none, or too few for its model: another node may have them."""

    of_machine = True


def find(asked: str, environment: Mapping[str, str] = os.environ) -> str:
    """The type of device to compute on, `cuda` or `cpu`, by the key `resources.device`.

    `cpu`: the processor, whatever there is. `auto`: a GPU where there is one. Raises DeviceError where torch finds none
    although there should be one: `cuda` says so, or under `auto` SLURM gave the job one (`environment`). Else a node with
    a broken driver would compute on its processor for days.
    """
    if asked == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    given = next(
        (name for name, nothing in NOT_GIVEN.items() if environment.get(name, nothing) not in ("", nothing)), None
    )
    if asked == "auto" and given is None:
        return "cpu"
    why = "resources.device is cuda" if asked == "cuda" else f"SLURM gave this job a GPU ({given}={environment[given]})"
    raise DeviceError(
        f"{why}, but torch {torch.__version__} (built for CUDA: {torch.version.cuda or 'no'}) finds none on {platform.node()}: "
        f"{reason()} Try `nvidia-smi` there and leave the node out if it fails too; write `device: cpu` under `resources` in "
        "the configuration to compute on processors."
    )


def hardware(device: str, gpus: int = 1) -> str:
    """What computes on this machine: the names of the first `gpus` cards, such as `NVIDIA H200`, or of a processor its kind and the
    instructions that torch uses of it, such as `x86_64, AVX512`. On another one sums are rounded otherwise.
    """
    if device != "cuda":
        return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    names = [torch.cuda.get_device_name(index) for index in range(min(gpus, torch.cuda.device_count()))]
    return " + ".join(f"{names.count(name)} x {name}" if names.count(name) > 1 else name for name in sorted(set(names)))


def workers() -> int:
    """Processes that make batches ahead of the model: as many as a job has threads to spare, few at most.

    None but on Linux: elsewhere a process cannot be forked with what it is to work on. None where they have no room to hand
    their batches over (a container's 64 MB): it would end with a bus error.
    """
    if sys.platform != "linux" or not os.path.isdir(SHARED) or shutil.disk_usage(SHARED).free < ROOM_OF_BATCHES:
        return 0
    return min(MOST_WORKERS, torch.get_num_threads() - 1)


def reason() -> str:
    """What torch says about a GPU that it cannot use, as one sentence."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].rstrip(".") + "."
    return "torch.cuda.is_available() is False."


def place(model: transformers.PreTrainedModel, device: str, gpus: int = 1) -> transformers.PreTrainedModel:
    """The model on its device, in place; on `cuda` its blocks are spread over the first `gpus` cards.

    Every block lies whole on one card, and a batch goes from card to card. Numbers are those of one card. Raises
    DeviceError where there are fewer, and where the weights do not fit into them, with the figures.
    """
    if device != "cuda" or gpus == 1:
        return model.to(device)
    there = torch.cuda.device_count()
    if there < gpus:
        raise DeviceError(
            f"gpus_per_job is {gpus} for this model, but this job sees {there} on {platform.node()}. Let the job ask for as "
            "many (`gpu` or `gres` in the profile), or lower gpus_per_job in the models table."
        )
    free = {index: int(ROOM * torch.cuda.mem_get_info(index)[0]) for index in range(gpus)}
    return spread(model, free, [torch.device("cuda", index) for index in range(gpus)])


def gather(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """The model on the host again, in place, from one card or several."""
    accelerate.hooks.remove_hook_from_submodules(model)
    return model.to("cpu")


def spread(
    model: transformers.PreTrainedModel, free: Mapping[int, int], cards: Sequence[torch.device]
) -> transformers.PreTrainedModel:
    """Put a model's blocks on `cards` in place, evenly, by accelerate; `free`: bytes for weights on each. DeviceError."""
    whole = list(model._no_split_modules or ())
    if not whole:
        raise DeviceError(
            f"{type(model).__name__} does not say which of its parts belong together on one GPU: it cannot be spread over "
            "several. Leave gpus_per_job blank for it and use a larger GPU."
        )
    model.tie_weights()
    balanced = get_balanced_memory(model, max_memory=dict(free), no_split_module_classes=whole)
    found = accelerate.infer_auto_device_map(model, max_memory=balanced, no_split_module_classes=whole)
    if not set(found.values()) <= set(free):
        size, room = compute_module_sizes(model)[""], sum(free.values())
        raise DeviceError(
            f"The weights of {type(model).__name__} take {size / 1e9:.1f} GB, and {len(cards)} GPUs have {room / 1e9:.1f} GB for "
            "them. Raise gpus_per_job in the models table, or use larger GPUs."
        )
    # hooks also where one card is enough: batches then go to it as they would to the first of several
    return accelerate.dispatch_model(model, {part: cards[index] for part, index in found.items()}, force_hooks=True)
