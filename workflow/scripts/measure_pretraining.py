"""Manifest, spectrum and fingerprints of the checkpoints of one pre-training, all in one go: each takes a second."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli
from essential_sparsity.acquire import fetching
from essential_sparsity.pruning import measuring


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", required=True, type=json.loads, help="JSON: {MODEL: settings of its source}")
    parser.add_argument("--results", required=True, type=Path, help="folder of the results")
    args = parser.parse_args(argv)
    for model, settings in args.models.items():
        manifest = args.results / f"checkpoints/{model}/manifest.json"
        fetching.fetch(model, settings, manifest)
        places = [f"{args.results}/{place}/{model}.parquet" for place in ("spectra", "fingerprints")]
        measuring.measure(manifest, *places)
    print(f"{len(args.models)} checkpoints measured")


if __name__ == "__main__":
    cli.run(main)
