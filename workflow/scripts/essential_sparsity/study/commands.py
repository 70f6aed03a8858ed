"""What a snakemake command says of the configuration: its files (`--configfile`) and keys (`--config`)."""

import argparse
import re
from collections.abc import Sequence

import yaml

from essential_sparsity.study import configuration
from essential_sparsity.study.configuration import ConfigError

# snakemake's option for keys, with what is written to it without a space, also after short options that take no value
KEYS = re.compile(r"(--config)(?:=(.*))?|(-[aDFfhklnpStv]*C)=?(.+)?", re.DOTALL)
FILES = re.compile(r"--configfiles?(=.*)?", re.DOTALL)  # and for files


def configured(command: Sequence[str]) -> dict:
    """The configuration that a snakemake command names by `--configfile` and `--config`. ConfigError."""
    check(command)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    named, _ = parser.parse_known_args([part for word in command for part in _apart(word)])
    given: dict = {}
    for key, _, value in (entry.partition("=") for entry in named.config):
        try:
            configuration.update(given, {key: yaml.load(value, configuration.OnceLoader)})
        except yaml.YAMLError as error:
            raise ConfigError(f"--config, key {key}: {value} cannot be read ({error}).") from None
    return configuration.read_config(configuration.BASE, *named.configfile, given=given)


def _apart(word: str) -> list[str]:
    """`-nC` as `-n -C`: the parser knows none of the others."""
    said = KEYS.fullmatch(word)
    if not said or said[1] or word.startswith("-C"):
        return [word]
    return [said[3][:-1], "-C", *filter(None, said.groups()[3:])]


def with_key(command: Sequence[str], entry: str) -> list[str]:
    """A snakemake command with one more `key=value` for its configuration.

    Of two `--config` Snakemake reads one, so the entry is put beside those that are there; targets after `--` stay at the end.
    """
    found = list(command)
    end = found.index("--") if "--" in found else len(found)
    for place in range(end):
        if said := KEYS.fullmatch(found[place]):
            return [*found[:place], *filter(None, said.groups()), entry, *found[place + 1 :]]
    return [*found[:end], "--config", entry, *found[end:]]


def check(command: Sequence[str]) -> None:
    """Refuse a command that names files or keys twice: Snakemake reads the last of the options alone. ConfigError."""
    words = list(command)
    words = words[: words.index("--")] if "--" in words else words
    for option, form, example in (
        ("--configfile", FILES, "--configfile one.yaml two.yaml"),
        ("--config", KEYS, "--config study=mine missing_runs=skip"),
    ):
        if sum(form.fullmatch(word) is not None for word in words) > 1:
            raise ConfigError(
                f"{option} stands there twice, and Snakemake reads the last one alone. Write all behind one: {example}."
            )
