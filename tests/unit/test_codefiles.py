"""The digest of a program's code: what decides a result changes it, what people read does not."""

import ast
import os
import shutil
import time
from pathlib import Path

import pytest

from essential_sparsity import codefiles
from essential_sparsity.study import kinds

PROGRAM = ("prune_eval", "essential_sparsity.tasks.text_similarity")


def forget() -> None:
    """As a new process does."""
    for value in vars(codefiles).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


class Library:
    """A copy of programs, library and schemas of tables that can be edited."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.scripts, self.tables = folder / "workflow/scripts", folder / "workflow/schemas/tables"
        shutil.copytree(codefiles.SCRIPTS, self.scripts, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(codefiles.TABLES, self.tables)
        monkeypatch.setattr(codefiles, "SCRIPTS", self.scripts)
        monkeypatch.setattr(codefiles, "TABLES", self.tables)
        monkeypatch.setattr(codefiles, "TASKS", self.scripts / "essential_sparsity/tasks")
        monkeypatch.setattr(codefiles, "EXTENSIONS", self.scripts / "extensions")
        forget()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.tables / file if file.endswith(".yaml") else self.scripts / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}: the test is out of date"
        path.write_text(text.replace(old, new, 1))

    def digest(self, *program: str) -> str:
        forget()
        return codefiles.digest(*(program or PROGRAM))


@pytest.fixture
def library(tmp_path, monkeypatch):
    yield Library(tmp_path, monkeypatch)
    forget()


MASKS = "essential_sparsity/pruning/masks.py"
SAME = {
    "comment": (MASKS, "\nimport", "\n# said beside the code\nimport"),
    "docstring of a module": (MASKS, '"""', '"""In other words. '),
    "docstring of a function": ("essential_sparsity/files.py", '"""Hex SHA-256 of a text in UTF-8."""', '"""Other."""'),
    "layout": ("essential_sparsity/files.py", "    return hashlib.sha256(", "\n\n    return   hashlib.sha256("),
    "version": ("essential_sparsity/__init__.py", '__version__ = "', '__version__ = "9.'),
    "declaration of a kind": ("essential_sparsity/tasks/text_similarity.py", "KIND = {", 'KIND = {"more": 1, '),
    "words about a column": (
        "runs.yaml",
        "description: Sparsity requested",
        "description: Sparsity that was asked for",
    ),
    "words about a table": ("runs.yaml", "description: ", "description: So, "),
    "another program's code": ("collect_runs.py", "def main(", "def other():\n    return 1\n\n\ndef main("),
    "another kind's code": ("essential_sparsity/tasks/perplexity.py", "\nimport", "\nONE = 1\nimport"),
    "another table's columns": ("knees.yaml", "version: ", "version: 9"),
    "the words of a refusal": (
        "essential_sparsity/checkpoints/prunable.py",
        "has no prunable weights: ",
        "has nothing to prune: ",
    ),
    "what a refusal names": (MASKS, "raise errors.UserError(f", "raise errors.UserError(str(1) + f"),
    "how code is named": ("essential_sparsity/codefiles.py", "\nimport", "\nONE = 1\nimport"),
    "the registry of patterns": ("essential_sparsity/patterns.py", "\nimport", "\nONE = 1\nimport"),
}
OTHER = {
    "a statement of the program": ("prune_eval.py", "\nimport argparse", "\nONE = 1\nimport argparse"),
    "a statement of a module that it imports": (MASKS, "\nimport", "\nONE = 1\nimport"),
    "a constant": ("essential_sparsity/training/resume.py", "FIRST_STEPS = 2", "FIRST_STEPS = 3"),
    "a statement of its kind": ("essential_sparsity/tasks/text_similarity.py", "\nKIND", "\nONE = 1\nKIND"),
    "a text that is no docstring": ("essential_sparsity/files.py", '"nothing"', '"none"'),
    "a column of a table that it names": ("runs.yaml", "  workflow: {type: text", "  workflow: {type: number"),
    "the unit of a column": ("runs.yaml", "unit: fraction of prunable weights", "unit: per cent"),
    "whether a column may be empty": (
        "runs.yaml",
        "  workflow: {type: text,",
        "  workflow: {type: text, nullable: true,",
    ),
    "the name of a column": ("runs.yaml", "  workflow: {", "  work_flow: {"),
    "what refuses": (
        "essential_sparsity/checkpoints/prunable.py",
        "    if not weights:\n",
        "    if len(weights) < 2:\n",
    ),
    "that it is refused": (
        "essential_sparsity/checkpoints/prunable.py",
        "    if not weights:\n        raise CheckpointError(",
        "    if not weights:\n        print(",
    ),
    "the words of another exception": (MASKS, "no prunable weights were given", "nothing to prune was given"),
    "the version of a table": ("runs.yaml", "version: ", "version: 9"),
    "the key of a table": ("items.yaml", "sparsity, seed, item]", "seed, sparsity, item]"),
}


@pytest.mark.parametrize("edit", SAME)
def test_what_decides_nothing_leaves_the_digest(library, edit):
    before = library.digest()
    library.edit(*SAME[edit])
    assert library.digest() == before


@pytest.mark.parametrize("edit", OTHER)
def test_what_decides_results_changes_the_digest(library, edit):
    before = library.digest()
    library.edit(*OTHER[edit])
    assert library.digest() != before


def test_a_module_that_moves_is_other_code_and_its_place_on_the_machine_is_not(library, tmp_path, monkeypatch):
    before = library.digest()
    elsewhere = shutil.move(library.scripts.parent, tmp_path / "elsewhere")
    monkeypatch.setattr(codefiles, "SCRIPTS", elsewhere / "scripts")
    monkeypatch.setattr(codefiles, "TABLES", elsewhere / "schemas/tables")
    assert library.digest() == before
    shutil.move(elsewhere / "scripts/prune_eval.py", elsewhere / "scripts/other_name.py")
    assert library.digest("other_name", PROGRAM[1]) != before


def test_what_a_program_loads_by_name_is_named_beside_it(library):
    names = {path.name for path in codefiles.program(*PROGRAM)}
    assert {"prune_eval.py", "masks.py", "text_similarity.py", "job.py"} <= names
    assert not names & {"perplexity.py", "patterns.py", "tickets.py"}
    assert codefiles.program(*PROGRAM)[0].name == "prune_eval.py"
    assert "tickets.py" in {path.name for path in codefiles.program(*PROGRAM, "essential_sparsity.pruning.tickets")}


def test_the_code_of_each_kind_is_its_own(library):
    digests = {kind: codefiles.digest("prune_eval", codefiles.task_module(kind)) for kind in kinds.declared()}
    assert len(set(digests.values())) == len(digests) > 3


def test_the_digest_of_modules_follows_their_imports(library):
    before = codefiles.digest_of("essential_sparsity.pruning.masks")
    library.edit("essential_sparsity/patterns.py", "\nimport", "\nONE = 1\nimport")
    forget()
    assert codefiles.digest_of("essential_sparsity.pruning.masks") == before
    library.edit("essential_sparsity/files.py", '"nothing"', '"none"')
    forget()
    assert codefiles.digest_of("essential_sparsity.pruning.masks") != before


def test_the_classes_whose_words_do_not_count_are_those_of_what_a_user_can_mend():
    """Their arguments are words alone: none keeps what it is given, and none of ours is made of another's."""
    found, todo = set(), {"UserError"}
    trees = [ast.parse(path.read_text()) for path in codefiles.SCRIPTS.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while todo:
        found |= todo
        todo = {
            of.name for of in classes if any(ast.unparse(base).split(".")[-1] in found for base in of.bases)
        } - found
    assert found == codefiles.REFUSALS
    for of in classes:
        if of.name in found:
            assert not any(isinstance(node, ast.FunctionDef) for node in of.body), of.name


def test_files_from_the_future_are_named(tmp_path):
    for name, ahead in (("now", 0), ("soon", 30), ("later", 3600)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() + ahead,) * 2)
    paths = [str(tmp_path / name) for name in ("now", "soon", "later", "absent")]
    assert codefiles.from_the_future(paths) == [str(tmp_path / "later")]
