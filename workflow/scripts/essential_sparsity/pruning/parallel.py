"""Work on the pieces of a tensor, spread over the cores; results come in order, so they never depend on how many."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")

CHUNK = 1 << 19  # weights handled at once: they stay in cache, and threads seldom wait for the interpreter lock
GPU_CHUNK = 1 << 24


def flat_chunks(weight: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (start, piece) over the weights in row-major order."""
    flat = weight.detach().reshape(-1)
    size = CHUNK if flat.device.type == "cpu" else GPU_CHUNK
    for start in range(0, flat.numel(), size):
        yield start, flat[start : start + size]


def spans(weight: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    """(start, piece) of a tensor cut into one stretch per core; whole on a GPU, or when it is only a few chunks."""
    flat = weight.detach().reshape(-1)
    if flat.device.type != "cpu" or flat.numel() < 16 * CHUNK:
        return [(0, flat)]
    size = -(-flat.numel() // torch.get_num_threads())
    return [(start, flat[start : start + size]) for start in range(0, flat.numel(), size)]


def in_order(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Like `map`, with as many threads as torch uses (a job's `threads`) and few tasks in flight.

    NumPy and torch let go of the interpreter lock while they work. Tasks that hold GPU tensors gain nothing from
    threads and lose nothing: the device queues them.
    """
    tasks, workers = iter(tasks), torch.get_num_threads()
    first = list(islice(tasks, 2))
    if workers < 2 or len(first) < 2:  # one core, or one piece
        yield from map(function, first)
        yield from map(function, tasks)
        return
    pool = _pool(workers)
    waiting = deque(pool.submit(function, task) for task in [*first, *islice(tasks, workers - 1)])
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, task) for task in islice(tasks, 1))
        yield result


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)
