"""Write docs/tables.md, the data dictionary, from the schemas of the tables."""

import argparse
from pathlib import Path

from essential_sparsity import cli, files
from essential_sparsity.tables import dictionary


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/tables.md"), help="page to write")
    args = parser.parse_args(argv)
    with files.atomic(args.out) as temporary:
        temporary.write_text(dictionary.text(), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
