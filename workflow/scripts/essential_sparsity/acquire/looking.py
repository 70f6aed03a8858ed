"""Looking at a checkpoint or a data set before it is a row of a table: what it is, and what its row would say.

Nothing is downloaded of a hub's weights, and no weight is read: types come from the configuration, counts from headers.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pandas as pd

from essential_sparsity import files
from essential_sparsity.acquire import conversion, formats, guessing, hub, imagefolders, readers, reports, untrusted
from essential_sparsity.acquire.refusal import SourceError, option, reading
from essential_sparsity.checkpoints import loading, stored

T = TypeVar("T")
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w./-]+)?")
GENERIC = re.compile(  # names of folders and files that say what they hold, not what it is
    r"files?|models?|checkpoints?|main|snapshots?|weights|outputs?|final|best|last|latest|pytorch_model|train(ing)?|test(ing)?"
    r"|eval(uation)?|val(idation)?|valid|dev|[0-9a-f]{40}|[0-9a-f]{64}",
    re.I,
)
NUMBERED = re.compile(r"(checkpoint|step|epoch)s?[-_]?\d+", re.I)  # says which of several
CACHED = re.compile(r"(models|datasets)--(.+--)?")  # how the hub's client names the folder of a repository
ROLES = (*formats.PLAIN, "answers")  # columns that tasks read
SUFFIX = re.compile(r"(\.(csv|tsv|json|jsonl|parquet|gguf|gz))+$", re.I)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint is: the columns of its row, and sentences about it for a person.

    `most`: the longest text (`positions`, tokens) and the side of an image (`image_size`, pixels) where it says so.
    """

    row: dict[str, Any]
    said: list[str]
    most: dict[str, int]


@dataclass(frozen=True)
class Data:
    """What a data set is: the columns of a task's row that describe it, its splits, and sentences for a person.

    `columns`: those it has once they are renamed; `n_rows`: rows by split (`all` without splits); `frame`: the rows.
    """

    row: dict[str, Any]
    columns: list[str]
    n_rows: dict[str, int]
    said: list[str]
    frame: pd.DataFrame


def name_of(place: str, asked: str) -> str:
    """An id from a path or repository: its last part that tells it from others, of letters, digits, dots and dashes.

    `asked`: the option that gives a name where the place tells none. Raises SourceError.
    """
    which: list[str] = []
    for part in reversed(SUFFIX.sub("", place.rstrip("/")).split("/")):
        part = re.sub(r"[^A-Za-z0-9.-]+", "-", CACHED.sub("", part)).strip("-.")
        if NUMBERED.fullmatch(part):
            which.insert(0, part)
        elif part and not GENERIC.fullmatch(part):
            return "-".join([part, *which])
    raise SourceError(f"{place!r} tells no name for tables and figures: say {option(asked)}.")


def checkpoint(place: str, type_: str | None = None, allow_pickle: bool = False) -> Checkpoint:
    """A folder or file of weights, or a hub repository `owner/name`. Raises SourceError saying what is missing."""
    if Path(place).expanduser().exists():
        return _local(place, type_, allow_pickle)
    if HUB.fullmatch(place):
        return _on_hub(place, type_, allow_pickle)
    raise SourceError(f"{place} is no file or folder here, and no hub repository of the form owner/name.")


