"""Misfortune for chosen jobs: with this folder on PYTHONPATH every Python imports this file when it starts.

It acts in prune_eval.py alone (no-torch: in all that runs on nodes), on files in the folder $FAULTS, where NAME is `{pattern}-{sparsities}-{seed}`:

NAME.wait   the job waits, before it computes, until this file is gone
NAME.once   what happens to the first attempt: `memory MB`, `sleep SECONDS` or `half` (half a result, then SIGKILL)
NAME.past   what the job writes is a day old: the clock of its node is behind
no-torch    the environment of the nodes lacks torch
kill-after  a number: of all jobs, the first to start after so many have finished is killed, once

and notes which SLURM jobs started (NAME.started), finished the computation (NAME.finished), or took results of an attempt
before, from where they belong or where it had kept them (NAME.taken): files that were there when the job started.
"""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path


def option(name: str) -> str:
    return sys.orig_argv[sys.orig_argv.index(name) + 1]


def beside(job: Path, kind: str) -> Path:
    return job.with_name(f"{job.name}.{kind}")


def note(path: Path) -> int:
    """Append this job's id; how many stand there now."""
    with path.open("a") as handle:
        handle.write(os.environ.get("SLURM_JOB_ID", "local") + "\n")
    return len(path.read_text().splitlines())


def inodes(paths: Iterable[Path]) -> set[int]:
    return {path.stat().st_ino for path in paths if path.is_file()}


def outputs() -> list[Path]:
    return [Path(option("--runs")), Path(option("--items"))]


def finish(job: Path, before: set[int]) -> None:
    written = outputs()
    if not all(path.is_file() for path in written):
        return
    note(beside(job, "taken" if inodes(written) <= before else "finished"))
    if beside(job, "past").exists():
        for path in written:
            os.utime(path, (time.time() - 86400,) * 2)


def begin(job: Path) -> None:
    first = note(beside(job, "started")) == 1
    atexit.register(finish, job, inodes([*Path(option("--work")).rglob("*"), *outputs()]))
    while beside(job, "wait").exists():
        time.sleep(0.1)
    last = job.parent / "kill-after"
    if last.exists() and len(list(job.parent.glob("*.finished"))) >= int(last.read_text()):
        last.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    once = beside(job, "once")
    if not first or not once.exists():
        return
    what, _, amount = once.read_text().partition(" ")
    if what == "memory":
        held = bytearray(int(amount) << 20)
        held[::4096] = b"x" * len(held[::4096])  # touched: only then it is resident
        time.sleep(30)
    elif what == "sleep":
        time.sleep(int(amount))
    elif what == "half":
        target = Path(option("--runs"))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"PAR1 and no more")
        os.kill(os.getpid(), signal.SIGKILL)


def without_torch(name: str, found: Callable[[str], str] = metadata.version) -> str:
    if name == "torch":
        raise metadata.PackageNotFoundError(name)
    return found(name)


if "FAULTS" in os.environ and "SLURM_JOB_ID" in os.environ and Path(os.environ["FAULTS"], "no-torch").exists():
    metadata.version = without_torch
if "FAULTS" in os.environ and "workflow/scripts/prune_eval.py" in sys.orig_argv:
    begin(Path(os.environ["FAULTS"]) / "-".join(option(f"--{name}") for name in ("pattern", "sparsities", "seed")))
