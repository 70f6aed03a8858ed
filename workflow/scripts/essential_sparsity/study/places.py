"""Where files of a study belong: a folder there is taken for the file by Snakemake, so no call would make it, and none can read it."""

import os
from collections.abc import Iterable

from essential_sparsity import files


def in_the_way(paths: Iterable[str]) -> str:
    """What to do with the folders among these paths of files, for a person; empty where there is none."""
    found = sorted({path for path in paths if os.path.isdir(path)})
    if not found:
        return ""
    told = "is a folder, but a file belongs" if len(found) == 1 else "are folders, but files belong"
    return f"{files.some(found)} {told} there. Delete what is there and run again."
