"""What a model is calibrated on: sequences of tokens, or images, drawn by a seed from a data set, never what is evaluated.

A row of the calibrations table says how many, how long, and how texts become sequences: `document`, a random window of each
of as many documents as are longer than that (as Wanda and SparseGPT draw from C4), or `joined`, windows without overlap of
documents in a random order, blank lines between them (for data of short texts). A decoder reads them as they are (after its BOS token where the
model's row says `add_bos_token`), an encoder with its special tokens around them.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from essential_sparsity import files
from essential_sparsity.pruning.calibrated import Calibration
from essential_sparsity.tasks import Batches, Prepared, TaskError, _text, reading

TOKENS_AT_ONCE, IMAGES_AT_ONCE = 4096, 32  # of a batch
# In a row, words or tokens that two texts must share to be told as overlapping: GPT-3's measure (Brown et al. 2020, appendix
# C); an evaluated text of fewer words, down to SHORTEST, is found as a whole in a longer one, shorter ones in their equals alone.
# Tokens too: what a tokenizer makes of a text without blanks, or leaves of accents, is not found by words again.
RUN, SHORTEST = 13, 8
BESIDE = ("item", "label", "split")  # columns of a data set that are no texts of it


def draw(
    row: Mapping[str, Any],
    folder: str | Path,
    data: pd.DataFrame,
    evaluated: Prepared,
    documents: Iterable[str],
    seed: int,
    add_bos_token: bool = False,
) -> Calibration:
    """The calibration of a run.

    `row`: calibration, dataset, split, sequences, length, sampling, seed; the run's seed is added to its own. `folder`: the
    checkpoint, `data`: the frame of the calibration's data set. `evaluated`: the inputs of the task, whose texts and images
    are left out, as are `documents` (what is evaluated as the data have it: `documents`). `add_bos_token`: each
    sequence of a decoder begins with it. Raises TaskError where less than was asked for remains.
    """
    drawn_with = int(row["seed"]) + seed
    place = f"Calibration {row['calibration']!r}: data set {row['dataset']!r}"
    rows = _rows(row, data, place)
    order = rows.iloc[files.rng(drawn_with, "calibration", row["dataset"]).permutation(len(rows))]
    if row["length"] is None:
        batches, digests, left_out = _images(row, order, evaluated, place)
        tokens = None
    else:
        tokenizer = _text.tokenizer(folder)
        begin = _text.begin(tokenizer, {"task": row["calibration"], "add_bos_token": add_bos_token})
        ids, left_out = _sequences(row, folder, tokenizer, order, evaluated, documents, drawn_with, place, begin)
        _text.check_ids(folder, tokenizer, ids.ravel(), {"task": row["calibration"], "dataset": row["dataset"]})
        size = max(1, TOKENS_AT_ONCE // ids.shape[1])
        batches = [{"input_ids": torch.from_numpy(ids[at : at + size])} for at in range(0, len(ids), size)]
        digests, tokens = [ids.tobytes()], int(ids.size)
    sha256 = hashlib.sha256(b"".join(digests)).hexdigest()
    said = f" of {row['length']} tokens" if tokens else ""
    print(
        f"Calibrated on {row['sequences']} sequences{said} of {row['dataset']!r}, seed {drawn_with} (sha256 {sha256[:12]}); "
        f"{left_out} that are evaluated were left out.",
        flush=True,
    )
    return Calibration(row["calibration"], batches, int(row["sequences"]), tokens, drawn_with, sha256)


def _rows(row: Mapping[str, Any], data: pd.DataFrame, place: str) -> pd.DataFrame:
    """The rows that may be drawn: of the split that is named, of `train` where that is blank and there is one, else all."""
    column = "image" if row["length"] is None else "text"
    if column not in data:
        raise TaskError(
            f"{place} has no column {column!r} (it has {', '.join(data.columns)}). Rename one in the column columns of the "
            f"calibrations table, as {column}=…; length is blank for images, and for them alone."
        )
    if "split" not in data:
        if row["split"] is not None:
            raise TaskError(
                f"{place} has no splits, but its row asks for {row['split']!r}. Leave the column split blank."
            )
        return data
    there = sorted(set(data["split"]))
    wanted = row["split"] or ("train" if "train" in there else None)
    if wanted is None:
        return data
    if wanted not in there:
        raise TaskError(f"{place} has the splits {', '.join(there)}, not {wanted!r}. Correct the column split.")
    return data[data["split"] == wanted]


def _sequences(
    row: Mapping[str, Any],
    folder: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    order: pd.DataFrame,
    evaluated: Prepared,
    documents: Iterable[str],
    seed: int,
    place: str,
    begin: list[int],
) -> tuple[np.ndarray, int]:
    """(token ids (sequences, length), documents that were left out)."""
    count, length = int(row["sequences"]), int(row["length"])
    limit = _text.position_limit(folder)
    if limit and length > limit:
        raise TaskError(f"{place}: length = {length}, but this model takes {limit} tokens at most. Lower it.")
    _text.check(order, {"task": row["calibration"], "dataset": row["dataset"]}, "text", empty=True)
    before, after = (begin, []) if _decodes(folder) else _special(tokenizer, order["text"], place)
    room = length - len(before) - len(after)
    if room < 1:
        raise TaskError(f"{place}: length = {length} has no room beside {length - room} special tokens. Raise it.")
    known = _evaluated(tokenizer, evaluated, documents)
    if known.empty:
        print(
            f"warning: {place} cannot be compared with what is evaluated, whose inputs are no texts that are known here: nothing is "
            "left out.",
            flush=True,
        )
    sampled, end = (_windows, "") if row["sampling"] == "document" else (_joined, _text.SEPARATOR)
    left_out = 0

    def kept() -> Iterator[list[int]]:
        nonlocal left_out
        for text in order["text"]:
            ids = _ids(tokenizer, text + end)
            if known.has(text, ids):
                left_out += 1
            else:
                yield ids

    found = sampled(kept(), count, room, seed)
    if len(found) < count:
        raise TaskError(
            f"{place} gives {len(found)} sequences of {length} tokens, fewer than sequences = {count} ({len(order):,} documents; "
            f"{left_out:,} were left out, because texts of theirs are evaluated). Lower sequences or length, "
            + ("write sampling = joined where documents are short, " if row["sampling"] == "document" else "")
            + "or name other data."
        )
    ids = np.array([[*before, *row_ids, *after] for row_ids in found], dtype=np.int64)
    return ids, left_out


def _windows(texts: Iterable[list[int]], count: int, room: int, seed: int) -> list[list[int]]:
    """A random window of each document (its tokens) that is longer."""
    rng, found = files.rng(seed, "calibration windows"), []
    for ids in texts:
        if len(ids) > room:
            start = int(rng.integers(0, len(ids) - room))
            found.append(ids[start : start + room])
        if len(found) == count:
            break
    return found


def _joined(texts: Iterable[list[int]], count: int, room: int, seed: int) -> list[list[int]]:
    """Windows without overlap of the documents (their tokens) one after the other."""
    ids: list[int] = []
    for text in texts:
        ids += text
        if len(ids) >= count * room:
            break
    return [ids[at : at + room] for at in range(0, min(len(ids) // room, count) * room, room)]


def _decodes(folder: str | Path) -> bool:
    """Whether the checkpoint is a decoder: it reads a text from any place in it."""
    kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _special(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], place: str) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text: around the first one whose own tokens stand at one place between them."""
    for text in texts:
        bare, whole = _ids(tokenizer, text), tokenizer(text, verbose=False)["input_ids"]
        starts = [at for at in range(len(whole) - len(bare) + 1) if whole[at : at + len(bare)] == bare]
        if bare and len(starts) == 1:
            return whole[: starts[0]], whole[starts[0] + len(bare) :]
    raise TaskError(
        f"{place} has no text between whose special tokens those of the text itself are found ({type(tokenizer).__name__}): the tokenizer "
        "has no tokens for these texts, or changes them there. Name other data, or use another model."
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


class Runs:
    """Runs of words or tokens of some texts, to find the texts that share one: RUN in a row, or all of a text of fewer.

    `shortest`: from as many on a text is found inside a longer one, too.
    """

    def __init__(self, shortest: int):
        self.shortest = shortest
        self.known: dict[int, set[int]] = {}  # length -> hashes

    def add(self, parts: Sequence[str | int]) -> None:
        if length := min(len(parts), RUN):
            self.known.setdefault(length, set()).update(_hashes(parts, length))

    def has(self, parts: Sequence[str | int]) -> bool:
        return any(
            not known.isdisjoint(_hashes(parts, length))
            for length, known in self.known.items()
            if length == len(parts) or self.shortest <= length <= len(parts)
        )


def _hashes(parts: Sequence[str | int], length: int) -> set[int]:
    return {hash(tuple(parts[at : at + length])) for at in range(len(parts) - length + 1)}


class Known:
    """Texts, with their tokens, and whether another overlaps with one of them."""

    def __init__(self) -> None:
        self.words, self.tokens = Runs(SHORTEST), Runs(RUN)

    @property
    def empty(self) -> bool:
        return not self.words.known and not self.tokens.known

    def add(self, text: str, ids: Sequence[int]) -> None:
        self.words.add(words(text))
        self.tokens.add(ids)

    def has(self, text: str, ids: Sequence[int]) -> bool:
        return self.words.has(words(text)) or self.tokens.has(ids)


def _evaluated(tokenizer: PreTrainedTokenizerBase, evaluated: Prepared, documents: Iterable[str]) -> Known:
    """What is evaluated, as texts and as inputs."""
    found = Known()
    for text in documents:
        found.add(text, _ids(tokenizer, text))
    special = set(tokenizer.all_special_ids)
    for row in evaluated.inputs:
        if isinstance(row, Mapping) and "input_ids" in row:
            text = tokenizer.decode(row["input_ids"], skip_special_tokens=True)
            found.add(text, [token for token in row["input_ids"] if token not in special])
    return found


def words(text: str) -> list[str]:
    """The words of a text, whatever their case and however their letters are composed."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def _images(
    row: Mapping[str, Any], order: pd.DataFrame, evaluated: Prepared, place: str
) -> tuple[list[dict[str, torch.Tensor]], list[bytes], int]:
    """(batches as the task makes them of its own images, digests of the images, how many were left out)."""
    inputs, count = evaluated.inputs, int(row["sequences"])
    if not hasattr(inputs, "encoded"):
        raise TaskError(
            f"{place} is of images, but the task evaluates none. Name a calibration of texts for this type of model."
        )
    known = {digest for digest, _ in _pixels(inputs, evaluated)}
    chosen, digests, left_out = [], [], 0
    for start in range(0, len(order), IMAGES_AT_ONCE):
        (part,) = reading.loaded(order.iloc[start : start + IMAGES_AT_ONCE])
        same = type(inputs)(
            part["item"],
            part["image"],
            [0] * len(part),
            inputs.size,
            inputs.mean.ravel().tolist(),
            inputs.std.ravel().tolist(),
        )
        for digest, pixels in _pixels(same, evaluated):
            if digest in known:
                left_out += 1
            elif len(chosen) < count:
                chosen.append({"pixel_values": pixels})
                digests.append(digest)
        if len(chosen) == count:
            break
    if len(chosen) < count:
        raise TaskError(
            f"{place} gives {len(chosen)} images, fewer than sequences = {count} ({len(order):,} rows, {left_out:,} of them are "
            "evaluated). Lower sequences, or name other data."
        )
    batches = [evaluated.collate(chosen[at : at + IMAGES_AT_ONCE]) for at in range(0, count, IMAGES_AT_ONCE)]
    return batches, digests, left_out


def _pixels(images: Sequence, evaluated: Prepared) -> Iterator[tuple[bytes, torch.Tensor]]:
    """(digest, pixels) of each image as the model is given it: the same image in another file is the same."""
    for batch in Batches(images, np.arange(len(images)), IMAGES_AT_ONCE, evaluated.collate).loaded(torch.device("cpu")):
        for pixels in batch["pixel_values"]:
            yield hashlib.sha256(pixels.numpy().tobytes()).digest(), pixels


def documents(data: pd.DataFrame, evaluated: Prepared) -> list[str]:
    """The texts of what is evaluated, as the data have them: an input may hold two, or the beginning of one, or masks.

    Of suites, which make their inputs as they are scored, the texts of all documents; of windows, the whole documents that
    they were cut from.
    """
    if "document" in data and not len(evaluated.inputs):
        return [text for document in data["document"] for text in _texts(_parsed(document))]
    items = evaluated.documents() if evaluated.documents else evaluated.items
    rows = data[data["item"].isin(items)]
    return [text for name in rows if name not in BESIDE for cell in rows[name] for text in _texts(cell)]


def _parsed(document: str) -> Any:
    """A document of a suite is JSON, beside definitions of tasks, which are not."""
    try:
        return json.loads(document)
    except ValueError:
        return document


def _texts(value: Any) -> Iterator[str]:
    """The texts inside lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple | np.ndarray):
        for part in value:
            yield from _texts(part)
