"""Everything that goes wrong on a cluster, injected one by one: nothing is lost, nothing finished is computed twice, and
the results are in the end those of an undisturbed run, byte for byte. README.md beside this file lists the outcomes."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cluster import HERE, QUICK, call, daemon, name, records, request, wait_until

pytestmark = pytest.mark.slurm

ONE, TWO, THREE, FOUR = "global/0.300/seed0", "global/0.600/seed0", "random/0.300/seed0", "dense/0.000/seed0"


def computed(study, *victims: str, times: int = 1) -> bool:
    """Exactly these runs were computed to their end, each so often; taking results back is no computation."""
    return {who: len(jobs) for who, jobs in study.noted("finished").items()} == {name(v): times for v in victims}


def attempts(study, victim: str) -> int:
    return len(study.noted("started")[name(victim)])


def running(study, *victims: str):
    """Condition: these jobs have started, and wait."""
    return lambda: {name(v) for v in victims} <= set(study.noted("started"))


def test_cancelled_short_of_memory_out_of_time_and_half_written(study, expected):
    study.forget(ONE, TWO, THREE, FOUR)
    gate = study.fate(ONE, "wait")
    study.fate(TWO, "once", "memory 4000")
    study.fate(THREE, "once", "sleep 600")
    study.fate(FOUR, "once", "half")
    minutes = "prune_eval:runtime=attempt if wildcards.pattern == 'random' else 10"
    head = study.start(*QUICK, "--set-resources", minutes)
    wait_until(running(study, ONE), 180, "the job to cancel has started")
    call("scancel", study.noted("started")[name(ONE)][0])
    gate.unlink()
    assert head.wait() == 0, head.output[-6000:]
    assert study.results() == expected
    assert computed(study, ONE, TWO, THREE, FOUR)

    tries = {victim: [] for victim in (ONE, TWO, THREE, FOUR)}
    for job in sorted(records(head.run), key=lambda job: int(job["JobID"])):
        for victim, told in tries.items():
            if job["JobID"] in study.noted("started")[name(victim)]:
                told.append((job["State"].split()[0], job["Timelimit"], request(job)["mem"]))
    assert {victim: [state for state, _, _ in told] for victim, told in tries.items()} == {
        ONE: ["CANCELLED", "COMPLETED"],
        TWO: ["FAILED", "COMPLETED"],  # SLURM's memory watch; with control groups it says OUT_OF_MEMORY
        THREE: ["TIMEOUT", "COMPLETED"],
        FOUR: ["FAILED", "COMPLETED"],
    }
    for (_, _, first), (_, _, second) in tries.values():
        assert float(second.strip("MG")) == 2 * float(first.strip("MG")), "the retry asks for more memory"
    assert [time for _, time, _ in tries[THREE]] == ["00:01:00", "00:02:00"]


@pytest.mark.thorough
def test_a_damaged_checkpoint_is_named_and_nothing_is_computed_on_it(study, expected):
    study.forget(ONE, TWO)
    weights = study.folder / "results/store/checkpoints/splade-tiny/files/model.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    head = study.on_slurm("--retries", "0", check=False)
    assert head.process.returncode == 1
    assert "model.safetensors does not have the SHA-256" in head.output, (
        "the job's own message stands in the head's output"
    )
    assert study.noted("finished") == {}, "nothing is computed on damaged weights"

    weights.write_bytes(good)
    study.on_slurm()
    assert computed(study, ONE, TWO)
    assert study.results() == expected


@pytest.mark.thorough
def test_a_damaged_result_is_named_and_only_it_is_computed_again(study, expected):
    study.forget()
    damaged = study.folder / f"results/store/runs/splade-tiny/ws353/{ONE}.parquet"
    damaged.write_bytes(damaged.read_bytes()[:300])
    head = study.on_slurm(check=False)
    assert head.process.returncode == 1
    assert f"{ONE}.parquet is not a whole Parquet file" in head.output
    assert "Delete it and run again" in head.output
    damaged.unlink()
    study.on_slurm()
    assert computed(study, ONE)
    assert study.results() == expected


@pytest.mark.thorough
def test_daemons_killed_and_started_again_while_jobs_run(study, expected):
    """Node daemon, controller and accounting, all at once and for longer than the plugin's five attempts to ask."""
    study.forget(ONE, TWO, THREE)
    gates = [study.fate(victim, "wait") for victim in (ONE, TWO)]
    head = study.start(*QUICK)
    wait_until(running(study, ONE, TWO), 180, "both jobs have started")
    down = [daemon(which) for which in ("slurmd-gpunode1", "slurmctld", "slurmdbd")]
    for pid in down:
        os.kill(pid, signal.SIGKILL)
    time.sleep(45)
    subprocess.run([HERE / "start.sh"], check=True, timeout=120)
    for gate in gates:
        gate.unlink()
    assert head.wait() == 0, head.output[-6000:]
    assert computed(study, ONE, TWO, THREE)
    assert attempts(study, ONE) == attempts(study, TWO) == 1, "running jobs survive their daemons"
    assert study.results() == expected


@pytest.mark.thorough
def test_preempted_jobs_are_requeued_and_computed_once(study, expected):
    study.forget(ONE, TWO)
    gates = [study.fate(victim, "wait") for victim in (ONE, TWO)]
    head = study.start(*QUICK)
    wait_until(running(study, ONE, TWO), 180, "both jobs have started")
    call("sbatch", "--partition=urgent", "--nodes=2", "--gpus=2", "--output=/dev/null", "--wrap=sleep 2")
    wait_until(lambda: len(study.queue("PENDING")) == 2, 180, "both jobs are back in the queue")
    for gate in gates:
        gate.unlink()
    assert head.wait() == 0, head.output[-6000:]
    assert attempts(study, ONE) == attempts(study, TWO) == 2
    assert computed(study, ONE, TWO)
    assert len(records(head.run)) == 4, "the requeued jobs are the same jobs, not retries"
    assert study.results() == expected


