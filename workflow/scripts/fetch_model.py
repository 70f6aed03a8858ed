"""Fetch one model: write its manifest, and its files beside it when they are not used in place."""

import argparse
import json
from pathlib import Path

from essential_sparsity import checkpoints, cli, convert, sources


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="its id in the models table")
    parser.add_argument("--settings", required=True, help="JSON: source, id, revision, format, allow_pickle, packages")
    parser.add_argument("--manifest", required=True, type=Path, help="the manifest.json to write")
    args = parser.parse_args(argv)
    settings = json.loads(args.settings)
    with sources.workspace(args.manifest) as work:
        folder, record = convert.fetch_model(args.model, settings, work)
        facts = checkpoints.describe(folder, allow_pickle=bool(settings.get("allow_pickle")))
        sources.publish(work, args.manifest, {**record, **facts})
    print(f"{args.model}: {facts['n_prunable']:,} of {facts['n_total']:,} weights are prunable, {facts['dtype']}")


if __name__ == "__main__":
    cli.run(main)
