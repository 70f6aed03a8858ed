"""Masked autoencoders (ViT-MAE) as feature extractors: all patches, in their order.

The pre-trained model drops a random 75 % of the patches and shuffles the others. `whole` undoes both; the classifier is
the one that transformers lacks for this architecture, on the class token as in its ViT.
"""

from typing import Any

import torch
from transformers import AutoModelForImageClassification, ViTMAEConfig, ViTMAEModel, ViTMAEPreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

OPTIONS = {"mask_ratio": 0.0}  # of the model's configuration


def whole(pixel_values: torch.Tensor, patch_size: int) -> torch.Tensor:
    """The `noise` (batch, patches) that leaves the patches in order: they are sorted by it."""
    patches = (pixel_values.shape[-2] // patch_size) * (pixel_values.shape[-1] // patch_size)
    return torch.arange(patches, dtype=torch.float32, device=pixel_values.device).expand(len(pixel_values), -1)


class ViTMAEForImageClassification(ViTMAEPreTrainedModel):
    """An encoder and a linear head on its class token."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.vit = ViTMAEModel(config)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        noise: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ImageClassifierOutput:
        output = self.vit(pixel_values, noise=noise, interpolate_pos_encoding=interpolate_pos_encoding)
        logits = self.classifier(output.last_hidden_state[:, 0])
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits.float(), labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


AutoModelForImageClassification.register(ViTMAEConfig, ViTMAEForImageClassification, exist_ok=True)
