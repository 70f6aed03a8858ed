"""The code that a rule depends on is the code that its program runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from essential_sparsity import codefiles

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow/scripts"
ORDER = [
    "files",
    "metrics",
    "configuration",
    "tsv",
    "grid",
    "rounds",
    "series",
    "revisions",
    "chains",
    "references",
    "resources",
    "codefiles",
    "seals",
    "kept",
    "cli",
    "archives",
    "sources",
    "readers",
    "convert",
    "formats",
    "prunable",
    "parallel",
    "bins",
    "allocation",
    "stored",
    "checkpoints",
    "spectrum",
    "fingerprints",
    "thresholds",
    "groups",
    "fetching",
    "masks",
    "tickets",
    "similarity",
    "neighbours",
    "memory",
    "tokens",
    "tasks",
    "resume",
    "training",
    "evaluation",
    "lottery",
    "objectives",
    "pretraining",
    "bootstrap",
    "readings",
    "knees",
    "differences",
    "poison",
    "emergence",
    "trajectories",
    "refinement",
    "tables",
    "items",
    "measuring",
    "packed",
    "costs",
    "style",
    "figures",
    "lottery_figures",
    "heatmap",
    "emergence_figures",
    "summary",
]
PROGRAMS = sorted(path.stem for path in SCRIPTS.glob("*.py"))
KINDS = sorted(path.stem for path in (SCRIPTS / "essential_sparsity/tasks").glob("[a-z]*.py"))
TASK_MODULES = [f"essential_sparsity.tasks.{kind}" for kind in KINDS]

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
    by_name = {"prune_eval": [*TASK_MODULES, "essential_sparsity.tickets"], "ticket": TASK_MODULES}.get(program, [])
    listed = {Path(file).resolve() for file in codefiles.program(str(SCRIPTS / f"{program}.py"), *by_name)}
    code = IMPORTED.format(scripts=str(SCRIPTS), modules=[program, *by_name])
    loaded = {
        Path(f)
        for f in json.loads(
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        )
    }
    assert listed == loaded | {SCRIPTS / f"{program}.py"}


def test_every_task_kind_has_a_module_and_no_module_is_left_over():
    from essential_sparsity import tsv

    assert {kind.replace("-", "_") for kind in tsv.KINDS} == set(KINDS)


def test_modules_import_only_those_left_of_them():
    for path in sorted((SCRIPTS / "essential_sparsity").rglob("*.py")):
        name = path.relative_to(SCRIPTS / "essential_sparsity").parts[0].removesuffix(".py")
        if name == "__init__":
            continue
        for module in codefiles.imports(path):
            part = module.partition(".")[2].partition(".")[0]
            if part and part != name:
                assert ORDER.index(part) < ORDER.index(name), f"{path.name} imports {module}, which stands right of it"


def test_mask_patterns_are_those_that_the_config_allows():
    from essential_sparsity import grid, masks

    assert set(masks.SCOPE) - {"dense"} == set(grid.PATTERNS)
