"""Which code a program's results depend on, as one digest: the program and every library module that it imports.

The digest is of syntax trees, so comments, docstrings and layout do not count. Nor do the words of a refusal: that something is
refused, and when, does. Nor does what is declared rather than computed: the version, what a kind of task says of itself, and the
registry of patterns; the part of these that decides a result is a setting of the run. Nor does this module, which names code and
computes nothing. Of the tables that the code names, columns and version count, not the words about them.
Standard library and PyYAML only: the Snakefile reads it while parsing.
"""

import ast
import json
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from essential_sparsity import files

PACKAGE = "essential_sparsity"
SCRIPTS = Path(__file__).parents[1]
TABLES = SCRIPTS.parent / "schemas" / "tables"
DECLARED = {"__version__", "KIND"}  # top-level names whose values are no code
REGISTRIES = {f"{PACKAGE}.patterns", f"{PACKAGE}.codefiles"}  # modules that decide nothing beside what is named of them
# what `errors.UserError` and its classes are called, whose arguments are words for a person and never a value
REFUSALS = {
    "UserError",
    "CheckpointError",
    "ConfigError",
    "DeviceError",
    "KindError",
    "PretrainingError",
    "SourceError",
    "TaskError",
    "TrainingError",
}
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TASKS = SCRIPTS / PACKAGE / "tasks"
EXTENSIONS = SCRIPTS / "extensions"  # kinds of task that are no part of the package; it need not be there


def module_file(module: str) -> Path | None:
    """The file of a dotted module below workflow/scripts, or None when it is not one of ours."""
    path = SCRIPTS / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class Source(NamedTuple):
    """What a source file says: `imports`, the dotted names that it imports anywhere, of files below workflow/scripts only, parents
    included; `texts`, its string constants but for docstrings and refusals; `essence`, SHA-256 of its syntax tree without docstrings,
    the words of refusals, and declarations."""

    imports: tuple[str, ...]
    texts: frozenset[str]
    essence: str


@cache
def source(path: Path) -> Source:
    """A source file, read in one walk: each start of Snakemake reads them all."""
    parsed = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    names, texts, todo = set(), set(), [parsed]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                texts.add(node.value)
            continue
        if isinstance(node, ast.Raise):
            _without_words(node)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _without_docstring(node)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(SCRIPTS).parts[: -node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names.update([module, *(f"{module}.{alias.name}" for alias in node.names)])
        todo += ast.iter_child_nodes(node)
    ours = {name for name in names if name.split(".")[0] in _top_level()}
    ours |= {".".join(name.split(".")[:i]) for name in ours for i in range(1, name.count(".") + 1)}
    body = [node for node in parsed.body if not DECLARED.intersection(_targets(node))]
    return Source(tuple(sorted(ours)), frozenset(texts), files.sha256_text(ast.dump(ast.Module(body, []))))


def _without_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        del node.body[0]


def _without_words(node: ast.Raise) -> None:
    made = node.exc
    if isinstance(made, ast.Call) and getattr(made.func, "attr", getattr(made.func, "id", None)) in REFUSALS:
        made.args, made.keywords = [], []


@cache
def _top_level() -> frozenset[str]:
    """The first parts of dotted names below workflow/scripts: the package, the extensions, modules beside the programs."""
    return frozenset(path.stem for path in SCRIPTS.iterdir())


def modules(*names: str) -> list[Path]:
    """The files of dotted modules and of all of ours that they import, sorted; without `REGISTRIES`."""
    found, todo = set(), list(names)
    while todo:
        name = todo.pop()
        file = None if name in REGISTRIES else module_file(name)
        if file and file not in found:
            found.add(file)
            todo += source(file).imports
    return sorted(found)


@cache
def program(name: str, *extra: str) -> tuple[Path, ...]:
    """The file of a program of workflow/scripts first, then those of its library modules.

    `extra`: dotted modules that it loads by name at run time: that of a kind of task, of a pattern's score.
    """
    script = SCRIPTS / f"{name}.py"
    return (script, *modules(*source(script).imports, *extra))


@cache
def digest(name: str, *extra: str) -> str:
    """SHA-256 of the code of `program(name, *extra)` and of the tables that it names."""
    return _digest(program(name, *extra))


@cache
def digest_of(*names: str) -> str:
    """SHA-256 of the code of dotted modules and of all of ours that they import, and of the tables that they name."""
    return _digest(modules(*names))


def task_module(kind: str) -> str:
    """The dotted module of a kind of task, which programs load by name: of the extensions where it stands there."""
    name = kind.replace("-", "_")
    return f"{EXTENSIONS.name if (EXTENSIONS / f'{name}.py').is_file() else f'{PACKAGE}.tasks'}.{name}"


def _digest(paths: Iterable[Path]) -> str:
    paths = list(paths)
    parts = [f"{path.relative_to(SCRIPTS).as_posix()}\0{source(path).essence}" for path in paths]
    parts += [table_essence(name) for name in tables() if any(name in source(path).texts for path in paths)]
    return files.sha256_text("\0".join(parts))


@cache
def tables() -> tuple[str, ...]:
    """The tables that have a schema."""
    return tuple(sorted(path.stem for path in TABLES.glob("*.yaml")))


@cache
def described(name: str) -> dict:
    """What the schema of a table says."""
    return yaml.load((TABLES / f"{name}.yaml").read_text(encoding="utf-8"), Loader)


@cache
def table_essence(name: str) -> str:
    """What of a table's schema decides the files: name, version, key, and name, type and unit of each column."""
    said = described(name)
    columns = {
        column: [field["type"], field.get("nullable", False), field.get("unit", "")]
        for column, field in said["columns"].items()
    }
    return json.dumps([name, said["version"], said["key"], list(columns.items())])


def from_the_future(paths: Iterable[str]) -> list[str]:
    """Those of the files (if they are there) whose modification time is more than a minute ahead of this machine's clock."""
    now = time.time()
    return [str(path) for path in map(Path, paths) if path.is_file() and path.stat().st_mtime > now + 60]


def _targets(node: ast.stmt) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
