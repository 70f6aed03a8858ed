"""A smoke evaluation: a few items through the dense model, one by one and together, before anything is computed from it.

A model whose outputs are not finite, or depend on what else is in a batch, gives numbers at every sparsity all the same.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from essential_sparsity import tasks
from essential_sparsity.errors import UserError
from essential_sparsity.tasks import Prepared, TaskError
from essential_sparsity.training import memory

ITEMS = 8
OF_CARD = re.compile(
    r"CUDA|CUDNN|CUBLAS", re.IGNORECASE
)  # a fault of a card or its libraries: another node may compute it
# The largest difference of an item's outputs, relative to their norm. Rounding is about 1e-6 in float32 and a few per
# cent after the many layers of a large model in half precision; padding that is attended to moves outputs by more.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}


def check(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], device: torch.device | str
) -> float | None:
    """Refuse a dense model that cannot take a few items, or whose outputs for them are not finite, or differ between batches of 1 and ITEMS.

    The items are of all lengths. Returns the largest relative difference; None where a kind makes its own inputs (suites of
    lm-eval) or scores items one by one anyway. Nothing of the model, and no generator, is changed. Raises TaskError.
    """
    if not len(prepared.inputs):
        return None
    order = np.argsort(tasks.lengths(prepared.inputs), kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, ITEMS).astype(int))
    rows = [prepared.inputs[int(order[place])] for place in places]
    gpu = torch.device(device).type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if gpu else []):
        compared, alone, broken = tasks.batch_size(settings) > 1, [], 0
        for row in rows:
            outputs = _read(model, prepared, row, device, settings)
            broken += not all(np.isfinite(values).all() for values in outputs.values())
            if compared:  # the logits of a language model are hundreds of megabytes an item
                alone.append(outputs)
        if prepared.check and not broken:
            model.eval()
            prepared.check(model, settings, device)
        together = _together(model, prepared, settings, rows, device) if compared and not broken else []
    place = f"Task {settings.get('task')!r}: the dense model"
    if broken:
        raise TaskError(
            f"{place} gives outputs that are not finite for {broken} of {len(rows)} items. Its weights are damaged or their "
            "type is too narrow for it (float16): use another revision, or one in bfloat16 or float32."
        )
    if not together:
        return None
    found = max(_difference(one, many) for one, many in zip(alone, together, strict=True))
    most = TOLERANCE.get(next(model.parameters()).dtype, max(TOLERANCE.values()))
    if found > most:
        raise TaskError(
            f"{place} gives other outputs for items in batches of {len(rows)} than one by one: they differ by {found:.2g} of "
            f"their norm, more than {most:g}. What is padded reaches the result, so that every number would depend on the "
            "size of batches: look at padding and attention mask of the tokenizer, or use another architecture."
        )
    return found


def _read(
    model: torch.nn.Module, prepared: Prepared, row: Any, device: torch.device | str, settings: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The outputs of one row. TaskError where the model cannot take it, whatever its code raises; a fault of the device is none of it."""
    try:
        return _outputs(model, prepared, [row], device)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        of_card = isinstance(error, torch.AcceleratorError) or OF_CARD.search(str(error))
        if isinstance(error, UserError) or of_card or memory.ran_out(error):
            raise
        raise TaskError(
            f"Task {settings.get('task')!r}: the dense model ({model.config.model_type}) cannot take what it is given "
            f"({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200].rstrip('.')}). Give it inputs as it was trained with "
            "(image_size, max_length), or use another model."
        ) from error


def _together(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], rows: list, device: torch.device | str
) -> list[dict[str, np.ndarray]]:
    """The outputs of each of the rows when all go through at once, or as many as memory lets; none where that is one."""
    size = min(len(rows), tasks.batch_size(settings))
    while size > 1:
        try:
            parts = [
                (start, _outputs(model, prepared, rows[start : start + size], device))
                for start in range(0, len(rows), size)
            ]
            return [
                {name: values[i] for name, values in outputs.items()}
                for start, outputs in parts
                for i in range(len(rows[start : start + size]))
            ]
        except RuntimeError as error:
            if not memory.ran_out(error):
                raise
        size //= 2
        memory.free()
    return []


@torch.inference_mode()
def _outputs(
    model: torch.nn.Module, prepared: Prepared, rows: list, device: torch.device | str
) -> dict[str, np.ndarray]:
    """Name -> numbers (rows first) of everything that the model says of each row."""
    batch = {name: value for name, value in prepared.collate(rows).items() if name != "labels"}
    model.eval()
    output = model(**{name: value.to(device) if torch.is_tensor(value) else value for name, value in batch.items()})
    return {
        name: value.float().cpu().numpy()
        for name, value in dict(output).items()
        if torch.is_tensor(value) and value.is_floating_point() and value.ndim and len(value) == len(rows)
    }


def _difference(alone: dict[str, np.ndarray], many: dict[str, np.ndarray]) -> float:
    """The largest difference of one item's outputs relative to their norm; padding, which comes last, is no part of them."""
    found = [0.0]
    for name, values in alone.items():
        one = values[0]
        other = many[name][tuple(slice(0, length) for length in one.shape)]
        apart, size = (np.sqrt(np.square(part, dtype=np.float64).sum()) for part in (one - other, one))
        found.append(float(apart / max(size, np.finfo(np.float32).tiny)) if np.isfinite(apart) else np.inf)
    return max(found)
