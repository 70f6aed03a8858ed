"""Hold claims against the tables of a study: each is supported, not supported, undecided or not testable."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, tables
from essential_sparsity.curves import claims, evidence
from essential_sparsity.study import claims as asked
from essential_sparsity.study import series


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", required=True, help="claims file")
    parser.add_argument("--types", required=True, type=json.loads, help="JSON: model -> encoder, decoder or vision")
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="tables of the study that are evidence")
    parser.add_argument("--curves", type=Path, required=True, help="folder of the tables of single curves: MODEL/TASK/")
    parser.add_argument("--out", required=True, help="table of claims to write")
    parser.add_argument("--evidence", required=True, help="table of their evidence to write")
    args = parser.parse_args(argv)
    rows = asked.read(args.claims)
    readings = {row["claim"]: asked.reading(row) for row in rows}
    found = {path.stem: tables.read(path, path.stem) for path in args.tables}
    curves = found["knees"][["model", "task"]].drop_duplicates().itertuples(index=False, name=None)
    resamples = [args.curves / model / task / "resamples.parquet" for model, task in curves]
    found["resamples"] = tables.collect(resamples, "resamples")
    judged, pieces = claims.judge(rows, readings, found, evidence.Known(args.types, series.amount))
    tables.write(pieces, "evidence", args.evidence)
    tables.write(judged, "claims", args.out)


if __name__ == "__main__":
    cli.run(main)
