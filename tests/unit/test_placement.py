"""A checkpoint is what its config.json says: stored tensors without a place, and places without a tensor, are refused."""

import argparse
import json

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from essential_sparsity.acquire import fetching
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.loading import CheckpointError, describe, load_model
from essential_sparsity.runs import job

SHAPE = {"vocab_size": 16, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
TEXT = SHAPE | {"num_hidden_layers": 2, "max_position_embeddings": 32}
VISION = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
VISION |= {"image_size": 16, "patch_size": 4}
GPT2 = {"vocab_size": 16, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
OPT = {"vocab_size": 16, "hidden_size": 16, "ffn_dim": 32, "num_attention_heads": 2, "max_position_embeddings": 32}
OPT |= {"num_hidden_layers": 2, "word_embed_proj_dim": 16}


def saved(folder, name, config, without=(), more=None, **changed):
    """A model as it was stored, beside a config.json that says something else of it, and with other tensors."""
    torch.manual_seed(7)
    getattr(hf, name)(config).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    tensors = load_file(folder / "model.safetensors")
    tensors = {key: value for key, value in tensors.items() if not key.startswith(tuple(without))}
    save_file(tensors | (more or {}), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


BIASES = hf.LlamaConfig(**TEXT, attention_bias=True, mlp_bias=True)
LAYERS = TEXT | {"num_hidden_layers": 4}
WRONG = {  # model, its own configuration, what config.json says instead; a name that must stand in the message
    "biases": ("LlamaForCausalLM", BIASES, {"attention_bias": False, "mlp_bias": False}, "layers.0.mlp.down_proj.bias"),
    "biases of the base": ("LlamaModel", BIASES, {"mlp_bias": False}, "layers.1.mlp.up_proj.bias"),
    "layers": ("BertModel", hf.BertConfig(**LAYERS), {"num_hidden_layers": 2}, "encoder.layer.2.attention.output"),
    "layers under a head": ("BertForMaskedLM", hf.BertConfig(**LAYERS), {"num_hidden_layers": 3}, "bert.encoder.layer.3"),
    "layers of GPT-2": ("GPT2LMHeadModel", hf.GPT2Config(**GPT2 | {"n_layer": 3}), {"n_layer": 2}, "h.2.attn.c_attn"),
    "layers of ViT": ("ViTModel", hf.ViTConfig(**VISION | {"num_hidden_layers": 3}), {"num_hidden_layers": 2}, "layer"),
    "biases of ViT": ("ViTModel", hf.ViTConfig(**VISION), {"qkv_bias": False}, "bias"),
    "a norm at the end": ("OPTForCausalLM", hf.OPTConfig(**OPT), {"_remove_final_layer_norm": True}, "final_layer_norm"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_stored_tensors_without_a_place_are_refused_by_name_before_a_model_is_built(tmp_path, name):
    model, config, changed, named = WRONG[name]
    folder = saved(tmp_path, model, config)
    describe(folder)
    load_model(folder, "AutoModel", allow_new="pooler.")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    for call in (describe, lambda folder: load_model(folder, "AutoModel", allow_new="pooler.")):
        with pytest.raises(CheckpointError, match=rf"stores \d+ tensors that .* no place for .*{named}.*allow_unused"):
            call(folder)


MORE = {
    "an adapter": ("BertModel", hf.BertConfig(**TEXT), "encoder.layer.0.attention.self.query.lora_A.weight", (2, 16)),
    "a block of another kind": ("BertModel", hf.BertConfig(**TEXT), "conv.weight", (16, 16)),
    "a bias of an output": ("LlamaForCausalLM", hf.LlamaConfig(**TEXT), "model.norm.bias", (16,)),
    "a norm of queries": ("LlamaForCausalLM", hf.LlamaConfig(**TEXT), "model.layers.0.self_attn.q_norm.weight", (8,)),
}


@pytest.mark.parametrize("name", MORE)
def test_what_a_checkpoint_stores_beside_is_refused_unless_the_row_allows_it(tmp_path, name):
    model, config, key, shape = MORE[name]
    folder = saved(tmp_path, model, config, more={key: torch.ones(shape)})
    for call in (describe, lambda folder, **allowed: load_model(folder, "AutoModel", **allowed)):
        with pytest.raises(CheckpointError, match=f"stores 1 tensors that .* has no place for .*{key}"):
            call(folder)
        call(folder, allow_unused=(key.removeprefix("model.")[:8],))
    assert key in describe(folder, allow_unused=(key,))["unused"]


def test_a_head_with_a_bias_that_the_model_has_no_place_for_is_refused_where_the_head_is_used(tmp_path):
    folder = saved(tmp_path, "LlamaForCausalLM", hf.LlamaConfig(**TEXT), more={"lm_head.bias": torch.ones(16)})
    load_model(folder, "AutoModel")
    with pytest.raises(CheckpointError, match=r"LlamaForCausalLM has no place for \(lm_head.bias\)"):
        load_model(folder, "AutoModelForCausalLM")
    load_model(folder, "AutoModelForCausalLM", allow_unused=("lm_head",))


NORMAL = {  # checkpoints as published: the class that is stored, tensors that old versions add, classes to load
    "pre-training heads": ("BertForPreTraining", hf.BertConfig(**TEXT), {}, ["AutoModel", "AutoModelForMaskedLM"]),
    "a masked-lm head": ("BertForMaskedLM", hf.BertConfig(**TEXT), {}, ["AutoModel", "AutoModelForMaskedLM"]),
    "a classifier": ("BertForSequenceClassification", hf.BertConfig(**TEXT), {}, ["AutoModel"]),
    "buffers of BERT": (
        "BertModel", hf.BertConfig(**TEXT), {"embeddings.position_ids": torch.arange(32)[None]}, ["AutoModel"],
    ),
    "buffers of RoBERTa": (
        "RobertaForMaskedLM", hf.RobertaConfig(**TEXT), {"roberta.embeddings.position_ids": torch.arange(32)[None]},
        ["AutoModel", "AutoModelForMaskedLM"],
    ),
    "masks of GPT-2": (
        "GPT2LMHeadModel", hf.GPT2Config(**GPT2),
        {
            "transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32).tril(),
            "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
        },
        ["AutoModel", "AutoModelForCausalLM"],
    ),
    "frequencies of LLaMA": (
        "LlamaForCausalLM", hf.LlamaConfig(**TEXT),
        {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}, ["AutoModel", "AutoModelForCausalLM"],
    ),
    "a value head": (
        "LlamaForCausalLM", hf.LlamaConfig(**TEXT), {"v_head.summary.weight": torch.ones(1, 16)},
        ["AutoModel", "AutoModelForCausalLM"],
    ),
    "tied embeddings stored twice": (
        "LlamaForCausalLM", hf.LlamaConfig(**TEXT, tie_word_embeddings=True), {"lm_head.weight": torch.ones(16, 16)},
        ["AutoModel"],
    ),
    "an image classifier": ("ViTForImageClassification", hf.ViTConfig(**VISION), {}, ["AutoModel"]),
    "a masked autoencoder": (
        "ViTMAEForPreTraining",
        hf.ViTMAEConfig(**VISION, decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_num_attention_heads=2),
        {}, ["AutoModel"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMAL)
def test_what_published_checkpoints_store_beside_the_model_is_left_out(tmp_path, name):
    model, config, more, classes = NORMAL[name]
    folder = saved(tmp_path, model, config, more=more)
    facts = describe(folder)
    assert not [name for name in facts["unused"] if name.endswith(("position_ids", "inv_freq", "bias_mask"))]
    for auto_class in classes:
        load_model(folder, auto_class, allow_new=("pooler.",))


LACKING = {
    "an embedding": ("BertModel", hf.BertConfig(**TEXT), "embeddings.token_type_embeddings"),
    "a norm": ("LlamaForCausalLM", hf.LlamaConfig(**TEXT), "model.norm"),
    "biases": ("BertForMaskedLM", hf.BertConfig(**TEXT), "bert.encoder.layer.1.output.dense.bias"),
    "positions": ("ViTModel", hf.ViTConfig(**VISION), "embeddings.position_embeddings"),
}


@pytest.mark.parametrize("name", LACKING)
def test_parameters_that_are_not_stored_are_refused_by_name(tmp_path, name):
    model, config, key = LACKING[name]
    folder = saved(tmp_path, model, config, without=[key])
    for call in (describe, lambda folder: load_model(folder, "AutoModel", allow_new="pooler.")):
        with pytest.raises(CheckpointError, match=r"lacks \d parameters of .*random"):
            call(folder)


def test_what_a_row_allows_is_kept_in_the_manifest_for_the_runs(tmp_path):
    folder = saved(tmp_path / "bert", "BertModel", hf.BertConfig(**LAYERS), num_hidden_layers=2)
    settings = {"source": "path", "id": str(folder), "revision": None, "format": "transformers", "packages": []}
    manifest = tmp_path / "out/manifest.json"
    with pytest.raises(CheckpointError, match="column allow_unused"):
        fetching.fetch("bert", settings, manifest)
    assert not manifest.exists()
    facts = fetching.fetch("bert", settings | {"allow_unused": "encoder.layer.2,encoder.layer.3"}, manifest)
    assert len(facts["unused"]) == 32
    args = argparse.Namespace(task="tiny", metrics=None, allow_pickle=False, manifest=manifest)
    allowed = loading.permissions(job.permissions(args))
    assert allowed == {"allow_pickle": False, "allow_unused": ("encoder.layer.2", "encoder.layer.3")}
    assert job.permissions(args)["add_bos_token"] is facts["add_bos_token"] is False
    assert fetching.fetch("bert", settings | {"allow_unused": "encoder.layer", "add_bos_token": True}, manifest)[
        "add_bos_token"
    ]
    assert job.permissions(args)["add_bos_token"]
    load_model(folder, "AutoModel", **allowed)
