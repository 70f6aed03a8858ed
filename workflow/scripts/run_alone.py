"""Run Snakemake in this folder; clear what a killed run left behind, refuse while another run is at work or may be.

A killed run leaves its lock, and on a cluster its jobs, which nobody watches any more: they are cancelled, so that no
job that is submitted again writes beside one of them. What it was stands in its record (`study.heads`), and nothing but
its own is touched. A run on another machine cannot be looked at from here: whoever knows that it is dead says so,

    python workflow/scripts/run_alone.py --dead NAME-OF-ITS-RECORD

which clears what it left. Where jobs fail, the tables and figures of what is there are made all the same
(`missing_runs: skip`); the exit status is that of the run.
"""

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from essential_sparsity import cli, errors, files
from essential_sparsity.study import commands, grid, heads, stopping

PRINT = Path(__file__).with_name("print_missing.py")
LOCKS = Path(".snakemake/locks")
HALF = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp(\.[^.]+)?")  # what `files.atomic` was writing when it was killed
# the programs of rules, not those that a person calls
JOB = re.compile(
    r"workflow/scripts/(?!(estimate|export_checkpoint|lock|new_study|print_\w+|publish_study|refine|report|run_alone|write_dictionary)\.py)\w+\.py"
)
DEAD = "--dead"
PATIENCE = 300  # seconds that SLURM has for ending jobs
ROOM = 1 << 20  # bytes without which Snakemake cannot even keep its log
GRACE = 5  # seconds that the system has for ending what was killed with its run


def here() -> Iterator[tuple[int, list[str]]]:
    """The processes at work in this folder on this machine, with their commands, but for this process and its parents."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == os.getcwd() and process.pid not in own:
            yield process.pid, process.info["cmdline"] or []


def others() -> list[int]:
    """Process ids of the Snakemake runs at work here. A dry run or a report computes nothing and is none."""
    return [
        pid
        for pid, command in here()
        # `--mode remote` is a cluster job on this machine, not a run
        if any(Path(part).name == "snakemake" for part in command)
        and "remote" not in command
        and not heads.idle(command)
    ]


def orphans() -> list[int]:
    """Process ids of jobs at work here: where no run is, they have outlived the one that started them on this machine."""
    return [pid for pid, command in here() if any(map(JOB.fullmatch, command[:3]))]


def slurm(*command: str) -> list[str]:
    """Lines that a SLURM client prints; UserError where it cannot be asked, or fails."""
    try:
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=60)
    except FileNotFoundError as error:
        raise errors.UserError(
            f"A dead run submitted jobs to SLURM, but there is no {command[0]} on this machine: call again where it is."
        ) from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise errors.UserError(
            f"A killed run may have left jobs in the queue, but SLURM does not do what it is asked ({error}). Try again "
            "when it does."
        ) from error
    return done.stdout.splitlines()


def submitted(head: heads.Head) -> list[str]:
    """Ids of the jobs in SLURM's queue that a head has submitted from this folder; never of the one this runs in."""
    lines = slurm("squeue", f"--name={head.run}", "--noheader", "--format=%A|%j|%Z")
    found = [job for job, _, told in (line.partition("|") for line in lines) if told == f"{head.run}|{os.getcwd()}"]
    return [job for job in found if job != os.environ.get("SLURM_JOB_ID")]


def over(head: heads.Head) -> bool:
    """Whether a head is known to be dead: it was on this machine, or SLURM has ended the allocation in which it ran.

    Of another user's allocations SLURM may say nothing, whether they live or not (`PrivateData`).
    """
    living = head.alive()
    if living is not None:
        return not living
    if not head.allocation or head.restarted():
        return head.restarted()
    if head.user != os.getuid() or not shutil.which("squeue"):
        return False
    # %A: as SLURM_JOB_ID has it; %i of an array's job is another number
    return head.allocation not in slurm("squeue", f"--user={head.user}", "--noheader", "--format=%A")


def cancel(head: heads.Head) -> None:
    """Cancel the jobs of a head and wait until none of them can write any more."""
    deadline, told = time.monotonic() + PATIENCE, set()
    while jobs := submitted(head):  # what it was submitting when it died comes late
        if new := sorted(set(jobs) - told):
            print(f"Cancelling {len(new)} jobs that {head} left in SLURM's queue: {' '.join(new)}", flush=True)
            slurm("scancel", *new)
            told.update(new)
        if time.monotonic() > deadline:
            raise errors.UserError(
                f"SLURM has not ended the jobs {' '.join(jobs)} within five minutes; see `squeue --name={head.run}`."
            )
        time.sleep(1)


