"""Series: one row of the models table that stands for many checkpoints, along pre-training or another axis.

A row with `values` expands into one row per value; `{step}`, `{epoch}`, … (the name of its axis) in `id` and `revision`
is replaced by the value. Standard library and `grid` only: every parse of the Snakefile imports this module.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from essential_sparsity.study.configuration import ConfigError, hint
from essential_sparsity.study.grid import level
from essential_sparsity.study.tsv import read_table, read_tables

RANGE = re.compile(r"(\d+):(\d+):([1-9]\d*)", re.ASCII)
NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kMB]?)", re.ASCII)
AMOUNT = re.compile(  # thousands may be parted; a number that goes on otherwise is none
    r"(\d{1,3}(?:[,_ \u00a0\u202f]\d{3})+|\d+)(\.\d+)?(e\d+)?(?:[ \u00a0\u202f]?(k|K|M|B|thousand|million|billion))?(?![\w.,])"
)
NAMED = re.compile(r"(\d+(?:\.\d+)?[kMB]?)=([A-Za-z0-9._-]+)", re.ASCII)
FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "K": 1e3, "thousand": 1e3, "million": 1e6, "billion": 1e9}


@dataclass(frozen=True)
class Tables:
    """The rows of a config's tables by id; `members`: a row that was a series -> its checkpoints in `models`."""

    models: dict[str, dict]
    tasks: dict[str, dict]
    packages: dict[str, list[dict]]
    pretrainings: dict[str, dict]
    members: dict[str, list[str]]


def read(config: dict) -> Tables:
    """Read and check the tables of a config, series expanded. Raises ConfigError."""
    models, tasks, packages = read_tables(config)
    pretrainings = {row["pretraining"]: row for row in read_table(config["pretraining"], "pretraining", "pretraining")}
    for name, row in pretrainings.items():
        check_pretraining(f"{config['pretraining']}, {name!r}", row, tasks)
    expanded, members = {}, {}
    for name, row in models.items():
        where = f"{config['models']}, {name!r}"
        rows = members_of(row, where)
        if row["values"] is not None:
            members[name] = [member["model"] for member in rows]
        for member in rows:
            if member["model"] in expanded:
                raise ConfigError(f"{where}, column values: {member['model']!r} stands in the table already.")
            if member["source"] == "pretraining":
                check_member(where, member, pretrainings)
            expanded[member["model"]] = member
    return Tables(expanded, tasks, packages, pretrainings, members)


def members_of(row: Mapping, where: str) -> list[dict]:
    """The rows that a row of the models table stands for, with `position`: its value as a number. Raises ConfigError."""
    if row["group"] is not None and row["series"] is None:
        raise ConfigError(
            f"{where}, column series: blank, but the row has the group {row['group']!r}. Fill it, or leave group blank."
        )
    if row["values"] is None:
        for column in ("id", "revision"):
            if "{" in (row[column] or ""):
                raise ConfigError(
                    f"{where}, column {column}: {row[column]!r} has a place for a value, but values is blank."
                )
        return [{**row, "position": None}]
    for column in ("series", "axis"):
        if row[column] is None:
            raise ConfigError(f"{where}, column {column}: blank, but a row with values needs it.")
    place = "{" + row["axis"] + "}"
    if row["source"] != "pretraining" and place not in row["id"] + (row["revision"] or ""):
        raise ConfigError(f"{where}, column id: neither id nor revision has a place {place} for the values.")
    rows = []
    for value, text in values_of(row["values"], where):
        filled = {c: row[c] and row[c].replace(place, text) for c in ("id", "revision")}
        for column, filled_in in filled.items():
            if "{" in (filled_in or ""):
                raise ConfigError(
                    f"{where}, column {column}: {row[column]!r} has a place for something else than {place}, the axis of its values."
                )
        number, unit = NUMBER.fullmatch(value).groups()
        rows.append(
            {
                **row,
                **filled,
                "model": f"{row['model']}-{value}",
                "label": f"{row['label']}, {row['axis'].replace('_', ' ')} {value}",
                "position": float(number) * FACTORS[unit],
                "value": value,
            }
        )
    return rows


