"""Classify images. Data: item, label, image (encoded bytes, for instance PNG).

Metrics: accuracy, also corrected for chance, Matthews' correlation, and F1 where there are two labels.
"""

import inspect
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from PIL import Image, UnidentifiedImageError

from essential_sparsity import files, tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _labels, _vitmae

KIND = {
    "models": ["vision"],
    "protocols": {
        "probe": {"auto_class": "AutoModel"},
        "knn": {"auto_class": "AutoModel"},
        "finetune": {
            "auto_class": "AutoModelForImageClassification",
            "columns": ["epochs", "learning_rate", "batch_size"],
        },
    },
    "columns": ["n_train", "n_eval", "image_size"],
    "metrics": ["accuracy", "chance_corrected_accuracy"],
    "further_metrics": ["matthews", "f1"],
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Images(torch.utils.data.Dataset):
    """Images decoded when asked for: a training set stays as small in memory as it is on disk."""

    def __init__(self, encoded: Sequence[bytes], targets: Sequence[int], size: int, mean: Sequence, std: Sequence):
        self.encoded, self.targets, self.size = list(encoded), [int(target) for target in targets], size
        self.mean, self.std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = (decode(self.encoded[index], self.size) - self.mean) / self.std
        return {"pixel_values": pixels, "labels": self.targets[index]}


def decode(encoded: bytes, size: int) -> torch.Tensor:
    """(3, size, size) float32 in 0..1: bilinear resize of the whole image, greyscale repeated over the channels."""
    try:
        image = Image.open(io.BytesIO(encoded)).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError) as error:
        raise TaskError(f"An image of the data set cannot be decoded ({error}).") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Split by item and seed; images are decoded as they are used."""
    tasks.check_architecture(folder, settings)
    tasks.check_columns(data, settings, "item", "label", "image")
    data, labels = _labels.labelled(data, settings)
    _labels.check_positive(settings, labels)
    train, evaluation = tasks.split(data, settings, seed)
    _labels.check_drawn(train, evaluation, labels, settings)
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    size = image_size(config, settings)
    mean, std = normalisation(folder)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), **options}
        if masks:
            batch["noise"] = _vitmae.whole(batch["pixel_values"], config.patch_size)
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    options = forward_options(config, settings)
    masks = isinstance(config, transformers.ViTMAEConfig)
    head = _labels.head_options(labels) if settings["protocol"] == "finetune" else {}
    return Prepared(
        items=evaluation["item"].tolist(),
        inputs=Images(evaluation["image"], evaluation["target"], size, mean, std),
        targets=evaluation["target"].to_numpy(),
        train=Images(train["image"], train["target"], size, mean, std),
        train_targets=train["target"].to_numpy(),
        collate=collate,
        model_options=head | (_vitmae.OPTIONS if masks else {}),
        reference=labels,
    )


def image_size(config: Any, settings: Mapping[str, Any]) -> int:
    """Side in pixels: the task's `image_size`, else the model's own; a whole number of patches."""
    size, patch = settings.get("image_size") or config.image_size, config.patch_size
    if int(size) % patch:
        raise TaskError(
            f"Task {settings.get('task')!r}: image_size = {size} is not a multiple of the model's patch size {patch}."
        )
    return int(size)


def normalisation(folder: str | Path) -> tuple[Sequence[float], Sequence[float]]:
    """(mean, standard deviation) per channel from the model's preprocessor file; ImageNet's where it has none."""
    path = Path(folder) / "preprocessor_config.json"
    stored = files.read_json(path) if path.exists() else {}
    return stored.get("image_mean", IMAGENET_MEAN), stored.get("image_std", IMAGENET_STD)


def forward_options(config: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for interpolated positions of models that otherwise refuse images that differ in size from pre-training."""
    found = getattr(transformers, tasks.auto_class(settings))._model_mapping[type(config)]
    classes = found if isinstance(found, tuple) else (found,)  # the one that the checkpoint names, as transformers does
    model_class = next((each for each in classes if each.__name__ in (config.architectures or ())), classes[0])
    accepted = inspect.signature(model_class.forward).parameters
    if settings["protocol"] == "finetune" and "labels" not in accepted:
        raise TaskError(
            f"Task {settings.get('task')!r}: {model_class.__name__} takes no labels, so it cannot be fine-tuned. Use a "
            "checkpoint of the architecture without distillation, or another protocol."
        )
    return {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Accuracy of the model's own head (`finetune`) or of a classifier of class token and mean patch (`probe`, `knn`)."""
    size = tasks.batch_size(settings)
    if settings["protocol"] == "finetune":
        logits = tasks.forward(model, prepared.inputs, prepared.collate, size, device, tasks.logits)
        return _labels.classified(prepared, _labels.best(logits), logits)
    patch = model.config.patch_size

    def read(output: Any, batch: dict[str, Any]) -> torch.Tensor:
        height, width = batch["pixel_values"].shape[-2:]
        hidden = output.last_hidden_state.float()
        patches = hidden[:, -(height // patch) * (width // patch) :]  # after the class token and any register tokens
        return torch.cat([hidden[:, 0], patches.mean(dim=1)], dim=1)

    features, evaluated = (
        tasks.forward(model, inputs, prepared.collate, size, device, read)
        for inputs in (prepared.train, prepared.inputs)
    )
    predicted = _labels.probe(settings["protocol"], features, prepared.train_targets, evaluated)
    return _labels.classified(prepared, predicted, np.concatenate([features, evaluated]))
