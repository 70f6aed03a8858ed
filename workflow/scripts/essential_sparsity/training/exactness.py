"""The same bits again on a GPU: what a job asks of PyTorch, and what it says where that cannot be had."""

import contextlib
from collections.abc import Iterator

import torch

UNCERTAIN = "does not have a deterministic implementation"  # what PyTorch says of an operation


def ask() -> None:
    """For all that a job computes: deterministic algorithms where there are any, and float32 that is float32.

    Without a word, PyTorch computes convolutions (the patches of a vision transformer) in TF32, with 10 bits instead of 23;
    products of matrices too where the environment says so, as in some containers.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """While a model is trained: under `warn_only`, attention's fused kernels take the faster, uncertain gradients."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Of the generators that a step of training draws from: the processor's, and the GPU's."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if device.type == "cuda" else [])]


def draw_from(state: list[torch.Tensor]) -> None:
    """Draw from here on as from the time of `random_state`."""
    torch.set_rng_state(state[0])
    for of_gpu in state[1:]:
        torch.cuda.set_rng_state(of_gpu)


def give_in(error: RuntimeError) -> bool:
    """Whether a step of training failed since an operation has no certain form: said, and allowed from here on.

    The caller tries the step again. The bits of such a training may be others the next time.
    """
    if UNCERTAIN not in str(error) or torch.is_deterministic_algorithms_warn_only_enabled():
        return False
    torch.use_deterministic_algorithms(True, warn_only=True)
    operation = str(error).partition(UNCERTAIN)[0].strip()
    print(
        f"warning: {operation} has no deterministic form here: the same training may end with other bits another time.",
        flush=True,
    )
    return True
