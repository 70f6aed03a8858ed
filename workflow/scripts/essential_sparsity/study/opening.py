"""Opening a study: what a configuration and the tables that it names say, checked, with revisions and the content of paths.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from essential_sparsity.study import (
    calibrations,
    claims,
    configuration,
    grid,
    iterations,
    local,
    panels,
    references,
    refinement,
    revisions,
    series,
)
from essential_sparsity.study.configuration import ConfigError
from essential_sparsity.study.study import Study

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read(config: dict[str, Any], where: str = "the configuration", looking: bool = True) -> Study:
    """Read and check what a configuration asks for.

    `looking` = False, for jobs on other machines: neither the store nor the files that rows name are looked at, for the
    head has done so; only `jobs_of` looks, at one curve's runs. (Where nothing is computed, `missing_runs: skip`, all look which checkpoints have been measured.) Raises ConfigError naming file, place, value and expectation.
    """
    study = unlocked(config, where, looking)
    locked = revisions.read(config["revisions"])
    revisions.apply_(study.models, study.named_models, "model", locked, config["models"])
    revisions.apply_(study.datasets, study.used_datasets, "dataset", locked, config["tasks"])
    localise(local_rows(study), looking)
    return study.measured() if study.skipping else study


def unlocked(config: dict[str, Any], where: str = "the configuration", looking: bool = True) -> Study:
    """What `read` gives, before branches of hub repositories are replaced by commits: for `make lock`. ConfigError."""
    configuration.check_config(config, where)
    check_name(config["study"], where)
    tables = series.read(config)
    expanded = {**config, "grid": series.expand_blocks(config["grid"], tables.members)}
    grid.validate(expanded, tables.models, tables.tasks, where)
    calibrated = calibrations.read(expanded, tables, where)
    iterations.check(expanded, tables.tasks, where)
    panels.check(config["figures"].get("panels"), where)
    added = refinement.read(f"{grid.folder(config['study'])}/rounds.json") if config.get("refine") else []
    sizes = {task: row["levels_per_job"] for task, row in tables.tasks.items()}
    stored = grid.stored_in(f"{grid.STORE}/runs") if looking else lambda curve: ()
    return Study(
        name=config["study"],
        given=config,
        models=tables.models,
        tasks=tables.tasks,
        packages=tables.packages,
        pretrainings=tables.pretrainings,
        datasets={row["dataset"]: row for row in (*calibrated.values(), *tables.tasks.values())},
        calibrations=calibrated,
        claims=claims.read(config.get("claims")),
        jobs=grid.expand(expanded["grid"], sizes, added, stored),
        members=series.studied(expanded, tables.models),
        mask_levels=series.mask_levels(expanded),
        expected=references.read(expanded, tables.models, tables.tasks),
        looked=looking,
    )


def check_name(name: str, where: str) -> None:
    """Refuse a study's name that is no folder of its own. ConfigError."""
    if not NAME.fullmatch(name) or name.lower() == os.path.basename(grid.STORE):  # as some file systems compare names
        raise ConfigError(
            f"{where}, study: {name!r} names a folder of {grid.RESULTS}/: letters, digits, '.', '_' and '-', and not "
            f"{os.path.basename(grid.STORE)!r}, which holds what all studies share."
        )


def local_rows(study: Study) -> list[dict[str, Any]]:
    """Those of the models and data of a study that lie on this machine."""
    rows = [study.models[name] for name in study.named_models] + [study.datasets[name] for name in study.used_datasets]
    return [row for row in rows if row["source"] == "path"]


def there(row: Mapping[str, Any]) -> bool:
    """Whether what a row names on this machine is there."""
    return os.path.exists(os.path.expanduser(row["id"]))


def absent(row: Mapping[str, Any]) -> str:
    """That it is not, and what to do."""
    what = f"the model {row['model']!r}" if "model" in row else f"the data set {row['dataset']!r}"
    return (
        f"{what}: {os.path.expanduser(row['id'])} does not exist. Put it back, or correct the column id of its row: it is relative to the "
        "repository's root."
    )


def localise(rows: Sequence[dict], looking: bool) -> None:
    """Put the digest of their content beside the paths of rows, in place, and homes in the place of `~`. ConfigError."""
    if looking and (gone := next((row for row in rows if not there(row)), None)):
        raise ConfigError(absent(gone))
    for row in rows:
        row["id"] = os.path.expanduser(row["id"])
    found = local.contents([row["id"] for row in rows], look=looking)
    for row in rows:
        row["content"] = found[row["id"]]
