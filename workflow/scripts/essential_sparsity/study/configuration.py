"""The configuration: read it, and refuse what is wrong with it in words that say what to do.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import copy
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from essential_sparsity import codefiles, errors

BASE = "config/config.yaml"  # what every configuration extends
SCHEMAS = Path(__file__).parents[3] / "schemas"
TABLES = ("tasks", "models", "calibrations", "pretraining")  # whose columns may be meant by an unknown key
WHOLE = Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: type(value) is int
)  # 0.0 names another path
Validator = validators.extend(Draft202012Validator, type_checker=WHOLE)
Place = tuple[str, ...]  # keys, each inside the one before
CLOSE = 0.75  # how alike an unknown key and one inside another key are, where that is meant: there are many of these
EXAMPLES = {"number": "0.5", "integer": "3"}
OCTAL = re.compile(r"[-+]?0[0-7]+")
UNTYPED = ("int", "float", "bool", "null")  # what a text is in YAML that has no quotation marks


class ConfigError(errors.UserError):
    """Something in config/ is wrong: the message names the file, the place, the value and what was expected."""


class OnceLoader(codefiles.Loader):
    """Refuses a key that stands twice in a mapping: the last one would win without a word; and numbers that YAML reads otherwise
    than they look: 010 is 8, 1:30 is 90."""

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        value = self.construct_yaml_int(node) if node.tag.endswith("int") else self.construct_yaml_float(node)
        digits = node.value.replace("_", "")
        if ":" in digits or (OCTAL.fullmatch(digits) and int(digits) != value):
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{node.value} is the number {value} in YAML; write that, or a text in quotation marks",
                node.start_mark,
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands there twice; put what it says under one", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


for _number in ("int", "float"):
    OnceLoader.add_constructor(f"tag:yaml.org,2002:{_number}", OnceLoader.construct_number)


def hint(value: Any, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close."""
    close = get_close_matches(str(value), [str(name) for name in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _inside(schema: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """(name, place) of the keys inside the keys of a schema: ('compare', 'knees.compare'), ('seeds', 'grid[0].seeds')."""
    for key, part in schema.get("properties", {}).items():
        here = f"{place}.{key}".lstrip(".")
        if place:
            yield key, here
        yield from _inside(part, here)
        yield from _inside(part.get("items", {}), f"{here}[0]")


def column(key: str, known: Iterable[str]) -> str:
    """`; it is a column of …` where a table has one of this name, and no key differs from it by its plural alone."""
    found = [f"{name}.tsv" for name in TABLES if key in load_schema(name)["properties"]]
    return f"; it is a column of {' and '.join(found)}: say it there." if found and f"{key}s" not in known else ""


def named(*sources: str) -> str:
    """A configuration in a message, by what its keys are from: files that replace those of the base, in their order."""
    return f"the configuration ({', '.join([BASE, *map(os.path.relpath, sources)])})"


@cache
def load_schema(name: str) -> dict:
    """A JSON schema of workflow/schemas, by name."""
    return yaml.load((SCHEMAS / f"{name}.schema.yaml").read_text(encoding="utf-8"), codefiles.Loader)


def expectation(error) -> str:
    """One validation error of jsonschema, said for a person."""
    described = (
        f" ({error.schema['description']})" if isinstance(error.schema, dict) and "description" in error.schema else ""
    )
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = sorted(set(error.instance) - set(known))
        inner = {name: place for name, place in _inside(error.schema) if name not in known}
        meant = column(unknown[0], known) if unknown[0] not in inner else ""
        near = get_close_matches(unknown[0], inner, n=1, cutoff=CLOSE)
        meant = meant or hint(unknown[0], [*known, *near]) or "."
        for name in near:
            meant = meant.replace(f"{name!r}?", f"{inner[name]!r}?")
        return f"unknown key {unknown[0]!r}{meant} Known keys: {', '.join(known)}."
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"the key {missing[0]!r} is missing."
    if error.validator == "enum":
        allowed = ", ".join("blank" if v is None else str(v) for v in error.validator_value)
        return f"{error.instance!r} is not one of: {allowed}{hint(error.instance, error.validator_value)}{described}"
    if error.validator in ("anyOf", "oneOf"):
        return f"{error.instance!r} was not expected here{described}"
    if error.validator == "type" and error.instance is None:
        return f"it is empty; give it a value of type {error.validator_value}, or leave the key out{described}"
    if error.validator == "type" and isinstance(error.instance, str):
        types = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
        if (known := [kind for kind in types if kind != "null"]) and known[0] in EXAMPLES and len(known) == 1:
            return f"{error.instance!r} is a text; write a number, such as {EXAMPLES[known[0]]}{described}"
    if error.validator == "type" and error.validator_value == "array" and isinstance(error.instance, str | int | float):
        return f"{error.instance!r} is no list; write [{error.instance}]{described}"
    if error.validator == "pattern":
        return f"{error.instance!r} does not match {error.validator_value}{described}"
    return f"{error.message}{described}"


def check(value: Any, schema: dict, where: str, place: str = "key") -> None:
    """Raise ConfigError for a number that is none or not finite, and for the first violation of a schema, naming where it is."""
    if wild := next(_not_finite(value, ""), None):
        raise ConfigError(f"{where}, {place} {wild[0]}: {wild[1]} is no finite number. Write a number.")
    errors = sorted(Validator(schema).iter_errors(value), key=lambda e: list(map(str, e.path)))
    if errors:
        error = _inner(errors[0])
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
        said = expectation(error)
        if len(error.absolute_path) == 1 and error.absolute_path[0] in schema.get("required", ()):
            said = said.replace(", or leave the key out", "")
        if error.absolute_path and isinstance(error.absolute_path[-1], int):
            said = said.replace("leave the key out", "leave the entry out")
        raise ConfigError(f"{where}{f', {place} {path}' if path else ''}: {said}")


def _inner(error: ValidationError) -> ValidationError:
    """Of a value that may be one thing or another, what is wrong with the one that it is by its type, where there is one."""
    kinds: dict[Any, list[ValidationError]] = defaultdict(list)
    for part in error.context:
        kinds[part.schema_path[0]].append(part)
    meant = [parts for parts in kinds.values() if not any(part.validator == "type" and not part.path for part in parts)]
    return _inner(min(meant[0], key=lambda part: list(map(str, part.path)))) if len(meant) == 1 else error


def _not_finite(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """(where, value) of the numbers inside lists and mappings that are NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _not_finite(part, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _not_finite(part, f"{path}[{index}]")


def check_config(config: dict, where: str) -> None:
    """Check a config's keys and types before its tables are read."""
    check(config, load_schema("config"), where)
    if config["resources"]["device"] == "cuda" and not config["resources"]["gpu"]:
        raise ConfigError(
            f"{where}: resources.device is cuda, but resources.gpu = 0 asks for no GPU. Write the GPUs that one job gets, or "
            "device: cpu."
        )


def read_file(path: str | os.PathLike) -> dict:
    """The keys of one configuration file. ConfigError where it cannot be read."""
    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8"), OnceLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read ({error}).") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds {found!r:.60}; expected keys and values, such as `study: my-study`.")
    return found


def settled(merged: dict, paths: Sequence[str | os.PathLike], given: Mapping[str, Any]) -> dict:
    """The configuration as Snakemake merges it, with what merging cannot say.

    `paths`: the files that it is merged of, later ones first in rank; `given`: keys from the command line. Of either, what is not in
    `merged` is of another workflow, which uses this one. An empty mapping switches a key off, as null does, until a later file or the
    command line says more. The last file must name its study: its tables would overwrite those of another one. What the files of `parts`
    ask for is added. Raises ConfigError.
    """
    given = _shared_keys(given, merged)
    merged = _with_typed(merged, given)
    given = _typed(given)
    whole = [read_file(path) for path in paths]
    read = [_shared_keys(found, merged) for found in whole]
    for path, found in zip(paths, read, strict=True):
        if found.get("missing_runs") == "skip":
            raise ConfigError(
                f"{path}, key missing_runs: with skip no job of the study would ever evaluate. Leave it out: a run that fails keeps no other "
                "from being computed, and `make tables`, or `--config missing_runs=skip`, makes tables of what is there."
            )
    off: set[Place] = set()
    for found in (*read, given):
        off = {place for place in off if not _says(found, place)} | {
            place for place in _leaves(found) if _at(found, place) == {}
        }
    if paths and "study" not in {**read[-1], **given} and (read[-1] or not whole[-1]):
        last = Path(paths[-1])
        raise ConfigError(
            f"{last}: the key 'study' is missing. Give the study a name of its own, for instance `study: "
            f"{last.stem}`: its tables, figures and report lie in results/{last.stem}/."
        )
    own = [
        found for path, found in zip(paths, read, strict=True) if Path(path).resolve() != Path(BASE).resolve()
    ]  # the base says nothing more
    said: dict = {}
    for found in (*own, given):
        update(said, found)
    for place in off:
        merged = _without(merged, place)
        said = _without(said, place) if _says(said, place) else said
    return with_parts(merged, said)


def _shared_keys(found: Mapping[str, Any], merged: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `found` that are in a configuration."""
    return {key: value for key, value in found.items() if key in merged}


def _with_typed(merged: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with what is `given` in it as `_typed` reads it."""
    found = {**merged}
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = _with_typed(found[key], value)
        elif key in found and found[key] == value:
            found[key] = _typed(value)
    return found


def _typed(value: Any) -> Any:
    """What a file would say with these words: to Snakemake all is text that stands in brackets behind `--config`, and so is null,
    which it hands on to jobs as None. ConfigError."""
    if isinstance(value, Mapping):
        return {key: _typed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_typed(part) for part in value]
    if not isinstance(value, str) or value == "None":
        return None if value == "None" else value
    reader = OnceLoader("")
    tag = reader.resolve(yaml.ScalarNode, value, (True, False))
    if tag.rpartition(":")[2] not in UNTYPED:
        return value
    try:
        return reader.construct_object(yaml.ScalarNode(tag, value))
    except yaml.YAMLError as error:
        raise ConfigError(f"--config: {error.problem}.") from None


def _leaves(found: Mapping[str, Any], above: Place = ()) -> Iterator[Place]:
    """The places of what is no mapping, or an empty one."""
    for key, value in found.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key)


def _at(found: Any, place: Place) -> Any:
    """What stands in a place; None where nothing does."""
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _says(found: Mapping[str, Any], place: Place) -> bool:
    """Whether keys say something of a place, or replace or switch off what it lies in."""
    key, *below = place
    value = found.get(key)
    return key in found and (not below or not isinstance(value, Mapping) or not value or _says(value, tuple(below)))


def _without(config: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """A configuration with null in a place of it."""
    key, *below = place
    return {**config, key: _without(config[key], tuple(below)) if below else None}


def with_parts(config: dict, said: Mapping[str, Any]) -> dict:
    """A configuration with what the studies of its `parts` ask for: their grids, series, levels of masks and comparisons.

    Other keys of a part hold for the whole study or not at all: a calibration is added where the study chooses none for that type of
    model, and whatever else a part says must be what the study says (`said`: what it says itself, which wins). ConfigError.
    """
    if config.get("parts") is None:
        return {key: value for key, value in config.items() if key != "parts"}
    check(config, load_schema("config"), "the configuration")
    config = {**config}
    parts = config.pop("parts")
    grid = [*config["grid"]] if "grid" in said else []
    emergence = {key: [*config["emergence"][key]] for key in ("series", "mask_sparsities")}
    compare = [*config["knees"]["compare"]]
    own, chosen = said.get("calibration", {}), {}
    for part in parts:
        found = {key: None if value == {} else value for key, value in read_file(part).items()}
        check({key: value for key, value in found.items() if value is not None}, _of_part(), part)
        if "parts" in found:
            raise ConfigError(f"{part}: a part has no parts of its own. Name its parts beside it.")
        grid += found.pop("grid", None) or []
        for key, values in (found.pop("emergence", None) or {}).items():
            emergence[key] = [
                *emergence.get(key, []),
                *(value for value in values if value not in emergence.get(key, [])),
            ]
        compare += [column for column in (found.pop("knees", None) or {}).get("compare", []) if column not in compare]
        for kind, row in (found.pop("calibration", None) or {}).items():
            if own is not None and kind not in own and chosen.setdefault(kind, row) != row:
                raise ConfigError(
                    f"{part}, calibration.{kind}: {row!r}, but another part says {chosen[kind]!r}. Choose one in the study."
                )
        for place in _leaves(found):
            key, value = place[0], _at(found, place)
            if key != "study" and not _says(said, place) and (None if value == {} else value) != _at(config, place):
                raise ConfigError(
                    f"{part}, {key}: {found[key]!r}, but the study has {config.get(key)!r}, which holds for all of its parts. Say in the "
                    f"study's own file which `{'.'.join(place)}` it has."
                )
    return config | {
        "grid": grid,
        "emergence": emergence,
        "knees": config["knees"] | {"compare": compare},
        "calibration": (config.get("calibration") or {}) | chosen,
    }


def _of_part() -> dict:
    """The schema of a configuration file that may leave keys out."""
    whole = load_schema("config")
    keys = {name: {**said, "required": []} for name, said in whole["properties"].items()}
    return {**whole, "required": [], "properties": keys}


def read_config(*paths: str, given: Mapping[str, Any] | None = None) -> dict:
    """One configuration from files, the later ones replacing keys of the first one as `--configfile` does. ConfigError.

    `given`: keys that replace those of all files, as `--config` does.
    """
    merged, *others = map(read_file, paths)
    over: dict = {}  # a null of one file hides nothing of the first one from a later file: that one says more
    for found in (*others, given or {}):
        update(over, copy.deepcopy(found))
    update(merged, over)
    merged = settled(merged, paths, given or {})
    check_config(merged, " and ".join(map(str, paths)))
    return merged


def update(merged: dict, found: Mapping[str, Any]) -> None:
    """Put the keys of `found` into a configuration, as Snakemake merges files."""
    for key, value in found.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            update(merged[key], value)
        else:
            merged[key] = value
