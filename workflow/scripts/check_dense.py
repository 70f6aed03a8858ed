"""Compare a dense run with its reference values: agree, or say why the sparse runs beside it would mean nothing."""

import argparse
import json
import sys

from essential_sparsity import cli, files, tables
from essential_sparsity.study import references


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="the dense run: a file of results/runs")
    parser.add_argument("--place", required=True, help="model, task and seed, for messages")
    parser.add_argument("--expected", type=json.loads, required=True, help="JSON: rows of the references table")
    parser.add_argument("--disagreement", choices=["stop", "warn"], required=True, help="what a disagreement does")
    parser.add_argument("--out", required=True, help="JSON file to write: the rows with what was found")
    args = parser.parse_args(argv)
    runs = tables.read(args.runs, "runs")
    values = dict(zip(runs["metric"], runs["value"].astype(object).where(runs["value"].notna(), None), strict=True))
    compared = references.compare(values, args.expected)
    wrong = [references.explanation(args.place, row) for row in compared if not row["agrees"]]
    if wrong and args.disagreement == "stop":
        raise ValueError(
            "\n".join(wrong)
            + "\nThe sparse runs of this curve are not started. Mend the cause, correct the row of the "
            "references table, or set `dense_check: warn`."
        )
    for line in wrong:
        print(f"warning: {line}", file=sys.stderr)
    files.write_json(args.out, compared)


if __name__ == "__main__":
    cli.run(main)
