"""Fetch one model: write its manifest, and its files beside it when they are not used in place."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli
from essential_sparsity.acquire import fetching


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="its id in the models table")
    parser.add_argument("--settings", required=True, help="JSON: source, id, revision, format, packages")
    parser.add_argument("--allow-pickle", action="store_true", help="fetch a pickle where there are no safetensors")
    parser.add_argument("--made", nargs="*", type=Path, default=[], help="manifest of the pre-training that it is of")
    parser.add_argument("--manifest", required=True, type=Path, help="the manifest.json to write")
    args = parser.parse_args(argv)
    settings = json.loads(args.settings) | {"allow_pickle": args.allow_pickle}
    facts = fetching.fetch(args.model, settings, args.manifest, *args.made)
    print("\n".join(fetching.report(facts)))


if __name__ == "__main__":
    cli.run(main)
