"""What a job computes on: a GPU or the processor; and that a job which was given a GPU does not go on without one."""

import os
import platform
import sys
from collections.abc import Mapping

import torch

MOST_WORKERS = 4  # processes that decode and pad batches ahead of the model
NOT_GIVEN = {"SLURM_JOB_GPUS": "", "SLURM_STEP_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}  # their numbers, and how many


class DeviceError(ValueError):
    """A job that needs a GPU finds none."""


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


def workers() -> int:
    """Processes that make batches ahead of the model: as many as a job has threads to spare, few at most.

    None but on Linux: elsewhere a process cannot be forked with what it is to work on.
    """
    return min(MOST_WORKERS, torch.get_num_threads() - 1) if sys.platform == "linux" else 0


def reason() -> str:
    """What torch says about a GPU that it cannot use, as one sentence."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0].rstrip(".") + "."
    return "torch.cuda.is_available() is False."
