"""The claims that a study's results are held against, from the claims file.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

from typing import Any

from essential_sparsity import codefiles, errors, patterns
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.study.configuration import ConfigError, check, hint, load_schema, read_file

TABLES = {  # table -> its readings, of which the first is read where a claim names none
    "knees": ("essential_sparsity", "last_compliant", "kneedle", "hinge", "slope_ratio", "shape"),
    "comparisons": ("difference",),
    "differences": ("difference",),
    "layers": ("share_of_mlp", "rate_of_mlp_less_attention"),
    "similarity": ("cosine_kept", "cosine_pruned", "iou_kept", "iou_pruned"),
    "abruptness": ("conclusion",),
    "contrasts": ("difference", "jump_at"),
}
MODEL_TYPES = ("encoder", "decoder", "vision")
BESIDE = ("trajectory",)  # tables that some of these are judged with
WORDS = {"shape": ("hinge", "smooth"), "conclusion": ("abrupt", "gradual", "nothing")}  # readings that are words
LEVELLED = ("differences", "layers", "similarity")
SINGLE = ("knees",)  # tables of single curves, whose rows can be paired or grouped
ADDED = {  # columns beside the table's own
    "knees": ("type",),
    "comparisons": ("type_a", "type_b"),
    "differences": ("type",),
    "layers": ("type",),
    "similarity": ("type_a", "type_b"),
    "abruptness": (),
    "contrasts": ("more_data",),
}


def read(path: str | None) -> list[dict[str, Any]]:
    """The claims of a file, in order; none where the configuration names none. ConfigError names the claim and the key."""
    if not path:
        return []
    found = read_file(path)
    check(found, load_schema("claims"), path)
    seen: set[str] = set()
    for row in found["claims"]:
        where = f"{path}, claim {row['claim']!r}"
        if row["claim"] in seen:
            raise ConfigError(f"{where}: stands there twice.")
        seen.add(row["claim"])
        _check(where, row)
    return found["claims"]


def reading(claim: dict[str, Any]) -> str:
    """Which of its table's readings a claim is about."""
    return claim.get("read") or TABLES[claim["table"]][0]


def _check_values(where: str, columns: dict[str, Any], asked: dict[str, Any]) -> None:
    """Values that no row can have: of another type, or a pattern, metric or type of model that there is not."""
    for column, value in asked.items():
        kind = columns[column]["type"] if column in columns else "yes or no" if column == "more_data" else "text"
        for one in value if isinstance(value, list) else [value]:
            if kind not in ({str: ["text"], bool: ["yes or no"]}.get(type(one), ["number", "whole number"])):
                raise ConfigError(f"{where}.{column}: {one!r}; a {kind} is expected.")
            if kind != "text" or "*" in one:
                continue
            base = column.removesuffix("_a").removesuffix("_b")
            if base == "pattern":
                try:
                    patterns.find(one)
                except errors.UserError as error:
                    raise ConfigError(f"{where}.{column}: {error}") from None
            known = {"type": MODEL_TYPES, "metric": METRICS}.get(base)
            if known and one not in known:
                raise ConfigError(f"{where}.{column}: there is no {one!r}{hint(one, known)} Known: {', '.join(known)}.")


def _check(where: str, row: dict[str, Any]) -> None:
    table = row["table"]
    if table not in TABLES:
        raise ConfigError(f"{where}, table: {table!r} is no evidence{hint(table, TABLES)} Known: {', '.join(TABLES)}.")
    read = reading(row)
    if read not in TABLES[table]:
        raise ConfigError(
            f"{where}, read: the table {table} has no reading {read!r}{hint(read, TABLES[table])} It has: {', '.join(TABLES[table])}."
        )
    columns = [*codefiles.described(table)["columns"], *ADDED[table]]
    asked = [*row["where"], *([row["groups"]["column"]] if "groups" in row else [])]
    if wrong := [column for column in asked if column not in columns]:
        raise ConfigError(f"{where}, where: the table {table} has no column {wrong[0]!r}{hint(wrong[0], columns)}")
    _check_values(f"{where}, where", codefiles.described(table)["columns"], row["where"])
    if groups := row.get("groups"):
        for group in ("a", "b"):
            _check_values(f"{where}, groups", codefiles.described(table)["columns"], {groups["column"]: groups[group]})
        if starred := [value for value in groups["a"] + groups["b"] if "*" in value]:
            raise ConfigError(
                f"{where}, groups.{groups['column']}: {starred[0]!r}; a kind names its values in full, without *."
            )
        if both := [value for value in groups["a"] if value in groups["b"]]:
            raise ConfigError(f"{where}, groups: {both[0]!r} stands in both; a curve is of one kind or of the other.")
    if "levels" in row and (table not in LEVELLED or row["levels"][0] > row["levels"][1]):
        raise ConfigError(
            f"{where}, levels: [lowest, highest] sparsity, of the tables {', '.join(LEVELLED)} alone; got {row['levels']}."
        )
    ways = [key for key in ("pairs", "groups") if key in row]
    if len(ways) > 1 or (ways and (table not in SINGLE or read in WORDS)):
        raise ConfigError(f"{where}: either pairs or groups, of numbers of the table {' or '.join(SINGLE)}.")
    (kind, value), words = *row["expect"].items(), WORDS.get(read)
    if (kind == "word") != bool(words) or (words and value not in words):
        told = f"word: one of {', '.join(words)}" if words else "above, below or within"
        raise ConfigError(f"{where}, expect: {read} takes {told}; got {kind}: {value!r}.")
    if kind == "within" and not value[0] < value[1]:
        raise ConfigError(f"{where}, expect.within: [lowest, highest]; got {value}.")
