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


class Before:
    """What a step of training changes before its gradients are there: to be put back where it is tried again.

    The generators that it draws from, the processor's and the GPU's; numbers that the model keeps beside its parameters (means
    of a batch normalisation, the centre of a self-distillation).
    """

    def __init__(self, model: torch.nn.Module, device: torch.device):
        self.model, self.random = model, torch.get_rng_state()
        self.of_gpu = torch.cuda.get_rng_state() if device.type == "cuda" else None
        self.buffers = [(buffer, buffer.clone()) for buffer in model.buffers() if buffer.is_floating_point()]

    @torch.no_grad()
    def restore(self) -> None:
        """Gradients are gone too."""
        self.model.zero_grad()
        torch.set_rng_state(self.random)
        if self.of_gpu is not None:
            torch.cuda.set_rng_state(self.of_gpu)
        for buffer, kept in self.buffers:
            buffer.copy_(kept)


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
