"""Somebody stops a run (Ctrl-C, SIGTERM): it is told from jobs that failed, from Snakemake up to the program that a person called.

At Ctrl-C Snakemake cancels its jobs in SLURM's queue and waits for those on this machine, which get a Ctrl-C of a terminal too;
asked to end, it starts no more jobs and waits for all that it has started. Both look like failures to it. A head that has told
what happened ends with 128 and the number of the signal, as a shell says it.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psutil

from essential_sparsity import files
from essential_sparsity.study import heads

SIGNALS = {signal.SIGINT: "Ctrl-C (SIGINT)", signal.SIGTERM: "a request to end (SIGTERM)"}
TOLD = {128 + number for number in SIGNALS}  # how a head ends that has told that it was stopped
SAME = 3  # seconds within which two Ctrl-C are one: it may be sent to all programs, each of which hands it on
GRACE = 5  # seconds that jobs on this machine have before they are interrupted, who may not have got it from a terminal
WAITING = "Asked to end: no more jobs are started, those that run or wait in SLURM's queue are waited for. Ctrl-C ends them.\n"
CLIENTS = ("sbatch", "scancel", "scontrol", "squeue", "sacct")  # of SLURM: what cancels jobs is left to do it
# what Snakemake says of each job that was stopped, and in the end
OF_JOBS = ("RuleException:\nCalledProcessError", "Will exit after finishing currently running jobs")

_noted: dict[int, float] = {}  # signal -> when it came first


def noted() -> int:
    """The signal that has stopped this head; 0 where none has."""
    return next(iter(_noted), 0)


def listen(*numbers: int) -> None:
    """Note these signals when they come to stop this head, before what acts on them now does so."""
    for number in _heard(numbers):
        signal.signal(number, _noting(signal.getsignal(number)))


def _heard(numbers: Iterable[int]) -> list[int]:
    """Those of these signals that are not ignored here: `nohup`, or a script that starts this in the background, may ask for that."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]


def quieten(logger: logging.Logger) -> None:
    """Keep what Snakemake says of each job that was stopped out of its log."""
    logger.addFilter(lambda record: not (_noted and record.getMessage().startswith(OF_JOBS)))


def _noting(then: Any) -> Callable[[int, Any], None]:
    """A handler that notes a signal and hands it to the one that was there, if there was one."""

    def note(number: int, frame: Any) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and now - _noted.get(number, -SAME) < SAME:
            return
        again = number in _noted
        _noted.setdefault(number, now)
        if number == signal.SIGTERM:
            os.write(2, b"" if again else WAITING.encode())  # `print` may be at work
        else:
            sys.excepthook = _interrupted
            threading.Thread(target=_interrupt_jobs, args=[0 if again else GRACE], daemon=True).start()
        # waiting for jobs on this machine Snakemake stumbles over a second one; waiting for a controller that is away it takes one
        if callable(then) and not (again and not _submits()):
            then(number, frame)

    return note


def _interrupted(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Say of a head that ends before Snakemake has heard of it, or at a second Ctrl-C, that it was stopped; where it came to is of no interest."""
    if kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)
    elif heads.STARTED not in os.environ:  # else whoever called says so
        print(farewell(signal.SIGINT), file=sys.stderr)


def _submits() -> bool:
    """Whether this head has jobs in SLURM's queue, or had."""
    return any(head.run for head in heads.recorded() if head.pid == os.getpid())


def _interrupt_jobs(grace: float) -> None:
    """Interrupt what this head still waits for on this machine, when it has had these seconds to end."""
    time.sleep(grace)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() not in CLIENTS:
                process.send_signal(signal.SIGINT)


def farewell(number: int) -> str:
    """What a person is told who has stopped a head of this folder: what is kept, how to go on, what is left in SLURM's queue."""
    told = f"Stopped by {SIGNALS[signal.Signals(number)]}. What was finished is kept, and what was cut short is computed again, a "
    told += "training from its last checkpoint: the same command goes on where it was."
    ended = [head for head in heads.recorded() if head.pid == os.getpid() or head.alive() is False]
    for run in filter(None, (head.run for head in ended)):
        left = heads.left(run)
        again = "`python workflow/scripts/run_alone.py` with the options of Snakemake cancels them before it goes on."
        if left:
            told += f" In SLURM's queue it has left {len(left)} jobs ({files.some(left)}): {again}"
        elif left is None:
            told += f" SLURM does not say whether jobs of it are left in its queue (`squeue --name={run}`): {again}"
        else:
            told += " It has left no job in SLURM's queue."
    return told


def watched(command: Sequence[str]) -> tuple[int, int]:
    """Exit status of a command (negative: the signal that killed it), and the signal that came here to stop it, or 0.

    It is handed on, and the command ends in its own time. Ctrl-C of a terminal has reached it already.
    """
    told: list[int] = []
    with subprocess.Popen(command) as process:

        def hand_on(number: int, _: Any) -> None:
            told.append(number)
            if number != signal.SIGINT or not _at_terminal():
                process.send_signal(number)

        before = {number: signal.signal(number, hand_on) for number in _heard(SIGNALS)}
        try:
            code = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return code, told[0] if told else 0


def _at_terminal() -> bool:
    """Whether Ctrl-C of a terminal reaches this process, and so all that it has started."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def stopped(code: int) -> int:
    """The signal that stopped a watched command, by how it ended; 0 where it ended by itself. It has told so itself where `code in TOLD`."""
    if code in TOLD:
        return code - 128
    return -code if -code in SIGNALS else 0
