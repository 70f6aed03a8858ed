"""What a job has finished is not computed twice, although Snakemake may delete it.

It deletes what a job wrote whenever the job ends badly after all: because another member of its group failed, because
it was cancelled, or its node or the head lost, between its last line and Snakemake's note of it. So the program keeps
hard links of its outputs in its work folder, sealed with all that decides them, and takes them back when it is started
again. They are cleared once the results have been collected. Standard library only.
"""

import argparse
import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from essential_sparsity import files, seals

FOLDER = "kept"  # below a job's work folder
PLACES = ("work", "tokens")  # arguments that say where a job keeps things, which decide nothing


@dataclass(frozen=True)
class Kept:
    """Where the outputs of a job are kept, what decides them (as JSON), and where they belong, by name."""

    folder: Path
    identity: Mapping[str, Any]
    outputs: Mapping[str, Path]

    @classmethod
    def of_job(
        cls,
        args: argparse.Namespace,
        reads: Sequence[str],
        writes: Sequence[str],
        **more: Any,
    ) -> "Kept":
        """That of a program with these arguments.

        `reads`, `writes`: those that name files which it reads (their content counts, not their paths) and its outputs.
        `more`: what else decides the outputs (code, versions, the device).
        """
        asked = {name: value for name, value in vars(args).items() if name not in (*writes, *PLACES)}
        for name in reads:
            asked[name] = [files.sha256_file(path) for path in listed(asked[name])]
        identity = json.loads(json.dumps(asked | more))
        return cls(args.work / FOLDER, identity, {name: Path(getattr(args, name)) for name in writes})

    def take_back(self) -> bool:
        """Put the outputs where they belong, if an attempt before has kept them whole; otherwise say why not."""
        if not self.folder.is_dir():
            return False
        _, reason = seals.read(self.folder, self.identity, "run")
        if reason:
            print(f"{self.folder} is not used: {reason}.", flush=True)
            shutil.rmtree(self.folder)
            return False
        for name, path in self.outputs.items():
            link(self.folder / name, path)
            os.utime(path)  # as if just made: Snakemake compares it with the inputs
        told = " and ".join(map(str, self.outputs.values()))
        print(
            f"Not computed again: {told}, taken back from {self.folder} where an attempt before left them.", flush=True
        )
        return True

    def keep(self) -> None:
        """Keep the outputs, just written. Where that cannot be, for instance for want of room, the job is done all the same."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            for name, path in self.outputs.items():
                link(path, self.folder / name)
            seals.write(self.folder, self.identity)
        except OSError as error:
            print(f"The results are written, but could not be kept in {self.folder} for another attempt ({error}).")
            shutil.rmtree(self.folder, ignore_errors=True)


def listed(given: str | list[str] | None) -> list[str]:
    """The paths that one argument names: one, several or none."""
    return given if isinstance(given, list) else [given] if given else []


def link(source: Path, target: Path) -> None:
    """A hard link at `target`, or a copy on file systems that have none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with files.atomic(target) as temporary:
            shutil.copyfile(source, temporary)


def clear(root: Path, works: Iterable[str]) -> None:
    """Remove these work folders below `root`, of jobs whose results are safe, and the folders that are empty then."""
    for name in works:
        folder = root / name
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                for parent in folder.relative_to(root).parents:
                    (root / parent).rmdir()
