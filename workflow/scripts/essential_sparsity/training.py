"""Fine-tuning with a held mask: pruned weights stay exactly zero through every step.

Protocol of the paper: AdamW, linear decay to 0, no warm-up, weight decay 0, epsilon 1e-8, the same settings at every
sparsity, the mask found once on the pre-trained weights. Judged at the last step, never at the best epoch.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from essential_sparsity import checkpoints, files


class TrainingError(ValueError):
    """Fine-tuning cannot start as configured, or did not hold its mask."""


def load_trainable(
    folder: str | Path, auto_class: str, seed: int, options: Mapping[str, Any], **load: Any
) -> transformers.PreTrainedModel:
    """The pre-trained model in its stored dtype under a new head, initialised by the seed.

    Only the head (and a pooler, which some pre-trained checkpoints lack) may be new. A classifier that the checkpoint
    brings is replaced too: its labels are another task's.
    """
    transformers.set_seed(seed32(seed, "head"))
    allow_new = new_parts(folder, auto_class)
    model = checkpoints.load_model(folder, auto_class, allow_new=allow_new, **options, **load)
    for name, part in model.named_children():
        if name != model.base_model_prefix:
            for parameter in part.parameters():
                parameter._is_hf_initialized = False  # transformers' initialisers skip parameters that were loaded
            part.apply(model._init_weights)
    return model


def new_parts(folder: str | Path, auto_class: str) -> tuple[str, ...]:
    """Prefixes of the parameters that may be new: everything beside the base model, and the base model's pooler."""
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = getattr(transformers, auto_class).from_config(config)
    beside = (f"{name}." for name, _ in model.named_children() if name != model.base_model_prefix)
    return ("pooler.", *beside)


def train_(
    model: transformers.PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    collate: Callable[[list], dict[str, Any]],
    settings: Mapping[str, Any],
    seed: int,
    masks: Mapping[str, torch.Tensor],
    device: torch.device | str,
) -> None:
    """Fine-tune `model` in place, in float32, on `rows` (dicts with `labels`), holding `masks`.

    `masks`: prunable weight name -> bool tensor of its shape, True where pruned; the weights are already zero there.
    Settings: `epochs`, `learning_rate`, `batch_size`, optionally `autocast` (bf16 or fp16, used on CUDA only).
    Raises TrainingError when a pruned weight is not exactly zero after an epoch or at the end.
    """
    for key in ("epochs", "learning_rate", "batch_size"):
        if settings.get(key) is None:
            raise TrainingError(f"Task {settings.get('task')!r}: column {key!r} is empty, but fine-tuning needs it.")
    device = torch.device(device)
    model.float().to(device)
    held = hold(model, masks)
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(settings, seed, device, folder, texts="input_ids" in rows[0])
        trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Watch(held)]
        )
        trainer.remove_callback(transformers.PrinterCallback)
        transformers.set_seed(arguments.seed)
        try:
            trainer.train()
        finally:
            for _, _, _, hook in held:
                hook.remove()
    check_held(held)


def hold(model: transformers.PreTrainedModel, masks: Mapping[str, torch.Tensor]) -> list[tuple]:
    """Mask the gradients of pruned weights: (name, parameter, mask, hook) of each.

    A gradient of exactly zero from the first step keeps AdamW's moments, and so its update, at zero (decay is 0).
    Zeroing the weights after each step instead would let the moments drift, and would clip the gradient of the kept
    weights by a norm that counts gradients thrown away.
    """
    parameters = checkpoints.parameters(model)
    unknown = sorted(set(masks) - set(parameters))
    if unknown:
        raise TrainingError(f"Masks name weights that the model does not have: {', '.join(unknown[:3])} …")
    held = []
    for name, mask in masks.items():
        parameter = parameters[name]
        mask = mask.to(parameter.device)
        hook = parameter.register_hook(lambda gradient, mask=mask: gradient.masked_fill(mask, 0.0))
        held.append((name, parameter, mask, hook))
    check_held(held)
    return held


def check_held(held: Sequence[tuple]) -> None:
    """Raise TrainingError, naming the tensor, unless every masked weight is exactly zero."""
    for name, parameter, mask, _ in held:
        wrong = parameter.detach()[mask] != 0
        if bool(wrong.any()):
            finite = bool(torch.isfinite(parameter).all())
            cause = "The mask was not held." if finite else "Training diverged to NaN: lower learning_rate."
            raise TrainingError(f"{name}: {int(wrong.sum())} of {int(mask.sum())} pruned weights are not zero. {cause}")


class Watch(transformers.TrainerCallback):
    """Checks the masks after each epoch, so that a long training does not run on without them."""

    def __init__(self, held: Sequence[tuple]):
        self.held = held

    def on_epoch_end(self, args, state, control, **kwargs):
        check_held(self.held)


def training_arguments(
    settings: Mapping[str, Any], seed: int, device: torch.device, folder: str, texts: bool
) -> transformers.TrainingArguments:
    """The protocol above; nothing is saved, reported or evaluated on the way."""
    autocast = settings.get("autocast") if device.type == "cuda" else None
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=float(settings["epochs"]),
        learning_rate=float(settings["learning_rate"]),
        per_device_train_batch_size=int(settings["batch_size"]),
        optim="adamw_torch_fused",  # the same update in one pass over memory: a quarter of a small model's step
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=0.0,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        seed=seed32(seed, "training"),
        data_seed=seed32(seed, "order"),
        train_sampling_strategy="group_by_length" if texts else "random",  # batches of like length hold little padding
        bf16=autocast == "bf16",
        fp16=autocast == "fp16",
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    # One GPU, even where the node shows more: DataParallel would multiply the batch size, and with it the protocol.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def seed32(seed: int, purpose: str) -> int:
    """A seed in the range that torch, NumPy and transformers all take."""
    return files.named_seed(seed, purpose) % 2**32
