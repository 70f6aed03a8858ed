"""What a restart clears and what it leaves alone: heads of this machine and of others, jobs of others in the same folder."""

import errno
import json
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import run_alone
from essential_sparsity import cli, files
from essential_sparsity.errors import UserError
from essential_sparsity.study import heads

RUN = "essential_0c3f"
# a queue in a file, one job a line (id|name|user|folder), asked and changed as SLURM's is; id: of an array's job 9_1=12
SQUEUE = """#!{python}
import sys
given = dict(part.partition("=")[::2] for part in sys.argv[1:])
for line in open("{queue}").read().splitlines():
    job, name, user, folder = line.split("|")
    if given.get("--name", name) == name and given.get("--user", user) == user:
        shown, _, own = job.partition("=")
        print(given["--format"].replace("%A", own or shown).replace("%i", shown).replace("%j", name).replace("%Z", folder))
"""
SCANCEL = """#!{python}
import sys
lines = [line for line in open("{queue}").read().splitlines() if line.split("|")[0] not in sys.argv[1:]]
open("{queue}", "w").write("\\n".join(lines))
"""

ROOT = Path(__file__).parents[2]


class Folder:
    """A folder in which Snakemake was killed, and the queue of a stand-in for SLURM."""

    def __init__(self, path: Path):
        self.path, self.queue = path, path / "queue.txt"
        (path / ".snakemake/locks").mkdir(parents=True)
        self.lock = path / ".snakemake/locks/0.input.lock"
        self.lock.touch()

    def jobs(self, **names: str) -> None:
        """Jobs in the queue that were submitted from here, by id (after an underscore)."""
        self.queue.write_text("\n".join(f"{i[1:]}|{name}|{os.getuid()}|{self.path}" for i, name in names.items()))

    @property
    def left(self) -> list[str]:
        return [line.partition("|")[0] for line in self.queue.read_text().splitlines()]

    def head(self, **changes) -> heads.Head:
        """The record of a head that was this machine's and is dead, but for changes."""
        head = replace(heads.Head(platform.node(), gone(), 1e9, os.getuid(), run=RUN), **changes)
        heads.FOLDER.mkdir(exist_ok=True)
        head.path.write_text(json.dumps(vars(head)))
        return head


def gone() -> int:
    """A process id that is nobody's."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, text in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(python=sys.executable, queue=folder.queue))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(run_alone, "PATIENCE", 2)
    return folder


def test_a_dead_head_of_this_machine_loses_its_own_jobs_and_nobody_else(folder, monkeypatch):
    """Beside its jobs stay: another workflow's, a notebook, those of another head, and the allocation this runs in."""
    folder.jobs(_1=RUN, _2="other_77", _3="jupyter", _4="essential_ffff", _5=RUN, _6=f"{RUN}4")
    folder.queue.write_text(f"{folder.queue.read_text()}\n7|{RUN}|{os.getuid()}|/elsewhere")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    head = folder.head()
    run_alone.clear()
    assert folder.left == ["2", "3", "4", "5", "6", "7"]
    assert not folder.lock.exists()
    assert not head.path.exists()


def test_orphans_are_cancelled_after_an_unlock_by_hand_too(folder):
    folder.jobs(_1=RUN)
    folder.lock.unlink()
    folder.head()
    run_alone.clear()
    assert folder.left == []


def test_a_living_head_is_refused(folder):
    folder.jobs(_1=RUN)
    process = psutil.Process()
    head = folder.head(pid=process.pid, started=process.create_time())
    with pytest.raises(UserError, match=f"process {process.pid} on {platform.node()}, since 20.* is at work"):
        run_alone.clear()
    assert folder.left == ["1"]
    assert folder.lock.exists()
    assert head.path.exists()
    replace(head, started=head.started - 3600).path.write_text(json.dumps(vars(replace(head, started=1e9))))
    run_alone.clear()
    assert folder.left == [], "another process has its number now"


def test_a_head_of_another_machine_is_refused_until_somebody_says_that_it_is_dead(folder):
    folder.jobs(_1=RUN, _2="jupyter")
    head = folder.head(host="login2")
    with pytest.raises(UserError, match=rf"on login2, since .*`ssh login2 ps -p {head.pid}.*--dead login2-{head.pid}"):
        run_alone.clear()
    with pytest.raises(UserError, match=f"no record 'login3-1', but login2-{head.pid}"):
        run_alone.main(["--dead", "login3-1"])
    assert folder.left == ["1", "2"]
    assert folder.lock.exists()
    run_alone.main(["--dead", head.name])
    assert folder.left == ["2"]
    assert not folder.lock.exists()
    assert not head.path.exists()


