"""A study of one's own: the rows and the configuration file that answer for one checkpoint and one task or data set.

What it writes is what a person would write by hand: a row of the models table, one of the tasks table, and a small
configuration that names both. Nothing is written before everything is known to be valid.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from essential_sparsity import files
from essential_sparsity.acquire import splits
from essential_sparsity.acquire.looking import Checkpoint, Data
from essential_sparsity.acquire.refusal import option
from essential_sparsity.study import configuration, kinds, opening, tsv
from essential_sparsity.study.configuration import ConfigError

MOST_TRAIN, MOST_EVAL = 2000, 1000  # items that a new task asks for, where there are so many
FEWEST = 20  # items of either, below which an accuracy says nothing
IMAGE = 224  # pixels
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
SEEDS = (0, 1, 2)
LEVELS = {"from": 0.1, "to": 0.9, "step": 0.1}
PROBE_LENGTH, WINDOW, WINDOWS = 128, 512, 40  # tokens of a text and of a window, windows
CHARACTERS, FEWEST_CHARACTERS = 8, 2  # to a token, at most and at least in languages that are written in letters
FINETUNE = {"epochs": 3, "learning_rate": "2e-5", "batch_size": 16, "levels_per_job": 1}
CHEAP = {"levels_per_job": 9}


WORDS = (
    "label",
    "note",
    "parameters",
    "mean_length",
    "passes",
)  # columns that decide no number: those of a row that is there stay
ANOTHER = {  # table -> what to do where its row is another one
    "models": f"Give this one another name, {option('name')}",
    "tasks": f"Give this one another name, {option('task-name')}; or take that one as it is, {option('task')} in the place of DATA",
}
ABOUT = "# Keys that are left out come from config.yaml; config/README.md explains each.\n"


class Plain(yaml.SafeDumper):
    """Values that are the same stand there again, not by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def check_name(name: str, option_name: str) -> None:
    """Refuse a name that cannot be an id of a table. ConfigError."""
    if not ID.fullmatch(name):
        raise ConfigError(f"{option(option_name, name)}: a name is of letters, digits, dots and dashes.")


def model_row(name: str, seen: Checkpoint) -> dict[str, Any]:
    """The row of the models table."""
    return {"model": name, "label": name, **seen.row}


