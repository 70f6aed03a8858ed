"""Which Snakemake runs (heads) are at work in this folder, or were when they died: each keeps a record while it lives.

Snakemake's lock does not say whose it is, so a run on another login node looks like one that was killed. A record names
the machine, the process and, on SLURM, the name of the jobs it submits: what died is told from what may live elsewhere,
and its jobs from all others of the same folder. A head that ends in order removes its record.
"""

import atexit
import os
import platform
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from essential_sparsity import files

FOLDER = Path(".snakemake/heads")
DRY = re.compile(r"--dry-?run|-[a-zA-Z]*n[a-zA-Z]*")  # `-n`, also among other short options
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
        """Whether it lives; None where this machine cannot tell, because it is another's."""
        if self.host != platform.node():
            return None
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and abs(process.create_time() - self.started) < SAME
        except psutil.NoSuchProcess:
            return False

    def restarted(self) -> bool:
        """Whether SLURM has started its allocation anew, which is this process's: it is dead, on whatever machine."""
        here = Head.here()
        return bool(self.allocation) and self.allocation == here.allocation and self.restarts != here.restarts


def dry(command: Iterable[str]) -> bool:
    """Whether a snakemake command is a dry run: such a head writes nothing and keeps nobody waiting."""
    return any(map(DRY.fullmatch, command))


def announce() -> Head:
    """Record that this process is a head; the record is removed when it ends, unless it is killed."""
    head = Head.here()
    files.write_json(head.path, asdict(head))
    # a child that Python forks ends with the same list of what to do
    atexit.register(lambda: os.getpid() == head.pid and head.path.unlink(missing_ok=True))
    return head


def submits(head: Head, run: str) -> None:
    """Record under which name it submits jobs to SLURM, before the first one."""
    files.write_json(head.path, asdict(replace(head, run=run)))


def recorded() -> list[Head]:
    """The heads that have a record in this folder."""
    return [Head(**files.read_json(path)) for path in sorted(FOLDER.glob("*.json"))]
