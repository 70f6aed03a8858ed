"""Commits of hub repositories: a branch or tag in a table stands for the commit that `make lock` wrote down.

A branch can move, and a study must not move with it. Standard library and `grid` only: the Snakefile imports this module.
"""

import re
from collections.abc import Iterable, Mapping

from essential_sparsity.study.configuration import ConfigError
from essential_sparsity.study.tsv import read_table

COMMIT = re.compile(r"[0-9a-f]{40}")
Locked = dict[tuple[str, str, str], str]  # (kind, repository, revision) -> commit; kind is model or dataset


def read(path: str) -> Locked:
    """The table of locked revisions. Raises ConfigError."""
    found: Locked = {}
    for row in read_table(path, "revisions", None):
        key = (row["kind"], row["repository"], row["revision"])
        if found.setdefault(key, row["commit"]) != row["commit"]:
            raise ConfigError(
                f"{path}: the {row['kind']} {row['repository']} at {row['revision']!r} has two commits, {found[key]} and {row['commit']}. "
                "Leave one of the rows out."
            )
    return found


def repository(row: Mapping) -> str:
    """The repository of a hub row's id, without the part of it that the row takes."""
    return row["id"].partition(":")[0]


def unlocked(rows: Mapping[str, dict], names: Iterable[str], kind: str, locked: Locked) -> list[tuple[str, str, str]]:
    """(kind, repository, revision) of the named hub rows whose revision is neither a commit nor locked."""
    asked = [rows[name] for name in names if rows[name]["source"] == "hub"]
    keys = [(kind, repository(row), row["revision"]) for row in asked if not COMMIT.fullmatch(row["revision"])]
    return sorted({key for key in keys if key not in locked})


def apply_(rows: dict[str, dict], names: Iterable[str], kind: str, locked: Locked, where: str) -> None:
    """Put commits in the place of revisions, in place. Raises ConfigError naming the first that is not known."""
    names = list(names)
    if missing := unlocked(rows, names, kind, locked):
        _, name, revision = missing[0]
        raise ConfigError(
            f"{where}: {name} at {revision!r}{f' (and {more} more)' if (more := len(missing) - 1) else ''} is a branch or "
            "tag without a known commit, and it can move. Where the hub can be reached, run `make lock CONFIG=…` with this configuration: it writes the "
            "commits to the table of revisions. Or put the commit into the column revision."
        )
    for name in names:
        row = rows[name]
        if row["source"] == "hub" and not COMMIT.fullmatch(row["revision"]):
            rows[name] = {**row, "revision": locked[kind, repository(row), row["revision"]]}
