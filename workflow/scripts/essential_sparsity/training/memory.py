"""Out of memory: told apart from other errors, so that the same work can be tried in smaller parts."""

import gc

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that memory, of a GPU or the machine, did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)


def free() -> None:
    """Give back what nothing refers to. To be called outside the handler: the error's traceback holds activations."""
    gc.collect()
    clear_device_cache()
