"""Which files a program's results depend on: itself and every library module that it imports, found in its source.

Snakemake compares small inputs by content, so a rule that lists these files re-runs when, and only when, code that it
really uses has changed. Standard library only: the Snakefile reads it while parsing.
"""

import ast
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from essential_sparsity import files

PACKAGE = "essential_sparsity"
SCRIPTS = Path(__file__).parents[1]
TASKS = SCRIPTS / PACKAGE / "tasks"
EXTENSIONS = SCRIPTS / "extensions"  # kinds of task that are no part of the package; it need not be there


def module_file(root: Path, module: str) -> Path | None:
    """The file of a dotted module under `root`, or None when it is not one of ours."""
    path = root / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Dotted names that a source file imports anywhere in it, from this package and the extensions only, parents included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    ours = {name for name in names if name.split(".")[0] in (PACKAGE, EXTENSIONS.name)}
    return tuple(sorted(ours | {name.rpartition(".")[0] for name in ours if "." in name}))


@cache
def program(path: str, *extra: str) -> list[str]:
    """A program's file first, then its library modules, sorted, as paths relative to the working directory.

    `extra`: dotted modules that it loads by name at run time (a task's own module).
    """
    script = Path(path)
    return [path, *modules(script.parent, *imports(script), *extra)]


def modules(root: Path, *names: str) -> list[str]:
    """The files of dotted modules under `root` and of all that they import, sorted."""
    found, todo = set(), list(names)
    while todo:
        file = module_file(root, todo.pop())
        if file and file not in found:
            found.add(file)
            todo += imports(file)
    return sorted(map(str, found))


def task_module(kind: str) -> str:
    """The dotted module of a kind of task, which programs load by name: of the extensions where it stands there."""
    name = kind.replace("-", "_")
    return f"{EXTENSIONS.name if (EXTENSIONS / f'{name}.py').is_file() else f'{PACKAGE}.tasks'}.{name}"


def digest(paths: Iterable[str]) -> str:
    """SHA-256 of the content of code files, in this order."""
    return files.sha256_text("".join(files.sha256_file(path) for path in paths))


@cache
def digest_of(root: Path, *names: str) -> str:
    """SHA-256 of the syntax of dotted modules under `root` and of all that they import, without comments and docstrings."""
    found = [Path(file) for file in modules(root, *names)]
    return files.sha256_text("".join(f"{file.relative_to(root).as_posix()}\0{_syntax(file)}\0" for file in found))


def _syntax(file: Path) -> str:
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[ast.get_docstring(node, clean=False) is not None :]
    return ast.dump(tree)


def from_the_future(paths: Iterable[str]) -> list[str]:
    """Those of the files (if they are there) whose modification time is more than a minute ahead of this machine's clock."""
    now = time.time()
    return [str(path) for path in map(Path, paths) if path.is_file() and path.stat().st_mtime > now + 60]
