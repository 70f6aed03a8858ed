"""What calibrated pruning asks of a card, counted on this processor: kernels, their bytes and products, waits, copies.

    python benchmarks/launches.py                    # blocks of LLaMA-7B's shape, bfloat16, 128 sequences of 2,048 tokens
    python benchmarks/launches.py --width 64 --inner 128 --length 16 --patterns wanda      # small: does it run at all

One block is pruned here with the branches that a GPU takes, each operation counted as it is dispatched, and those of the second
batch taken for all later ones. Beside the counts: the least seconds of a card of these rates (of each operation the longer of its
bytes and its products), and those in which a host launches it all; where nothing waits, the longer counts. No time is measured.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
import calibrated as shaped

from essential_sparsity.pruning import calibrated, groups, moving, smallest, sparsegpt, statistics, thresholds, walking

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2"}
READS = {"kthvalue": 17, "sort": 9}  # times that they read their input: two bits a round, or eight and written too
ONE = 40  # times as long as on all processors takes what one of them reads: the k-th of a single row
VIEWS = {"detach", "alias", "_unsafe_view", "_reshape_alias", "_local_scalar_dense"}
PARTS = ("first pass", "statistics", "factors", "masks", "second pass")
LAUNCH, VIEW, WAIT = 6e-6, 2e-6, 2e-5  # seconds of the host


class Enough(Exception):
    """Ends the count after one block."""


class Counted(TorchDispatchMode):
    """What is dispatched in this thread, by part and batch: kernels, views, waits, bytes, operations of products, seconds."""

    def __init__(self, rates: argparse.Namespace):
        super().__init__()
        self.rates, self.part, self.batch = rates, "masks", 0
        self.found: defaultdict[tuple[str, int], Counter] = defaultdict(Counter)
        self.copies: Counter = Counter()
        self.on_card: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = tensors((args, kwargs))
        result = func(*args, **(kwargs or {}))
        name, own = func._schema.name.removeprefix("aten::"), self.found[self.part, self.batch]
        own["waits"] += name in WAITS or (name == "index" and any(part.dtype == torch.bool for part in given))
        if func.is_view or name in VIEWS:
            own["views"] += 1
            return result
        size = sum(map(held, (*given, *tensors(result)))) * READS.get(name, 1)
        products, rate = self._products(name, given)
        own.update(kernels=1, bytes=size, products=products)
        if name == "kthvalue" and len(given[0]) == 1:
            size *= ONE
        own["seconds"] += max(size / self.rates.bandwidth / 1e9, products / rate / 1e12)
        return result

    def _products(self, name: str, given: list[torch.Tensor]) -> tuple[float, float]:
        """(operations of a matrix product, a factor or attention; 10¹² of them that the card makes a second)."""
        if name in ("mm", "bmm", "addmm"):
            one, two = given[-2:]
            return 2.0 * one.numel() * two.shape[-1], self.rates.bf16 if one.element_size() == 2 else self.rates.float32
        if name.startswith("_scaled_dot_product"):  # two products, half of them masked
            return 2.0 * given[0].numel() * given[1].shape[-2], self.rates.bf16 / 2
        if "cholesky" in name:
            return (2 if "inverse" in name else 1) * given[0].shape[-1] ** 3 / 3, self.rates.float32 / 4
        return 0.0, 1.0

    def within(self, part: str, function: Callable) -> Callable:
        """The function, counted as this part."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            before, self.part = self.part, part
            try:
                return function(*args, **kwargs)
            finally:
                self.part = before

        return inside

    def moved(self, part: torch.Tensor, device: torch.device) -> torch.Tensor:
        """In the place of `moving.there`."""
        if device.type == "cpu":
            self.copies["back"] += part.nbytes
            return part.clone()
        if part in self.on_card:
            return part
        self.copies["there, pinned" if part.nbytes >= moving.PINNED else "there"] += part.nbytes
        found = part.view_as(part)
        self.on_card[found] = True
        return found

    def away(self, module: torch.nn.Module, device: torch.device) -> SimpleNamespace:
        """In the place of `moving.Away`."""
        self.copies["weights of a block, there and back"] = 2 * sum(part.nbytes for part in module.parameters())
        return SimpleNamespace(leave=lambda: None, back=lambda: None)


