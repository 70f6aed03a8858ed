"""What a user can mend is one line that names the program; every other error keeps its traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
PROGRAM = """
import sys
sys.path.insert(0, {scripts!r})
from essential_sparsity import cli
{imports}


def main():
    {body}


cli.run(main)
"""
OURS = {
    "a checkpoint": (
        "from essential_sparsity.checkpoints.prunable import CheckpointError as E",
        "raise E('It is cut.')",
    ),
    "a configuration": ("from essential_sparsity.study.configuration import ConfigError as E", "raise E('It is cut.')"),
    "a source": ("from essential_sparsity.acquire.sources import SourceError as E", "raise E('It is cut.')"),
    "a task": ("from essential_sparsity.tasks import TaskError as E", "raise E('It is cut.')"),
    "a training": ("from essential_sparsity.training.finetuning import TrainingError as E", "raise E('It is cut.')"),
    "any": ("from essential_sparsity.errors import UserError as E", "raise E('It is cut.')"),
}
THEIRS = {
    "numpy": ("import numpy as np", "np.zeros(3) + np.zeros(4)"),
    "torch": ("import torch", "torch.zeros(3) @ torch.zeros(4)"),
    "torch, a ValueError": ("import torch", "torch.distributions.Normal(0.0, -1.0)"),
    "pandas": ("import pandas as pd", "pd.DataFrame({'a': [1, 1]}).set_index('a').reindex([1, 2])"),
    "JSON": ("import json", "json.loads('{')"),
    "a file": ("", "open('not there')"),
    "a text": ("", "b'\\xff'.decode()"),
}


def ended(folder: Path, imports: str, body: str) -> subprocess.CompletedProcess:
    path = folder / "measure_something.py"
    path.write_text(PROGRAM.format(scripts=str(SCRIPTS), imports=imports, body=body))
    return subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", OURS)
def test_what_a_user_can_mend_is_one_line(tmp_path, name):
    done = ended(tmp_path, *OURS[name])
    assert done.returncode == 1
    assert done.stderr == "error: measure_something: It is cut.\n"


def test_what_is_wrong_with_this_machine_alone_is_said_so(tmp_path):
    body = "raise devices.DeviceError('No GPU.')"
    done = ended(tmp_path, "from essential_sparsity.training import devices", body)
    assert (done.returncode, done.stderr) == (1, "error of this machine: measure_something: No GPU.\n")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise OSError(28, 'No space left on device', 'results/a')", "results/a: No space left on device. Free some space there"),
        ("raise PermissionError(13, 'Permission denied', '.a.tmp', None, 'results/a')", "results/a: Permission denied. Make it"),
        ("raise OSError(5, 'Input/output error', b'results/a')", "results/a: Input/output error. Ask whoever keeps the disk"),
        ("raise OSError(13, 'Permission denied', 5)", "or where temporary files go: Permission denied."),
        ("raise OSError(30, 'Read-only file system')", "or where temporary files go: Read-only file system. Mount it"),
        ("with open('/dev/full', 'w') as handle:\n        handle.write('a')", "or where temporary files go: No space left on device."),
    ],
)  # fmt: skip
def test_a_disk_that_says_no_is_one_line(tmp_path, body, told):
    done = ended(tmp_path, "", body)
    assert done.returncode == 1
    assert done.stderr.startswith("error of this machine: measure_something: ")
    assert told in done.stderr
    assert done.stderr.endswith(", and run the same again.\n")


def test_a_full_disk_names_the_file_that_was_to_be_written(tmp_path):
    """Libraries raise without one."""
    body = "with files.atomic('results/a') as part:\n        raise OSError(28, 'Error writing bytes to file')"
    done = ended(tmp_path, "from essential_sparsity import files", body)
    assert "measure_something: results/a: No space left on device. Free some space there" in done.stderr


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_program_whose_output_nobody_reads_ends_without_a_word(tmp_path, size):
    path = tmp_path / "print_something.py"
    path.write_text(PROGRAM.format(scripts=str(SCRIPTS), imports="", body=f"print('a' * {size})"))
    process = subprocess.Popen([sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 1)


def test_a_program_without_any_output_ends_as_it_would_with_one(tmp_path):
    path = tmp_path / "print_something.py"
    path.write_text(PROGRAM.format(scripts=str(SCRIPTS), imports="", body="print('a')"))
    done = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, path], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_broken_pipe_of_something_else_keeps_its_traceback(tmp_path):
    done = ended(tmp_path, "", "raise BrokenPipeError(32, 'Broken pipe')")
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize("name", THEIRS)
def test_what_a_library_raises_keeps_its_traceback(tmp_path, name):
    done = ended(tmp_path, *THEIRS[name])
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert f"in main\n    {THEIRS[name][1].splitlines()[0]}" in done.stderr
