"""What a user types after `make` reaches the program as it was typed, and no shell reads it."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WILD = "$(shell touch run)`touch run`$x'\""


@pytest.fixture
def place(tmp_path):
    """A folder whose make calls a python that prints what it is told, a line each."""
    for name in ("Makefile", "envs", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/.installed").touch()
    (tmp_path / ".venv/bin/python").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    return tmp_path


def said(place: Path, target: str, given: dict[str, str]) -> list[str]:
    told = [f"{name}={value}" for name, value in given.items()]
    done = subprocess.run(["make", "-s", target, *told], cwd=place, capture_output=True, text=True, check=True)
    assert not (place / "run").exists(), "what was typed was run"
    return done.stdout.splitlines()


def test_help_lists_every_command(place):
    told = [line.split() for line in said(place, "help", {})]
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert {line[1] for line in told} == {*phony.split()[1:]}
    assert all(line[0] == "make" and len(line) > 3 for line in told)


@pytest.mark.parametrize("name", ["GPU", "MODLE", "LICENCE", "config"])
def test_a_variable_that_nothing_reads_is_refused(place, name):
    env = {
        key: value for key, value in os.environ.items() if not key.startswith("MAKE")
    }  # these tests may be run by make
    done = subprocess.run(["make", "-s", "estimate", f"{name}=8"], cwd=place, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert f"Nothing here reads {name}." in done.stderr
    told = subprocess.run(["make", "-s", "help", "HF_HOME=/x"], cwd=place, capture_output=True, text=True, env=env)
    assert told.returncode == 0, "the environment of programs"
    assert "CONFIG" in done.stderr


@pytest.mark.parametrize(
    ("target", "program", "given"),
    [
        (
            "study",
            "new_study",
            {"MODEL": "a b", "TASK_NAME": "x", "DATA": "d'.csv", "COLUMNS": "text=a b", "ALLOW_PICKLE": "true", "NAME": WILD, "STUDY": ""},
        ),
        (
            "export",
            "export_checkpoint",
            {"STUDY": "a b", "MODEL": WILD, "SPARSITY": "essential", "PATTERN": "x'", "SEED": "1", "TASK": "t", "TRAIN": "true"},
        ),
        ("publish", "publish_study", {"STUDY": "a b", "REPO": WILD, "PRIVATE": "false'", "LICENSE": WILD}),
    ],
)  # fmt: skip
def test_what_make_is_told_reaches_the_program(place, target, program, given):
    first, *words = said(place, target, given)
    assert first == f"workflow/scripts/{program}.py"
    found = dict(zip(words[::2], words[1::2], strict=True))
    assert found == {f"--{name.lower().replace('_', '-')}": value for name, value in given.items()}


@pytest.mark.parametrize(
    "target", ["run", "fetch", "tables", "refine", "estimate", "lock", "report", "summary", "export", "publish"]
)
def test_files_of_a_configuration_are_words_and_nothing_else(place, target):
    words = said(place, target, {"CONFIG": "config/a.yaml $(shell touch run)`touch_run`$x"})
    at = words.index("--configfile" if "--configfile" in words else "--config")
    assert words[at + 1 : at + 5] == ["config/a.yaml", "$(shell", "touch", "run)`touch_run`$x"]


def test_cores_and_cards_are_one_word(place):
    words = said(place, "run", {"CORES": WILD})
    assert words[words.index("--cores") + 1] == WILD
    assert (words := said(place, "run", {}))[words.index("--cores") + 1] == "all"
    words = said(place, "estimate", {"GPUS": WILD})
    assert words[words.index("--gpus") + 1] == WILD
    assert "--gpus" not in said(place, "estimate", {})
    assert [("--sizes" in said(place, "estimate", {"SIZES": value})) for value in ("1", "0", WILD)] == [
        True,
        False,
        False,
    ]
    assert "--config" not in said(place, "estimate", {})
