"""Manifest, spectrum and fingerprints of the checkpoints of one pre-training, all in one go: each takes a second."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli
from essential_sparsity.acquire import fetching
from essential_sparsity.pruning import measuring
from essential_sparsity.study import opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--pretraining", required=True, help="row of the pre-training table")
    parser.add_argument("--store", required=True, type=Path, help="folder of the store")
    args = parser.parse_args(argv)
    asked = opening.read(args.study, looking=False)
    models = asked.measured_only[args.pretraining]
    for model in models:
        manifest = args.store / f"checkpoints/{model}/manifest.json"
        row = asked.models[model]
        settings = json.loads(asked.source(row)) | {"allow_pickle": row["allow_pickle"]}
        fetching.fetch(model, settings, manifest, args.store / f"pretraining/{args.pretraining}/manifest.json")
        places = [f"{args.store}/{place}/{model}.parquet" for place in ("spectra", "fingerprints")]
        measuring.measure(manifest, *places)
    print(f"{len(models)} checkpoints measured")


if __name__ == "__main__":
    cli.run(main)
