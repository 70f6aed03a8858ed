"""The code that a rule depends on is the code that its program runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import Workspace

from essential_sparsity import codefiles, patterns
from essential_sparsity.study import kinds
from essential_sparsity.study.deciding import CALIBRATING

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
WINGS = [  # each imports only those after it
    "reader",
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
GROUND = {
    "files",
    "errors",
    "cli",
    "codefiles",
    "logs",
    "markers",
    "patterns",
}  # modules of no wing, standard library only
PROGRAMS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
TASK_MODULES = [codefiles.task_module(kind) for kind in kinds.declared()]
TICKETS = "essential_sparsity.pruning.tickets"
SCORES = sorted({module for pattern in patterns.PATTERNS.values() for module in pattern.modules})

IMPORTED = """
import importlib, json, sys
sys.path.insert(0, {scripts!r})
for name in {modules!r}:
    importlib.import_module(name)
files = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "essential_sparsity"]
print(json.dumps(files))
"""


@pytest.mark.parametrize("program", PROGRAMS)
def test_code_list_equals_the_real_imports(program, tmp_path):
    """Compared with what Python has loaded, registries aside; what a function imports is listed, and loaded here by hand."""
    by_name = {
        "prune_eval": [*TASK_MODULES, TICKETS, *SCORES, *CALIBRATING],
        "find_ticket": TASK_MODULES,
        "estimate": ["essential_sparsity.runs.settled", "essential_sparsity.study.sizes"],
    }.get(program, [])
    listed = set(codefiles.program(program, *by_name))
    code = IMPORTED.format(scripts=str(SCRIPTS), modules=[program, *by_name])
    (tmp_path / "imported.py").write_text(code)
    command = [Workspace.python, str(tmp_path / "imported.py")]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    registries = {codefiles.module_file(module) for module in codefiles.REGISTRIES}
    assert listed == {SCRIPTS / f"{program}.py", *map(Path, loaded)} - registries


def test_every_module_of_tasks_is_a_kind_or_helps_one():
    used = codefiles.modules(*TASK_MODULES, *CALIBRATING)
    assert set((SCRIPTS / "essential_sparsity/tasks").glob("*.py")) <= set(used)


def test_an_evaluation_depends_on_no_label_and_no_table_of_the_configuration():
    _, *used = codefiles.program("prune_eval", *TASK_MODULES, TICKETS, *SCORES, *CALIBRATING)
    read = {file.relative_to(SCRIPTS / "essential_sparsity").as_posix() for file in used}
    assert not {file for file in read if file.startswith("study")} - {"study/__init__.py", "study/kinds.py"}
    assert not read & {"curves/metrics.py", "patterns.py"}
    curves = {file for file in read if file.startswith("curves")}
    assert curves == {f"curves/{name}.py" for name in ("__init__", "chance", "losses")}


def test_wings_import_downwards():
    library = SCRIPTS / "essential_sparsity"
    assert {path.stem for path in library.iterdir() if path.name != "__pycache__"} == {*WINGS, *GROUND, "__init__"}
    for path in sorted(library.rglob("*.py")):
        wing = path.relative_to(library).parts[0].removesuffix(".py")
        below = {*GROUND, wing, *WINGS[WINGS.index(wing) :]} if wing in WINGS else GROUND
        for module in codefiles.source(path).imports:
            part = module.partition(".")[2].partition(".")[0]
            assert part in {"", "__version__", *below}, (
                f"{path.relative_to(library)} imports {module}, which lies above it"
            )


def test_every_table_is_made_by_the_rule_that_its_schema_names():
    rules = {
        match[1]: match[2]
        for path in (ROOT / "rules").glob("*.smk")
        for match in re.finditer(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", path.read_text(), re.MULTILINE | re.DOTALL)
    }
    for name in codefiles.tables():
        said = codefiles.described(name)
        assert said["made_by"] in rules, f"{name} names the rule {said['made_by']}, which is not there"
        if said["asked"] != "never":
            assert f"tables/{name}.parquet" in rules[said["made_by"]]


@pytest.mark.parametrize("program", ["plot_curve", "plot_models", "plot_panels", "print_summary", "write_claims"])
def test_what_draws_and_prints_starts_without_what_estimates(program):
    """SciPy takes longer to start than a figure to draw."""
    code = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import {program}; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
