"""Looking at a checkpoint or a data set before it is a row of a table: what it is, and what its row would say.

Nothing is downloaded of a hub's weights, and no weight is read: types come from the configuration, counts from headers.
"""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pandas as pd

from essential_sparsity import files
from essential_sparsity.acquire import conversion, formats, hub, imagefolders, readers, reports, untrusted
from essential_sparsity.acquire.refusal import SourceError, reading
from essential_sparsity.checkpoints import loading, stored

T = TypeVar("T")
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w./-]+)?")
# what columns are called -> what tasks call them; of several that are there the first counts
TEXTS = ("text", "sentence", "content", "review", "document", "body", "comment")
PAIRS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LABELS = ("label", "labels", "class", "category", "target", "gold", "topic", "sentiment", "y")
SCORES = ("target", "score", "similarity", "label", "rating", "gold")
RATED = ("score", "similarity", "rating")  # whole numbers of such a name beside a pair
IMAGES = ("image", "img", "picture")
GENERIC = re.compile(  # names of folders and files that say what they hold, not what it is
    r"files?|models?|checkpoints?|main|snapshots?|weights|outputs?|final|best|last|latest|pytorch_model|train(ing)?|test(ing)?"
    r"|eval(uation)?|val(idation)?|valid|dev|[0-9a-f]{40}|[0-9a-f]{64}",
    re.I,
)
NUMBERED = re.compile(r"(checkpoint|step|epoch)s?[-_]?\d+", re.I)  # says which of several
CACHED = re.compile(r"(models|datasets)--(.+--)?")  # how the hub's client names the folder of a repository
SUFFIX = re.compile(r"(\.(csv|tsv|json|jsonl|parquet|gguf|gz))+$", re.I)
MANY = 10  # times that a class of several words stands in a column on average, so that it is no text
SHORTEST_CLASS = 2  # rows that a class has at least, so that a column can be one of labels


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


def option(name: str, value: str = "…") -> str:
    """How an option is given, to make and to the program."""
    return f"{name.upper().replace('-', '_')}={value} (without make: --{name})"


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
    row = {"source": "path", "id": str(Path(place)), "format": format_of(path), "columns": columns}
    frame, record = _read(row)
    _check_header(frame, place)
    if columns is None and (found := _renaming(frame, place)):
        row["columns"] = found
        frame, record = _read(row)  # as a run will read it: what is reported is what tasks are given
    if "label" in frame:
        _check_labels(frame["label"], place)
    columns_told = files.some([column for column in frame if column != "item"])
    guessed = f" ({row['columns']})" if row["columns"] else ""
    said = [f"{place}: read as {row['format']}, columns {columns_told}{guessed}", *reports.lines(record["report"])]
    return Data(row, list(frame), record["n_rows"], said, frame)


def _check_header(frame: pd.DataFrame, place: str) -> None:
    """Refuse a table whose first row was read as its header: a name stands in its own column, among what repeats there."""
    for name in frame.columns.drop(["item", "split"], errors="ignore"):
        if pd.api.types.is_string_dtype(frame[name]) and (frame[name] == name).any() and _like_classes(frame[name]):
            raise SourceError(
                f"{place}: the column {name!r} holds its own name, as where a first row of data stands in the place of the header. "
                "Put a line with the names of the columns above it, as text,label."
            )


