"""Write the tables of a study as a page to look around in, which opens anywhere."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, files, tables
from essential_sparsity.figures import explorer


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--grid", required=True, help="table of the grid; the manifests and items that it names are read"
    )
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="tables of the study that are shown")
    parser.add_argument("--study", required=True, help="name of the study, for the title")
    parser.add_argument(
        "--labels", required=True, type=json.loads, help='JSON: {"models": {ID: name}, "tasks": {ID: name}}'
    )
    parser.add_argument("--page", required=True, help="folder of the page's Jinja template and JavaScript")
    parser.add_argument("--out", required=True, help="HTML file to write")
    args = parser.parse_args(argv)
    found = {path.stem: tables.read(path, path.stem) for path in args.tables}
    grid = tables.read(args.grid, "grid")
    page = explorer.page(found, grid, args.study, args.labels, args.page)
    with files.atomic(args.out) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
