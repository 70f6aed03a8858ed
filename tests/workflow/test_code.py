"""The code that a rule depends on is the code that its program runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from essential_sparsity import codefiles
from essential_sparsity.study import kinds

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
WINGS = [  # each imports only those after it
    "figures",
    "emergence",
    "runs",
    "tasks",
    "training",
    "pruning",
    "tables",
    "study",
    "acquire",
    "curves",
    "checkpoints",
]
GROUND = {"files", "cli", "codefiles", "seals", "patterns"}  # modules of no wing, standard library only
PROGRAMS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
TASK_MODULES = [codefiles.task_module(kind) for kind in kinds.declared()]

IMPORTED = """
import importlib, json, sys
sys.path.insert(0, {scripts!r})
for name in {modules!r}:
    importlib.import_module(name)
files = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "essential_sparsity"]
print(json.dumps(files))
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_code_list_equals_the_real_imports(program):
    """Compared with what Python has loaded; function-level imports are found by the list and loaded here by hand."""
    by_name = {"prune_eval": [*TASK_MODULES, "essential_sparsity.pruning.tickets"], "ticket": TASK_MODULES}.get(
        program, []
    )
    listed = {Path(file).resolve() for file in codefiles.program(str(SCRIPTS / f"{program}.py"), *by_name)}
    code = IMPORTED.format(scripts=str(SCRIPTS), modules=[program, *by_name])
    loaded = {
        Path(f)
        for f in json.loads(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        )
    }
    assert listed == loaded | {SCRIPTS / f"{program}.py"}


def test_every_module_of_tasks_is_a_kind_or_helps_one():
    used = codefiles.modules(SCRIPTS, *TASK_MODULES)
    assert {str(path) for path in (SCRIPTS / "essential_sparsity/tasks").glob("*.py")} <= set(used)


def test_an_evaluation_depends_on_no_label_and_no_table_of_the_configuration():
    used = codefiles.program(str(SCRIPTS / "prune_eval.py"), *TASK_MODULES, "essential_sparsity.pruning.tickets")
    read = {Path(file).relative_to(SCRIPTS / "essential_sparsity").as_posix() for file in used[1:]}
    assert not read & {"curves/metrics.py", "study/tsv.py", "study/references.py", "study/resources.py"}
    assert {file for file in read if file.startswith("curves")} == {"curves/chance.py", "curves/__init__.py"}


def test_wings_import_downwards():
    library = SCRIPTS / "essential_sparsity"
    assert {path.stem for path in library.iterdir() if path.name != "__pycache__"} == {*WINGS, *GROUND, "__init__"}
    for path in sorted(library.rglob("*.py")):
        wing = path.relative_to(library).parts[0].removesuffix(".py")
        below = {*GROUND, wing, *WINGS[WINGS.index(wing) :]} if wing in WINGS else GROUND
        for module in codefiles.imports(path):
            part = module.partition(".")[2].partition(".")[0]
            assert part in {"", "__version__", *below}, (
                f"{path.relative_to(library)} imports {module}, which lies above it"
            )
