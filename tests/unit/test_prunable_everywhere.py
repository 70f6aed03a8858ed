"""What is prunable and what is not in all architectures of texts or images that transformers has, reviewed role by role.

`reviewed_roles.tsv` lists roles, paths without numbers. `place` is "prunable", "block" (in a block and left alone) or
"outside" (of the blocks); `what` says of prunable ones the sublayer and which dimension holds the inputs, of the others
why they are left alone. A new architecture, or a new part of an old one, that is not there fails here: read what its
forward pass does with the parameter, then add the row. Vectors, biases, and embeddings and convolutions outside of the
blocks need none.
"""

import csv
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import CheckpointError, blocks, find_prunable

with (Path(__file__).parent / "reviewed_roles.tsv").open(encoding="utf-8", newline="") as table:
    ROWS = [(row["place"], row["role"], row["what"]) for row in csv.DictReader(table, delimiter="\t")]
PRUNABLE = {(role, what) for place, role, what in ROWS if place == "prunable"}
LEFT_ALONE = {(place, role) for place, role, _ in ROWS if place != "prunable"}

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2, "mamba_d_state": 8}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
SETTINGS = {  # of those whose defaults cannot be built, or have only one kind of block
    "bamba": SIZES | HEADS | MAMBA | {"attn_layer_indices": [1]},
    "cohere_compass_text": SIZES | HEADS | {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE},
    },
    "dbrx": {"d_model": 32, "n_heads": 4, "n_layers": 2, "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4}},
    "deberta": SIZES | {"num_attention_heads": 4, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "talking_head": True},
    "deberta-v2": SIZES | {"num_attention_heads": 4, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "conv_kernel_size": 3},
    "dots1": SIZES | HEADS | {"n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 24},
    "esm": SIZES | {"num_attention_heads": 4, "pad_token_id": 1, "mask_token_id": 2},
    "gemma4_text": SIZES | HEADS | {
        "layer_types": ["sliding_attention", "full_attention"], "enable_moe_block": True, "num_experts": 4,
        "top_k_experts": 2, "moe_intermediate_size": 24,
    },
    "granitemoehybrid": SIZES | HEADS | MAMBA | {"layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": SIZES | HEADS | {"head_dim": 8},
    "hunyuan_v1_moe": SIZES | HEADS | {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    "lfm2": SIZES | HEADS | {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": SIZES | HEADS | {
        "layer_types": ["conv", "full_attention"], "num_experts": 4, "num_dense_layers": 1,
        "moe_intermediate_size": 24, "num_experts_per_tok": 2,
    },
    "ministral": SIZES | HEADS | {"head_dim": 8},
    "nemotron": SIZES | HEADS | {"head_dim": 8},
    "nemotron_h": {"moe_latent_size": 64},
    "qwen4_exp_text": SIZES | HEADS,
    "zamba2": {"use_shared_attention_adapter": True},
}  # fmt: skip
ELSEWHERE = {  # they need a library that is not there, or settings of which their defaults have none, or have no AutoModel
    "dinat", "layoutlmv2", "timm_wrapper", "gemma4_assistant", "gemma4_unified_assistant", "pp_lcnet", "trocr",
}  # fmt: skip
REFUSED = {
    "no prunable weights": {
        "bit", "convnext", "convnextv2", "efficientnet", "falcon_mamba", "flaubert", "fnet", "focalnet", "hgnet_v2",
        "ibert", "mamba", "mamba2", "mobilenet_v1", "mobilenet_v2", "mobilevitv2", "poolformer", "regnet", "resnet",
        "squeezebert", "swiftformer", "textnet", "xlm", "xlstm",
    },
    "unknown role": {"dbrx", "funnel", "xlnet"},
    "attention outside of its blocks": {"blt"},
    "belong to no expert": {"longcat_flash"},
}  # fmt: skip
MAPPINGS = ("CAUSAL_LM", "MASKED_LM", "SEQUENCE_CLASSIFICATION", "QUESTION_ANSWERING", "IMAGE_CLASSIFICATION")
TYPES = sorted({t for name in MAPPINGS for t in getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES")} - ELSEWHERE)


def settings_of(model_type):
    return CONFIG_MAPPING[model_type](**SETTINGS.get(model_type, {}))


def built(model_type):
    config = settings_of(model_type)
    classes = modeling_auto.MODEL_MAPPING_NAMES[model_type]
    config.architectures = [classes] if isinstance(classes, str) else [classes[0]]  # as a checkpoint names it
    with torch.device("meta"):
        return hf.AutoModel.from_config(config)


def role(path):
    return ".".join("#" if part.isdigit() else part for part in path.split("."))


@pytest.mark.parametrize("model_type", [t for t in TYPES if not any(t in types for types in REFUSED.values())])
def test_all_roles_are_reviewed(model_type):
    config = settings_of(model_type)
    if config.is_encoder_decoder or loading.has_towers(config):
        return  # no kind of task evaluates it
    model = built(model_type)
    weights = find_prunable(model)
    base = model.base_model
    inside = [path for path, _ in blocks(base)]
    assert {weight.layer for weight in weights} == set(range(len(inside))), "a block without prunable weights"
    inputs = {(w.role, f"{w.sublayer}, inputs in {w.input_dim} of {len(w.shape)}") for w in weights}
    assert sorted(inputs - PRUNABLE) == []
    found, modules, left = {weight.name for weight in weights}, dict(base.named_modules()), set()
    for name, parameter in base.named_parameters():
        block = next((f"{path}." for path in inside if name.startswith(f"{path}.")), "")
        module = modules[name.rpartition(".")[0]]
        known = not block and isinstance(module, nn.Embedding | nn.modules.conv._ConvNd)
        if parameter.ndim > 1 and name not in found and "bias" not in name.rpartition(".")[2] and not known:
            left.add(("block" if block else "outside", role(name.removeprefix(block))))
    assert sorted(left - LEFT_ALONE) == []


@pytest.mark.parametrize(("model_type", "why"), [(t, why) for why, types in REFUSED.items() for t in sorted(types)])
def test_refused_in_words(model_type, why):
    with pytest.raises(CheckpointError, match=why):
        find_prunable(built(model_type))


@pytest.mark.parametrize("model_type", ["chameleon", "emu3"])
def test_a_quantizer_of_images_beside_a_model_of_texts_is_a_tower(model_type):
    """Its attention would count as blocks before those of the texts."""
    config = CONFIG_MAPPING[model_type]()
    assert loading.has_towers(config)
    assert "vq_config in its config.json" in loading.one_tower(config)
