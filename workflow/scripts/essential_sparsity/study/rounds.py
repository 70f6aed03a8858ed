"""Rounds of refinement: the levels that `make refine` added to a grid, in one file that the Snakefile reads.

`{"rounds": [[{model, task, pattern, levels}, …], …]}`: levels of one round are jobs of their own, so that cells which
are computed already stay as they are. Standard library only.
"""

from pathlib import Path

from essential_sparsity import files
from essential_sparsity.study.configuration import ConfigError, check

FILE = "results/rounds.json"
ENTRY = {"model": {"type": "string"}, "task": {"type": "string"}, "pattern": {"type": "string"}}
ENTRY |= {"levels": {"type": "array", "items": {"type": "string", "pattern": r"^0\.[0-9]{3}$"}}}
ROUND = {"type": "array", "items": {"type": "object", "properties": ENTRY, "required": list(ENTRY)}}
SCHEMA = {"type": "object", "properties": {"rounds": {"type": "array", "items": ROUND}}, "required": ["rounds"]}


def read(path: str = FILE) -> list[list[dict]]:
    """The rounds so far; none where there is no file. Raises ConfigError naming the file when it is damaged."""
    if not Path(path).is_file():
        return []
    try:
        found = files.read_json(path)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{error} It holds the levels that `make refine` added; it adds them again.") from None
    check(found, SCHEMA, f"{path} (levels that `make refine` added: delete it and refine again)")
    return found["rounds"]


def add(levels: list[dict], path: str = FILE) -> None:
    """Append a round."""
    files.write_json(path, {"rounds": [*read(path), levels]})
