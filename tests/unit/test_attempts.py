"""Which failed jobs are tried again, and what a job says about the environment it finds."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from essential_sparsity.study import attempts, environment

REFUSED = "loading\nerror: prune_eval: Task 'x': no column 'label'.\n"
LISTED = "error: collect_runs: files were made of something else:\n  a: other code\n  and 2 more\n"
BROKEN = "error of this machine: prune_eval: SLURM gave this job a GPU, but torch finds none.\n"
TOO_SMALL = """Out of memory: batches of 2 go through in 2 parts from here.
Traceback (most recent call last):
  File "prune_eval.py", line 114, in <module>
    cli.run(main)
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB.
"""
# what torch adds where `accelerate launch` has started several processes
LAUNCHED = """E1128 20:55:27.929000 19845 /env/torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/env/torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
pretrain.py FAILED
============================================================
"""
WARNED = "[rank0]:[W1128 20:55:27.1 ProcessGroupNCCL.cpp:1524] Warning: destroy_process_group() was not called before the end.\n"
SHARED = "error: pretrain: batch_size = 5 cannot be shared by 2 GPUs evenly.\n" * 2
KILLED = "error: prune_eval: said before\nloading\nTraceback (most recent call last):\nMemoryError\n"


class Job:
    """As much of a job of Snakemake as is asked for."""

    def __init__(self, *log: Path, rule: str = "prune_eval", jobs: tuple = ()):
        self.log, self.rule, self.jobs = list(map(str, log)), SimpleNamespace(name=rule), jobs

    def is_group(self) -> bool:
        return bool(self.jobs)

    @property
    def restart_times(self) -> int:
        return 2


@pytest.fixture
def jobs(tmp_path):
    """A function that makes a job of a class whose retries are limited, with a log that says this."""

    class Limited(Job):
        pass

    since = tmp_path / "head.json"
    since.touch()
    attempts.limit(since, Limited)

    def make(said: str | None, **more) -> Job:
        log = tmp_path / f"{len(list(tmp_path.iterdir()))}.log"
        if said is not None:
            log.write_text(said)
        return Limited(log, **more)

    return make


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (REFUSED, 0),
        (LISTED, 0),
        (TOO_SMALL, 0),
        (SHARED + LAUNCHED, 0),
        ("[rank0]: " + TOO_SMALL.splitlines()[-1] + "\n" + WARNED + LAUNCHED, 0),
        ("loading\n" + LAUNCHED, 2),
        (BROKEN, 2),
        (KILLED, 2),
        ("", 2),
        (None, 2),
    ],
)
def test_a_wrong_input_is_not_tried_again_and_all_else_is(jobs, said, times):
    assert jobs(said).restart_times == times


def test_what_the_log_said_before_this_head_does_not_count(jobs):
    old = jobs(REFUSED)
    os.utime(old.log[0], (1e9, 1e9))
    assert old.restart_times == 2


def test_fetching_is_tried_again_and_a_group_is_as_its_worst_member(jobs):
    assert jobs(REFUSED, rule="fetch_model").restart_times == 2
    assert jobs(None, jobs=(jobs(KILLED), jobs(None))).restart_times == 2
    assert jobs(None, jobs=(jobs(KILLED), jobs(REFUSED))).restart_times == 0


def test_versions_are_compared_with_the_pins_but_not_what_they_were_built_for(tmp_path, monkeypatch):
    pins = tmp_path / "envs/requirements.txt"
    pins.parent.mkdir()
    pins.write_text("torch==2.1.0\ntransformers==5.0.0\nnumpy==2.0.0\n")
    found = {"torch": "2.1.0+cu126", "transformers": "5.0.0"}

    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(environment.metadata, "version", version)
    assert environment.differing(pins) == ""
    found["torch"] = "2.0.0"
    told = environment.differing(pins)
    assert re.search(r"has torch 2\.0\.0, but requirements\.txt pins torch 2\.1\.0\. Install", told)
    assert sys.executable in told
    found |= {"torch": "2.1.0", "numpy": "2.3.0"}
    assert "has numpy 2.3.0, but requirements.txt pins numpy 2.0.0." in environment.differing(pins)
    found.clear()
    assert "no torch and no transformers" in environment.differing(pins)


@pytest.mark.parametrize(
    ("before", "own", "first"),
    [
        (None, True, True),
        (None, False, False),
        ("#!/bin/sh\necho /opt/another", True, False),  # another installation, as `module load` puts it
        ("#!/bin/sh\nexit 3", True, False),
        ('#!/bin/sh\nexec "{own}" "$@"', False, True),  # a script that starts this one
    ],
)
def test_which_python_comes_first(tmp_path, monkeypatch, before, own, first):
    if before:
        (tmp_path / "python").write_text(before.format(own=sys.executable))
        (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{Path(sys.executable).parent if own else tmp_path / 'nothing'}"
    monkeypatch.setenv("PATH", path + (f"{os.pathsep}/bin" if before else ""))
    assert environment.is_first() is first
    environment.come_first()
    assert environment.is_first()


def test_the_environment_of_these_tests_has_the_pins():
    assert environment.differing(Path("envs/requirements.txt")) == ""


@pytest.mark.parametrize("escaped", [False, True], ids=["as a script", "between double quotes, through another shell"])
def test_a_node_without_the_interpreter_says_so(escaped):
    for python, code in ((sys.executable, 0), ("/nowhere/bin/python", 1)):
        command = f"{environment.guard(python)} && echo computing"
        call = ["sh", "-c", command]
        if escaped:
            escaped_command = command.replace('"', '\\"')
            call = ["sh", "-c", f'sh -c "{escaped_command}"']
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == code
        assert done.stdout == ("" if code else "computing\n")
        assert bool(re.match(rf"error: the node {os.uname().nodename} has no {python}, .*\n$", done.stderr)) == bool(
            code
        )


@pytest.mark.parametrize("name", ["it's", "a b", "$(touch x)", "a|b", "a&b", 'a"b', "a;b", "a`b"])
def test_a_path_that_a_shell_could_read_something_into_is_not_guarded(name):
    assert environment.guard(f"/home/{name}/bin/python") == ""
