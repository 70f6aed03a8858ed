"""What a model is pre-trained for: one module per objective, each a `torch.nn.Module` whose forward gives the loss.

`Objective.backbone()` is what is saved: a transformers model that every task of the workflow can load.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
import transformers

IMAGE_MEAN = IMAGE_STD = (0.5, 0.5, 0.5)
MASKED_PATCHES = 0.75  # He et al. 2021, "Masked Autoencoders Are Scalable Vision Learners"
PROTOTYPES = 1024  # outputs of the self-distillation head
TEMPERATURES = (0.1, 0.04)  # student, teacher: Caron et al. 2021, "Emerging Properties in Self-Supervised ViTs"
MOMENTUM, CENTRING = 0.996, 0.9
IGNORED = -100  # label of a token that is not masked
CROP = (0.4, 1.0)  # share of the image's side that a view shows


class Objective(torch.nn.Module):
    """`forward(**batch)` gives {"loss": scalar}."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model
        self.register_state_dict_post_hook(_without_tied)
        self.register_load_state_dict_pre_hook(_with_tied)

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.model(**batch).loss}

    def backbone(self) -> transformers.PreTrainedModel:
        """The model as it is saved."""
        return self.model

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of all steps that is done."""


def _without_tied(module: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str, metadata: dict) -> None:
    """Tied weights stand once in a saved state: safetensors refuses two names for one memory."""
    seen: set[int] = set()
    for name in list(state):
        place = state[name].data_ptr()
        if place in seen and state[name].numel():
            del state[name]
        seen.add(place)


def _with_tied(module: torch.nn.Module, state: dict[str, torch.Tensor], prefix: str, *more: Any) -> None:
    """Put the other names of tied weights back into a state that is loaded."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(prefix + name)
    for tied in names.values():
        found = [state[name] for name in tied if name in state]
        state.update(dict.fromkeys(tied, found[0]) if found else {})


