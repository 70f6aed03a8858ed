"""Write the report of a finished study, results/{study}/report.html: one file with its figures, which opens anywhere.

python workflow/scripts/report.py [arguments of snakemake, for instance --configfile config/my-study.yaml]
"""

import subprocess
import sys

from essential_sparsity import cli
from essential_sparsity.study import configuration, study


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    report = f"{study.folder(configuration.of_command(arguments)['study'])}/report.html"
    command = [sys.executable, "-m", "snakemake", *arguments, "--report", report, "--quiet", "all"]
    if code := subprocess.run(command).returncode:
        sys.exit(code)
    print(f"The report: {report}")


if __name__ == "__main__":
    cli.run(main)
