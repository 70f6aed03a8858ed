"""The configuration: read it, refuse what is wrong with it, and expand the grid into jobs.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from essential_sparsity.metrics import METRICS

SCHEMAS = Path(__file__).parents[2] / "schemas"
PATTERNS = ("global", "layerwise", "random", "erk", "erk-random", "layer-shuffle", "deletion", "lth")
RUN = "{model}/{task}/{pattern}/{sparsity}/seed{seed}"
NM_PATTERN = re.compile(r"nm([1-9][0-9]*)")
KINDS = {  # kind of task -> model types it can evaluate, its usual metrics, columns it needs
    "text-classification": (
        ("encoder", "decoder"),
        ("accuracy", "chance_corrected_accuracy"),
        ("n_train", "n_eval", "max_length"),
    ),
    "image-classification": (
        ("vision",),
        ("accuracy", "chance_corrected_accuracy"),
        ("n_train", "n_eval", "image_size"),
    ),
    "text-similarity": (("encoder", "decoder"), ("spearman",), ("max_length",)),
    "question-answering": (("encoder", "decoder"), ("token_f1", "exact_match"), ("n_train", "n_eval", "max_length")),
    "perplexity": (("decoder",), ("perplexity",), ("context", "windows")),
    "lm-eval": (("decoder",), ("accuracy", "normalised_accuracy"), ("suite", "shots", "max_length")),
    "masked-lm": (("encoder",), ("pseudo_perplexity", "masked_accuracy"), ("n_eval", "max_length")),
}
FURTHER_METRICS = {  # kind -> metrics that it computes where the column `metrics` names them
    "text-classification": ("matthews", "f1"),
    "image-classification": ("matthews", "f1"),
    "text-similarity": ("pearson",),
}
CLASSIFICATION = ("text-classification", "image-classification")
PROTOCOLS = {  # protocol -> kinds it applies to, further columns it needs
    "zero-shot": (("text-similarity", "perplexity", "masked-lm", "lm-eval"), ()),
    "probe": (CLASSIFICATION, ()),
    "knn": (CLASSIFICATION, ()),
    "finetune": (
        (*CLASSIFICATION, "text-similarity", "question-answering"),
        ("n_train", "n_eval", "epochs", "learning_rate", "batch_size"),
    ),
}
HELD_OUT = "held-out"  # in the column eval_split: the training rows that `held_out` keeps from training
assert all(metric in METRICS for _, metrics, _ in KINDS.values() for metric in metrics)


class ConfigError(ValueError):
    """Something in config/ is wrong: the message names the file, the place, the value and what was expected."""


@dataclass(frozen=True, order=True)
class Job:
    """What one prune_eval job computes: consecutive levels of one curve for one seed."""

    model: str
    task: str
    pattern: str
    levels: tuple[str, ...]
    seed: int

    @property
    def token(self) -> str:
        """The level token of the job's paths: `0.500`, or a chunk `0.100+0.200+0.300`."""
        return "+".join(self.levels)

    @property
    def path(self) -> str:
        """Where the job's files lie below results/runs, results/items, …, without suffix."""
        return RUN.format(model=self.model, task=self.task, pattern=self.pattern, sparsity=self.token, seed=self.seed)


def level(sparsity: float) -> str:
    """The one place where a sparsity becomes text."""
    return f"{sparsity:.3f}"