def clear(known_dead: str | None = None) -> None:
    """Clear what dead heads left: jobs, lock, record. UserError where one lives or may, or nobody knows whose lock it is.

    `known_dead`: the name of the record of a head of which somebody who has looked says so.
    """
    left = heads.recorded()
    if known_dead is not None and known_dead not in (names := [head.name for head in left]):
        raise errors.UserError(f"{heads.FOLDER} has no record {known_dead!r}, but {files.some(names)}.")
    for head in left:
        if head.alive():
            raise errors.UserError(f"{head} is at work in this folder. Wait until it ends, or stop it.")
    dead = [head for head in left if head.name == known_dead or over(head)]
    unclear = [head for head in left if head not in dead]
    if unclear and known_dead is None:
        raise errors.UserError(refusal(unclear[0]))
    for head in dead:
        if head.run:
            cancel(head)
    deadline = time.monotonic() + GRACE
    while (pids := list(map(str, orphans()))) and time.monotonic() < deadline:
        time.sleep(0.5)
    if pids:
        raise errors.UserError(
            f"Jobs of a killed run are still at work in this folder (process {', '.join(pids)}). Wait until they end, what they "
            f"finish is not computed again; or stop them (`kill {' '.join(pids)}`). Then call again."
        )
    if any(LOCKS.glob("*")) and not unclear:
        if not left:
            raise errors.UserError(unknown())
        # as `snakemake --unlock` does, which would first read config/config.yaml, whatever was run
        shutil.rmtree(LOCKS)
    if dead and not unclear:
        sweep()
    for head in dead:
        head.path.unlink(missing_ok=True)
    if unclear:
        raise errors.UserError(refusal(unclear[0]))


def sweep() -> None:
    """Remove the half-written files of killed jobs; not what somebody is writing at this moment, with `make export` for instance."""
    half = [
        Path(folder, name)
        for root in (Path(grid.STORE).parent, heads.FOLDER)
        for folder, _, names in os.walk(root)  # which passes over what is removed meanwhile
        for name in names
        if HALF.fullmatch(name)
    ]
    deadline = time.monotonic() + 2 * GRACE
    while half:
        left = []
        for path in half:
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                if time.time() - path.stat().st_mtime > GRACE:
                    path.unlink()
                else:
                    left.append(path)
        half = left if time.monotonic() < deadline else []
        time.sleep(0.5 if half else 0)


def refusal(head: heads.Head) -> str:
    """What to do about a head that may live."""
    return (
        f"{head} did not end in order and may be at work in this folder: {platform.node()}, where this was called, cannot see. "
        f"Look there (`ssh {head.host} ps -p {head.pid}`), and wait until it ends or stop it. If it is dead, "
        f"`python workflow/scripts/run_alone.py {DEAD} {head.name}` cancels its jobs and unlocks; then call again."
    )


def unknown() -> str:
    """What to do about a lock of which no record tells whose it is."""
    told = (
        "This folder is locked, but by no run that left a record: perhaps by another workflow. Look whether one is at "
    )
    told += "work here, from other machines too; if not, `snakemake --unlock` and call again."
    lines = slurm("squeue", "--me", "--noheader", "--format=%i %j|%Z") if shutil.which("squeue") else []
    here = [job for job, _, folder in (line.rpartition("|") for line in lines) if folder == os.getcwd()]
    if here:
        told += f" SLURM's queue has jobs from this folder (id, name): {files.some(here)}. Cancel those of a dead run first "
        told += "(`scancel --name=…`)."
    return told


def roomy() -> None:
    """OSError where nothing can be written: Snakemake would end with tracebacks of its own, of its log and its lock."""
    for folder in (LOCKS.parent, Path(grid.STORE)):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            try:
                Path(file.name).write_bytes(bytes(ROOM))
            except OSError as error:
                raise OSError(error.errno, str(error), str(folder)) from error


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    snakemake = [sys.executable, "-m", "snakemake"]
    if pids := others():
        raise errors.UserError(
            f"Snakemake (process {', '.join(map(str, pids))}) is at work in this folder. Wait until it ends, or stop it."
        )
    if arguments[:1] == [DEAD]:
        clear(" ".join(arguments[1:]))
        return
    idle = heads.idle(arguments)
    if not idle:
        roomy()
        clear()
    config = commands.configured(arguments)
    if idle or config.get("missing_runs") == "skip":
        os.execv(sys.executable, [*snakemake, *arguments])
    with tempfile.TemporaryDirectory() as place:
        mark = Path(place) / "started"
        os.environ[heads.STARTED] = str(mark)
        failed = ended([*snakemake, *arguments])
        # 1: Snakemake itself said so, and has given the folder free. Whoever named targets wants these alone
        if failed == 1 and mark.exists() and "--" not in arguments:
            skipping = commands.with_key(arguments, "missing_runs=skip")
            tabulate([*snakemake, *skipping], grid.folder(config["study"]))
    sys.exit(failed)


def ended(command: list[str]) -> int:
    """Exit status of a command as a shell gives it. Where somebody stops it, this program ends too, and says so if the command has not."""
    code, asked = stopping.watched(command)
    if number := stopping.stopped(code) or (asked if code else 0):
        if code not in stopping.TOLD:
            print(stopping.farewell(number), file=sys.stderr)
        sys.exit(128 + number)
    return code if code >= 0 else 128 - code


def tabulate(command: list[str], folder: str) -> None:
    """Make the tables of what is there, and say what failed, where its log is, and what to type."""
    print("\nRuns failed. Making the tables and figures of what is there:", flush=True)
    whole = not ended(command)
    print(flush=True)
    if whole:
        subprocess.run([sys.executable, PRINT, folder])
    made = f"{folder} has the tables and figures of what is there" if whole else "So did tables or figures, see above"
    print(f"Jobs failed. {made}. The same command tries again what failed.")


if __name__ == "__main__":
    cli.run(main)
