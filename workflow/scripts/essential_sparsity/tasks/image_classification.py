"""Classify images. Data: item, label, image (encoded bytes, for instance PNG).

Metrics: accuracy, also corrected for chance, Matthews' correlation, and F1 where there are two labels.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import transformers
from PIL import Image

from essential_sparsity import files, tasks
from essential_sparsity.acquire import pictures
from essential_sparsity.acquire.archives import SourceError
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.loading import quiet
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _labels, _vitmae, reading

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
    "further_columns": ["eval_split", "held_out"],
    "metrics": ["accuracy", "chance_corrected_accuracy"],
    "further_metrics": ["matthews", "f1"],
}
# Names of their parameters in transformers; RADIO has those of its teachers and registers in one, the first in front.
CLASS_TOKENS = {"cls_token", "class_token", "class_embedding", "cls_register_token"}
OTHER_TOKENS = {"distillation_token", "register_tokens"}  # these stand between the class token and the patches
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
UNUSUAL = (
    "rescale_offset",
    "do_flip_channel_order",
    "do_color_quantize",
)  # of an image processor: other pixels than these


class Images(torch.utils.data.Dataset):
    """Images decoded when asked for: a training set stays as small in memory as it is on disk. Errors name the item.

    The bytes lie in one Arrow array, which the processes that decode share: a Python object each would be copied by a look.
    """

    decodes = True  # `tasks.forward` has processes do so

    def __init__(
        self,
        items: Sequence[str],
        encoded: Sequence[bytes],
        targets: Sequence[int],
        size: int,
        mean: Sequence,
        std: Sequence,
    ):
        self.items, self.encoded = list(items), pa.array(encoded, pa.large_binary(), from_pandas=True)
        self.targets, self.size = [int(target) for target in targets], size
        self.mean, self.std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = (decode(self.encoded[index].as_py(), self.size, self.items[index]) - self.mean) / self.std
        return {"pixel_values": pixels, "labels": self.targets[index]}


def check_images(rows: pd.DataFrame) -> None:
    """Refuse what is no bytes of an image file, by item: a path, a list of pixels. Raises TaskError."""
    for item, value in zip(rows["item"], rows["image"], strict=True):
        if not isinstance(value, bytes) and not (pd.api.types.is_scalar(value) and pd.isna(value)):
            raise TaskError(
                f"The image {item} is {f'the text {value[:40]!r}' if isinstance(value, str) else f'a {type(value).__name__}'} (column "
                "image); expected the bytes of an image file, as PNG. Store them so, or use the format imagefolder."
            )


def decode(encoded: bytes | None, size: int, item: str = "of the data set") -> torch.Tensor:
    """(3, size, size) float32 in 0..1 of an image, as `pixels` shows it."""
    return pixels(encoded, size, item).float().div_(255)


def pixels(encoded: bytes | None, size: int, item: str) -> torch.Tensor:
    """(3, size, size) uint8 of an image as `pictures` shows it: bilinear resize of the whole, grey over all channels."""
    if encoded is None:
        raise TaskError(f"The image {item} is missing (column image). Leave this row out of the data.")
    try:
        image = pictures.decoded(encoded, f"The image {item}").resize((size, size), Image.Resampling.BILINEAR)
    except SourceError as error:
        raise TaskError(str(error)) from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Split by item and seed; images are decoded as they are used."""
    tasks.check_architecture(folder, settings)
    tasks.check_columns(data, settings, "item", "label", "image")
    data, labels = _labels.labelled(data, settings)
    _labels.check_positive(settings, labels)
    train, evaluation = reading.loaded(*tasks.split(data, settings, seed))
    for rows in (train, evaluation):
        check_images(rows)
    _labels.check_drawn(train, evaluation, labels, settings, "image")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    size = image_size(config, settings)
    mean, std = normalisation(folder)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), **options}
        if masks:
            batch["noise"] = _vitmae.whole(batch["pixel_values"], patch_size(config, settings))
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch

    options = forward_options(config, settings)
    masks = isinstance(config, transformers.ViTMAEConfig)
    head = _labels.head_options(labels) if settings["protocol"] == "finetune" else {}
    return Prepared(
        items=evaluation["item"].tolist(),
        inputs=Images(evaluation["item"], evaluation["image"], evaluation["target"], size, mean, std),
        targets=evaluation["target"].to_numpy(),
        train=Images(train["item"], train["image"], train["target"], size, mean, std),
        train_targets=train["target"].to_numpy(),
        collate=collate,
        model_options=head | (_vitmae.OPTIONS if masks else {}),
        reference=labels,
    )


