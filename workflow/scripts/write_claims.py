"""Write what a study says of claims as a page that opens anywhere."""

import argparse

from essential_sparsity import cli, files, tables
from essential_sparsity.figures import claims


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", required=True, help="table of claims")
    parser.add_argument("--evidence", required=True, help="table of their evidence")
    parser.add_argument(
        "--missing-runs", required=True, help="table of the runs that were asked for and have no result"
    )
    parser.add_argument("--study", required=True, help="name of the study, for the title")
    parser.add_argument("--template", required=True, help="Jinja template of the page")
    parser.add_argument("--out", required=True, help="HTML file to write")
    args = parser.parse_args(argv)
    judged, evidence = tables.read(args.claims, "claims"), tables.read(args.evidence, "evidence")
    missing = tables.read(args.missing_runs, "missing_runs")
    page = claims.page(judged, evidence, len(missing), args.study, args.template)
    with files.atomic(args.out) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
