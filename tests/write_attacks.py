"""Write docs/security.md, the faults and attacks that are tried and how each ends, from the names and docstrings of the tests."""

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs/security.md"
SECTIONS = {  # what is attacked -> the files of its tests, and which tests of them (a pattern of their names)
    "Models": {
        "tests/unit/test_hostile_checkpoints.py": "",
        "tests/unit/test_checkpoints.py": "pickle|remote_code|cut_short",
    },
    "Archives and packages": {
        "tests/unit/test_hostile_archives.py": "",
        "tests/unit/test_sources.py": "outside|links|checksum|before_its_checksum|hangs|killed|half",
    },
    "Data": {"tests/unit/test_hostile_data.py": "", "tests/unit/test_suites.py": "definitions|is_allowed"},
    "Tables of config/, the shell, figures and the report": {
        "tests/unit/test_hostile_labels.py": "",
        "tests/unit/test_figures.py": "as_they_stand",
    },
    "Hubs and networks": {
        "tests/hub/test_broken_hub.py": "",
        "tests/hub/test_at_once.py": "",
        "tests/hub/test_offline.py": "",
    },
    "Altered or damaged results": {
        "tests/unit/test_tables.py": "damaged|garbage|stale|changed|other_weights",
        "tests/unit/test_checkpoints.py": "damage|no_longer_lists",
        "tests/unit/test_finished.py": "damaged|not_whole|another_attempt",
        "tests/unit/test_verified.py": "believed|put_back|damage",
        "tests/unit/test_resume.py": "damaged|other_bytes|half_written|another_training",
    },
    "Kills": {
        "tests/unit/test_resume.py": "killed|stopped",
        "tests/unit/test_unfinished.py": "killed",
        "tests/slurm/test_faults.py": "",
    },
}
WORDS = {"arrow": "Arrow", "gguf": "GGUF", "onnx": "ONNX", "pip": "pip", "hubs": "hub's"}
HEAD = """# What is tried against it, and how that ends

Written from the names of the tests by `python tests/write_attacks.py`: edit those. {tests} tests try {cases} faults and attacks. In each that reads
what a stranger made (`test_hostile_*`) the program runs in a process of its own with an end to its time and its memory, starts no other
program and writes nothing outside its folder: Python's audit events tell of each try. What is trusted and what is not says
[SECURITY.md](../SECURITY.md).
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="page to write")
    parser.parse_args(argv).out.write_text(text(), encoding="utf-8")


def text() -> str:
    """The page, in Markdown."""
    lines, tests, cases = [], 0, 0
    for title, files in SECTIONS.items():
        lines += ["", f"## {title}"]
        for file, pattern in files.items():
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            lines += ["", f"[{Path(file).name}](../{file})", ""]
            for function in tree.body:
                if not isinstance(function, ast.FunctionDef) or not re.search(f"^test_.*({pattern})", function.name):
                    continue
                named, count = cases_of(function, tree)
                tests, cases = tests + 1, cases + count
                lines += list(_said(function, named))
    return HEAD.format(tests=tests, cases=cases) + "\n".join(lines) + "\n"


def cases_of(function: ast.FunctionDef, tree: ast.Module) -> tuple[list[list[str]], int]:
    """The names of the cases of a test, by what it varies, and how many cases it has, as far as its file tells."""
    known = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    named, count = [], 1
    for mark in function.decorator_list:
        if not isinstance(mark, ast.Call) or not ast.unparse(mark.func).endswith("parametrize"):
            continue
        values = mark.args[1]
        values = known.get(values.id, values) if isinstance(values, ast.Name) else values
        parts = values.keys if isinstance(values, ast.Dict) else getattr(values, "elts", [])
        count *= max(len(parts), 1)
        if parts and all(isinstance(part, ast.Constant) and isinstance(part.value, str) for part in parts):
            named.append([part.value for part in parts])
    return named, count


def _said(function: ast.FunctionDef, named: list[list[str]]) -> Iterator[str]:
    said = ast.get_docstring(function)
    sentence = " ".join(WORDS.get(word, word) for word in function.name.removeprefix("test_").split("_"))
    outcome = f": {said.rstrip('.')[0].lower()}{' '.join(said.rstrip('.').split())[1:]}" if said else ""
    yield f"- **{sentence[0].upper()}{sentence[1:]}**{outcome}."
    if named:
        yield f"  Tried: {'; each with '.join('; '.join(map(_plain, names)) for names in named)}."


def _plain(words: str) -> str:
    """As text of a page: what Markdown would read as more stands between back quotes."""
    return words if re.fullmatch(r"[\w ,.;:^’'()/-]*", words) else f"`{words.encode('unicode_escape').decode()}`"


if __name__ == "__main__":
    main()
