"""Run Snakemake in this folder; clear what a killed run left behind, refuse while another run is at work.

A killed run leaves its lock, and on a cluster its jobs, which nobody watches any more: they are cancelled, so that no
job that is submitted again writes beside one of them. Where jobs fail, the tables and figures of what is there are made
all the same (`missing_runs: skip`); the exit status is that of the run.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from essential_sparsity import cli, errors
from essential_sparsity.study import configuration, study

PRINT = Path(__file__).with_name("print_missing.py")
NO_RUN = {"-n", "--dry-run", "--dryrun"}


def others() -> list[int]:
    """Process ids of the Snakemake runs at work in this folder on this machine, but for this process and its parents.

    A dry run writes nothing and is none.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or ()
        # `--mode remote` is a cluster job on this machine, not a run: `queued` knows those
        named = any(Path(part).name == "snakemake" for part in command) and "remote" not in command
        writes = not NO_RUN.intersection(command)
        if named and writes and process.info["cwd"] == os.getcwd() and process.pid not in own:
            found.append(process.pid)
    return found


def slurm(*command: str) -> list[str]:
    """Lines that a SLURM client prints; ValueError when SLURM does not answer."""
    try:
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise errors.UserError(
            f"A killed run may have left jobs in the queue, but SLURM does not answer ({error}). Try again when it does."
        ) from error
    return done.stdout.splitlines()


def queued() -> list[str]:
    """Ids of the jobs in SLURM's queue that were submitted from this folder."""
    if not shutil.which("squeue"):
        return []
    lines = slurm("squeue", "--me", "--noheader", "--format=%i|%Z")
    return [job for job, _, folder in (line.partition("|") for line in lines) if folder == os.getcwd()]


def cancel(jobs: list[str]) -> None:
    """Cancel jobs and wait until none of them can write any more."""
    print(f"Cancelling {len(jobs)} jobs that a killed run left in SLURM's queue: {' '.join(jobs)}", flush=True)
    slurm("scancel", *jobs)
    deadline = time.monotonic() + 300
    while left := sorted(set(jobs) & set(queued())):
        if time.monotonic() > deadline:
            raise errors.UserError(
                f"SLURM has not ended the jobs {' '.join(left)} within five minutes; see `squeue --me`."
            )
        time.sleep(1)


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    snakemake = [sys.executable, "-m", "snakemake"]
    if pids := others():
        raise errors.UserError(
            f"Snakemake (process {', '.join(map(str, pids))}) is at work in this folder. Wait until it ends, or stop it."
        )
    if any(Path(".snakemake/locks").glob("*")):
        if jobs := queued():
            cancel(jobs)
        subprocess.run([*snakemake, "--unlock", "--quiet", "all"], check=True)
    config = configuration.of_command(arguments)
    if NO_RUN & set(arguments) or config.get("missing_runs") == "skip":
        os.execv(sys.executable, [*snakemake, *arguments])
    failed, stopped = watched([*snakemake, *arguments])
    if failed == 1 and not stopped:  # 1: Snakemake itself said so, and has given the folder free
        tabulate([*snakemake, *configuration.with_key(arguments, "missing_runs=skip")], study.folder(config["study"]))
    sys.exit(failed)


def watched(command: list[str]) -> tuple[int, bool]:
    """Exit status of a command as a shell gives it, and whether somebody stopped it.

    Ctrl-C reaches the command itself, which ends in its own time; a request to end is handed on.
    """
    told = []
    process = subprocess.Popen(command)
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, _: told.append(number)),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: (told.append(number), process.terminate())),
    }
    code = process.wait()
    for number, handler in before.items():
        signal.signal(number, handler)
    return code if code >= 0 else 128 - code, bool(told)


def tabulate(command: list[str], folder: str) -> None:
    """Make the tables of what is there, and say what failed, where its log is, and what to type."""
    print("\nRuns failed. Making the tables and figures of what is there:", flush=True)
    whole = not subprocess.run(command).returncode
    print(flush=True)
    if whole:
        subprocess.run([sys.executable, PRINT, folder])
    made = f"{folder} has the tables and figures of what is there" if whole else "So did tables or figures, see above"
    print(f"Jobs failed. {made}. The same command tries again what failed.")


if __name__ == "__main__":
    cli.run(main)
