"""Fetch one data set: write its manifest, and data.parquet beside it."""

import argparse
import json
from pathlib import Path

import pyarrow as pa

from essential_sparsity import cli
from essential_sparsity.acquire import formats, reports, sources


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="its name in the tasks table")
    parser.add_argument("--settings", required=True, help="JSON: source, id, revision, format, columns, packages")
    parser.add_argument("--manifest", required=True, type=Path, help="the manifest.json to write")
    args = parser.parse_args(argv)
    pa.set_memory_pool(pa.system_memory_pool())  # a corpus is read in many small pieces: others round each up
    with sources.workspace(args.manifest) as work:
        record = formats.fetch_dataset(args.dataset, json.loads(args.settings), work)
        sources.publish(work, args.manifest, record)
    print(f"{args.dataset}: {sum(record['n_rows'].values()):,} rows with {', '.join(record['columns'])}")
    print(*(f"  {line}" for line in reports.lines(record["report"])), sep="\n")


if __name__ == "__main__":
    cli.run(main)
