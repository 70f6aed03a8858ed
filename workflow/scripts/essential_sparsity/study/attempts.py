"""Which jobs are tried again: memory and time may suffice the next time, a wrong input stays wrong, and so does a card too small.

Snakemake knows one number of retries for all failures, and each retry asks for more memory of the machine and time than the one
before. What a program said about its user's input (`cli.run`) is the last line of its log, with indented lines below it for a list;
so is torch's error where a card cannot hold the smallest part of a batch, which no memory of the machine helps.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from essential_sparsity import logs

REFUSAL = re.compile(r"error: \w+: |(\[rank\d+\]: )?torch\.OutOfMemoryError: ")
FETCHING = ("fetch_model", "fetch_dataset")  # the network may be back the next time


def refused(paths: Iterable[str], since: float) -> bool:
    """Whether a program has ended one of these logs with what no other attempt mends, at or after the time `since`."""
    return any(
        Path(path).is_file()
        and Path(path).stat().st_mtime >= since
        and REFUSAL.match(logs.last_line(path, indented=False))
        for path in paths
    )


def limit(written: Path, *kinds: type) -> None:
    """From now on, jobs of these classes of Snakemake that have refused their input, or found their card too small, are not tried again.

    Snakemake asks a job how often that may be when it fails. Of a group one job is enough: those after it cannot start.
    Logs count that are not older than a file `written` now: what is compared are times of one file system.
    """
    since = written.stat().st_mtime
    for kind in kinds:
        kind.restart_times = _limited(kind.restart_times, since)


def _limited(allowed: property, since: float) -> property:
    def restart_times(job) -> int:
        members = job.jobs if job.is_group() else [job]
        paths = [log for member in members if member.rule.name not in FETCHING for log in member.log]
        return 0 if refused(paths, since) else allowed.fget(job)

    return property(restart_times)
