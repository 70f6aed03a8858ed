# Where this repository lies, and its files as rules name them: it need not be where the first Snakefile lies.
import contextlib
import io
import os
import shlex
import shutil
import tarfile
import tempfile
from pathlib import Path

from snakemake.exceptions import WorkflowError

# Always the same: programs are parameters of rules.
UNPACKED = Path(".snakemake/modules/essential-sparsity")


def repository(rules):
    """The folder of this repository, given that of its rules: not where the first Snakefile lies, where another workflow
    uses this one as a module. Of a git host, where Snakemake reads single files, all of it is unpacked: rules call its programs.
    Jobs use what the process that started them has unpacked: a branch may have moved since.
    """
    if rules.is_local:
        return Path(rules.get_path_or_uri(secret_free=True)).parent
    known = UNPACKED / ".commit"
    if known.is_file() and not workflow.is_main_process:
        return UNPACKED.resolve()
    if not hasattr(rules, "hosted_repo"):
        raise WorkflowError(
            f"The module essential-sparsity cannot be read from {rules.get_path_or_uri(secret_free=True)}: jobs need all of its files. Name a "
            "clone on this machine, or github(…) or gitlab(…)."
        )
    repo = rules.hosted_repo.repo
    commit = repo.commit(rules.ref).hexsha
    if not known.is_file() or known.read_text() != commit:
        unpack(repo, commit)
    return UNPACKED.resolve()


def unpack(repo, commit):
    """Have the files of a commit in `UNPACKED`, all of them and no others, also where another process does so meanwhile."""
    UNPACKED.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{UNPACKED.name}.", dir=UNPACKED.parent))
    archive = repo.git.archive(
        commit, stdout_as_string=False, strip_newline_in_stdout=False
    )
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as found:
            found.extractall(beside / "new", filter="data")
        (beside / "new/.commit").write_text(commit)
        with contextlib.suppress(FileNotFoundError):
            UNPACKED.rename(beside / "old")
        (beside / "new").rename(UNPACKED)
    except OSError:  # another has put its own there
        known = UNPACKED / ".commit"
        if not known.is_file() or known.read_text() != commit:
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


ROOT = repository(workflow.current_basedir)
if workflow.modifier.path_modifier.prefix:
    raise WorkflowError(
        "The module essential-sparsity cannot have a prefix: its programs find runs by the paths in grid.parquet. Leave `prefix:` out; "
        "all that it writes lies under results/."
    )


def own(path):
    """A file of this repository, from the working directory."""
    return os.path.relpath(ROOT / path)


def program(name):
    """The file of a program, as a word of a shell."""
    return shlex.quote(own(f"workflow/scripts/{name}.py"))


def conda_file(name):
    """The conda environment of a role: a file of this machine, wherever the rules come from."""
    return str(ROOT / f"envs/{name}.yaml")
