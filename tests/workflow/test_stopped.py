"""Whoever stops a run is told so, with what is kept and how to go on: no list of failed jobs, no traceback."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from changes import same
from workspace import STORE

from essential_sparsity.study import stopping

SNAKEMAKE = (sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going", "--quiet", "rules", "host")
ALONE = (sys.executable, "workflow/scripts/run_alone.py", *SNAKEMAKE[3:])
REFINE = (sys.executable, "workflow/scripts/refine.py", *ALONE)
SCRIPTS = str(Path(stopping.__file__).parents[2])
VICTIM = "one/short/random/0.400/seed0"
HOWEVER = {  # signal, to the whole group as a terminal does, seconds between which it comes again
    "Ctrl-C": (signal.SIGINT, True, ()),
    "Ctrl-C twice": (signal.SIGINT, True, (0.2,)),
    "Ctrl-C twice, where jobs go on": (signal.SIGINT, False, (stopping.SAME + 0.2,)),
    "SIGINT to what was called": (signal.SIGINT, False, ()),
    "SIGTERM": (signal.SIGTERM, True, ()),
}


@pytest.fixture(autouse=True)
def _heard():
    """What pytest starts hears Ctrl-C, also where pytest itself runs in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Started:
    """A command in a process group of its own, up to where it waits for a job."""

    def __init__(self, study, *command: str):
        study.study(refine=None)  # the stand-in's knees ask for no levels
        for place in ("runs", "items"):
            (study.folder / f"{STORE}/{place}/{VICTIM}.parquet").unlink(missing_ok=True)
        study.hold(f"/runs/{VICTIM}")
        self.study, self.out = study, study.folder / "told.txt"
        log = study.folder / f"{STORE}/logs/prune_eval/{VICTIM}.log"
        log.unlink(missing_ok=True)
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                command,
                cwd=study.folder,
                env=study.environment(),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.until(lambda: log.is_file() and "held" in log.read_text())

    def until(self, condition) -> None:
        deadline = time.monotonic() + 400
        while not condition():
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < deadline, self.out.read_text()
            time.sleep(0.05)

    def send(self, number: int, group: bool) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        code = self.process.wait(400)
        return code, self.out.read_text()


def left(study) -> list[str]:
    return [path.name for place in ("locks", "heads") for path in (study.folder / ".snakemake" / place).glob("*")]


@pytest.mark.parametrize(
    ("how", "command"), [*((how, ALONE) for how in HOWEVER), ("Ctrl-C", SNAKEMAKE), ("Ctrl-C", REFINE)]
)
def test_a_stop_is_told_from_jobs_that_failed(study, how, command):
    number, group, again = HOWEVER[how]
    started = Started(study, *command)
    started.send(number, group)
    for seconds in again:
        time.sleep(seconds)
        started.send(number, group)
    code, told = started.end()
    assert code == 128 + number, told
    assert told.count("Stopped by ") == 1
    assert f"Stopped by {stopping.SIGNALS[number]}. What was finished is kept" in told
    for noise in ("Jobs failed", "Runs failed", "Traceback", "At least one job", "has left"):
        assert noise not in told, noise
    assert left(study) == []


def test_asked_to_end_it_waits_for_the_jobs_that_run(study):
    before = study.results()
    started = Started(study, *REFINE)
    started.send(signal.SIGTERM, False)
    started.until(lambda: "no more jobs are started" in started.out.read_text())
    assert started.process.poll() is None
    study.hold()
    code, told = started.end()
    assert code == 143, told
    assert told.count("Stopped by a request to end") == 1
    assert "Jobs failed" not in told
    assert (study.folder / f"{STORE}/runs/{VICTIM}.parquet").is_file(), "what ran is finished"
    assert left(study) == []
    study.call(*REFINE)
    assert study.planned() == {}
    same(study.results(), before)


def test_stopped_before_a_job_it_says_so_as_well(study):
    """While Snakemake plans, which takes minutes in a large study."""
    with (study.folder / "Snakefile").open("a") as snakefile:
        snakefile.write("\nprint('planning', flush=True)\nimport time\ntime.sleep(60)\n")
    command = {"cwd": study.folder, "env": study.environment(), "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(ALONE, text=True, start_new_session=True, **command) as process:
        while "planning" not in process.stdout.readline():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        told = process.stdout.read()
    assert process.returncode == 130
    assert told.startswith("Stopped by Ctrl-C")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "expected", "by"),
    [
        ("sys.exit(0)", (0, 0), 0),
        ("sys.exit(1)", (1, 0), 0),
        ("os.kill(os.getpid(), signal.SIGKILL)", (-9, 0), 0),
        ("os.kill(os.getpid(), signal.SIGINT)", (-2, 0), 2),
        ("sys.exit(143)", (143, 0), 15),
        ("signal.signal(2, lambda *_: sys.exit(1)); os.kill(os.getppid(), signal.SIGINT); time.sleep(60)", (1, 2), 0),
        ("os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)", (-15, 15), 15),
    ],
)
def test_a_command_is_watched_to_its_end_and_a_stop_is_handed_on(code, expected, by):
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    assert stopping.watched([sys.executable, "-c", f"import os, signal, sys, time; {code}"]) == expected
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
    assert stopping.stopped(expected[0]) == by


def test_what_was_told_to_ignore_ctrl_c_goes_on_ignoring_it():
    """`nohup make demo &` in a script; a failure after a Ctrl-C for others is a failure."""
    code = "import os, signal, sys; number = signal.SIGINT; assert signal.getsignal(number) == signal.SIG_IGN; "
    code += "from essential_sparsity.study import stopping; stopping.listen(number); "
    code += "os.kill(os.getpid(), number); "
    code += "watch = 'import os, signal; os.kill(os.getppid(), signal.SIGINT)'; "
    code += "assert stopping.watched([sys.executable, '-c', watch]) == (0, 0); sys.exit(stopping.noted())"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": SCRIPTS}).returncode == 0


def test_ctrl_c_of_a_terminal_comes_once():
    """It reaches all that runs there: handed on as well, it would look as if it had been pressed twice."""
    count = "import signal, time; told = []; signal.signal(signal.SIGINT, lambda *_: told.append(1)); print('ready', flush=True); "
    count += "end = time.monotonic() + 60\nwhile not told and time.monotonic() < end: time.sleep(0.1)\ntime.sleep(1); print('heard', len(told))"
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from essential_sparsity.study import stopping; "
    code += f"print(stopping.watched([sys.executable, '-c', {count!r}]))"
    child, terminal = pty.fork()
    if not child:
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": SCRIPTS})
    said = b""
    with contextlib.suppress(OSError):  # Linux says so of a terminal that was closed
        while part := os.read(terminal, 1000):
            said += part
            if b"ready" in part:
                os.write(terminal, b"\x03")
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"heard 1" in said, said
    assert b"(0, 2)" in said, said