@pytest.mark.thorough
def test_a_lost_node_gives_its_job_back(study, expected):
    study.forget(ONE)
    gate = study.fate(ONE, "wait")
    head = study.start(*QUICK)
    wait_until(running(study, ONE), 180, "the job has started")
    (job,) = study.noted("started")[name(ONE)]
    node = call("squeue", "-h", "-j", job, "-o", "%N").strip()
    for pid in (daemon(f"slurmd-{node}"), *steps(job)):
        kill(pid)
    call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    gate.unlink()
    try:
        assert head.wait() == 0, head.output[-6000:]
    finally:
        subprocess.run([HERE / "start.sh"], check=True, timeout=120)
    assert computed(study, ONE)
    assert attempts(study, ONE) == 2
    assert study.results() == expected


def test_head_killed_and_started_again(study, expected):
    """What is finished stays; what was running is cancelled first, so that no two jobs write one file."""
    study.forget(ONE, TWO, THREE)
    gates = [study.fate(victim, "wait") for victim in (ONE, TWO, THREE)]
    head = study.start(*QUICK)
    wait_until(lambda: len(study.noted("started")) == 2, 180, "two jobs have started")
    head.kill()
    orphans = study.queue()
    assert len(orphans) == 3, "they outlive their head"
    again = study.start(*QUICK)
    assert again.wait() == 1
    assert "Directory cannot be locked" in again.output

    again = study.start(*QUICK, program=("workflow/scripts/run_alone.py",))
    wait_until(lambda: not set(orphans) & set(study.queue()), 180, "the orphans are gone")
    for gate in gates:
        gate.unlink()
    assert again.wait() == 0, again.output[-6000:]
    assert computed(study, ONE, TWO, THREE)
    assert study.results() == expected


@pytest.mark.thorough
def test_two_heads_at_once(study, expected):
    study.forget(ONE)
    gate = study.fate(ONE, "wait")
    head = study.start(*QUICK)
    wait_until(running(study, ONE), 180, "the job has started")
    second = study.start(*QUICK)
    assert second.wait() == 1
    assert "Directory cannot be locked" in second.output
    third = study.start(*QUICK, program=("workflow/scripts/run_alone.py",))
    assert third.wait() == 1
    assert f"process {head.process.pid}" in third.output
    assert len(study.queue()) == 1, "the others submitted and cancelled nothing"
    gate.unlink()
    assert head.wait() == 0, head.output[-6000:]
    assert computed(study, ONE)
    assert study.results() == expected


@pytest.mark.thorough
def test_clocks_that_differ(study, expected):
    """An input from a machine whose clock is a day ahead: refused before anything is computed. Results from a node that
    is a day behind: taken."""
    study.forget(ONE, TWO)
    study.fate(ONE, "past")
    study.fate(TWO, "past")
    manifest = study.folder / "results/store/checkpoints/splade-tiny/manifest.json"
    os.utime(manifest, (time.time() + 86400,) * 2)
    head = study.on_slurm(check=False)
    assert head.process.returncode == 1
    assert "splade-tiny/manifest.json (and 0 more) has a modification time in the future" in head.output
    assert study.noted("started") == {}
    study.call("sh", "-c", "find results -newermt now -exec touch {} +")
    study.on_slurm()
    assert computed(study, ONE, TWO)
    assert study.planned() == {}
    assert study.results() == expected


@pytest.mark.thorough
def test_a_full_disk(study, expected, tmp_path):
    """The whole study on a file system without a free byte: the run fails; with room again it finishes the rest."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.lstat().st_size for path in study.folder.rglob("*")) + (16 << 20)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=False).returncode:
        pytest.skip("this machine lets no file system be mounted")
    try:
        shutil.copytree(study.folder, disk / "study", symlinks=True)
        study.folder, study.faults = disk / "study", disk / "study/faults"
        study.forget(ONE, TWO)
        gate = study.fate(ONE, "wait")
        head = study.start(*QUICK, "--retries", "0")
        wait_until(running(study, ONE), 180, "the job has started")
        wait_until(lambda: name(TWO) in study.noted("finished"), 180, "the other has finished")
        ballast = fill(disk / "ballast")
        gate.unlink()
        head.wait()
        assert not (study.folder / f"results/store/runs/splade-tiny/ws353/{ONE}.parquet").exists(), "no half result"
        ballast.unlink()
        study.on_slurm()
        assert study.results() == expected
        assert len(study.noted("finished")[name(TWO)]) == 1
        study.close()
    finally:
        study.folder = tmp_path / "study"
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(path: Path) -> Path:
    """Write until there is no room."""
    with path.open("wb", buffering=0) as handle:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while handle.write(bytes(block)):
                    pass
            except OSError:
                continue
    return path


def steps(job: str) -> list[int]:
    """Processes of a SLURM job: its step daemons, and all that carries its id."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            daemons = f"slurmstepd: [{job}." in (entry / "cmdline").read_text()
            inside = f"SLURM_JOB_ID={job}\0" in (entry / "environ").read_text(errors="replace")
        except OSError:
            continue
        if daemons or inside:
            found.append(int(entry.name))
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
