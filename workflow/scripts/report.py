"""Write the report of a finished study, results/{study}/report.html: one file with its figures, which opens anywhere.

python workflow/scripts/report.py [arguments of snakemake, for instance --configfile config/my-study.yaml]
"""

import subprocess
import sys

from essential_sparsity import cli, errors
from essential_sparsity.runs import settled
from essential_sparsity.study import commands, grid


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    config = commands.configured(arguments)
    report = f"{grid.folder(config['study'])}/report.html"
    if settled.of_before(config):
        print(
            "warning: the configuration, a file that it names, or the code that evaluates is another one than these tables and figures were made with; the "
            "report is of before. Run the study again (or `make tables`, of what is there), then make it anew.",
            file=sys.stderr,
        )
    command = [sys.executable, "-m", "snakemake", *arguments, "--report", report, "--quiet", "all"]
    if subprocess.run(command).returncode:
        raise errors.UserError(
            f"{report} was not made: the study is not finished, or something is wrong that `snakemake -n` with the same arguments says. "
            "Finish it, or make the tables of what is there first (`make tables`)."
        )
    print(f"The report: {report}")


if __name__ == "__main__":
    cli.run(main)