def test_of_two_heads_of_other_machines_each_can_be_said_to_be_dead(folder):
    folder.jobs(_1=RUN, _2="essential_ffff")
    one, other = folder.head(host="login2"), folder.head(host="login3", run="essential_ffff")
    with pytest.raises(UserError, match=f"on login3, since .*--dead {other.name}"):
        run_alone.main(["--dead", one.name])
    assert folder.left == ["2"]
    assert folder.lock.exists()
    run_alone.main(["--dead", other.name])
    assert folder.left == []
    assert not folder.lock.exists()
    assert heads.recorded() == []


@pytest.mark.parametrize(
    ("queued", "dead"),
    [(["9"], False), (["8_1=9"], False), ([], True)],
    ids=["its allocation lives", "its allocation lives, in a job array", "its allocation has ended"],
)
def test_a_head_in_an_allocation_is_dead_when_that_has_ended(folder, queued, dead):
    folder.jobs(_1=RUN, **{f"_{job}": "my-head" for job in queued})
    folder.head(host="node17", allocation="9", restarts="")
    if dead:
        run_alone.clear()
        assert folder.left == []
    else:
        with pytest.raises(UserError, match="on node17"):
            run_alone.clear()
        assert folder.left == ["1", *queued]


def test_slurm_may_not_tell_of_the_allocation_of_another_user(folder):
    folder.jobs()
    folder.head(host="node17", allocation="9", user=os.getuid() + 1)
    with pytest.raises(UserError, match="on node17"):
        run_alone.clear()
    assert folder.lock.exists()


@pytest.mark.parametrize("told", [psutil.NoSuchProcess, psutil.AccessDenied])
def test_a_process_that_the_system_hides_may_be_at_work(folder, monkeypatch, told):
    """Of another user, where /proc is mounted with `hidepid`."""
    head, real = folder.head(run=""), psutil.Process

    def hidden(pid=None):
        if pid == head.pid:
            raise told(pid)
        return real(pid)

    def kill(pid, number):
        assert number == 0
        raise PermissionError

    monkeypatch.setattr(heads.psutil, "Process", hidden)
    monkeypatch.setattr(heads.os, "kill", kill)
    assert head.alive() is None
    with pytest.raises(UserError, match="cannot see"):
        run_alone.clear()
    assert folder.lock.exists()


DAMAGED = [b"", b'{"host": "lo', b"[]", b"null", b'{"host": "login2"}', b"\xff\xfe", bytes(50)]


@pytest.mark.parametrize("said", DAMAGED, ids=range(len(DAMAGED)))
def test_a_record_that_tells_nothing_is_no_reason_to_take_the_folder(folder, said):
    """Its jobs are not known any more: deleting it is the last thing to do."""
    folder.jobs(_1=RUN)
    head = folder.head()
    head.path.write_bytes(said)
    for dead in (None, head.name):
        with pytest.raises(UserError, match=f"{head.path} is damaged.*cancel what it left.*then delete"):
            run_alone.clear(dead)
    assert folder.left == ["1"]
    assert folder.lock.exists()


def test_a_record_of_another_name_is_damaged_and_touches_nothing_elsewhere(folder):
    (folder.path / "mine-1.json").touch()
    head = folder.head(host="login2")
    head.path.write_text(json.dumps(vars(replace(head, host="../../mine", pid=1))))
    with pytest.raises(UserError, match="is damaged"):
        run_alone.clear("../../mine-1")
    assert (folder.path / "mine-1.json").exists()


def test_a_record_that_is_being_written_is_none(folder):
    folder.jobs()
    (folder.head(run="").path.parent / ".login2-1.x.tmp.json").touch()
    run_alone.clear()
    assert not folder.lock.exists()


def test_a_head_whose_allocation_was_requeued_is_dead(folder, monkeypatch):
    """The same allocation, on another node: SLURM has started it again, and with it the head."""
    folder.jobs(_1=RUN, _9="my-head")
    head = folder.head(host="node17", allocation="9", restarts="")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    with pytest.raises(UserError, match="on node17"):
        run_alone.clear()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run_alone.clear()
    assert folder.left == ["9"]
    assert not head.path.exists()