def task_row(name: str, seen: Data, model: Checkpoint, protocol: str | None) -> dict[str, Any]:
    """The row of the tasks table: the kind that fits the columns and the type of model. ConfigError where none does."""
    columns, train, evaluation = set(seen.columns), *_sizes(seen)
    type_, positions = model.row["type"], model.most.get("positions", WINDOW)
    length = {"max_length": min(PROBE_LENGTH, positions)}
    row = {"task": name, "label": name, "dataset": name, **seen.row}
    labelled = "label" in columns
    if "image" in columns and labelled and type_ == "vision":
        kind, offered = "image-classification", {"image_size": min(IMAGE, model.most.get("image_size", IMAGE))}
    elif {"text_a", "text_b", "target"} <= columns and type_ != "vision":
        kind, offered = "text-similarity", length
    elif labelled and {"text", "text_a"} <= columns and type_ != "vision":
        raise ConfigError(
            f"{seen.row['id']} has a column text and a column text_a, and a classification reads a text or a pair: say "
            f"{option('columns', 'text=…,label=…')}, or {option('columns', 'text_a=…,text_b=…,label=…')}."
        )
    elif labelled and columns & {"text", "text_a"} and type_ != "vision":
        kind, offered = "text-classification", length
    elif "text" in columns and type_ == "decoder":
        context = min(WINDOW, positions)
        kind, offered = "perplexity", {"context": context, "windows": _windows(seen, context)}
    elif "text" in columns and type_ == "encoder":
        kind, offered = "masked-lm", length | {"positions": 4}
    else:
        raise ConfigError(
            f"No kind of task evaluates a model of type {type_} on the columns {', '.join(seen.columns)}. Texts with a column "
            "label, pairs with a number to predict (text_a, text_b, target) and texts alone are for encoders and decoders, images "
            f"with a label for vision models: say {option('columns')} to rename what there is."
        )
    known = kinds.declared()[kind]
    chosen = protocol or ("probe" if "probe" in known.protocols else next(iter(known.protocols)))
    if chosen not in known.protocols:
        raise ConfigError(f"{kind} has no protocol {chosen!r}; it has {', '.join(known.protocols)}.")
    row |= {"kind": kind, "protocol": chosen} | offered | (FINETUNE if chosen == "finetune" else CHEAP)
    if chosen != "zero-shot" and not {"train", "all"} & set(seen.n_rows):
        raise ConfigError(
            f"{seen.row['id']} has the splits {', '.join(seen.n_rows)}, and none is train, on which {kind} with protocol {chosen} trains. Say "
            "in the configs of a card (README.md in its folder) which files are the split train."
        )
    needed = {*known.columns, *known.protocols[chosen].columns}
    if chosen != "finetune":
        train = max(min(train, FEWEST), train * 4 // 5)  # each seed draws others, else all would be one computation
    sizes = {"n_train": min(train, MOST_TRAIN), "n_eval": min(evaluation, MOST_EVAL)}
    row |= {column: sizes[column] for column in sizes if column in needed}
    if {"n_train", "n_eval"} & needed and min(row[column] for column in sizes if column in row) < FEWEST:
        raise ConfigError(
            f"{seen.row['id']} has too few rows ({', '.join(f'{n} {split}' for split, n in seen.n_rows.items())}): at least "
            f"{FEWEST} to train and {FEWEST} to evaluate are needed to say anything."
        )
    row |= _for_the_estimate(seen, row, evaluation, known.cost.passes)
    if evaluated := _evaluated(seen):
        row["eval_split"] = evaluated
    return row


def _for_the_estimate(seen: Data, row: Mapping[str, Any], evaluation: int, passes: int | str) -> dict[str, int]:
    """Columns that decide no number: how long texts are, and how many passes an evaluation takes that no other column tells."""
    found = {}
    texts = [column for column in ("text", "text_a", "text_b") if column in seen.frame]
    if texts and "max_length" in row:
        characters = sum(seen.frame[column].astype(str).str.len().mean() for column in texts)
        found["mean_length"] = min(row["max_length"], math.ceil(characters / FEWEST_CHARACTERS) + 2 * len(texts))
    if row["protocol"] == "zero-shot" and "windows" not in row:
        found["passes"] = evaluation * (passes if isinstance(passes, int) else row[passes])
    return found


def _evaluated(seen: Data) -> str | None:
    """The split to evaluate, None without splits: a validation, or else a test, by its name or a word in it; or the first."""
    wanted = ("validation", "test")

    def place(name: str) -> tuple[int, bool]:
        words = {split.partition("_")[0] for split in splits.KNOWN.splits_in(name)}
        return next((rank for rank, split in enumerate(wanted) if split in words), len(wanted)), name not in wanted

    return min((split for split in seen.n_rows if split not in ("train", "all")), key=place, default=None)


def _windows(seen: Data, context: int) -> int:
    """Windows that the texts fill for sure, and not more than enough. ConfigError where they fill none."""
    name = _evaluated(seen)
    texts = seen.frame["text"] if name is None else seen.frame["text"][seen.frame["split"] == name]
    characters = int(texts.str.len().sum())
    if characters < CHARACTERS * context:
        raise ConfigError(
            f"{seen.row['id']} has {characters:,} characters of text, too few for a window of {context} tokens: at least "
            f"{CHARACTERS * context:,} are needed to say anything."
        )
    return min(WINDOWS, characters // (CHARACTERS * context))


def _sizes(seen: Data) -> tuple[int, int]:
    """Items that may train and be evaluated: of their own splits, or two thirds and one third of all; rows without a label are none."""
    name, frame = _evaluated(seen), seen.frame
    there = (
        frame["label"].notna() & (frame["label"].astype(object) != "") if "label" in frame else frame["item"].notna()
    )
    if "train" in seen.n_rows and name:
        # a split without any label is told as that (`tasks`)
        train, evaluation = (
            int(there[frame["split"] == split].sum()) or seen.n_rows[split] for split in ("train", name)
        )
        return train, evaluation
    total = int(there.sum())
    return 2 * total // 3, total // 3


def study_file(name: str, model: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration: a plain grid of one-shot patterns, and seeds where one draws something: a training, and the random control."""
    patterns, zero_shot = ["global", "layerwise"], task["protocol"] == "zero-shot"
    common = {"models": [model], "tasks": [task["task"]], "sparsities": dict(LEVELS)}
    blocks = [(patterns, [0]), (["random"], SEEDS)] if zero_shot else [([*patterns, "random"], SEEDS)]
    return {"study": name, "grid": [{"patterns": own, **common, "seeds": list(seeds)} for own, seeds in blocks]}


def write(config: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], path: Path) -> list[str]:
    """Add rows (`models`, `tasks` -> row) to the tables of config/config.yaml and write the study's file; what was done.

    A row that stands there already as it is stays; another one of the same name, or another file, is refused before
    anything is written (ConfigError).
    """
    base = configuration.read_config("config/config.yaml")
    told, texts = [], {}
    for table, row in rows.items():
        file, key = base[table], table[:-1]
        there = {found[key]: found for found in tsv.read_table(file, table, key)}
        cells = {column: as_cell(value) for column, value in row.items()}
        if unfit := [cell for cell in cells.values() if re.search(r'[\t\r\n]|^[\s"]|\s$', cell)]:
            raise ConfigError(
                f"{unfit[0]!r} cannot stand in a cell of {file}: no tab or line break, no space or quotation mark at its ends. "
                "Rename it, or make a link to it with another name."
            )
        if row[key] in there:
            own = there[row[key]]
            decisive = {column: value for column, value in row.items() if column not in WORDS}
            differing = [column for column, value in decisive.items() if own[column] not in (value, _typed(value))]
            if differing:
                raise ConfigError(
                    f"{file} has a row {row[key]!r} already, with another {differing[0]} ({own[differing[0]]!r} instead of "
                    f"{row[differing[0]]!r}). {ANOTHER[table]}, or change that row by hand."
                )
            told.append(f"{file}: the row {row[key]} stands there already")
            continue
        text = Path(file).read_text(encoding="utf-8")
        header = next(line for line in text.splitlines() if line.strip() and not line.startswith("#")).split("\t")
        if lacking := [column for column, cell in cells.items() if cell and column not in header]:
            raise ConfigError(f"{file} has no column {lacking[0]!r}, which the new row needs. Add it to the header.")
        line = "\t".join(cells.get(column.strip(), "") for column in header).rstrip("\t")
        texts[file] = f"{text}{'' if text.endswith(chr(10)) else chr(10)}{line}\n"
        told.append(f"{file}: added the row {row[key]}")
    written = ABOUT + yaml.dump(config, Dumper=Plain, sort_keys=False, default_flow_style=None)
    if path.exists() and yaml.safe_load(path.read_text(encoding="utf-8")) != config:
        raise ConfigError(
            f"{path} exists and says something else. Give this one another name, {option('study')}, or delete that one."
        )
    for other in sorted(path.parent.glob("*.yaml")):
        if other.name != path.name and configuration.read_file(other).get("study") == config["study"]:
            raise ConfigError(
                f"{other} is the study {config['study']!r} already, whose tables it would overwrite. Say {option('study')}."
            )
    before = {file: Path(file).read_bytes() for file in texts}
    try:
        for file, text in texts.items():
            _replace(Path(file), text)
        opening.unlocked({**base, **config}, str(path))
    except BaseException:
        for file, content in before.items():
            _replace(Path(file), content.decode("utf-8"))
        raise
    _replace(path, written)
    return [*told, f"{path}: the study"]


def as_cell(value: Any) -> str:
    """A value as a cell of a table: numbers without needless digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _typed(value: Any) -> Any:
    """A value as a table gives it back."""
    return tsv.parse_cell(as_cell(value), ["boolean", "integer", "number"])


def _replace(path: Path, text: str) -> None:
    with files.atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def suiting(task: Mapping[str, Any], type_: str, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a task that does not evaluate a type of model, naming those that do. ConfigError."""
    declared = kinds.declared()
    if type_ not in declared[task["kind"]].models:
        fitting = [row["task"] for row in tasks if type_ in declared[row["kind"]].models]
        raise ConfigError(
            f"{task['task']} ({task['kind']}) evaluates models of type {' or '.join(declared[task['kind']].models)}, this one is "
            f"of type {type_}. Tasks for it: {', '.join(fitting)}."
        )