def _check_labels(labels: pd.Series, place: str) -> None:
    """Refuse labels that no classification can use. SourceError."""
    if _continuous(labels):
        raise SourceError(
            f"{place}: the labels are numbers such as {labels.dropna().iloc[0]}, no classes. Put classes into the column that is read as "
            f"label; a number to predict is the target of two texts: {option('columns', 'text_a=…,text_b=…,target=…')}."
        )
    known = sorted(set(map(str, labels.dropna())) - {""})
    if len(known) < 2:
        raise SourceError(
            f"{place}: the column label has {files.some(known) if known else 'no label'} alone: at least two are needed."
        )
    if 2 * len(known) > labels.notna().sum():
        raise SourceError(
            f"{place}: the column label has {len(known):,} values in {len(labels):,} rows ({files.some(known, 3)}): hardly one of them "
            f"stands twice, so they are no classes. Name the column of the labels: {option('columns', 'text=…,label=…')}."
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


def _renaming(frame: pd.DataFrame, place: str) -> str | None:
    """What the columns are called in the tasks table's way, from their names and contents. SourceError where unclear."""
    names = [name for name in frame if name not in ("item", "split")]
    lower = {str(name).lower(): name for name in names}
    found = {}
    if image := _first(lower, IMAGES):
        found["image"] = image
    elif pair := next((pair for pair in PAIRS if set(pair) <= lower.keys()), None):
        found |= {"text_a": lower[pair[0]], "text_b": lower[pair[1]]}
    elif text := _first(lower, TEXTS):
        found["text"] = text
    left = [name for name in names if name not in found.values()]
    if not found:
        wordy = [name for name in names if _wordy(frame[name]) and not _like_classes(frame[name])]
        if len(wordy) == 1:
            found["text"] = wordy[0]
            left.remove(wordy[0])
    kept = {str(name).lower(): name for name in left}
    if "text_a" in found and (score := _first(kept, SCORES)) and _continuous(frame[score]):
        found["target"] = score
    elif label := _first(kept, LABELS):
        found["label"] = label
    elif "text_a" in found and (rated := _first(kept, RATED)) and _numeric(frame[rated]):
        raise SourceError(f"{place}: {rated} can be a number to predict or a class of pairs of texts. {_how(names)}")
    elif len(classes := [name for name in left if _like_classes(frame[name])]) == 1:
        found["label"] = classes[0]
    elif classes:
        raise SourceError(
            f"{place}: it is not clear which of {', '.join(map(str, classes))} is the label. {_how(names)}"
        )
    if not {"image", "text", "text_a"} & found.keys():
        raise SourceError(f"{place}: it is not clear which column holds the text. {_how(names)}")
    both = {"text", "text_a"} <= set(names)  # of which what is found is to be read
    renamed = {new: old for new, old in found.items() if new != old or (both and new.startswith("text"))}
    if unfit := [old for old in renamed.values() if re.search("[,=]", str(old))]:
        raise SourceError(
            f"{place}: the column {unfit[0]!r} has a comma or an equals sign in its name, so the tasks table cannot name it. Rename "
            "it in the file."
        )
    return ",".join(f"{new}={old}" for new, old in renamed.items()) or None


def _how(names: Iterable[Any]) -> str:
    return (
        f"Its columns are: {', '.join(map(str, names))}. Say {option('columns', 'text=…,label=…')}; two texts are "
        "text_a=…,text_b=…, and a number to predict is target=…."
    )


def _first(there: Mapping[str, Any], wanted: Iterable[str]) -> Any:
    return next((there[name] for name in wanted if name in there), None)


def _wordy(column: pd.Series) -> bool:
    """Whether a column holds texts of several words."""
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return False
    values = column.dropna()
    return bool(len(values)) and all(isinstance(v, str) for v in values) and values.str.contains(" ").mean() > 0.5


def _continuous(column: pd.Series) -> bool:
    """Whether a column holds numbers that are no counts; cells of a text file are text."""
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return False
    return _numeric(column) and bool((pd.to_numeric(column.dropna()) % 1 != 0).any())


def _numeric(column: pd.Series) -> bool:
    """Whether all values of a column are numbers, or texts that are."""
    numbers = pd.to_numeric(column.dropna(), errors="coerce")
    return bool(len(numbers)) and bool(numbers.notna().all())


def _like_classes(column: pd.Series) -> bool:
    """Whether a column's values repeat as classes do."""
    if isinstance(column.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(column):
        return True
    values = column.dropna()
    if (
        not len(values)
        or _continuous(column)
        or any(isinstance(value, bytes | dict | list) for value in values.head(50))
    ):
        return False
    counts = values.value_counts()
    repeating = len(counts) > 1 and counts.median() >= SHORTEST_CLASS
    return repeating and (not _wordy(column) or MANY * len(counts) <= len(values))
