"""What decides a run, and what is fetched for it, as texts that are compared: settings, code, sources.

Whatever is added here must leave the texts of rows that do not use it as they are: another text is another run. Standard library only.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from essential_sparsity import codefiles, files, patterns
from essential_sparsity.study import iterations, kinds

SOURCE = ("source", "id", "revision", "format", "columns", "content")
# The code of patterns that are calibrated, which is loaded by name; and the columns of a calibration that numbers depend on,
# beside the content of its data set.
CALIBRATING = ("essential_sparsity.pruning.calibrated", "essential_sparsity.tasks.calibrating")
CALIBRATED_BY = ("calibration", "dataset", "split", "sequences", "length", "sampling", "seed")
# The columns of a task that its numbers depend on; `metrics` chooses among numbers that are there.
RUN_SETTINGS = [
    "dataset",
    "kind",
    "protocol",
    "eval_split",
    "held_out",
    "n_train",
    "n_eval",
    "epochs",
    "learning_rate",
    "batch_size",
    "max_length",
    "context",
    "windows",
    "positions",
    "suite",
    "shots",
    "cut_prompts",
    "allow_code",
    "image_size",
    "autocast",
    "gradient_checkpointing",
]
DIGEST = "_sha256"  # of a key of a study's configuration whose file is meant
LATER_SETTINGS = ["head_learning_rate"]  # columns that came later: a row that leaves them blank is what it was before
IDLE = ("resources", "missing_runs", "mixed_runs", "dense_check", "refine")  # added levels are those of rounds.json


def settings(task: Mapping[str, Any], calibration: Mapping[str, Any] | None, threads: int) -> str:
    """What the numbers of a task's runs depend on beside their keys, as JSON; `calibration`: the row that they are calibrated on."""
    found = {key: task[key] for key in RUN_SETTINGS}
    found |= {key: task[key] for key in LATER_SETTINGS if task[key] is not None}
    kind = kinds.declared()[task["kind"]]  # a declaration is no code: the part of it that decides numbers stands here
    found["auto_class"] = kind.protocols[task["protocol"]].auto_class
    found["scored_at_once"] = kind.cost.scored_at_once
    if calibration:
        found["calibration"] = {key: calibration[key] for key in CALIBRATED_BY}
    return json.dumps(found | {"threads": threads}, sort_keys=True)


def code(program: str, kind: str, pattern: str = "") -> str:
    """Digest of the code that a job of `prune_eval` or `find_ticket` uses: that of its kind and pattern included."""
    modules = [codefiles.task_module(kind)]
    if not pattern:
        return codefiles.digest(program, *modules)
    parts = patterns.find(pattern)
    modules += parts.modules
    if iterations.found_by_training(pattern):
        modules.append("essential_sparsity.pruning.tickets")
    if parts.needs == "calibration":
        modules += CALIBRATING
    return files.sha256_text(json.dumps([codefiles.digest(program, *modules), patterns.essence(parts)]))


def source(row: Mapping[str, Any], packages: Mapping[str, Sequence[dict]], store: str) -> str:
    """What fetching a table's row depends on, as JSON; `packages`: those of the registry, by id."""
    found = {key: row.get(key) for key in SOURCE}
    if row["source"] == "pretraining":
        found |= {"source": "path", "id": f"{store}/pretraining/{row['id']}/step-{row['value']}"}
    found |= {key: row[key] for key in ("allow_unused", "add_bos_token") if row.get(key)}  # these came later
    found["packages"] = packages[row["id"]] if row["source"] == "package" else []
    return json.dumps(found, sort_keys=True)


def pretraining(row: Mapping[str, Any]) -> str:
    """What a pre-training that is made here depends on beside its data, as JSON."""
    return json.dumps({key: row[key] for key in row if key not in ("label", "note")}, sort_keys=True)


def of_study(config: Mapping[str, Any], read: Mapping[str, Any]) -> str:
    """A configuration without the keys that decide no number (IDLE; `resources` but for threads), as JSON; `read`: key -> what the file
    that it names says, of which the digest is put beside it.
    """
    said = {key: value for key, value in config.items() if key not in IDLE}
    said |= {f"{key}{DIGEST}": files.sha256_text(json.dumps(value)) for key, value in read.items()}
    return json.dumps(said | {"resources": {"threads": config["resources"]["threads"]}}, sort_keys=True)
