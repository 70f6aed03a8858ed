"""Run a grid, add levels where the knees are, run again, until every gap around a knee is as narrow as `refine` asks.

    python workflow/scripts/refine.py snakemake --profile slurm [--configfile …]

Each round is one ordinary run of the command given: killed, it is taken up again by the same call.
"""

import subprocess
import sys

from essential_sparsity import cli, errors, files
from essential_sparsity.study import configuration, refinement, study


def main(argv: list[str] | None = None) -> None:
    command = sys.argv[1:] if argv is None else argv
    if not command or command[0].startswith("-"):
        raise errors.UserError(
            "Say how to run the workflow: python workflow/scripts/refine.py snakemake --profile slurm"
        )
    config = configuration.of_command(command)
    if not config.get("refine"):
        print("The configuration switches `refine` off: the grid as it is.", flush=True)
        _run(command)
        return
    folder = study.folder(config["study"])
    asked = f"{folder}/next_round.json"
    _run([*command, "--", asked])  # after `--`: `--quiet` would swallow it
    while levels := files.read_json(asked):
        curves = ", ".join(f"{e['model']}/{e['task']}/{e['pattern']} at {'+'.join(e['levels'])}" for e in levels)
        print(f"Refining {len(levels)} curve{'s' if len(levels) > 1 else ''}: {curves}", flush=True)
        refinement.add(f"{folder}/rounds.json", levels)
        _run([*command, "--", asked])
    _run(command)


def _run(command: list[str]) -> None:
    if code := subprocess.run(command).returncode:
        sys.exit(code)


if __name__ == "__main__":
    cli.run(main)