def tensors(value: Any) -> list[torch.Tensor]:
    return [part for part in tree_leaves(value) if isinstance(part, torch.Tensor)]


def held(part: torch.Tensor) -> int:
    """Bytes, of what is expanded once."""
    sizes = [size for size, stride in zip(part.shape, part.stride(), strict=True) if stride]
    return part.element_size() * torch.Size(sizes).numel()


def counted(pattern: str, args: argparse.Namespace) -> Counted:
    """The first of two blocks pruned, of two batches, as on a card with room for what blocks hand over."""
    model = shaped.built(argparse.Namespace(**vars(args) | {"layers": 2}), "cpu")
    ids = torch.randint(0, 1000, (2, max(1, 4096 // args.length), args.length))
    data = calibrated.Calibration("random", [{"input_ids": part} for part in ids], 2, ids.numel(), 0, "")
    plan, counts = calibrated.Plan(pattern, model, data, 0), Counted(args)
    output, visit, blocks = walking.Visit.output, plan._visit, []

    def of_batch(self: walking.Visit, batch: int) -> Any:
        counts.batch = batch
        try:
            found = output(self, batch)
        finally:
            counts.batch = 0
        for part in tensors(found):
            counts.on_card[part] = True
        return found

    def visited(seen: walking.Visit, *rest: Any) -> None:
        if blocks:
            raise Enough
        blocks.append(seen.path)
        visit(seen, *rest)
        counts.part = "second pass"

    plan._visit, plan._watch = visited, counts.within("first pass", plan._watch)
    kind, device = statistics.Statistics, torch.device("cuda")
    with ExitStack() as stack:
        for place, name, stand_in in (
            *((module, "view", lambda tensor: tensor) for module in (thresholds, groups, smallest)),
            (walking, "_room", lambda *_: True),
            (walking.Visit, "output", of_batch),
            (moving, "there", counts.moved),
            (moving, "Away", counts.away),
            (kind, "add", counts.within("statistics", kind.add)),
            (kind, "settle", counts.within("statistics", kind.settle)),
            (sparsegpt, "factors", counts.within("factors", sparsegpt.factors)),
            (calibrated, "walk", lambda model, batches, _, *rest: walking.walk(model, batches, device, *rest)),
        ):
            stack.enter_context(mock.patch.object(place, name, stand_in))
        stack.enter_context(counts)
        try:
            plan.prune_(0.5)
        except Enough:
            return counts
    raise AssertionError("the model has one block")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--inner", type=int, default=11008, help="width of the MLP")
    parser.add_argument("--layers", type=int, default=32, help="blocks of the whole model")
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--length", type=int, default=2048, help="tokens of a sequence")
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--patterns", nargs="+", default=["wanda", "sparsegpt"])
    parser.add_argument("--bandwidth", type=float, default=4145, help="GB/s of the card's memory: of an H200, measured")
    parser.add_argument("--bf16", type=float, default=761, help="TFLOP/s of products of 16 bits: measured")
    parser.add_argument("--float32", type=float, default=50, help="TFLOP/s of products in float32: an assumption")
    args = parser.parse_args(argv)
    batches = -(-args.sequences // max(1, 4096 // args.length))
    for pattern in args.patterns:
        counts, total = counted(pattern, args), 0.0
        print(f"{pattern}: a block, {args.sequences * args.length:,} tokens in {batches} batches")
        print(f"{'':14}{'kernels':>9}{'views':>9}{'waits':>7}{'GB':>8}{'TFLOP':>8}{'card s':>9}{'host s':>9}")
        for part in PARTS:
            found = Counter(counts.found[part, 0])
            for key, value in counts.found[part, 1].items():
                found[key] += (batches - 1) * value
            if not found["kernels"]:
                continue
            launched = found["kernels"] * LAUNCH + found["views"] * VIEW + found["waits"] * WAIT
            total += max(found["seconds"], launched)
            print(
                f"{part:14}{found['kernels']:9,}{found['views']:9,}{found['waits']:7,}{found['bytes'] / 1e9:8.1f}"
                f"{found['products'] / 1e12:8.1f}{found['seconds']:9.3f}{launched:9.3f}"
            )
        told = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sorted(counts.copies.items()))
        print(f"copies of two batches: {told}")
        print(
            f"at least {total:.2f} s a block, {args.layers * total:.0f} s for {args.layers}, beside copies\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
