"""The test cluster of start.sh as seen from a test: studies run on it by the literal command, its queue and its records."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from workspace import Workspace

HERE = Path(__file__).parent
STATE = Path("/var/tmp/essential-sparsity-slurm")
RESULTS = ("store/runs", "store/items", "store/spectra", "demo/tables", "demo/figures")
SNAKEMAKE, RUN_ALONE = ("-m", "snakemake"), ("workflow/scripts/run_alone.py",)
QUICK = ("--slurm-init-seconds-before-status-checks", "5")


def call(*command: str, timeout: int = 30) -> str:
    """Output of a client command; SLURM fails by hanging, so each has a time limit."""
    return subprocess.run(command, check=True, text=True, timeout=timeout, capture_output=True).stdout


def wait_until(condition: Callable[[], object], seconds: float = 90, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition}"
        time.sleep(0.2)


def records(run: str) -> list[dict[str, str]]:
    """What accounting says about all jobs of a Snakemake run, given its run id; accounting lags, so it is asked twice."""
    fields = "JobID,Comment,State,ReqTRES,Timelimit,Partition,Start,End"
    lines = []

    def settled() -> bool:
        lines[:] = call("sacct", "-X", "-n", "-P", "--name", run, "--duplicates", "-o", fields).splitlines()
        return bool(lines) and not any(f"|{state}|" in line for line in lines for state in ("RUNNING", "PENDING"))

    wait_until(settled, 30, f"accounting has settled all jobs of {run}: {lines}")
    return [dict(zip(fields.split(","), line.split("|"), strict=True)) for line in lines]


def evaluations(run: str) -> list[dict[str, str]]:
    """Those of them that evaluate, alone or in groups."""
    return [record for record in records(run) if "prune_eval" in record["Comment"]]


def request(record: dict[str, str]) -> dict[str, str]:
    """`cpu=1,gres/gpu=1,mem=3G` as a dict."""
    return dict(part.split("=") for part in record["ReqTRES"].split(","))


class Study(Workspace):
    """A copy of a study whose jobs meet with the misfortunes of faults/sitecustomize.py."""

    def __init__(self, folder: Path, finished: Workspace | None = None):
        super().__init__(folder, finished)
        self.faults = folder / "faults"
        self.faults.mkdir()
        self.heads, self.path = [], ""  # what stands first on PATH

    def environment(self) -> dict[str, str]:
        found = super().environment() | {"FAULTS": str(self.faults), "PYTHONPATH": str(HERE / "faults")}
        return found | {"PATH": os.pathsep.join(filter(None, [self.path, found["PATH"]]))}

    def forget(self, *victims: str) -> None:
        """Take away the results of some runs (`{pattern}/{sparsity}/seed{seed}`), and the table of all runs."""
        for victim in victims:
            for folder in ("runs", "items"):
                (self.folder / f"results/store/{folder}/splade-tiny/ws353/{victim}.parquet").unlink()
        (self.folder / "results/demo/tables/runs.parquet").unlink()

    def fate(self, victim: str, kind: str, text: str = "") -> Path:
        path = self.faults / f"{name(victim)}.{kind}"
        path.write_text(text)
        return path

    def noted(self, what: str) -> dict[str, list[str]]:
        """SLURM job ids of the jobs that `started`, `finished` the computation or have `taken` it back, by victim."""
        return {path.stem: path.read_text().split() for path in sorted(self.faults.glob(f"*.{what}"))}

    def start(
        self,
        *arguments: str,
        program: tuple[str, ...] = SNAKEMAKE,
        profile: tuple[str, ...] = ("--profile", "slurm"),
        host: str = "",
        python: str = sys.executable,
    ) -> "Head":
        """The literal command, beside the test; killed when the test is over. `host`: as from a machine of this name."""
        head = Head(self, [*(elsewhere(host) if host else []), python, *program, *profile, *arguments])
        self.heads.append(head)
        return head

    def on_slurm(self, *arguments: str, check: bool = True) -> "Head":
        """The literal command, to its end."""
        head = self.start(*QUICK, *arguments)
        code = head.wait()
        if check:
            assert code == 0, head.output[-6000:]
        return head

    def queue(self, state: str = "") -> list[str]:
        """SLURM ids of this study's jobs in the queue."""
        lines = call("squeue", "-h", "-o", "%i|%T|%Z").splitlines()
        found = [line.split("|") for line in lines]
        return [job for job, told, folder in found if folder == str(self.folder) and state in told]

    def bystander(self, name: str, *options: str) -> str:
        """SLURM id of a job in this study's folder that has nothing to do with the study."""
        found = call(
            "sbatch", "--parsable", f"--job-name={name}", f"--chdir={self.folder}", "--output=/dev/null", *options
        )
        return found.strip()

    def results(self) -> dict[str, bytes]:
        """All that a study computes but for what it cost, by path."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for folder in RESULTS
            for path in sorted((self.folder / "results" / folder).rglob("*"))
            if path.is_file() and path.name != "costs.parquet"
        }

    def close(self) -> None:
        for head in self.heads:
            if head.process.poll() is None:
                head.kill()
        if jobs := self.queue():
            call("scancel", *jobs)
            wait_until(lambda: not self.queue(), 40, "the jobs of this test have left the queue")


def elsewhere(host: str) -> list[str]:
    """What to put before a command, so that it finds itself on another machine: its name, and none of the processes here."""
    apart = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*apart, "sh", "-c", f'hostname {host} && exec "$@"', "sh"]


class Head:
    """A head process: Snakemake, submitting and watching."""

    def __init__(self, study: Study, command: list[str]):
        self.log = study.folder / f"head{len(study.heads)}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=study.folder,
                env=study.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # run.sh has pytest ignore it
            )

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def run(self) -> str:
        """Its SLURM run id."""
        return re.search(r"SLURM run ID: (\S+)", self.output)[1]

    def wait(self, seconds: int = 600) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output[-6000:]}") from None

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def written_down(jobs: list[str]) -> bool:
    """Whether the controller has saved that these jobs run: killed before, it knows nothing of it when it is started again."""
    started = call("squeue", "-h", "-j", ",".join(jobs), "-o", "%S").split()
    saved = (STATE / "controller/job_state").stat().st_mtime
    return saved > max(datetime.fromisoformat(when).timestamp() for when in started) + 1


def name(victim: str) -> str:
    """`global/0.300/seed0` as faults/sitecustomize.py names it."""
    return victim.replace("/seed", "-").replace("/", "-")


def daemon(which: str) -> int:
    """Process id of a daemon that start.sh started."""
    return int((STATE / f"pid/{which}.pid").read_text())