class MaskedLM(Objective):
    """BERT's masked language model (Devlin et al. 2019), without next-sentence prediction."""

    def __init__(self, settings: Mapping[str, Any], tokens: Mapping[str, int]):
        width = settings["width"]
        config = transformers.BertConfig(
            vocab_size=tokens["size"],
            pad_token_id=tokens["pad"],
            max_position_embeddings=settings["max_length"],
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=settings["layers"],
            num_attention_heads=settings["heads"],
        )
        super().__init__(transformers.BertForMaskedLM(config))

    def forward(
        self, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None, **batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """`num_items_in_batch`: masked tokens of the whole batch, of which each process has a share, perhaps without any. transformers
        multiplies the loss by the processes: their mean is that of the whole batch, which BERT's own loss would not be.
        """
        logits = self.model(**batch).logits.flatten(0, 1)
        masked = labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        total = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return {"loss": total / masked.clamp(min=1)}


def vit_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of the vision transformer, the same for all objectives."""
    return {
        "hidden_size": settings["width"],
        "intermediate_size": 4 * settings["width"],
        "num_hidden_layers": settings["layers"],
        "num_attention_heads": settings["heads"],
        "image_size": settings["image_size"],
        "patch_size": settings["patch_size"],
    }


class Supervised(Objective):
    """Classify the image: cross-entropy on a linear head over the class token."""

    def __init__(self, settings: Mapping[str, Any], labels: int):
        super().__init__(
            transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=labels, **vit_options(settings)))
        )

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(pixel_values=view_of(pixel_values), labels=labels)

    def backbone(self) -> transformers.PreTrainedModel:
        return _as_vit(self.model.vit)


class MaskedAutoencoding(Objective):
    """Rebuild the pixels of the masked patches from the others (He et al. 2021), with a narrow decoder of two blocks."""

    def __init__(self, settings: Mapping[str, Any]):
        half = settings["width"] // 2
        config = transformers.ViTMAEConfig(
            mask_ratio=MASKED_PATCHES,
            norm_pix_loss=True,
            decoder_hidden_size=half,
            decoder_intermediate_size=4 * half,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=max(1, settings["heads"] // 2),
            **vit_options(settings),
        )
        super().__init__(_with_positions(transformers.ViTMAEForPreTraining(config)))

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(pixel_values=view_of(pixel_values))

    def backbone(self) -> transformers.PreTrainedModel:
        return _as_vit(self.model.vit)


@torch.no_grad()
def _with_positions(model: transformers.ViTMAEForPreTraining) -> transformers.ViTMAEForPreTraining:
    """The same with what He et al. start from: fixed sines and cosines of the patches' places, in the encoder and the decoder.

    transformers (5.23) leaves them zero in a model that is not loaded, with the class token and the mask token: patches would have
    no places, and all masked ones of an image would be told alike.
    """
    patches = model.vit.embeddings.patch_embeddings
    patches.projection._is_hf_initialized = False  # else the embeddings count as loaded
    model.vit.embeddings.initialize_weights()
    model.decoder.initialize_weights(patches.num_patches)
    return model


class SelfDistillation(Objective):
    """DINO without small crops: a student agrees with a teacher on another view; the teacher is the student's average."""

    def __init__(self, settings: Mapping[str, Any]):
        config = transformers.ViTConfig(**vit_options(settings))
        super().__init__(transformers.ViTModel(config, add_pooling_layer=False))
        self.head = _head(settings["width"])
        self.teacher = transformers.ViTModel(config, add_pooling_layer=False).requires_grad_(False)
        self.teacher_head = _head(settings["width"]).requires_grad_(False)
        self.teacher.load_state_dict(self.model.state_dict())
        self.teacher_head.load_state_dict(self.head.state_dict())
        self.register_buffer("centre", torch.zeros(PROTOTYPES))

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        views = torch.cat([view_of(pixel_values), view_of(pixel_values)])
        student = self.head(self.model(views).last_hidden_state[:, 0]).float() / TEMPERATURES[0]
        with torch.no_grad():
            self.teacher.eval()
            logits = self.teacher_head(self.teacher(views).last_hidden_state[:, 0]).float()
            target = F.softmax((logits - self.centre) / TEMPERATURES[1], dim=1)
            if self.training:
                self.centre.mul_(CENTRING).add_(_of_all(logits.mean(dim=0)), alpha=1 - CENTRING)
        wanted = torch.cat(target.chunk(2)[::-1])  # each view's target is the teacher's answer to the other view
        return {"loss": -(wanted * F.log_softmax(student, dim=1)).sum(dim=1).mean()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        momentum = 1 - (1 - MOMENTUM) * (math.cos(math.pi * progress) + 1) / 2
        for teacher, student in ((self.teacher, self.model), (self.teacher_head, self.head)):
            for theirs, ours in zip(teacher.parameters(), student.parameters(), strict=True):
                theirs.mul_(momentum).add_(ours, alpha=1 - momentum)

    def backbone(self) -> transformers.PreTrainedModel:
        return _as_vit(self.teacher)


def _of_all(mean: torch.Tensor) -> torch.Tensor:
    """The mean over a whole batch, of which each process has an equal share."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean


class _Prototypes(torch.nn.Module):
    """Cosine with each of the prototypes: a linear layer with unit rows on unit inputs."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(PROTOTYPES, width) * 0.02)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


def _head(width: int) -> torch.nn.Module:
    layers = [torch.nn.Linear(width, 4 * width), torch.nn.GELU(), torch.nn.Linear(4 * width, width), _Prototypes(width)]
    return torch.nn.Sequential(*layers)


def _as_vit(encoder: transformers.PreTrainedModel) -> transformers.ViTModel:
    """The same weights as a plain ViT without pooler, whatever model they were trained in."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    config = transformers.ViTConfig(**{name: getattr(encoder.config, name) for name in names})
    with torch.random.fork_rng(devices=[]):  # the weights made here are replaced: they must not use up random numbers
        plain = transformers.ViTModel(config, add_pooling_layer=False)
    plain.load_state_dict({name: value.cpu() for name, value in encoder.state_dict().items()})
    return plain


def view_of(images: torch.Tensor) -> torch.Tensor:
    """A random view of each image (n, 3, side, side): crop and resize, mirror, brightness and contrast; torch's own RNG."""
    n, device = len(images), images.device
    low, high = CROP
    scale = torch.empty(n).uniform_(low, high)
    shift = torch.empty(n, 2).uniform_(-1, 1) * (1 - scale)[:, None]
    mirror = torch.randint(0, 2, (n,)) * 2.0 - 1
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale * mirror, scale, shift
    grid = F.affine_grid(theta.to(device), list(images.shape), align_corners=False)
    seen = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    contrast, brightness = (torch.empty(n, 1, 1, 1).uniform_(-0.2, 0.2).to(device) for _ in range(2))
    return seen * (1 + contrast) + brightness
