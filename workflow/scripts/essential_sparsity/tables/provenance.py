"""What decided a run: written into its rows, and compared with what the configuration asks for when runs are collected.

So results never mix, whatever Snakemake decides: a file of other settings, code, weights, data or ticket is named, and
nothing is tabulated from it.
"""

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from essential_sparsity import files

PARTS = {  # column of table `runs` -> what it is a digest or version of
    "settings_sha256": "settings",
    "checkpoint_sha256": "checkpoint",
    "data_sha256": "data",
    "calibration_sha256": "calibration",
    "ticket_sha256": "lottery ticket",
    "code_sha256": "code",
    "torch": "version of torch",
    "transformers": "version of transformers",
    "device": "type of device",
}


def of_settings(settings: str) -> str:
    """SHA-256 of a task's settings as `Study.settings` gives them (JSON)."""
    return files.sha256_text(settings)


@cache
def of_manifest(path: str | os.PathLike) -> str:
    """SHA-256 of what a manifest lists: names, sizes and SHA-256 of all files of a checkpoint or data set; and that texts begin with BOS."""
    said = files.read_json(path)
    decisive = [said["files"], "add_bos_token"] if said.get("add_bos_token") else said["files"]
    return files.sha256_text(json.dumps(decisive, sort_keys=True))


def of_ticket(digest: str | os.PathLike) -> str:
    """The SHA-256 of a ticket, from the file that `find_ticket` writes beside it; empty where it says none."""
    with open(digest, encoding="ascii", errors="replace") as handle:
        return next(iter(handle.read().split()), "")


def digest(key: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides a run: its key (model, task, pattern, sparsity, seed) and the PARTS."""
    return files.sha256_text(json.dumps([dict(key), {name: parts.get(name) for name in PARTS}], sort_keys=True))
