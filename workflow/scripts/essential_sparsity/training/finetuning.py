"""Fine-tuning with a held mask: pruned weights stay exactly zero through every step.

Protocol of the paper: AdamW, linear decay to 0, no warm-up, weight decay 0, epsilon 1e-8, the same settings at every
sparsity, the mask found once on the pre-trained weights. Judged at the last step, never at the best epoch.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from essential_sparsity import errors, files
from essential_sparsity.checkpoints import loading
from essential_sparsity.training import devices, exactness, memory, resume

LOOKED_AT = 32  # training rows whose loss says whether training diverged
RISE = 2.0  # times their loss before training: more is no noise of a model that learns nothing


class TrainingError(errors.UserError):
    """Fine-tuning cannot start as configured, or did not hold its mask."""


def load_trainable(
    folder: str | Path,
    auto_class: str,
    seed: int,
    options: Mapping[str, Any],
    head: Callable[[transformers.PreTrainedModel], transformers.PreTrainedModel] | None = None,
    **load: Any,
) -> transformers.PreTrainedModel:
    """The pre-trained model in its stored dtype under a new head, initialised by the seed.

    Only the head (and a pooler, which some pre-trained checkpoints lack) may be new. A classifier that the checkpoint
    brings is replaced too: its labels are another task's. `head`: puts a head of the kind's own (`tasks.Prepared`) on a base model.
    """
    transformers.set_seed(seed32(seed, "head"))
    if head:
        base = loading.load_model(folder, auto_class, allow_new=("pooler.",), **options, **load)
        transformers.set_seed(seed32(seed, "head"))  # whether or not a pooler was drawn
        return head(base).eval()
    allow_new = new_parts(folder, auto_class)
    model = loading.load_model(folder, auto_class, allow_new=allow_new, **options, **load)
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
    work: resume.Work | None = None,
) -> bool:
    """Fine-tune `model` in place, in float32, on `rows` (dicts with `labels`), holding `masks`.

    `masks`: prunable weight name -> bool tensor of its shape, True where pruned; the weights are already zero there.
    Settings: `epochs`, `learning_rate`, `batch_size`, optionally `autocast` (bf16 or fp16, used on CUDA only) and
    `head_learning_rate`, of all that stands beside the base model.
    `gradient_checkpointing`: activations are computed again in the backward pass instead of being kept.
    `work`: where checkpoints are kept, and what decides `rows`, the weights of `model` and the code; a training that was
    killed goes on from the last one.
    Where memory does not suffice for a batch, it goes through in parts that add up to the same gradient.
    Returns whether training diverged: it left weights that are not finite, or a loss of the first training rows that is
    more than RISE times that before training. It ends with the epoch in which a weight is no longer finite, since no step
    leads back; such weights stay as they are, but pruned ones are zero again. Raises TrainingError when a pruned weight is
    a number other than zero after an epoch or at the end.
    """
    for key in ("epochs", "learning_rate", "batch_size"):
        if settings.get(key) is None:
            raise TrainingError(f"Task {settings.get('task')!r}: column {key!r} is empty, but fine-tuning needs it.")
    if settings.get("gradient_checkpointing") and not model.supports_gradient_checkpointing:
        raise TrainingError(
            f"Task {settings.get('task')!r}: {type(model).__name__} cannot compute activations again. Leave the column "
            "gradient_checkpointing blank, and lower batch_size where memory does not suffice."
        )
    device = torch.device(device)
    model.float().to(device)
    held = hold(model, masks)
    before = mean_loss(model, rows, collate, device)
    progress = work and resume.Progress(identified(work, rows, settings, seed, masks, device))
    with contextlib.ExitStack() as stack:
        folder = work.folder if work else stack.enter_context(tempfile.TemporaryDirectory())
        for _, _, _, hook in held:
            stack.callback(hook.remove)
        arguments = training_arguments(settings, seed, device, str(folder), texts="input_ids" in rows[0])
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            callbacks=[Watch(held)],
            optimizers=(optimizer(model, settings, arguments), None),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        if progress:
            trainer.follow(stack.enter_context(progress))
        transformers.set_seed(arguments.seed)
        stack.enter_context(exactness.strict())
        stack.callback(unwrap, model)
        trainer.train(resume_from_checkpoint=progress and progress.checkpoint and str(progress.checkpoint))
    check_held(held)
    with torch.no_grad():
        for _, parameter, mask, _ in held:
            parameter.masked_fill_(mask, 0)
    return not (finite(model) and mean_loss(model, rows, collate, device) <= RISE * before)


def optimizer(
    model: transformers.PreTrainedModel, settings: Mapping[str, Any], arguments: transformers.TrainingArguments
) -> torch.optim.Optimizer | None:
    """That of the protocol with a rate of its own for the head, where the settings have one; None: the Trainer makes it."""
    if settings.get("head_learning_rate") is None:
        return None
    base = list(model.base_model.parameters())
    known = set(map(id, base))
    head = [parameter for parameter in model.parameters() if id(parameter) not in known]
    made, options = transformers.Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    groups = [{"params": base}, {"params": head, "lr": float(settings["head_learning_rate"])}]
    return made(groups, **options, weight_decay=arguments.weight_decay)


def identified(
    work: resume.Work,
    rows: Sequence,
    settings: Mapping[str, Any],
    seed: int,
    masks: Mapping[str, torch.Tensor],
    device: torch.device,
) -> resume.Work:
    """The work with all that decides the trained bits: its caller names what the weights before training and the rows'
    content follow from (`resume.Work.of_job`)."""
    return resume.Work(
        work.folder,
        {
            **work.identity,
            "settings": dict(settings),
            "seed": seed,
            "rows": len(rows),
            "masks": resume.digest(masks),
            **resume.versions(device.type),
        },
    )


def unwrap(model: transformers.PreTrainedModel) -> None:
    """Give a model its own forward pass back: accelerate puts autocast around it for good, so it would be scored under it too."""
    for name in ("forward", "_original_forward"):
        model.__dict__.pop(name, None)


class Trainer(transformers.Trainer):
    """Trains on batches of the configured size, cut into `parts` where memory asks for it.

    The Trainer's own accumulation of gradients would cut the data set instead: batches that do not divide would change,
    and models that take loss arguments without using them (BERT's classifier) would add the losses instead of
    averaging them.
    """

    parts = 1
    progress: resume.Progress | None = None

    def follow(self, progress: resume.Progress) -> None:
        """Go on from, and write, the checkpoints of this progress."""
        self.progress, self.parts = progress, progress.parts
        self.add_callback(progress)

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """The gradient of the mean loss of a batch, tried again in twice as many parts when memory runs out, and where an
        operation has no deterministic form."""
        rows = rows_of(inputs)
        before = exactness.Before(model, self.args.device)
        while True:
            try:
                if self.parts == 1:
                    return super().training_step(model, inputs, num_items_in_batch)
                return self._in_parts(model, inputs, rows)
            except RuntimeError as error:
                if not exactness.give_in(error):
                    if not memory.ran_out(error) or self.parts >= rows:
                        raise
                    self.cut(rows)
            memory.free()
            before.restore()

    def cut(self, rows: int) -> None:
        """Let batches go through in twice as many parts from here."""
        self.parts *= 2
        if self.progress:
            self.progress.parts = self.parts
        print(f"Out of memory: batches of {rows} go through in {self.parts} parts from here.", flush=True)

    def _in_parts(self, model, inputs: Mapping[str, Any], rows: int) -> torch.Tensor:
        """As one batch, to rounding: each part's mean loss counts by its share of the batch's targets."""
        model.train()
        size = -(-rows // self.parts)
        parts = [
            {key: value[start : start + size] if torch.is_tensor(value) else value for key, value in inputs.items()}
            for start in range(0, rows, size)
        ]
        counts = [self._targets(part) for part in parts]
        total = torch.zeros((), device=self.args.device)
        for part, count in zip(parts, counts, strict=True):
            if count:
                loss = self.compute_loss(model, self._prepare_inputs(part)) * (count / sum(counts))
                self.accelerator.backward(loss)
                total += loss.detach()
        return total

    def _targets(self, part: Mapping[str, Any]) -> int:
        """What a part's loss is the mean of: labels that are not ignored, else rows."""
        labels = part.get("labels")
        if labels is None:
            return rows_of(part)
        return int((labels[..., 1:] if self._loss_shifts_labels else labels).ne(-100).sum())

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Not counted: it would walk through all parameters at every step."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The weights under their names in memory: `save_pretrained` writes others, which loading would then skip."""
        os.makedirs(output_dir, exist_ok=True)
        torch.save(self.model.state_dict(), Path(output_dir) / transformers.utils.WEIGHTS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Every weight, or an error."""
        path = Path(resume_from_checkpoint) / transformers.utils.WEIGHTS_NAME
        self.model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def rows_of(batch: Mapping[str, Any]) -> int:
    """Rows of a batch, all of whose tensors have them first."""
    return len(next(value for value in batch.values() if torch.is_tensor(value)))


def hold(model: transformers.PreTrainedModel, masks: Mapping[str, torch.Tensor]) -> list[tuple]:
    """Mask the gradients of pruned weights: (name, parameter, mask, hook) of each.

    A gradient of exactly zero from the first step keeps AdamW's moments, and so its update, at zero (decay is 0).
    Zeroing the weights after each step instead would let the moments drift, and would clip the gradient of the kept
    weights by a norm that counts gradients thrown away.
    """
    parameters = loading.parameters(model)
    unknown = sorted(set(masks) - set(parameters))
    if unknown:
        raise TrainingError(f"Masks name weights that the model does not have: {files.some(unknown)}.")
    held = []
    for name, mask in masks.items():
        parameter = parameters[name]
        mask = mask.to(parameter.device)
        hook = parameter.register_hook(lambda gradient, mask=mask: gradient.masked_fill(mask, 0.0))
        held.append((name, parameter, mask, hook))
    check_held(held)
    return held


def check_held(held: Sequence[tuple]) -> None:
    """Raise TrainingError, naming the tensor, where a masked weight is a number other than zero.

    One that is no number was held: clipping multiplies the zero of its gradient by a norm that has diverged.
    """
    for name, parameter, mask, _ in held:
        pruned = parameter.detach()[mask]
        wrong = int((torch.isfinite(pruned) & (pruned != 0)).sum())
        if wrong:
            raise TrainingError(
                f"{name}: {wrong} of {int(mask.sum())} pruned weights are not zero: the mask was not held."
            )


@torch.no_grad()
def mean_loss(
    model: transformers.PreTrainedModel,
    rows: Sequence[Mapping[str, Any]],
    collate: Callable[[list], dict[str, Any]],
    device: torch.device,
) -> float:
    """Mean loss of the first LOOKED_AT training rows, without dropout; one at a time, as memory may hold no more."""
    model.eval()
    total = torch.zeros((), device=device)
    looked_at = range(min(LOOKED_AT, len(rows)))
    for index in looked_at:
        batch = {
            key: value.to(device) if torch.is_tensor(value) else value for key, value in collate([rows[index]]).items()
        }
        total += model(**batch).loss.float()
    return float(total) / len(looked_at)


def finite(model: torch.nn.Module) -> bool:
    """Whether all weights are finite numbers."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


class Watch(transformers.TrainerCallback):
    """Checks masks and weights after each epoch, so that a long training does not run on without them."""

    def __init__(self, held: Sequence[tuple]):
        self.held = held

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        check_held(self.held)
        if not finite(model):
            print(f"Training diverged before step {state.global_step}: it ends here.", flush=True)
            control.should_training_stop = True


def training_arguments(
    settings: Mapping[str, Any], seed: int, device: torch.device, folder: str, texts: bool
) -> transformers.TrainingArguments:
    """The protocol above; nothing is saved, reported or evaluated on the way."""
    gpu = device.type == "cuda"
    autocast = settings.get("autocast") if gpu else None
    workers = devices.workers() if gpu else 0
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
        activation_checkpointing=bool(settings.get("gradient_checkpointing")),
        activation_checkpointing_kwargs={
            "use_reentrant": False
        },  # the gradients of weights alone do not need the other
        bf16=autocast == "bf16",
        fp16=autocast == "fp16",
        use_cpu=not gpu,
        dataloader_pin_memory=gpu,
        # Not persistent: these draw one number less from the generator that orders the batches, from the second epoch on. The
        # same training would end with other bits where there are other workers, and where it goes on from a checkpoint.
        dataloader_num_workers=workers,
        remove_unused_columns=False,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,  # it would wait for the GPU at every step; divergence shows in the weights
        report_to="none",
        disable_tqdm=True,
    )
    # One GPU, even where the node shows more: DataParallel would multiply the batch size, and with it the protocol.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def seed32(seed: int, purpose: str) -> int:
    """A seed in the range that torch, NumPy and transformers all take."""
    return files.named_seed(seed, purpose) % 2**32
