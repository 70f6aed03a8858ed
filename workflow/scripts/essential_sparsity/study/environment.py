"""Whether what computes here has the versions that envs/requirements.txt pins. Standard library only."""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PLAIN = re.compile(r"[\w./+@=-]+", re.ASCII)  # no shell reads anything into it, nor does sed
DECIDING = ("torch", "transformers")  # their versions are part of what each run was made of
# These decide numbers too, of some tasks or all, and no run says which it was: tokens, scores of suites, probes, decoded pictures.
ALSO = ("tokenizers", "sentencepiece", "lm_eval", "accelerate", "numpy", "scipy", "scikit-learn", "pillow")


def differing(requirements: Path) -> str:
    """What is wrong with the packages of this interpreter on this machine, and what to do; empty where nothing is."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", requirements.read_text(encoding="utf-8"), re.MULTILINE))
    told = {}
    for name in (name for name in (*DECIDING, *ALSO) if name in pins):
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in DECIDING:  # what needs one of the others stops without it
                told[name] = f"no {name}"
            continue
        if found.partition("+")[0] != pins[name]:  # after +: for which processor or card it was built
            told[name] = f"{name} {found}"
    if not told:
        return ""
    wanted = ", ".join(f"{name} {pins[name]}" for name in told)
    return (
        f"{sys.executable} on {platform.node()} has {' and '.join(told.values())}, but {requirements.name} pins {wanted}. Install "
        f"them there (pip install -r {requirements.parent.name}/{requirements.name}); or write other versions into that "
        "file, for all jobs of the study."
    )


def is_first() -> bool:
    """Whether `python` is this installation of it, as PATH stands: not in an environment that was never activated, nor where another
    one was put before it (`module load`). A script of that name that starts this one is.
    """
    found = shutil.which("python")
    if found is None or Path(found).parent == Path(sys.executable).parent:
        return found is not None
    said = subprocess.run([found, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=False)
    return said.stdout.strip() == sys.prefix


def come_first() -> None:
    """From now on `python`, for whatever this process starts, is its own interpreter."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def guard(python: str) -> str:
    """A shell command for the start of a job on a node: it ends the job where the interpreter `python` is not there.

    The executor plugin puts it between double quotes, so nothing in it may be expanded by the shell of the head: empty for a
    path of other characters than letters, digits and those of names.
    """
    if not PLAIN.fullmatch(python):
        return ""
    told = f"error: the node & has no {python}, which runs Snakemake. Put the environment where all nodes see it, or leave the node out."
    return f"test -x '{python}' || {{ uname -n | sed 's|.*|{told}|' >&2; exit 1; }}"
