"""Run Snakemake in this folder; clear the lock that a killed run left behind, refuse while another run is at work."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from essential_sparsity import cli


def others() -> list[int]:
    """Process ids of the Snakemake runs at work in this folder on this machine, but for this process and its parents."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        named = any(Path(part).name == "snakemake" for part in process.info["cmdline"] or ())
        if named and process.info["cwd"] == os.getcwd() and process.pid not in own:
            found.append(process.pid)
    return found


def main(argv: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if argv is None else argv
    snakemake = [sys.executable, "-m", "snakemake"]
    if pids := others():
        raise ValueError(
            f"Snakemake (process {', '.join(map(str, pids))}) is at work in this folder. Wait until it ends, or stop it."
        )
    if any(Path(".snakemake/locks").glob("*")):
        subprocess.run([*snakemake, "--unlock", "--quiet", "all"], check=True)
    os.execv(sys.executable, [*snakemake, *arguments])


if __name__ == "__main__":
    cli.run(main)
