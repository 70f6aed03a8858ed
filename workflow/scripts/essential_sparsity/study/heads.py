"""Which Snakemake runs (heads) are at work in this folder, or were when they died: each keeps a record while it lives.

Snakemake's lock does not say whose it is, so a run on another login node looks like one that was killed. A record names
the machine, the process and, on SLURM, the name of the jobs it submits: what died is told from what may live elsewhere,
and its jobs from all others of the same folder. A head that ends in order removes its record.
"""

import atexit
import contextlib
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import psutil

from essential_sparsity import errors, files

FOLDER = Path(".snakemake/heads")
STARTED = "ESSENTIAL_SPARSITY_STARTED"  # names a file that is there once jobs start
IDLE = re.compile(
    r"--dry-?run|-[aDFfklpStv]*n.*|--report(=.*)?"
)  # `-n`, also after other short options that take no value
PATIENCE = 30  # seconds that SLURM has for saying whether jobs are left
SAME = 10.0  # seconds by which two readings of a process's start may differ: clocks are set while machines run


@dataclass(frozen=True)
class Head:
    """A Snakemake process: on which machine, since when (seconds of the epoch), and of which user (number).

    `allocation`: the SLURM job in which it runs, with how often that was restarted; empty outside. `run`: the name of all
    jobs that it submits to SLURM; empty before the first, and where it submits none.
    """

    host: str
    pid: int
    started: float
    user: int
    allocation: str = ""
    restarts: str = ""
    run: str = ""

    @classmethod
    def here(cls) -> "Head":
        """This process."""
        process = psutil.Process()
        allocation, restarts = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "RESTART_COUNT"))
        return cls(platform.node(), process.pid, process.create_time(), os.getuid(), allocation, restarts)

    @property
    def name(self) -> str:
        return f"{self.host}-{self.pid}"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.json"

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))
        return f"Snakemake (process {self.pid} on {self.host}, since {since})"

    def alive(self) -> bool | None:
        """Whether it lives; None where this machine cannot tell, because it is another's, or hides the processes of others."""
        if self.host != platform.node():
            return None
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and abs(process.create_time() - self.started) < SAME
        except psutil.NoSuchProcess:
            return None if _hidden(self.pid) else False
        except psutil.AccessDenied:
            return None

    def restarted(self) -> bool:
        """Whether SLURM has started its allocation anew, which is this process's: it is dead, on whatever machine."""
        here = Head.here()
        return bool(self.allocation) and self.allocation == here.allocation and self.restarts != here.restarts


def idle(command: Iterable[str]) -> bool:
    """Whether a snakemake command is a dry run or a report: such a head computes nothing and keeps nobody waiting."""
    return any(map(IDLE.fullmatch, command))


def announce() -> Head:
    """Record that this process is a head; the record is removed when it ends, unless it is killed or its jobs live on."""
    head = Head.here()
    files.write_json(head.path, asdict(head))
    # a child that Python forks ends with the same list of what to do
    atexit.register(lambda: os.getpid() == head.pid and _end(head))
    return head


def starts() -> None:
    """Tell whoever called this head that jobs are about to start: until then nothing can have failed but the call itself."""
    if mark := os.environ.get(STARTED):
        with contextlib.suppress(OSError):  # whoever called is gone
            Path(mark).touch()


def submits(head: Head, run: str) -> None:
    """Record under which name it submits jobs to SLURM, before the first one."""
    files.write_json(head.path, asdict(replace(head, run=run)))


def recorded() -> list[Head]:
    """The heads that have a record in this folder. UserError for a record that does not say whose it is."""
    found = map(
        _read, sorted(FOLDER.glob("[!.]*.json"))
    )  # hidden: a record that is being written, or never was to its end
    return [head for head in found if head]


def _read(path: Path) -> Head | None:
    """The head of a record; None where it has ended since the record was seen."""
    try:
        head = Head(**files.read_json(path))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        head = None
    if head and all(isinstance(getattr(head, field.name), field.type) for field in fields(head)) and head.path == path:
        return head
    raise errors.UserError(
        f"{path} is damaged: it was to tell which Snakemake run is at work in this folder, or died here, and which jobs it left. "
        "Look whether one is at work, on the machine that the file is named after too, and cancel what it left in SLURM's "
        "queue (`squeue --format='%i %j %Z'` names jobs and folders); then delete the file and call again."
    )


def left(run: str) -> list[str] | None:
    """Ids of the jobs that SLURM has in its queue of a run; None where it does not say. What it is ending is not counted."""
    command = ["squeue", f"--name={run}", "--states=PENDING,RUNNING,SUSPENDED", "--noheader", "--format=%A"]
    try:
        done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split()


def _end(head: Head) -> None:
    """Remove a head's record, unless SLURM has jobs of it that nobody cancelled (Ctrl-C twice), or does not say."""
    if not ((told := _read(head.path)) and told.run and left(told.run) != []):
        head.path.unlink(missing_ok=True)


def _hidden(pid: int) -> bool:
    """Whether there is a process of another user that /proc does not show (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        pass
    return False