def values_of(text: str, where: str) -> list[tuple[str, str]]:
    """(value, what stands in its place) of `0:40:20,300=300-tokens1B`: 0, 20 and 40 as they are, and 300. ConfigError."""
    found = []
    for part in text.split(","):
        if match := RANGE.fullmatch(part):
            start, stop, step = map(int, match.groups())
            if stop < start:
                raise ConfigError(f"{where}, column values: {part!r} runs backwards; write {stop}:{start}:{step}.")
            if beyond := (stop - start) % step:
                raise ConfigError(
                    f"{where}, column values: steps of {step} from {start} do not reach {stop}, the last value; write "
                    f"{start}:{stop - beyond}:{step}, and others after a comma."
                )
            found += [(str(value), str(value)) for value in range(start, stop + 1, step)]
        elif NUMBER.fullmatch(part):
            found.append((part, part))
        elif match := NAMED.fullmatch(part):
            found.append((match[1], match[2]))
        else:
            raise ConfigError(
                f"{where}, column values: {part!r} is neither a number (20, 0.5, 100M), nor a range first:last:step, nor "
                "number=text."
            )
    values = [value for value, _ in found]
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ConfigError(f"{where}, column values: {repeated[0]} stands there twice.")
    places: dict[float, str] = {}
    for value in values:
        number, unit = NUMBER.fullmatch(value).groups()
        if (other := places.setdefault(float(number) * FACTORS[unit], value)) != value:
            raise ConfigError(
                f"{where}, column values: {other} and {value} are the same place on the axis. Leave one out."
            )
    return found


def amount(group: str) -> float:
    """How much data the name of a group says (`100 % of the data`, `1B words`, `1,500 images`); NaN where it begins with no number, or
    with one that could be read in two ways (`0,5 %`).
    """
    if (match := AMOUNT.match(group)) is None:
        return float("nan")
    whole, part, power, unit = match.groups(default="")
    return float(re.sub(r"\D", "", whole) + part + power) * FACTORS[unit]


def check_pretraining(where: str, row: dict, tasks: Mapping[str, dict]) -> None:
    """A pre-training's data exist, and the columns that its objective needs are filled, no others."""
    if row["pretraining"] == "tokenizers":
        raise ConfigError(f"{where}: tokenizers lie in a folder of that name beside pre-trainings. Give it another id.")
    datasets = sorted({task["dataset"] for task in tasks.values()})
    if row["dataset"] not in datasets:
        raise ConfigError(
            f"{where}, column dataset: no task has the dataset {row['dataset']!r}{hint(row['dataset'], datasets)} "
            f"Known: {', '.join(datasets)}."
        )
    texts = row["objective"] == "masked-lm"
    of_texts, of_images = ("vocabulary", "max_length", "mask_rate"), ("image_size", "patch_size")
    for column in of_texts if texts else of_images:
        if row[column] is None:
            raise ConfigError(f"{where}, column {column}: blank, but the objective {row['objective']} needs a value.")
    for column in of_images if texts else of_texts:
        if row[column] is not None:
            raise ConfigError(
                f"{where}, column {column}: {row[column]}, but the objective {row['objective']} does not read it. Leave it blank."
            )
    if row["width"] % row["heads"]:
        raise ConfigError(f"{where}, column heads: {row['heads']} heads do not divide the width {row['width']}.")
    if not texts and row["image_size"] % row["patch_size"]:
        raise ConfigError(f"{where}, column patch_size: {row['patch_size']} does not divide image_size.")
    if row["steps"] % row["checkpoint_every"]:
        raise ConfigError(f"{where}, column checkpoint_every: {row['checkpoint_every']} does not divide steps.")
    if row["warmup_steps"] >= row["steps"]:
        raise ConfigError(
            f"{where}, column warmup_steps: {row['warmup_steps']} of {row['steps']} steps, so that learning_rate is never reached. Write fewer."
        )