def _local(place: str, type_: str | None, allow_pickle: bool) -> Checkpoint:
    path = Path(place).expanduser()
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()) if path.is_dir() else []
    row = {"source": "path", "id": str(Path(place)), "allow_pickle": False}  # mine/bert/ is mine/bert
    if path.suffix == ".gguf" or (names and "config.json" not in names and any(n.endswith(".gguf") for n in names)):
        file = path if path.is_file() else path / conversion.only_file(names, ".gguf")[0]
        parameters, most = _gguf(file)
        row |= {"type": type_ or "decoder", "format": "gguf", "parameters": parameters}
        said = f"{place}: one GGUF file, {row['parameters'] / 1e6:,.1f} M parameters; its codes are dequantised"
        return Checkpoint(row, [said], most)
    if path.is_file():
        raise SourceError(f"{place} is a file; name the folder that holds config.json, the weights and the tokenizer.")
    used = conversion.transformers_files(names, allow_pickle)
    from transformers import AutoConfig

    tensors = untrusted.check_model(path, untrusted.regular(path, used))
    config = _configuration(lambda: AutoConfig.from_pretrained(path, local_files_only=True), place)
    row["type"] = type_ or kind_of(config)
    weights = [name for name in used if name.endswith((".safetensors", ".bin"))]
    pickled = weights[0].endswith(".bin")
    with reading(f"{path / 'config.json'} describes no model that can be built"), untrusted.bounded(path, tensors):
        facts = loading.describe(path, allow_pickle=pickled)
    parameters = sum(facts["stored"].values())
    row |= {"format": "transformers", "parameters": parameters, "allow_pickle": pickled}
    said = [
        f"{place}: {config.model_type}, {parameters / 1e6:,.1f} M parameters in {files.some(weights, 3)}",
        f"{facts['n_prunable']:,} of {facts['n_total']:,} weights are prunable, {facts['dtype']}",
    ]
    return Checkpoint(row, said, _most(config))


def _on_hub(place: str, type_: str | None, allow_pickle: bool) -> Checkpoint:
    from huggingface_hub import HfApi
    from transformers import AutoConfig, PreTrainedConfig

    try:
        with hub.told(place):
            info = hub.asked(lambda: HfApi().model_info(place, files_metadata=True))
    except SourceError as error:
        raise SourceError(f"{place} is no file or folder here, so it was looked up on the hub. {error}") from error
    used = conversion.transformers_files([file.rfilename for file in info.siblings], allow_pickle)
    said, _ = _configuration(lambda: PreTrainedConfig.get_config_dict(place, revision=info.sha), place)
    untrusted.check_counts(f"{place}: config.json", said, 0)
    config = _configuration(lambda: AutoConfig.from_pretrained(place, revision=info.sha), place)
    pickled = not any(name.endswith(".safetensors") for name in used)
    weights = [
        file.size
        for file in info.siblings
        if file.rfilename in used and file.rfilename.endswith((".safetensors", ".bin"))
    ]
    if info.safetensors:
        parameters = info.safetensors.total
    elif None not in weights:
        parameters = sum(weights) / (config.dtype.itemsize if config.dtype else 4)  # the hub does not look into pickles
    else:
        raise SourceError(
            f"{place}: the hub does not say how many parameters it has. Add its row to the models table by hand: the column "
            "parameters is for the memory and time that jobs ask for."
        )
    row = {
        "source": "hub",
        "id": place,
        "revision": info.sha,
        "type": type_ or kind_of(config),
        "format": "transformers",
    }
    row |= {"parameters": parameters, "allow_pickle": pickled}
    said = f"{place} at {info.sha[:10]}: {config.model_type}, {parameters / 1e6:,.1f} M parameters"
    return Checkpoint(row, [said], _most(config))


def most_of(row: Mapping[str, Any], told: str = "") -> dict[str, int]:
    """`Checkpoint.most` of a row of the models table whose checkpoint lies here; nothing of one that is fetched. Raises SourceError."""
    if row["source"] != "path":
        return {}
    place = Path(row["id"]).expanduser()
    if not place.exists():
        raise SourceError(f"{told}{place} is not there. Correct the column id.")
    if row["format"] != "transformers":
        return {}
    from transformers import AutoConfig

    return _most(_configuration(lambda: AutoConfig.from_pretrained(place, local_files_only=True), str(place)))


def _most(config) -> dict[str, int]:
    sizes = {"positions": "max_position_embeddings", "image_size": "image_size"}
    found = {name: loading.numbers(config, key) for name, key in sizes.items()}
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _configuration(read: Callable[[], T], place: str) -> T:
    problem = f"{place}: transformers cannot build this model from its config.json"
    with reading(problem):
        try:
            return read()
        except (ValueError, OSError, KeyError) as error:
            raise SourceError(f"{problem} ({stored.reason(error)}).") from error