def test_a_lock_without_a_record_is_nobodys_to_clear(folder):
    folder.jobs(_1="other_77")
    with pytest.raises(UserError, match=r"no run that left a record:.*snakemake --unlock.*1 other_77"):
        run_alone.clear()
    assert folder.left == ["1"]
    assert folder.lock.exists()


def test_jobs_that_do_not_end_and_clients_that_fail_keep_the_lock(folder):
    folder.jobs(_1=RUN)
    folder.head()
    (folder.path / "bin/scancel").write_text("#!/bin/sh\n")
    with pytest.raises(UserError, match=f"has not ended the jobs 1 within.*squeue --name={RUN}"):
        run_alone.clear()
    (folder.path / "bin/squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UserError, match="does not do what it is asked"):
        run_alone.clear()
    assert folder.lock.exists()


def test_a_local_run_needs_no_slurm(folder, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    folder.head(run="")
    run_alone.clear()
    assert not folder.lock.exists()


def test_a_machine_without_slurm_leaves_its_jobs_and_the_lock(folder, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    folder.head()
    with pytest.raises(UserError, match="there is no squeue on this machine"):
        run_alone.clear()
    assert folder.lock.exists()


def test_the_record_of_a_head_ends_with_it_unless_it_is_killed_or_leaves_jobs(folder):
    """Jobs are left by a second Ctrl-C, which comes while the first cancels them."""
    folder.jobs(_1="essential_ffff")
    code = "import os; from essential_sparsity.study import heads; head = heads.announce(); heads.submits(head, 'x'); "
    child = "os.fork() or exit(); os.wait(); assert head.path.exists(); "
    orphan = f"open('{folder.queue}', 'w').write('1|x|0|{folder.path}')"
    for end, left in (("pass", 0), ("1 / 0", 0), ("os.kill(os.getpid(), 9)", 1), (orphan, 2)):
        subprocess.run(
            [sys.executable, "-c", code + child + end],
            env={**os.environ, "PYTHONPATH": str(Path(run_alone.__file__).parent)},
            stderr=subprocess.DEVNULL,
        )
        found = heads.recorded()
        assert len(found) == left, end
    assert {head.run for head in found} == {"x"}
    assert {head.alive() for head in found} == {False}
    run_alone.clear()
    assert folder.left == []


def test_the_programs_of_rules_are_jobs_and_those_that_a_person_calls_are_none():
    rules = "".join(path.read_text() for path in [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")])
    for path in ROOT.glob("workflow/scripts/*.py"):
        is_job = bool(run_alone.JOB.fullmatch(f"workflow/scripts/{path.name}"))
        assert is_job == (f'program("{path.stem}")' in rules), path.name


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
def test_where_nothing_can_be_written_nothing_is_started(folder, monkeypatch, capsys, number, told):
    """Snakemake says so by the tracebacks of its log and of its lock."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SystemExit):
        cli.run(run_alone.roomy)
    assert f": .snakemake: {told}. " in capsys.readouterr().err
    assert not list(folder.path.rglob("tmp*"))


def test_what_was_half_written_goes_with_the_dead_and_nothing_else(folder, monkeypatch):
    monkeypatch.setattr(run_alone, "GRACE", 0.5)
    folder.head(run="")
    place = folder.path / "results/mine/tables"
    with pytest.raises(KeyboardInterrupt), files.atomic(place / "knees.parquet") as temporary:
        raise KeyboardInterrupt
    assert not list(place.iterdir())
    stale, fresh = temporary, place / ".runs.abcd_123.tmp"
    kept = [place / name for name in ("knees.parquet", ".hidden", ".nfs0001", "a.tmp", ".x.tmp.parquet")]
    for path in (stale, *kept):
        path.write_text("")
        os.utime(path, (0, 0))
    written = threading.Thread(target=lambda: [(fresh.write_text("x"), time.sleep(0.1)) for _ in range(25)])
    written.start()
    time.sleep(0.2)
    run_alone.clear()
    assert written.is_alive()
    assert fresh.exists(), "somebody is at it"
    written.join()
    assert sorted(place.iterdir()) == sorted([*kept, fresh])
    folder.head(run="")
    run_alone.clear()
    assert sorted(place.iterdir()) == sorted(kept), "written to its end by nobody"
