"""A copy of the repository to run in: real weights (SPLADE BERT-tiny, 17 MB), real word pairs, a grid of a few runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
KEPT = (
    "Snakefile",
    "rules",
    "workflow",
    "config",
    "envs",
    "slurm",
    "README.md",
    "LICENSE",
    "pyproject.toml",
    "Makefile",
)
STORE = "results/store"
OUT = "results/demo"  # of the study that config/config.yaml names, as a fresh workspace has it
CODE = ("\n\n\n", "\n\n\nMORE = 1\n\n\n")  # an edit of a module that is more than words


class Workspace:
    """A folder with the workflow's files; `snakemake(...)` runs there as a user's command would, by the interpreter `python`."""

    python = sys.executable  # or one that starts at once (`warm`)

    def __init__(self, folder: Path, finished: "Workspace | None" = None):
        """Fresh, or a copy of one with all that it has computed."""
        self.folder = folder
        if finished:
            shutil.copytree(finished.folder, folder, symlinks=True)
            return
        folder.mkdir(parents=True)
        for name in KEPT:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)

    def configure(self, **changes) -> None:
        path = self.folder / "config/config.yaml"
        config = yaml.safe_load(path.read_text()) | changes
        path.write_text(yaml.safe_dump(config))

    def configure_tiny(self) -> None:
        """The grid TINY, one level per job."""
        tasks = self.folder / "config/tasks.tsv"
        tasks.write_text(re.sub(r"^(ws353\t.*)\t9\t0\.1(?=\t|$)", r"\1\t1\t0.1", tasks.read_text(), flags=re.MULTILINE))
        self.configure(grid=[TINY])

    def environment(self) -> dict[str, str]:
        first = [str(Path(python).parent) for python in (self.python, sys.executable)]
        return {**os.environ, "PATH": os.pathsep.join([*first, os.environ["PATH"]])}

    def call(self, *command: str, check: bool = True, timeout: int = 600) -> subprocess.CompletedProcess:
        result = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {result.returncode}:\n{result.stdout[-6000:]}")
        return result

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        base = [self.python, "-m", "snakemake"]
        if "--profile" not in arguments:
            base += ["--cores", "2"]
        return self.call(*base, *arguments, check=check).stdout

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs per rule that a dry run would run; empty when there is nothing to do."""
        output = self.snakemake("--dry-run", *arguments)
        table = output.rpartition("Job stats:")[2].split("total")[0]
        counts = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +([0-9]+)\s*$", table, re.MULTILINE)}
        counts.pop("all", None)
        assert counts or "Nothing to be done" in output, output[-3000:]
        return counts

    def edit(self, file: str, old: str, new: str):
        """Change a file for the length of a `with` block."""
        return Edited(self.folder / file, old, new)


class Edited:
    def __init__(self, path: Path, old: str, new: str):
        self.path, self.old, self.new = path, old, new

    def __enter__(self):
        self.before = self.path.read_text()
        assert self.old in self.before, f"{self.old!r} is not in {self.path}: the test is out of date"
        self.path.write_text(self.before.replace(self.old, self.new, 1))

    def __exit__(self, *_):
        self.path.write_text(self.before)


TINY = {
    "models": ["splade-tiny"],
    "tasks": ["ws353"],
    "patterns": ["global", "random"],
    "sparsities": [0.3, 0.6],
    "seeds": [0, 1],
}
