"""Run a grid, add levels where the knees are, run again, until every gap around a knee is as narrow as `refine` asks.

    python workflow/scripts/refine.py snakemake --profile slurm [--configfile …]

Each round is one ordinary run of the command given: killed, it is taken up again by the same call. Where runs fail, the
curves that have all of theirs are refined all the same, and the call ends with the status of the command.
"""

import sys

from essential_sparsity import cli, errors, files
from essential_sparsity.study import commands, grid, refinement, stopping


def main(argv: list[str] | None = None) -> None:
    command = sys.argv[1:] if argv is None else argv
    if not command or command[0].startswith("-"):
        raise errors.UserError(
            "Say how to run the workflow: python workflow/scripts/refine.py snakemake --profile slurm"
        )
    config = commands.configured(command)
    if config.get("missing_runs") == "skip":
        raise errors.UserError(
            "With `missing_runs: skip` nothing is computed, so no level can be added: refine without it."
        )
    if not config.get("refine"):
        print("The configuration switches `refine` off: the grid as it is.", flush=True)
        failed, _ = _call(command)
        sys.exit(failed)
    folder = grid.folder(config["study"])
    asked = f"{folder}/next_round.json"
    _run(command, asked)
    while levels := files.read_json(asked):
        curves = ", ".join(f"{e['model']}/{e['task']}/{e['pattern']} at {'+'.join(e['levels'])}" for e in levels)
        print(f"Refining {len(levels)} curve{'s' if len(levels) > 1 else ''}: {curves}", flush=True)
        refinement.add(f"{folder}/rounds.json", levels)
        _run(command, asked)
    failed, _ = _call(command)
    sys.exit(failed)


def _run(command: list[str], asked: str) -> None:
    """Make the file that is asked for, at worst from the runs that are there."""
    failed, nothing = _call([*command, "--", asked])  # after `--`: `--quiet` would swallow it
    if nothing:
        sys.exit(failed)


def _call(command: list[str]) -> tuple[int, int]:
    """Status of the command, and where that is not 0, of making what it asks for from the runs that are there."""
    failed = _ended(command)
    return failed, failed and _ended(commands.with_key(command, "missing_runs=skip"))


def _ended(command: list[str]) -> int:
    """The status with which the command ended. Stopped with it (Ctrl-C), this program waits for it, and ends too."""
    code, asked = stopping.watched(command)
    if number := stopping.stopped(code) or asked:
        if code not in stopping.TOLD:
            print("Stopped. The same command goes on where it was.", file=sys.stderr)
        sys.exit(128 + number)
    return code


if __name__ == "__main__":
    cli.run(main)