def check_member(where: str, row: dict, pretrainings: Mapping[str, dict]) -> None:
    """A checkpoint that the workflow makes itself is one of its pre-training."""
    if row["id"] not in pretrainings:
        raise ConfigError(
            f"{where}, column id: there is no pre-training {row['id']!r}{hint(row['id'], pretrainings)} "
            f"Known: {', '.join(pretrainings)}."
        )
    made = pretrainings[row["id"]]
    step = row.get("value")
    if row["axis"] != "step" or step is None:
        raise ConfigError(
            f"{where}: a row of source pretraining names its steps: axis = step, values = 0:{made['steps']}:…"
        )
    if not step.isdigit() or int(step) % made["checkpoint_every"] or int(step) > made["steps"]:
        raise ConfigError(
            f"{where}, column values: {made['pretraining']} has no checkpoint at step {step}; it has one every "
            f"{made['checkpoint_every']} steps up to {made['steps']}."
        )


def expand_blocks(blocks: list[dict], members: Mapping[str, list[str]]) -> list[dict]:
    """Blocks of a grid with the name of a series replaced by its checkpoints."""
    return [
        {**block, "models": [each for name in block["models"] for each in members.get(name, [name])]}
        for block in blocks
    ]


def studied(config: dict, models: Mapping[str, dict]) -> list[dict]:
    """The checkpoints of the series that `emergence.series` names: series, group, training, model, axis, position. ConfigError."""
    known = sorted({row["series"] for row in models.values() if row["series"]})
    found = []
    for name in config["emergence"]["series"]:
        if name not in known:
            raise ConfigError(
                f"the configuration, emergence.series: unknown series {name!r}{hint(name, known)} The column series of "
                f"{config['models']} has: {', '.join(known) or 'none'}."
            )
        for model, row in models.items():
            if row["series"] != name:
                continue
            if row["group"] is None:
                raise ConfigError(
                    f"{config['models']}, {model!r}, column group: blank, but it is of the series {name!r}."
                )
            key = {"series": name, "group": row["group"], "model": model}
            if row["position"] is None:  # one checkpoint of its own: the end of a training
                found.append(key | {"training": model, "axis": "checkpoint", "position": 0.0})
            else:
                training = model.removesuffix(f"-{row['value']}")
                found.append(key | {"training": training, "axis": row["axis"], "position": row["position"]})
        axes = {member["axis"]: member["model"] for member in reversed(found) if member["series"] == name}
        if len(axes) > 1:
            told = ", ".join(f"{axis} ({axes[axis]})" for axis in sorted(axes))
            raise ConfigError(
                f"{config['models']}, column axis: the series {name!r} has checkpoints along several axes: {told}. A place on one is "
                "none on another (of a row without values: checkpoint): give them series of their own."
            )
    return found


def mask_levels(config: dict) -> list[str]:
    """The sparsities at which masks of neighbouring checkpoints are compared, sorted. ConfigError."""
    given = config["emergence"]["mask_sparsities"]
    for value in given:
        if abs(value * 1000 - round(value * 1000)) > 1e-6:
            raise ConfigError(
                f"the configuration, emergence.mask_sparsities: {value} has more than three decimals; round it to {value:.3f}."
            )
    levels = sorted(map(level, given))
    if repeated := next((name for name in levels if levels.count(name) > 1), None):
        raise ConfigError(f"the configuration, emergence.mask_sparsities: {repeated} stands there twice.")
    return levels


def trainings(members: list[dict]) -> dict[str, list[dict]]:
    """Training -> its checkpoints that are studied."""
    found: dict[str, list[dict]] = {}
    for member in members:
        found.setdefault(member["training"], []).append(member)
    return dict(sorted(found.items()))


def made_here(models: Mapping[str, dict], names: Iterable[str]) -> dict[str, list[str]]:
    """Pre-training -> those of the named models that are its checkpoints."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if models[name]["source"] == "pretraining":
            found.setdefault(models[name]["id"], []).append(name)
    return found


def last_of(members: list[dict], name: str) -> list[tuple[str, str]]:
    """(group, model) of the last checkpoint of each group of a series, sorted."""
    ordered = sorted(members, key=lambda member: member["position"])
    return sorted({member["group"]: member["model"] for member in ordered if member["series"] == name}.items())
