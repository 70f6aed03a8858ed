"""What the log of a job ends with. Standard library only."""

import os
import re
from pathlib import Path

TAIL = 1 << 16  # bytes of a log that are read
FOUND = "Not computed again:"  # as runs/finished.py has it
# of a file in the store, as estimate, export, publish and the table of missing runs say it
CHANGED = "of another source than there is now: its row, or what that names, has changed"
# where torch, which starts the processes of a training on several GPUs, begins to tell how they ended
LAUNCHER = re.compile(r"^[EW]\d{4} .*torch/distributed/elastic/.*\] ", re.MULTILINE)
WARNED = re.compile(r"\[rank\d+\]:\[W")  # what torch warns of while one of several processes ends


def found_before(log: str | Path) -> bool:
    """Whether a job found its results made before, by its log: its benchmark then says seconds that nothing took."""
    try:
        return FOUND in Path(log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def last_line(log: str | Path, indented: bool = True) -> str:
    """The last line of a log with something in it, which may be `indented`; empty where there is none.

    Of several processes (`accelerate launch`) the last line of their own: what ended them stands there.
    """
    try:
        with open(log, "rb") as handle:
            handle.seek(max(os.path.getsize(log) - TAIL, 0))
            text = handle.read().decode(errors="replace")
    except OSError:
        return ""
    text = LAUNCHER.split(text.replace("\r", "\n"), maxsplit=1)[0]
    lines = [
        line
        for line in text.split("\n")
        if line.strip() and (indented or not line[0].isspace()) and not WARNED.match(line)
    ]
    return lines[-1].strip() if lines else ""
