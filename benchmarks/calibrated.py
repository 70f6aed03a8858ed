"""What calibrated pruning takes for a block of a large language model: seconds and memory, of Wanda and of SparseGPT.

    python benchmarks/calibrated.py                                    # a 7B-shaped block, few tokens, on this processor
    python benchmarks/calibrated.py --layers 32 --sequences 128 --length 2048 --dtype bfloat16   # on a card: a whole 7B

Random weights of LLaMA-7B's shape; the time does not depend on them. Beside each pattern stand the same blocks' two forward passes
over the same tokens, which no such method can do without (the inputs are recorded, then the pruned block gives the next ones), and
the scores of magnitude under the same allocation.
"""

import argparse
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
from essential_sparsity.checkpoints import prunable
from essential_sparsity.pruning import calibrated, masks
from essential_sparsity.pruning.walking import walk

PATTERNS = ("passes", "rowwise", "wanda", "wanda-nm4", "sparsegpt", "sparsegpt-nm4")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--inner", type=int, default=11008, help="width of the MLP")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--patterns", nargs="+", default=PATTERNS, help="also `passes`, and `rowwise` of magnitude")
    args = parser.parse_args(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"processor, {torch.get_num_threads()} threads"
    ids = torch.randint(0, 1000, (args.sequences, args.length), generator=torch.Generator().manual_seed(0))
    size = max(1, 4096 // args.length)
    batches = [{"input_ids": ids[at : at + size]} for at in range(0, len(ids), size)]
    data = calibrated.Calibration("random", batches, args.sequences, ids.numel(), 0, "")
    print(
        f"{name}, torch {torch.__version__}: {args.layers} blocks of {args.width} / {args.inner}, {args.dtype}, {ids.numel():,} tokens"
    )
    print(f"{'':16}{'s':>8}{'s a block':>11}{'device MB':>11}{'host MB':>9}")

    for label in args.patterns:
        model = built(args, device)  # dense again: of a pruned one half of all scores are equal
        seconds, on_device, on_host = measured(partial(work, label, model, data, device), device)
        del model
        print(f"{label:16}{seconds:8.1f}{seconds / args.layers:11.2f}{on_device:11.0f}{on_host:9.0f}", flush=True)


def work(label: str, model: transformers.PreTrainedModel, data: calibrated.Calibration, device: str) -> None:
    """What is timed."""
    if label == "passes":
        walk(model, data.batches, device, lambda seen: [None for _ in seen.outputs()])
    elif label == "rowwise":
        masks.plan("rowwise", prunable.prunable_parameters(model.to(device)), [0.5], 0).prune_(0.5)
        model.to("cpu")
    else:
        calibrated.Plan(label, model, data, 0, device).prune_(0.5)


def built(args: argparse.Namespace, device: str) -> transformers.PreTrainedModel:
    """A model of this shape with few words, so that nothing but the blocks counts; on the host, drawn on the device."""
    config = transformers.LlamaConfig(
        vocab_size=1000, hidden_size=args.width, intermediate_size=args.inner, num_hidden_layers=args.layers,
        num_attention_heads=max(1, args.width // 128), max_position_embeddings=args.length,
    )  # fmt: skip
    torch.set_default_dtype(getattr(torch, args.dtype))
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    model.to("cpu")
    if device == "cuda":
        torch.cuda.empty_cache()
    return model


def measured(work: Callable[[], object], device: str) -> tuple[float, float, float]:
    """(seconds, most memory of the device in MB, most resident memory of the process meanwhile in MB)."""
    most, done = [0.0], threading.Event()

    def watch() -> None:
        page = resource.getpagesize()
        while not done.wait(0.02):
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            most[0] = max(most[0], pages * page / 1e6)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    done.set()
    watching.join()
    return seconds, torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0, most[0]


if __name__ == "__main__":
    main()