def kind_of(config) -> str:
    """`encoder`, `decoder` or `vision`, from a transformers configuration. Raises SourceError where it cannot be told."""
    from transformers.models.auto import modeling_auto as known

    name = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise SourceError(
            f"{name} is an encoder with a decoder: no kind of task evaluates those. Name a checkpoint of an encoder, a decoder or a "
            "vision model."
        )
    causal = [a for a in getattr(config, "architectures", None) or () if a.endswith(("ForCausalLM", "LMHeadModel"))]
    if loading.has_towers(config):
        raise SourceError(loading.one_tower(config))
    if name in known.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES or name.endswith("_vision_model"):
        return "vision"
    if name in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not causal:
        return "encoder"
    if name in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "decoder"
    raise SourceError(
        f"It cannot be told whether {name} is an encoder, a decoder or a vision model: say {option('type')}."
    )


def _gguf(file: Path) -> tuple[float, dict[str, int]]:
    """Parameters, and what the model takes at most, of a GGUF file."""
    reader = conversion.opened_gguf(file)
    length = next((field for name, field in reader.fields.items() if name.endswith(".context_length")), None)
    parameters = float(sum(int(prod(map(int, tensor.shape))) for tensor in reader.tensors))
    return parameters, {"positions": int(length.contents())} if length else {}


def data(place: str, columns: str | None = None) -> Data:
    """A local file or folder, read as a run will read it. Raises SourceError naming the columns where they are unclear.

    `columns`: as in the tasks table, `text=sentence,label=gold`; without it they are told by their names and contents.
    """
    path = Path(place).expanduser()
    if not path.exists():
        raise SourceError(
            f"{place} does not exist. A data set of the hub is a row of the tasks table, written by hand."
        )
    _check_roles(columns)
    row = {"source": "path", "id": str(Path(place)), "format": format_of(path), "columns": columns}
    frame, record = _read(row)
    guessing.check_header(frame, place)
    if columns is None and (found := guessing.renaming(frame, place)):
        row["columns"] = found
        frame, record = _read(row)  # as a run will read it: what is reported is what tasks are given
    if "label" in frame:
        guessing.check_labels(frame["label"], place)
    columns_told = files.some([column for column in frame if column != "item"])
    guessed = f" ({row['columns']})" if row["columns"] else ""
    said = [f"{place}: read as {row['format']}, columns {columns_told}{guessed}", *reports.lines(record["report"])]
    return Data(row, list(frame), record["n_rows"], said, frame)


def _check_roles(columns: str | None) -> None:
    """Refuse a new name that is nearly one that tasks read: without it the data would be another kind of task. SourceError."""
    for new in (pair.partition("=")[0].strip() for pair in (columns or "").split(",")):
        if new not in ROLES and (close := get_close_matches(new, ROLES, n=1, cutoff=0.75)):
            raise SourceError(
                f"{option('columns', columns)}: no task reads a column {new!r}; did you mean {close[0]!r}? What tasks read: {', '.join(ROLES)}."
            )


def _read(row: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as work:
        record = formats.fetch_dataset(row["id"], {"revision": None, "packages": []} | dict(row), Path(work))
        return pd.read_parquet(Path(work) / "files" / "data.parquet"), record


def format_of(path: Path) -> str:
    """The format of a file or folder, by the suffixes of its files. Raises SourceError where there are none or several."""
    names = [path.name] if path.is_file() else files.names_under(path)
    beside = formats.beside_data(names)
    names = [name for name in names if name not in beside]
    general = ("parquet", "arrow", "csv", "json", "imagefolder")
    if any(name.lower().endswith(imagefolders.SUFFIXES) for name in names):  # which a table may describe
        names = [name for name in names if PurePosixPath(name).name not in imagefolders.TABLES]
    found = [name for name in general if any(file.lower().endswith(readers.SUFFIXES[name]) for file in names)]
    if len(found) != 1:
        known = ", ".join(suffix for name in general for suffix in readers.SUFFIXES[name])
        raise SourceError(
            f"{path} holds {'files of several formats: ' + ', '.join(found) if found else 'no file of a known format'} "
            f"({files.some(names)}). Name one file, or a folder of one kind of file: {known}. Plain texts become data as a .jsonl, a line "
            '{"text": "…"} for each.'
        )
    return found[0]
