"""Compare the masks of neighbouring checkpoints of one training: one-shot, and lottery tickets where both have them."""

import argparse
import json
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, patterns, tables
from essential_sparsity.emergence import neighbours, poison
from essential_sparsity.pruning import packed

TICKET = next(name for name, pattern in patterns.PATTERNS.items() if pattern.score == "given")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--members", required=True, type=json.loads, help="JSON: [{series, group, line, model, axis, position}, …]"
    )
    parser.add_argument("--sparsities", required=True, nargs="+", help="of the one-shot masks, for instance 0.300")
    parser.add_argument("--tickets", type=json.loads, default=[], help="JSON: [[model, task, seed, sparsity], …]")
    parser.add_argument(
        "--results", required=True, type=Path, help="folder that holds checkpoints, fingerprints, tickets"
    )
    parser.add_argument("--allow-pickle", action="store_true", help="read pickle checkpoints, with weights_only")
    parser.add_argument("--out", required=True, help="rows of the table similarity to write")
    args = parser.parse_args(argv)
    names = [member["model"] for member in args.members]
    marks = {name: tables.read(args.results / f"fingerprints/{name}.parquet", "fingerprints") for name in names}
    marked = poison.marks(args.members, marks)
    for model, reason in sorted(marked.items()):
        print(f"{model} is left out: it has {reason}")

    def read(model: str) -> neighbours.Held:
        masks = packed.Masks(args.results, model, args.sparsities, {0}, args.allow_pickle)
        wanted = [(level, neighbours.ONE_SHOT) for level in args.sparsities]
        wanted += [(level, (TICKET, task, seed)) for owner, task, seed, level in args.tickets if owner == model]
        return neighbours.Held(masks.weights, {key: masks.bits(*key) for key in wanted})

    kept = [member for member in args.members if member["model"] not in marked]
    frames = [tables.empty("similarity"), *neighbours.compared(kept, read)]
    tables.write(pd.concat(frames), "similarity", args.out)
    print(f"{len(kept)} checkpoints compared, each with the one before it")


if __name__ == "__main__":
    cli.run(main)
