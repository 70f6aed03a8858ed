"""Speed and memory of the masks, each against its peer in the same run.

    python benchmarks/masks.py [--json FILE] [--only PREFIX] [--quick]

Every case runs in a process of its own on BERT-base-shaped weights (12 blocks, 84.9 M weights; growth: more blocks).
Extra memory is the process's peak beyond what it held when the weights were in place (on a GPU: the allocator's peak).

global_…  a ten-level sweep: our spectrum, thresholds and ten masks, against ten calls of
          torch.nn.utils.prune.global_unstructured; and against one plain read of the weights (`…_floor`)
nm_…      one N:M mask of every matrix, against the loop over groups of columns with topk and scatter that published
          pruning code uses
growth_…  the same sweep on 85 M to 1.3 B bfloat16 weights (6.5 B on a GPU), peer: one plain read; time should grow
          with the weights, extra memory should not
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import torch
from torch.nn.utils import prune

from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import masks

LEVELS = [i / 10 for i in range(10)]
BERT_BLOCK = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
LLAMA_BLOCK = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_weights(blocks, dtype, block=BERT_BLOCK):
    generator = torch.Generator(DEVICE).manual_seed(0)
    weights = []
    for layer in range(blocks):
        for i, shape in enumerate(block):
            values = (torch.randn(shape, generator=generator, device=DEVICE) * 0.04).to(dtype)
            weights.append((PrunableWeight(f"layer.{layer:03}.{i}", layer, str(i), "mlp", shape, 1), values))
    return weights


def synchronise():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak():
    return (
        torch.cuda.max_memory_allocated()
        if DEVICE == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )


def sweep(weights):
    plan = masks.plan("global", weights, LEVELS, seed=0)
    for level in LEVELS:
        for _ in plan.masks(level):
            pass


def torch_sweep(weights):
    for level in [*LEVELS[1:], 0.95]:  # its amount must be above 0
        modules = []
        for _, values in weights:
            module = torch.nn.Linear(1, 1, bias=False, device="meta")
            module.weight = torch.nn.Parameter(values, requires_grad=False)
            modules.append((module, "weight"))
        prune.global_unstructured(modules, prune.L1Unstructured, amount=level)


def read(weights):
    for _, values in weights:
        values.view(torch.int32 if values.dtype == torch.float32 else torch.int16).max()


def nm(weights, pattern, sparsity):
    for _ in masks.plan(pattern, weights, [sparsity], seed=0).masks(sparsity):
        pass


def nm_columns(weights, pruned, group):
    for _, values in weights:
        mask = torch.zeros_like(values, dtype=torch.bool)
        metric = values.abs()
        for start in range(0, values.shape[1], group):
            mask.scatter_(1, start + metric[:, start : start + group].topk(pruned, dim=1, largest=False).indices, True)


def child(connection, blocks, dtype, function, arguments):
    weights = make_weights(blocks, dtype)
    synchronise()
    before = peak()
    started = time.perf_counter()
    function(weights, *arguments)
    synchronise()
    connection.send((time.perf_counter() - started, max(peak() - before, 0)))


def measure(blocks, dtype, function, *arguments, repeat=1):
    """(seconds, extra bytes): the fastest of `repeat` processes and the memory of that one."""
    context, results = multiprocessing.get_context("spawn"), []
    for _ in range(repeat):
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs, blocks, dtype, function, arguments))
        process.start()
        theirs.close()
        try:
            results.append(ours.recv())
        except EOFError:
            sys.exit(f"{function.__name__} on {blocks} blocks did not finish: out of memory?")
        process.join()
    return min(results)


def cases(quick):
    """(name, blocks, dtype, ours, peer, how often ours is repeated): ours and peer are a function and its arguments."""
    blocks = 2 if quick else 12
    for dtype in (torch.float32, torch.bfloat16):
        name = f"global_{str(dtype)[6:]}_10_levels"
        yield name, blocks, dtype, (sweep,), (torch_sweep,), 3
        yield f"{name}_floor", blocks, dtype, (sweep,), (read,), 3
    for dtype in (torch.float32, torch.bfloat16):
        for group, pruned in ((4, 2), (8, 4)):
            ours, peer = (nm, f"nm{group}", pruned / group), (nm_columns, pruned, group)
            yield f"nm_{group - pruned}:{group}_{str(dtype)[6:]}", blocks, dtype, ours, peer, 3
    sizes = [(1, "7M"), (2, "14M")] if quick else [(12, "85M"), (48, "340M"), (184, "1.3B")]
    for count, name in sizes + ([(918, "6.5B")] if DEVICE == "cuda" and not quick else []):
        yield f"growth_{name}_bfloat16", count, torch.bfloat16, (sweep,), (read,), 1


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--only", default="", help="only the cases whose name starts so")
    parser.add_argument("--quick", action="store_true", help="small weights: does it run at all")
    args = parser.parse_args(argv)
    device = torch.cuda.get_device_name() if DEVICE == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {device}")
    print(f"{'case':36} {'ours':>9} {'peer':>9} {'peer/ours':>10} {'ours, extra':>12} {'peer, extra':>12}")
    rows = []
    for name, blocks, dtype, our_call, peer_call, repeat in cases(args.quick):
        if name.startswith(args.only):
            ours, ours_bytes = measure(blocks, dtype, *our_call, repeat=repeat)
            peer, peer_bytes = measure(blocks, dtype, *peer_call)
            seconds = f"{ours:7.2f} s {peer:7.2f} s {peer / ours:9.1f}x"
            print(f"{name:36} {seconds} {ours_bytes / 2**20:8.0f} MiB {peer_bytes / 2**20:8.0f} MiB", flush=True)
            row = {"name": name, "ours_s": ours, "peer_s": peer, "ratio": peer / ours}
            rows.append(row | {"ours_bytes": ours_bytes, "peer_bytes": peer_bytes})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
