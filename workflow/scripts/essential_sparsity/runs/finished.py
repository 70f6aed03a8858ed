"""What a job has finished is not computed twice.

Snakemake starts a job again whenever something before it had to be made anew, and deletes what a job wrote whenever the
job ends badly after all: because another member of its group failed, because it was cancelled, or its node or the head
lost, between its last line and Snakemake's note of it. So a program first looks at what lies where its outputs belong;
and it keeps hard links of its outputs in its work folder, marked complete with all that decides them, and takes them back when it
is started again. Those of runs are cleared once the results have been collected. Standard library only.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from essential_sparsity import files, markers

FOLDER = "kept"  # below a job's work folder


@dataclass(frozen=True)
class Finished:
    """Where the outputs of a job are kept, what decides them (as JSON), and where they belong, by name."""

    folder: Path
    identity: Mapping[str, Any]
    outputs: Mapping[str, Path]

    @classmethod
    def of_job(cls, work: Path, identity: Mapping[str, Any], outputs: Mapping[str, Path]) -> "Finished":
        """That of a job with this work folder."""
        return cls(work / FOLDER, json.loads(json.dumps(identity)), outputs)

    def there(self, whole: Callable[[], bool]) -> bool:
        """Whether the outputs lie where they belong and are `whole`: theirs is the time of now then, for Snakemake."""
        if not all(path.is_file() for path in self.outputs.values()) or not whole():
            return False
        for path in self.outputs.values():
            os.utime(path)
        print(f"Not computed again: {self._told()}, made of the same before.", flush=True)
        return True

    def take_back(self) -> bool:
        """Put the outputs where they belong, if an attempt before has kept them whole; otherwise say why not."""
        if not self.folder.is_dir():
            return False
        _, reason = markers.read(self.folder, self.identity, "run")
        if reason:
            print(f"{self.folder} is not used: {reason}.", flush=True)
            shutil.rmtree(self.folder)
            return False
        for name, path in self.outputs.items():
            link(self.folder / name, path)
            os.utime(path)  # as if just made: Snakemake compares it with the inputs
        print(
            f"Not computed again: {self._told()}, taken back from {self.folder} where an attempt before left them.",
            flush=True,
        )
        return True

    def keep(self) -> None:
        """Keep the outputs, just written. Where that cannot be, for instance for want of room, the job is done all the same."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            for name, path in self.outputs.items():
                link(path, self.folder / name)
            markers.write(self.folder, self.identity)
        except OSError as error:
            print(f"The results are written, but could not be kept in {self.folder} for another attempt ({error}).")
            shutil.rmtree(self.folder, ignore_errors=True)

    def _told(self) -> str:
        return " and ".join(map(str, self.outputs.values()))


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
