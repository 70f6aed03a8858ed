"""Write the report of a finished study, results/{study}/report.html: one file with its figures, which opens anywhere.

python workflow/scripts/report.py [arguments of snakemake, for instance --configfile config/my-study.yaml]
"""

import subprocess
import sys

from essential_sparsity import cli, errors
from essential_sparsity.study import configuration, study


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    report = f"{study.folder(configuration.of_command(arguments)['study'])}/report.html"
    command = [sys.executable, "-m", "snakemake", *arguments, "--report", report, "--quiet", "all"]
    if subprocess.run(command).returncode:
        raise errors.UserError(
            f"{report} was not made: the study is not finished, or something is wrong that `snakemake -n` with the same arguments says. "
            "Finish it, or make the tables of what is there first (`make tables`)."
        )
    print(f"The report: {report}")


if __name__ == "__main__":
    cli.run(main)
