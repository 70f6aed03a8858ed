"""The tables of config/: models, tasks, packages and the like, read and checked row by row.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.study import deciding, kinds
from essential_sparsity.study.configuration import ConfigError, check, hint, load_schema

SOURCE = ("source", "id", "revision", "format", "columns")  # of a data set: where its rows come from
WHOLE = 100  # default tolerances: the whole of a scale such as an accuracy's
QUOTED = re.compile(r'"(?:[^"]|"")*(?:,|"")(?:[^"]|"")*"')  # as a spreadsheet writes a cell with a comma or a quote
REPOSITORY = re.compile(r"[\w.{}-]+(/[\w.{}-]+)?(:.+)?", re.ASCII)  # {step}: of a series
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\xad\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def parse_cell(text: str, types: list[str]) -> Any:
    """A table cell as the type that the schema gives its column; blank is None; unparsable stays text for the check."""
    text = text.strip()
    if text == "":
        return None
    if "boolean" in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind, convert in (("integer", int), ("number", float)):
        if kind in types:
            try:
                return convert(text)
            except ValueError:
                continue
    return text


def read_table(path: str, schema_name: str, key: str | None) -> list[dict]:
    """Read and check a tab-separated table; `key` is the column whose values must be unique (None: no such column).

    Raises ConfigError naming file, row (line number), column, value and expectation.
    """
    schema = load_schema(schema_name)
    properties = schema["properties"]
    types = {
        column: [rule["type"]] if isinstance(rule["type"], str) else rule["type"] for column, rule in properties.items()
    }
    if not Path(path).is_file():
        raise ConfigError(
            f"{path}: there is no such file (config key {schema_name!r}). Paths are relative to the repository root."
        )
    lines = [(number, line) for number, line in _lines(path) if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigError(
            f"{path}: the table is empty; expected a header line with the columns {', '.join(properties)}"
        )
    header = [name.strip() for name in lines[0][1].split("\t")]
    if len(header) == 1 and len(words := re.split(r"[\s,;|]+", header[0])) > 1 and set(words) & set(properties):
        raise ConfigError(f"{path}, header: one cell, {header[0][:60]!r}; columns are separated by single tabs.")
    for column in header:
        if column not in properties:
            raise ConfigError(
                f"{path}, header: unknown column {column!r}{hint(column, properties)} Known columns: {', '.join(properties)}."
            )
    if missing := [column for column in schema["required"] if column not in header]:
        raise ConfigError(f"{path}, header: the column {missing[0]!r} is missing.")
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise ConfigError(f"{path}, header: the column {repeated[0]!r} stands there twice.")
    rows, seen = [], {}
    for number, line in lines[1:]:
        cells = line.split("\t")
        if len(cells) == 1 and len(header) > 1 and len(line.split()) > 1:
            raise ConfigError(f"{path}, line {number}: one cell, {line[:60]!r}; columns are separated by single tabs.")
        if quoted := [cell for cell in cells if QUOTED.fullmatch(cell.strip())]:
            raise ConfigError(
                f"{path}, line {number}: the cell {quoted[0][:60]} is quoted as a spreadsheet does, but quotation marks are part of "
                "a cell here. Take them away."
            )
        if len(cells) > len(header):
            raise ConfigError(
                f"{path}, line {number}: {len(cells)} cells under {len(header)} columns; columns are separated by single tabs."
            )
        cells += [""] * (len(header) - len(cells))
        if unseen := [place for place, cell in enumerate(cells) if UNSEEN.search(cell.strip())]:
            raise ConfigError(
                f"{path}, line {number}, column {header[unseen[0]]}: {cells[unseen[0]][:60]!a} holds a character that nobody sees: one that "
                "controls a terminal, has no width, or turns the text after it around. Type the cell anew."
            )
        row = dict.fromkeys(properties)
        row |= {column: parse_cell(cell, types[column]) for column, cell in zip(header, cells, strict=True)}
        check(row, schema, f"{path}, line {number}", "column")
        if key and row[key] in seen:
            raise ConfigError(
                f"{path}, line {number}, column {key}: {row[key]!r} stands there already on line {seen[row[key]]}; ids are unique."
            )
        seen[row[key] if key else number] = number
        rows.append(row)
    return rows


def _lines(path: str) -> list[tuple[int, str]]:
    """(line number, text) of a table, a byte-order mark left out. Raises ConfigError where it is no UTF-8 text."""
    data = Path(path).read_bytes()
    advice = "save it as UTF-8, with tabs between the cells."
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise ConfigError(f"{path}: this is no UTF-8 text, but UTF-16, or no text at all; {advice}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}, line {line}: byte {data[error.start]:#x} is no UTF-8 text, but another encoding such as Latin-1; {advice}"
        ) from None
    return list(enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1))


def read_tables(config: dict) -> tuple[dict[str, dict], dict[str, dict], dict[str, list[dict]]]:
    """The models, tasks (each by id) and packages (rows by key, in order of preference) that a config names."""
    models = {row["model"]: row for row in read_table(config["models"], "models", "model")}
    tasks = {row["task"]: row for row in read_table(config["tasks"], "tasks", "task")}
    packages = defaultdict(list)
    for row in read_table(config["packages"], "packages", None):
        packages[row["package"]].append(row)
    for path, rows in ((config["models"], models), (config["tasks"], tasks)):
        for name, row in rows.items():
            check_source(f"{path}, {name!r}", row, packages)
    declared = known_kinds()
    datasets = {}
    for name, row in tasks.items():
        check_task(f"{config['tasks']}, {name!r}", row, declared)
        source = {column: row[column] for column in SOURCE}
        first, known = datasets.setdefault(row["dataset"], (name, source))
        if source != known:
            differing = next(column for column in source if source[column] != known[column])
            raise ConfigError(
                f"{config['tasks']}, {name!r}, column {differing}: {source[differing]!r} but the task {first!r} gives the same "
                f"dataset {row['dataset']!r} {known[differing]!r}. Rows that share a dataset describe one source."
            )
    return models, tasks, dict(packages)


def check_columns(where: str, columns: str | None) -> None:
    """Each canonical name is read from one column. ConfigError."""
    names = [pair.partition("=")[0].strip() for pair in columns.split(",")] if columns else []
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            f"{where}, column columns: {repeated[0]!r} stands there twice; it is read from one column of the source. Leave one out."
        )


def check_source(where: str, row: dict, packages: dict) -> None:
    """The columns source, id and revision fit each other, and of data no column is read from two."""
    check_columns(where, row.get("columns"))
    if row["source"] == "package" and row["id"] not in packages:
        raise ConfigError(
            f"{where}, column id: there is no package {row['id']!r} in the packages table{hint(row['id'], packages)}"
        )
    if row["source"] == "hub" and not (REPOSITORY.fullmatch(row["id"]) and "//" not in row["id"]):
        raise ConfigError(
            f"{where}, column id: {row['id']!r} is no repository of a hub. Write owner/name, and after a colon what is read of a data set "
            "(nyu-mll/glue:sst2), without the address before it."
        )
    if row["source"] == "hub" and not row["revision"]:
        raise ConfigError(
            f"{where}, column revision: blank, but a hub source needs the commit hash of the revision, so that a later run reads the same weights."
        )
    if row["source"] != "hub" and row["revision"]:
        raise ConfigError(
            f"{where}, column revision: {row['revision']!r}, but only hub sources have one (a package's version stands in the packages table)."
        )


def known_kinds() -> dict[str, kinds.Kind]:
    """The kinds of task that are declared, checked against the tables and metrics that they speak of. Raises ConfigError."""
    try:
        found = kinds.declared()
    except kinds.KindError as error:
        raise ConfigError(str(error)) from None
    types, columns = load_schema("models")["properties"]["type"]["enum"], load_schema("tasks")["properties"]
    formats = columns["format"]["enum"]
    for kind in found.values():
        asked = [
            *kind.columns,
            *(kind.further_columns or ()),
            *(name for protocol in kind.protocols.values() for name in protocol.columns),
        ]
        asked += [kind.cost.passes] if isinstance(kind.cost.passes, str) else []
        for what, names, there in (
            ("type of model", kind.models, types),
            ("column of the tasks table", asked, columns),
            ("format", kind.formats, formats),
            ("metric", (*kind.metrics, *kind.further_metrics), METRICS),
        ):
            for name in names:
                if name not in there:
                    raise ConfigError(
                        f"{kind.file}, KIND: there is no {what} {name!r}{hint(name, there)} Known: {', '.join(there)}."
                    )
    return found


def check_task(where: str, row: dict, known: dict[str, kinds.Kind]) -> None:
    """A task's protocol and columns fit its kind, one of the known ones."""
    if row["kind"] not in known:
        raise ConfigError(
            f"{where}, column kind: there is no kind {row['kind']!r}{hint(row['kind'], known)} Known: {', '.join(known)}."
        )
    kind = known[row["kind"]]
    if row["protocol"] not in kind.protocols:
        raise ConfigError(
            f"{where}, column protocol: {row['protocol']!r} does not apply to {kind.name}{hint(row['protocol'], kind.protocols)} "
            f"It has: {', '.join(kind.protocols)}."
        )
    given = (
        {"n_train", "n_eval", "windows"} if row["eval_split"] else set()
    )  # the split says what; blank means all of it
    for column in (*kind.columns, *kind.protocols[row["protocol"]].columns):
        if row[column] is None and column not in given:
            raise ConfigError(
                f"{where}, column {column}: blank, but {kind.name} with protocol {row['protocol']} needs a value."
            )
    if row["protocol"] != "zero-shot" and row["n_train"] is None and row["minutes_per_level"] is None:
        raise ConfigError(
            f"{where}, column minutes_per_level: blank, but without n_train the time of a job cannot be worked out; give it."
        )
    if row["held_out"] and row["protocol"] == "zero-shot":
        raise ConfigError(f"{where}, column held_out: {row['held_out']}, but with protocol zero-shot nothing trains.")
    if row["eval_split"] == kinds.HELD_OUT and not row["held_out"]:
        raise ConfigError(
            f"{where}, column held_out: blank, but eval_split is {kinds.HELD_OUT}; give the share of the training rows that is "
            "kept from training and evaluated, e.g. 0.1."
        )
    owners = [name for name, other in known.items() if row["format"] in other.formats]
    if (owners or kind.formats) and kind.name not in owners:
        raise ConfigError(
            f"{where}, column format: {row['format']!r}, but kind {kind.name} "
            + (
                f"reads {' or '.join(kind.formats)}."
                if kind.formats
                else f"does not read it; {' or '.join(owners)} does."
            )
        )
    if row["allow_code"] and (row["source"] != "path" or "lm-eval" not in kind.formats):
        raise ConfigError(
            f"{where}, column allow_code: true, but only a suite of lm-eval in a folder of yours (source path) brings "
            "definitions that may run. Leave it blank."
        )
    read = kinds.read_columns(kind, row["protocol"])
    for column in (*deciding.RUN_SETTINGS, *deciding.LATER_SETTINGS):
        if read is not None and row[column] and column not in {*read, "dataset", "kind", "protocol"}:
            raise ConfigError(
                f"{where}, column {column}: {row[column]}, but {kind.name} with protocol {row['protocol']} does not read it. Leave it blank."
            )
    metrics = (*kind.metrics, *kind.further_metrics)
    for metric in row["metrics"].split(",") if row["metrics"] else ():
        if metric not in metrics:
            raise ConfigError(
                f"{where}, column metrics: {metric!r} is no metric of {kind.name}{hint(metric, metrics)} "
                f"Known: {', '.join(metrics)}, joined by commas."
            )
    tabulated = kinds.tabulated(row)
    if len(set(tabulated)) < len(tabulated):
        raise ConfigError(f"{where}, column metrics: {row['metrics']!r} names one twice. Leave one out.")
    headline = next(METRICS[name] for name in METRICS if name in tabulated)
    if row["epsilon"] and row["epsilon"] >= WHOLE * headline.epsilon:
        log = headline.scale == "log"
        told = "is a factor of 2.7 and more; one per cent" if log else "would take any loss as none; one point of it"
        raise ConfigError(
            f"{where}, column epsilon: {row['epsilon']:g} of {headline.name} {told} is {headline.epsilon:g}."
        )
