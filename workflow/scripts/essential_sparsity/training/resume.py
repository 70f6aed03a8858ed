"""A training that was killed goes on from its last checkpoint and ends with the same bits.

Checkpoints are `transformers.Trainer`'s, in a work folder that outlives the job. Each gets a marker, written last: what
is trained (checkpoint and data by their manifests, masks, settings, seed, code, versions) and what tells its files. One whose
marker is missing or says something else is deleted, never used. Weights are not read for it: the manifest has their SHA-256,
and the rest follows from it.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from essential_sparsity import files, markers

ORDER, TRYING, HARDWARE = "order.pt", "trying.json", "hardware.json"
SECONDS = 300.0  # of work that a kill costs at most, as long as saving is quick
SHARE = 0.05  # of the time goes into saving, at most: the checkpoints of a large model come less often
FIRST_STEPS = 2  # the first has the longest texts, the second the optimiser's moments beside them: the peak of memory


@dataclass(frozen=True)
class Work:
    """Where a training keeps its checkpoints, and what decides its outcome (as JSON)."""

    folder: Path
    identity: Mapping[str, Any]

    @classmethod
    def of_job(cls, folder: Path, code: str, *manifests: str) -> "Work":
        """That of a job of this code (a digest) whose model and data are the ones of these manifests."""
        return cls(folder, {"code": code, "manifests": [files.sha256_file(path) for path in manifests]})

    def of(self, part: str, **more: Any) -> "Work":
        """That of one part of a job, with what else decides the part."""
        return Work(self.folder / part, {**self.identity, **more})

    def hardware(self, now: str) -> str:
        """What this job has been computed on, `now` last: what attempts before it ran on too, which may have left a part of it."""
        try:
            before = files.read_json(self.folder / HARDWARE)
            names = before["hardware"] if before["identity"] == self.identity else []
        except (OSError, ValueError, KeyError, TypeError):  # none, or damaged
            names = []
        names = [*(name for name in names if name != now), now]
        if len(names) > 1:
            print(
                f"Attempts before ran on {', '.join(names[:-1])}, this one on {now}: what they left was rounded otherwise."
            )
        files.write_json(self.folder / HARDWARE, {"identity": self.identity, "hardware": names})
        return "; ".join(names)

    def clear(self) -> None:
        """The job is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def versions(device: str) -> dict[str, str]:
    """What decides the bits of a result beside code and data: the libraries, and the type of device they compute on."""
    return {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}


def digest(masks: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of masks (bool): names, shapes and bits, eight to a byte."""
    found = hashlib.sha256()
    for name, mask in sorted(masks.items()):
        found.update(f"{name}\0{tuple(mask.shape)}\0".encode())
        found.update(np.packbits(mask.cpu().numpy()))
    return found.hexdigest()


class Progress(transformers.TrainerCallback, contextlib.AbstractContextManager):
    """Saves now and then what one training needs to go on, and finds what an attempt before it has saved.

    `checkpoint`: the folder to resume from, or None. `parts`: into how many parts each batch is cut. To be entered
    around the training: left in order, by an error too, it was not killed.
    """

    def __init__(self, work: Work):
        self.folder, self.identity = work.folder, json.loads(json.dumps(work.identity))
        self.checkpoint, self.parts, self.order, self.done = None, 1, None, 0

    def __enter__(self) -> "Progress":
        for path in sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2])):
            marker, reason = markers.read(path, self.identity, "training")
            if reason:
                print(f"{path} is not used: {reason}.", flush=True)
                shutil.rmtree(path)
            else:
                self.checkpoint, self.parts = path, marker["parts"]
        if self.checkpoint:
            self.order = torch.load(self.checkpoint / ORDER, weights_only=True)
            print(f"Going on from {self.checkpoint}.", flush=True)
        mark = self.folder / TRYING
        if tried := _tried(mark, self.identity):
            self.parts = max(self.parts, 2 * tried)
            print(
                "The attempt before was killed in its first steps, perhaps for want of memory: batches go through in "
                f"{self.parts} parts now. The result is the same but for rounding.",
                flush=True,
            )
        files.write_json(mark, {"identity": self.identity, "parts": self.parts})
        return self

    def __exit__(self, *error: object) -> None:
        (self.folder / TRYING).unlink(missing_ok=True)

    def on_train_begin(self, args, state, control, **kwargs):
        self.saved, self.cost = time.monotonic(), 0.0

    def on_epoch_begin(self, args, state, control, **kwargs):
        """The order of an epoch is drawn from torch's generator, whose state then is part of the checkpoint."""
        if self.done == 0 and self.order is not None:
            torch.set_rng_state(self.order)
        self.order = torch.get_rng_state()

    def on_step_end(self, args, state, control, **kwargs):
        self.done += 1
        if self.done == FIRST_STEPS:
            (self.folder / TRYING).unlink(missing_ok=True)
        last = state.global_step == state.max_steps and self.checkpoint is not None  # evaluation can be killed as well
        if last or time.monotonic() - self.saved >= max(SECONDS, self.cost / SHARE):
            control.should_save, self.saved = True, time.monotonic()

    def on_save(self, args, state, control, **kwargs):
        checkpoint = self.folder / f"checkpoint-{state.global_step}"
        # at the end of an epoch the next one's order is still to be drawn, from here
        torch.save(torch.get_rng_state() if state.epoch == int(state.epoch) else self.order, checkpoint / ORDER)
        markers.write(checkpoint, self.identity, parts=self.parts)
        for other in self.folder.glob("checkpoint-*"):
            if other != checkpoint:
                shutil.rmtree(other, ignore_errors=True)
        self.checkpoint = checkpoint
        self.cost, self.saved = time.monotonic() - self.saved, time.monotonic()


def _tried(mark: Path, identity: Mapping[str, Any]) -> int:
    """The parts of an attempt at the same that was killed in its first steps; 0 where none was, or its mark is damaged."""
    try:
        tried = files.read_json(mark)
    except (OSError, ValueError):  # a node that goes down may leave an empty file
        return 0
    return tried["parts"] if tried.get("identity") == identity else 0