def hint(value: Any, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close."""
    close = get_close_matches(str(value), [str(name) for name in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def load_schema(name: str) -> dict:
    """A JSON schema of workflow/schemas, by name."""
    return yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"))


def expectation(error) -> str:
    """One validation error of jsonschema, said for a person."""
    described = (
        f" ({error.schema['description']})" if isinstance(error.schema, dict) and "description" in error.schema else ""
    )
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = sorted(set(error.instance) - set(known))
        return f"unknown key {unknown[0]!r}{hint(unknown[0], known)} Known keys: {', '.join(known)}."
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"the key {missing[0]!r} is missing."
    if error.validator == "enum":
        allowed = ", ".join("blank" if v is None else str(v) for v in error.validator_value)
        return f"{error.instance!r} is not one of: {allowed}{hint(error.instance, error.validator_value)}{described}"
    if error.validator in ("anyOf", "oneOf"):
        return f"{error.instance!r} was not expected here{described}"
    if error.validator == "pattern":
        return f"{error.instance!r} does not match {error.validator_value}{described}"
    return f"{error.message}{described}"


def check(value: Any, schema: dict, where: str, place: str = "key") -> None:
    """Raise ConfigError for the first violation of a schema, naming where it is."""
    errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda e: list(map(str, e.path)))
    if errors:
        error = errors[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
        raise ConfigError(f"{where}{f', {place} {path}' if path else ''}: {expectation(error)}")


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
    with open(path, encoding="utf-8", newline="") as handle:
        lines = [(number, line) for number, line in enumerate(handle, 1) if line.strip() and not line.startswith("#")]
    if not lines:
        raise ConfigError(
            f"{path}: the table is empty; expected a header line with the columns {', '.join(properties)}"
        )
    header = [name.strip() for name in lines[0][1].rstrip("\r\n").split("\t")]
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
    for number, cells in zip(
        (n for n, _ in lines[1:]), csv.reader((line for _, line in lines[1:]), delimiter="\t"), strict=True
    ):
        if len(cells) > len(header):
            raise ConfigError(
                f"{path}, line {number}: {len(cells)} cells under {len(header)} columns; columns are separated by single tabs."
            )
        cells += [""] * (len(header) - len(cells))
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
    datasets = {}
    for name, row in tasks.items():
        check_task(f"{config['tasks']}, {name!r}", row)
        source = {column: row[column] for column in ("source", "id", "revision", "format", "columns")}
        first, known = datasets.setdefault(row["dataset"], (name, source))
        if source != known:
            differing = next(column for column in source if source[column] != known[column])
            raise ConfigError(
                f"{config['tasks']}, {name!r}, column {differing}: {source[differing]!r} but the task {first!r} gives the same "
                f"dataset {row['dataset']!r} {known[differing]!r}. Rows that share a dataset describe one source."
            )
    return models, tasks, dict(packages)


def check_source(where: str, row: dict, packages: dict) -> None:
    """The columns source, id and revision fit each other."""
    if row["source"] == "package" and row["id"] not in packages:
        raise ConfigError(
            f"{where}, column id: there is no package {row['id']!r} in the packages table{hint(row['id'], packages)}"
        )
    if row["source"] == "hub" and not row["revision"]:
        raise ConfigError(
            f"{where}, column revision: blank, but a hub source needs the commit hash of the revision, so that a later run reads the same weights."
        )
    if row["source"] != "hub" and row["revision"]:
        raise ConfigError(
            f"{where}, column revision: {row['revision']!r}, but only hub sources have one (a package's version stands in the packages table)."
        )


def check_task(where: str, row: dict) -> None:
    """A task's protocol and columns fit its kind."""
    kinds, columns = PROTOCOLS[row["protocol"]]
    if row["kind"] not in kinds:
        raise ConfigError(
            f"{where}, column protocol: {row['protocol']!r} does not apply to {row['kind']}; expected kind {' or '.join(kinds)}"
        )
    given = (
        {"n_train", "n_eval", "windows"} if row["eval_split"] else set()
    )  # the split says what; blank means all of it
    for column in (*KINDS[row["kind"]][2], *columns):
        if row[column] is None and column not in given:
            raise ConfigError(
                f"{where}, column {column}: blank, but {row['kind']} with protocol {row['protocol']} needs a value."
            )
    if row["protocol"] != "zero-shot" and row["n_train"] is None and row["minutes_per_level"] is None:
        raise ConfigError(
            f"{where}, column minutes_per_level: blank, but without n_train the time of a job cannot be worked out; give it."
        )
    if row["held_out"] and row["protocol"] == "zero-shot":
        raise ConfigError(f"{where}, column held_out: {row['held_out']}, but with protocol zero-shot nothing trains.")
    if row["eval_split"] == HELD_OUT and not row["held_out"]:
        raise ConfigError(
            f"{where}, column held_out: blank, but eval_split is {HELD_OUT}; give the share of the training rows that is "
            "kept from training and evaluated, e.g. 0.1."
        )
    if (row["kind"] == "lm-eval") != (row["format"] == "lm-eval"):
        raise ConfigError(
            f"{where}, column format: {row['format']!r}, but kind {row['kind']}; the kind lm-eval reads the format lm-eval, and "
            "no other kind does."
        )
    known = (*KINDS[row["kind"]][1], *FURTHER_METRICS.get(row["kind"], ()))
    for metric in row["metrics"].split(",") if row["metrics"] else ():
        if metric not in known:
            raise ConfigError(
                f"{where}, column metrics: {metric!r} is no metric of {row['kind']}{hint(metric, known)} "
                f"Known: {', '.join(known)}, joined by commas."
            )


def sparsities(block: dict, where: str) -> list[str]:
    """The levels of a grid block, sorted: from a list, or from {from, to, step}."""
    given = block["sparsities"]
    if isinstance(given, dict):
        steps = round((given["to"] - given["from"]) / given["step"])
        given = [
            round(given["from"] + i * given["step"], 6)
            for i in range(steps + 1)
            if given["from"] + i * given["step"] <= given["to"] + 1e-9
        ]
    for value in given:
        if not 0 <= value < 1:
            raise ConfigError(
                f"{where}.sparsities: {value} is outside [0, 1); a sparsity is the share of prunable weights that is pruned."
            )
        if abs(value * 1000 - round(value * 1000)) > 1e-6:
            raise ConfigError(f"{where}.sparsities: {value} has more than three decimals; round it to {value:.3f}.")
    levels = [level(value) for value in given]
    if repeated := sorted({name for name in levels if levels.count(name) > 1}):
        raise ConfigError(f"{where}.sparsities: {repeated[0]} stands there twice.")
    return sorted(levels)


def check_pattern(pattern: str, levels: list[str], where: str) -> None:
    """The pattern is known, and an N:M group can hold each sparsity."""
    match = NM_PATTERN.fullmatch(pattern)
    if not match and pattern not in PATTERNS:
        raise ConfigError(
            f"{where}.patterns: unknown pattern {pattern!r}{hint(pattern, PATTERNS)} Known: {', '.join(PATTERNS)}, and nm2, nm4, nm8, … (N:M groups)."
        )
    if match:
        group = int(match[1])
        if group < 2:
            raise ConfigError(f"{where}.patterns: {pattern!r}: a group has at least 2 inputs.")
        for name in levels:
            if abs(float(name) * group - round(float(name) * group)) > 1e-6:
                fitting = ", ".join(level(i / group) for i in range(1, group) if i * 1000 % group == 0)
                raise ConfigError(
                    f"{where}: pattern {pattern} prunes whole weights of every {group}, so it has no sparsity {name}; it has {fitting}. "
                    "Give N:M patterns a grid block of their own."
                )


def expand(blocks: list[dict], levels_per_job: dict[str, int], rounds: Iterable[list[dict]] = ()) -> list[Job]:
    """All jobs of a grid, sorted: the union of the blocks' cross products, with one dense job per (model, task, seed).

    `levels_per_job`: task -> how many consecutive levels of a curve one job walks. `rounds`: levels added to single
    curves afterwards (`refinement`), as jobs of their own; those of curves that are not in the grid are left out.
    Blocks must have passed `validate`.
    """
    curves = defaultdict(set)
    for i, block in enumerate(blocks):
        levels = [name for name in sparsities(block, f"grid[{i}]") if name != level(0)]
        for model in block["models"]:
            for task in block["tasks"]:
                for seed in block["seeds"]:
                    curves[model, task, "dense", seed].add(level(0))
                    for pattern in block["patterns"]:
                        curves[model, task, pattern, seed].update(levels)
    jobs = []

    def add(model: str, task: str, pattern: str, seed: int, levels: Iterable[str]) -> None:
        ordered, size = sorted(levels), levels_per_job[task]
        jobs.extend(Job(model, task, pattern, tuple(ordered[i : i + size]), seed) for i in range(0, len(ordered), size))

    for curve, levels in curves.items():
        add(*curve, levels)
    for added in rounds:
        wanted = {(entry["model"], entry["task"], entry["pattern"]): entry["levels"] for entry in added}
        for curve, levels in curves.items():
            new = set(wanted.get(curve[:3], ())) - levels
            add(*curve, new)
            levels |= new
    return sorted(jobs)


def models_of(jobs: Iterable[Job], pattern: str) -> dict[str, list[str]]:
    """Task -> the models that are evaluated on it under a pattern, sorted."""
    found: dict[str, list[str]] = {}
    for task, model in sorted({(job.task, job.model) for job in jobs if job.pattern == pattern}):
        found.setdefault(task, []).append(model)
    return found


def validate(config: dict, models: dict, tasks: dict, where: str) -> None:
    """Check the grid of a config against the tables; ConfigError names the block, the value and what was expected."""
    for i, block in enumerate(config["grid"]):
        place = f"{where}, grid[{i}]"
        for key, table, rows in (("models", config["models"], models), ("tasks", config["tasks"], tasks)):
            for name in block[key]:
                if name not in rows:
                    raise ConfigError(
                        f"{place}.{key}: unknown {key[:-1]} {name!r}{hint(name, rows)} {table} has: {', '.join(rows)}."
                    )
        levels = sparsities(block, place)
        for pattern in block["patterns"]:
            check_pattern(pattern, levels, place)
        for task in block["tasks"]:
            for model in block["models"]:
                types = KINDS[tasks[task]["kind"]][0]
                if models[model]["type"] not in types:
                    raise ConfigError(
                        f"{place}: the task {task!r} ({tasks[task]['kind']}) evaluates models of type {' or '.join(types)}, "
                        f"but {model!r} is of type {models[model]['type']}. Give them different grid blocks."
                    )


def check_config(config: dict, where: str) -> None:
    """Check a config's keys and types before its tables are read."""
    check(config, load_schema("config"), where)


def read_config(*paths: str) -> dict:
    """One configuration from files, later ones replacing keys of earlier ones as `--configfile` does. ConfigError."""
    merged: dict = {}
    for path in paths:
        try:
            found = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read ({error}).") from error
        for key, value in found.items():
            merged[key] = {**merged[key], **value} if isinstance(value, dict) and key in merged else value
    check_config(merged, " and ".join(paths))
    return merged
