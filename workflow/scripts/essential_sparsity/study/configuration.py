"""The configuration: read it, and refuse what is wrong with it in words that say what to do.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parents[3] / "schemas"


class ConfigError(ValueError):
    """Something in config/ is wrong: the message names the file, the place, the value and what was expected."""


def hint(value: Any, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` when a known name is close."""
    close = get_close_matches(str(value), [str(name) for name in known], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


@cache
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