def image_size(config: Any, settings: Mapping[str, Any]) -> int:
    """Side in pixels: the task's `image_size`, else the model's own; a whole number of patches. TaskError for images or patches
    that are no squares."""
    patch = patch_size(config, settings)
    own = loading.numbers(config, "image_size")
    wanted = settings.get("image_size")
    if len(own) > 1 or not (own or wanted):
        raise _no_square(config, settings, "image_size")
    size = int(wanted or own[0])
    if size % patch:
        fitting = [str(number * patch) for number in (size // patch, size // patch + 1) if number]
        raise TaskError(
            f"Task {settings.get('task')!r}: image_size = {size} is not a multiple of the model's patch size {patch}. Write "
            f"{' or '.join(fitting)} in the column image_size, of a task of its own where other models have the one there is."
        )
    return size


def patch_size(config: Any, settings: Mapping[str, Any]) -> int:
    """Side of a patch in pixels, or how far apart patches that overlap begin (Hiera). TaskError where the model says none."""
    name = "patch_stride" if hasattr(config, "patch_stride") else "patch_size"
    found = loading.numbers(config, name)
    if len(found) != 1:
        raise _no_square(config, settings, name)
    return found[0]


def _no_square(config: Any, settings: Mapping[str, Any], name: str) -> TaskError:
    said = f"{name} = {getattr(config, name)}" if hasattr(config, name) else f"no {name}"
    return TaskError(
        f"Task {settings.get('task')!r}: config.json of this model ({config.model_type}) has {said}, but images are resized to squares "
        "here, of square patches of one size. Use a model that takes these, such as ViT, DINOv2 or Swin."
    )


def normalisation(folder: str | Path) -> tuple[Sequence[float], Sequence[float]]:
    """(mean, standard deviation) per channel of values in 0..1, as the model's own image processor scales pixels.

    Both spellings of its file count (`preprocessor_config.json`, `processor_config.json`), and what it leaves out is what
    transformers takes. ImageNet's where the checkpoint has none. Raises TaskError for a processor that cannot be followed.
    """
    stored = [name for name in PROCESSOR_FILES if (Path(folder) / name).is_file()]
    if not stored:
        return IMAGENET_MEAN, IMAGENET_STD
    try:
        with quiet():
            known = _processor_class(Path(folder) / stored[0])
            processor = known.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        normal = bool(getattr(processor, "do_normalize", False))
        values = [getattr(processor, name, None) for name in ("image_mean", "image_std")]
        mean, std = (np.ravel(value).astype(np.float64) if normal else np.ravel(value) for value in values)
    except Exception as error:  # whatever a stranger's file leads its readers to
        raise TaskError(
            f"{folder}: transformers cannot read the image processor of {', '.join(stored)} ({error})."
        ) from error
    odd = [option for option in UNUSUAL if getattr(processor, option, None)]
    factor = getattr(processor, "rescale_factor", None) if getattr(processor, "do_rescale", False) else 1
    if not isinstance(factor, Real) or not 0 < factor < math.inf:
        raise TaskError(
            f"{folder}: the image processor of {', '.join(stored)} says rescale_factor = {factor!r}; expected a positive number, 1/255 of most "
            "models. Correct the file."
        )
    scaling = not normal or (
        mean.size in (1, 3) and std.size in (1, 3) and np.isfinite([*mean, *std]).all() and np.all(std > 0)
    )
    if odd or not scaling:
        raise TaskError(
            f"{folder}: the image processor of {', '.join(stored)} asks for what is not done here "
            f"({', '.join(odd) or f'image_mean = {mean.tolist()}, image_std = {std.tolist()}'}); expected mean and standard "
            "deviation of three channels. Correct the file."
        )
    mean, std = (mean, std) if normal else (np.zeros(3), np.ones(3))
    return tuple(
        [float(value) / (255 * factor) for value in np.broadcast_to(values.astype(np.float64), 3)]
        for values in (mean, std)
    )


def _processor_class(path: Path) -> type:
    """What reads a processor's file; files of 2023 call `…ImageProcessor` by its older name, `…FeatureExtractor`."""
    name = files.read_json(path).get("image_processor_type") or ""
    renamed = name.removesuffix("FeatureExtractor") + "ImageProcessor" if name.endswith("FeatureExtractor") else ""
    return getattr(transformers, renamed, transformers.AutoImageProcessor)


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
    """Accuracy of the model's own head (`finetune`) or of a classifier of frozen features (`probe`, `knn`: `reader`)."""
    size = tasks.batch_size(settings)

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = prepared.collate(rows)
        return batch | {"pixel_values": batch["pixel_values"].to(model.dtype)}  # not all models do so themselves

    if settings["protocol"] == "finetune":
        logits = tasks.forward(model, prepared.inputs, collate, size, device, tasks.logits)
        return _labels.classified(prepared, _labels.best(logits), logits)
    read = reader(model)
    features, evaluated = (
        tasks.forward(model, inputs, collate, size, device, read) for inputs in (prepared.train, prepared.inputs)
    )
    predicted = _labels.probe(settings["protocol"], features, prepared.train_targets, evaluated)
    return _labels.classified(prepared, predicted, np.concatenate([features, evaluated]))


def reader(model: torch.nn.Module) -> Callable[[Any, dict[str, Any]], torch.Tensor]:
    """What is read of a model's output as features: (batch, width or twice the width).

    The mean over the patches, after the class token where the architecture has one. A model without (Swin, SigLIP) has
    nothing but patches, whose first is a corner of the image; its pooler is not read, as it may be new (`evaluation`): nor is
    what asks for the patches in a head (AIMv2). Raises TaskError where what follows the known tokens is no square of patches.
    """
    # Of the whole model: DINOv3's base model is its blocks, without tokens.
    parameters = ((*name.split("."), parameter) for name, parameter in model.named_parameters())
    named = [(name, parameter) for *path, name, parameter in parameters if "head" not in path]
    has_class = any(name in CLASS_TOKENS for name, _ in named)
    in_front = sum(token.numel() // token.shape[-1] for name, token in named if name in CLASS_TOKENS | OTHER_TOKENS)

    def read(output: Any, batch: dict[str, Any]) -> torch.Tensor:
        hidden = output.last_hidden_state.float()
        if hidden.ndim == 4:  # a square map of patches, which no token is part of: channels first, or last (SAM 2)
            _, *sides, last = hidden.shape
            return hidden.mean(dim=(1, 2) if sides[0] == sides[1] != last else (2, 3))
        count = hidden.shape[1] - in_front
        if count < 1 or math.isqrt(count) ** 2 != count:  # images are squares here, of square patches
            raise TaskError(
                f"{type(model).__name__} gives {hidden.shape[1]} tokens of an image, {in_front} of them known to be no patches; the other "
                f"{max(count, 0)} are no square of patches. Some are tokens that are not known here: fine-tune this model, or use another one."
            )
        patches = hidden[:, in_front:].mean(dim=1)
        return torch.cat([hidden[:, 0], patches], dim=1) if has_class else patches

    return read
