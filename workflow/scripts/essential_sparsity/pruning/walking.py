"""A model's blocks one after the other, each with the inputs of many batches at once: one block on the device at a time.

The model's own forward pass says what a block is given, whatever stands between blocks (merged patches, masks by type of
layer, rotary tables): each batch has a thread of its own that runs it on the host, and waits at every block until all
batches have come there. So positional and keyword arguments are those of the model, for any layout. Only one thread runs
at any time, so the order of all operations, and with it every bit, is always the same. What a block hands over goes back to the host,
where the model may compute with it; where the first batch shows that it does not, the others' stay on the device if it has room.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedModel

from essential_sparsity.checkpoints.prunable import CheckpointError, blocks
from essential_sparsity.pruning import moving

ROOM = 3  # times what all batches hand over has to be free on the device for it to stay there


class _Left(BaseException):  # no `except Exception` of a model keeps a thread alive
    """Ends a batch's thread at the block where it waits."""


@dataclass(frozen=True)
class Visit:
    """A block, by its path in the base model, with what every batch brings to it; `sizes`: how many sequences, or images, each has."""

    path: str
    sizes: Sequence[int]
    _calls: Sequence[tuple[tuple, Mapping[str, Any]]]
    _forward: Callable
    _device: torch.device

    def outputs(self) -> Iterator[Any]:
        """The block's output for each batch in turn, with the weights that it has now; on the device."""
        return map(self.output, range(len(self._calls)))

    def output(self, batch: int) -> Any:
        """That of one batch."""
        args, kwargs = self._calls[batch]
        return self._forward(*moving.moved(args, self._device), **moving.moved(kwargs, self._device))

    def shapes(self, batch: int) -> list[torch.Size]:
        """Of all tensors that a batch brings."""
        return [part.shape for part in tree_leaves(self._calls[batch]) if isinstance(part, torch.Tensor)]


class _Computed(TorchDispatchMode):
    """Whether anything was computed since `any` was set to False; on the host, whatever is on the device of a block."""

    any = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.any, given = True, (args, kwargs or {})
        if any(map(_elsewhere, tree_leaves(given))):  # a model that comes back to what an earlier block gave
            given = moving.moved(given, torch.device("cpu"))
        return func(*given[0], **given[1])


