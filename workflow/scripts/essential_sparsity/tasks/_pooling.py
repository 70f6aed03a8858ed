"""One vector of a text: the mean of its last hidden states, or what a checkpoint of sentence-transformers says that it takes.

Such a checkpoint lists its modules in modules.json, and how it pools in the folder of one of them. The vectors are compared by their angle:
what changes their length alone (a norm at the end, a mean over the root of the number of tokens) makes no difference.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from essential_sparsity import files
from essential_sparsity.tasks import TaskError, _text

Pool = Callable[[Any, dict[str, Any]], torch.Tensor]  # output of a model, batch -> (batch, width)
# folders of modules whose configuration comes with a checkpoint, and decides a run (`conversion.SIDE_FILES`)
PLACE = re.compile(r"\d+_[A-Za-z]+")
LENGTH_ALONE = {"Normalize", "Dropout"}  # modules after the pooling that change no angle of what is evaluated
OTHERWISE = "Fine-tune it (protocol finetune), or use a copy without modules.json, whose vectors are means of its last hidden states."


def first(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The state of the first token that is no padding, such as BERT's [CLS]."""
    return _at(output, batch["attention_mask"].argmax(dim=1))


def last(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The state of the last token that is no padding."""
    mask = batch["attention_mask"]
    return _at(output, mask.shape[1] - 1 - mask.flip(1).argmax(dim=1))


def largest(output: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The largest value of each dimension over the tokens that are no padding."""
    hidden, mask = _text.states(output), batch["attention_mask"].unsqueeze(-1)
    return hidden.masked_fill(mask == 0, -torch.inf).amax(dim=1)


POOLS: dict[str, Pool] = {  # by what follows `pooling_mode_` in the configuration of a module
    "mean_tokens": _text.mean_pooled,
    "mean_sqrt_len_tokens": _text.mean_pooled,
    "cls_token": first,
    "lasttoken": last,
    "max_tokens": largest,
}


def pooling(folder: str | Path) -> Pool:
    """How a checkpoint makes one vector of a text. Raises TaskError where it says so in a way that is not offered here."""
    listed = Path(folder) / "modules.json"
    if not listed.is_file():
        _refuse_module(Path(folder))
        return _text.mean_pooled
    try:
        modules = [(str(module["type"]).rpartition(".")[2], module["path"]) for module in files.read_json(listed)]
        places = [path for kind, path in modules if kind == "Pooling"]
        if outside := [place for place in places if not PLACE.fullmatch(place)]:
            raise ValueError(f"the pooling is said in {outside[0]!r}, which is no folder such as 1_Pooling")
        said = files.read_json(Path(folder) / places[0] / "config.json") if places else {}
        modes = _modes(said)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TaskError(
            f"{listed}, which says how the checkpoint makes one vector of a text, cannot be read with what it names ({error}). {OTHERWISE}"
        ) from error
    other = [kind for kind, _ in modules if kind not in {"Transformer", "Pooling", *LENGTH_ALONE}]
    if other or len(places) != 1 or len(modes) != 1 or modes[0] not in POOLS:
        told = f"with {files.some(other)}" if other else f"by {' and '.join(modes)}" if modes else "without a pooling"
        raise TaskError(
            f"{listed}: the checkpoint makes one vector of a text {told}, which is not offered here; with any other vector its similarities would "
            f"not be its own. {OTHERWISE}"
        )
    _tell_otherwise(Path(folder))
    return POOLS[modes[0]]


def as_read(folder: str | Path, texts: Sequence[str], length: int) -> list[str]:
    """Texts as such a checkpoint reads them: in small letters where it says so. That it would read less of them than `length` tokens is told."""
    said = sorted(Path(folder).glob("sentence_*_config.json"))  # named after the architecture by older versions
    if not said or not (Path(folder) / "modules.json").is_file():
        return list(texts)
    try:
        read = files.read_json(said[0])
        small, own = read.get("do_lower_case", False), read.get("max_seq_length")
    except (OSError, ValueError, AttributeError) as error:
        raise TaskError(
            f"{said[0]}, which says how the checkpoint reads texts, cannot be read ({error}). {OTHERWISE}"
        ) from error
    if own and own < length:
        print(
            f"{folder}: texts are read up to {length} tokens (column max_length of the task); the checkpoint by itself cuts them at {own}.",
            flush=True,
        )
    return [text.lower() for text in texts] if small else list(texts)


def _refuse_module(folder: Path) -> None:
    """Refuse one module of such a checkpoint (`0_Transformer`, of older versions), which does not say how it pools, unless that is as here.
    Raises TaskError."""
    above = folder.resolve().parent / "modules.json"
    try:
        modules = files.read_json(above) if above.is_file() else []
        named = any(module["path"] == folder.resolve().name for module in modules)
    except (OSError, ValueError, LookupError, TypeError):
        return
    if named and not _as_here(folder, above.parent):
        raise TaskError(
            f"{folder} is one module of the checkpoint in {above.parent}, whose modules.json says how it makes one vector of a text. Copy "
            f"modules.json and the folder of its pooling (1_Pooling) into {folder}, or name a copy of {folder} elsewhere, whose vectors are means of its "
            "last hidden states."
        )


def _as_here(module: Path, checkpoint: Path) -> bool:
    """Whether a checkpoint makes a vector of a text as is done with its one `module` alone: the mean of its states, of the text as it stands."""
    if any(_said(path).get("do_lower_case") for path in module.glob("sentence_*_config.json")):
        return False
    try:
        return pooling(checkpoint) is _text.mean_pooled
    except TaskError:
        return False


def _modes(said: dict[str, Any]) -> list[str]:
    """The ways of pooling that a module's configuration switches on: a flag each, or one name."""
    if isinstance(name := said.get("pooling_mode"), str):
        return [next((mode for mode in POOLS if mode.removesuffix("s").removesuffix("_token") == name), name)]
    return [name.removeprefix("pooling_mode_") for name, on in said.items() if name.startswith("pooling_mode_") and on]


def _tell_otherwise(folder: Path) -> None:
    """Print what the checkpoint does by itself and is not done here."""
    own = _said(folder / "config_sentence_transformers.json")
    if prompt := own.get("default_prompt_name"):
        print(
            f"{folder}: texts are embedded as they stand, without the prompt {prompt!r} that the checkpoint puts before each by itself.",
            flush=True,
        )
    if (own.get("similarity_fn_name") or "cosine") != "cosine":
        print(
            f"{folder}: texts are compared by the cosine of their vectors, but the checkpoint was trained for another similarity "
            f"({own['similarity_fn_name']}): its published correlations may be others.",
            flush=True,
        )


def _said(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none."""
    try:
        return dict(files.read_json(path))
    except (OSError, ValueError, TypeError):
        return {}


def _at(output: Any, places: torch.Tensor) -> torch.Tensor:
    hidden = _text.states(output)
    return hidden[torch.arange(len(hidden), device=hidden.device), places.to(hidden.device)]
