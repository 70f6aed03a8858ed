"""Speed and memory of comparing two masks, packed against dense, in the same run.

    python benchmarks/similarity.py [--json FILE] [--quick]

Two independent random masks of 30 % on BERT-base's shapes (12 blocks, 72 matrices, 84.9 M weights), compared for the model,
each layer and each matrix. Every case runs in a process of its own; extra memory is what comparing added to the peak of
making the masks. The cosines of all cases must agree.

packed      `similarity.compare` on packed bits in memory: 64 weights a word
from files  the same from two stored tickets: read, checksum, bits counted, compared
bool        dense bool masks: the same counts with NumPy, per matrix, layer and model
float       dense float32 masks: dot products and norms per matrix, layer and model, the usual cosine similarity
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
import torch

from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import similarity, tickets

BERT_BLOCK = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
SPARSITY = 0.3


def weights(blocks):
    return [
        PrunableWeight(f"layer.{layer:02}.{i}", layer, str(i), "mlp", shape, 1)
        for layer in range(blocks)
        for i, shape in enumerate(BERT_BLOCK)
    ]


def dense_mask(blocks, seed):
    draw = np.random.default_rng(seed)
    return {
        weight.name: torch.from_numpy(draw.random(weight.shape, np.float32) < SPARSITY) for weight in weights(blocks)
    }


def packed_mask(blocks, seed):
    return {name: tickets.pack(mask) for name, mask in dense_mask(blocks, seed).items()}


def stored_mask(blocks, seed):
    masks = dense_mask(blocks, seed)
    path = Path(tempfile.gettempdir()) / f"similarity-benchmark-{seed}.safetensors"
    tickets.write(path, masks, {"k": sum(int(mask.sum()) for mask in masks.values())})
    return path


def float_mask(blocks, seed):
    return {name: (~mask).float() for name, mask in dense_mask(blocks, seed).items()}


def compare_packed(blocks, a, b):
    return similarity.compare(weights(blocks), a, b)["cosine_kept"][0]


def compare_stored(blocks, a, b):
    return compare_packed(blocks, *(tickets.read(path, {}).bits for path in (a, b)))


def grouped(blocks):
    """Names of the matrices of the model, of each layer, and each alone."""
    groups = defaultdict(list)
    for weight in weights(blocks):
        for group in ("model", weight.layer, weight.name):
            groups[group].append(weight.name)
    return groups


def compare_bool(blocks, a, b):
    cosines = {}
    for group, names in grouped(blocks).items():
        x, y = (np.concatenate([masks[name].numpy().reshape(-1) for name in names]) for masks in (a, b))
        pruned_a, pruned_b, both = (np.count_nonzero(part) for part in (x, y, x & y))
        kept = (len(x) - pruned_a, len(x) - pruned_b)
        cosines[group] = (len(x) - pruned_a - pruned_b + both) / np.sqrt(float(kept[0]) * kept[1])
    return cosines["model"]


def compare_float(blocks, a, b):
    cosines = {}
    for group, names in grouped(blocks).items():
        x, y = (torch.cat([masks[name].reshape(-1) for name in names]) for masks in (a, b))
        cosines[group] = float(torch.nn.functional.cosine_similarity(x, y, dim=0))
    return cosines["model"]


CASES = {
    "packed": (packed_mask, compare_packed),
    "from files": (stored_mask, compare_stored),
    "bool": (dense_mask, compare_bool),
    "float": (float_mask, compare_float),
}


def child(connection, blocks, case):
    make, compare = CASES[case]
    a, b = (make(blocks, seed) for seed in (0, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        started = time.perf_counter()
        cosine = compare(blocks, a, b)
        times.append(time.perf_counter() - started)
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    for path in (a, b):
        if isinstance(path, Path):
            path.unlink()
    connection.send((min(times), extra * 1024, float(cosine)))


def measure(blocks, case):
    """(seconds, extra bytes, cosine): the fastest of three calls, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, blocks, case))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        sys.exit(f"the case {case!r} did not finish: out of memory?")
    finally:
        process.join()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="small masks: does it run at all")
    args = parser.parse_args(argv)
    blocks = 2 if args.quick else 12
    n = sum(int(np.prod(weight.shape)) for weight in weights(blocks))
    print(f"{n:,} weights, numpy {np.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'case':12} {'time':>10} {'extra memory':>13} {'cosine':>9}")
    rows = []
    for case in CASES:
        seconds, extra, cosine = measure(blocks, case)
        print(f"{case:12} {1000 * seconds:7.1f} ms {extra / 2**20:9.0f} MiB {cosine:9.6f}", flush=True)
        rows.append({"name": case, "seconds": seconds, "extra_bytes": extra, "cosine": cosine, "weights": n})
    if np.ptp([row["cosine"] for row in rows]) > 1e-4:
        sys.exit("the cosines of the cases differ: at least one of them is wrong")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