def _elsewhere(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


class _Batch(threading.Thread):
    """One batch's way through the model: runs until it comes to a block or to its end, then waits to be told more."""

    def __init__(self, model: torch.nn.Module, inputs: Mapping[str, Any], device: torch.device):
        super().__init__(daemon=True)
        self.model, self.inputs, self.threads = model, inputs, torch.get_num_threads()
        self.carried = moving.Carried(device)
        self.waits, self.goes = threading.Semaphore(0), threading.Semaphore(0)
        self.at: str | None = None
        self.call: tuple[tuple, dict] = ((), {})
        self.answer: Any = None
        self.left, self.error, self.computed = False, None, _Computed()

    def run(self) -> None:
        torch.set_num_threads(self.threads)  # of OpenMP, which counts them per thread
        self.goes.acquire()
        try:
            with torch.no_grad(), self.computed:
                if not self.left:
                    self.model(**self.inputs)
        except _Left:
            pass
        except BaseException as error:
            self.error = error
        self.at, self.call = None, ((), {})
        self.waits.release()

    def arrive(self, path: str, args: tuple, kwargs: dict) -> Any:
        """Called by the block in the batch's own thread: wait there for its output."""
        self.at, self.call = path, (args, kwargs)
        del args, kwargs
        self.waits.release()
        self.goes.acquire()
        if self.left:
            raise _Left
        answer, self.answer = self.answer, None
        return answer

    def go(self, answer: Any = None) -> bool:
        """Let it run with a block's output until it waits again; whether it computed anything there. Raises what went wrong in it."""
        self.answer, self.call, self.computed.any = answer, ((), {}), False
        del answer
        self.goes.release()
        self.waits.acquire()
        if self.error:
            raise self.error
        return self.computed.any

    def leave(self) -> None:
        """End it where it waits."""
        if self.is_alive():
            self.left = True
            self.goes.release()
            self.join()


@torch.no_grad()
def walk(
    model: PreTrainedModel,
    batches: Sequence[Mapping[str, torch.Tensor]],
    device: torch.device | str,
    visit: Callable[[Visit], None],
    once: bool = True,
) -> None:
    """Call `visit` at each block in the order of the forward pass; what it makes of the weights decides the next inputs.

    model    on the host, in eval mode; each block is on `device` while it is visited
    batches  arguments of the forward pass of `whole(model)`, on the host
    once     end at the last block, and raise CheckpointError where a block is passed more than once: it is pruned there
             once only. Else the whole pass of the base model is run.

    Raises CheckpointError where the batches do not pass the same blocks in the same order.
    """
    base, device = model.base_model, torch.device(device)
    found = dict(blocks(base))
    passed = dict.fromkeys(found, 0)
    given = {"use_cache": False} if getattr(base.config, "use_cache", False) else {}
    threads = [_Batch(whole(model), {**given, **_as_stored(batch, base.dtype)}, device) for batch in batches]
    sizes = [len(next(iter(batch.values()))) for batch in batches]
    here: dict[int, _Batch] = {}  # identifier of a thread -> its batch
    originals = {path: block.forward for path, block in found.items()}
    experts = model.get_experts_implementation()
    largest = max((sum(part.nbytes for part in block.parameters()) for block in found.values()), default=0)

    def replaced(path: str) -> Callable:
        return lambda *args, **kwargs: here[threading.get_ident()].arrive(path, args, kwargs)

    try:
        model.set_experts_implementation("eager")  # a product for each expert, with its own tokens alone
        for path, block in found.items():
            block.forward = replaced(path)
        for thread in threads:
            thread.start()
            here[thread.ident] = thread
        for thread in threads:
            thread.go()
        while (path := _place(model, threads)) is not None:
            block = found[path]
            if once and passed[path]:
                raise _shared(model, path)
            away = moving.Away(block, device)
            if _room(threads[0].call, len(threads), device, largest):
                for thread in threads:
                    thread.call = thread.carried.moved(thread.call)
            seen = Visit(path, sizes, [thread.call for thread in threads], originals[path], device)
            visit(seen)
            away.leave()
            passed[path] += 1
            last = once and all(passed.values())
            going = threads[:1] if last else threads  # one is enough to see that no block comes again
            stays, outputs = False, seen.outputs()
            for thread in going:
                answer = next(outputs)
                if thread is going[0]:
                    room = _room(answer, len(going), device, largest)
                    on_host = moving.moved(answer, torch.device("cpu"))
                    if room:
                        thread.carried.know(on_host, answer)
                    stays = not thread.go(on_host) and room
                    del on_host
                else:
                    thread.go(answer if stays else moving.moved(answer, torch.device("cpu")))
                del answer
            away.back()
            if last and threads[0].at is not None:
                raise _shared(model, threads[0].at)
            if last:
                return
        if never := [path for path, count in passed.items() if not count]:
            raise CheckpointError(f"{type(model).__name__}: the forward pass does not come to its block {never[0]}.")
    finally:
        model.set_experts_implementation(experts)
        for block in found.values():
            block.__dict__.pop("forward", None)
        for thread in threads:
            thread.leave()


def whole(model: PreTrainedModel) -> PreTrainedModel:
    """What takes the model's inputs: its base model, or where that is a part without embeddings (DINOv3) what is around it."""
    around = [model.base_model, *reversed([part for part in model.modules() if isinstance(part, PreTrainedModel)])]
    taking = (part for part in around if model.main_input_name in inspect.signature(part.forward).parameters)
    return next((part for part in taking if model.base_model in part.modules()), model)


def _room(answer: Any, batches: int, device: torch.device, block: int) -> bool:
    """Whether a GPU has room for what all batches hand over, of which `answer` is one's, beside a block of so many bytes."""
    if device.type != "cuda":
        return False
    size = sum(part.nbytes for part in tree_leaves(answer) if isinstance(part, torch.Tensor))
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for what comes next
    return torch.cuda.mem_get_info(device)[0] + kept > ROOM * batches * size + block


def _shared(model: PreTrainedModel, path: str) -> CheckpointError:
    return CheckpointError(
        f"{type(model).__name__} passes its block {path} more than once: its weights are shared, so there are no inputs of blocks "
        "that were pruned before. Use a pattern that measures the dense model once (wanda-onepass)."
    )


def _place(model: PreTrainedModel, threads: Sequence[_Batch]) -> str | None:
    """The block where all batches wait; None where all have come to their end."""
    places = {thread.at for thread in threads}
    if len(places) > 1:
        raise CheckpointError(
            f"{type(model).__name__}: two batches of calibration come to different blocks ({', '.join(sorted(map(str, places)))}): "
            "its forward pass leaves blocks out by their input, which cannot be calibrated block by block."
        )
    return places.pop()


def _as_stored(batch: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Pixels in the model's own type: not all models turn them into it themselves."""
    return {name: value.to(dtype) if name == "pixel_values" else value for name, value in batch.items()}
