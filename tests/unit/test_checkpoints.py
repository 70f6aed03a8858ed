"""Checkpoint folders: the names and the bits that transformers loads, and clear refusals of everything else."""

import contextlib
import json
import os
import re
import resource
import shutil
import struct

import pytest
import torch
import transformers as hf
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from essential_sparsity import files
from essential_sparsity.checkpoints import loading, stored
from essential_sparsity.checkpoints.loading import CheckpointError, describe, iter_prunable, load_model, verified_folder

TEXT = {"vocab_size": 50, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = SIZES | {"num_key_value_heads": 1}
T5 = {"d_model": 24, "d_kv": 12, "d_ff": 40, "num_heads": 2, "vocab_size": 50, "num_layers": 2, "num_decoder_layers": 1}
OPT = hf.OPTConfig(**TEXT, hidden_size=24, ffn_dim=40, num_hidden_layers=2, num_attention_heads=2,
                   word_embed_proj_dim=12, do_layer_norm_before=False)  # fmt: skip
GPT2 = hf.GPT2Config(vocab_size=50, n_positions=32, n_embd=24, n_inner=40, n_layer=2, n_head=2)
DINOV2 = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 3, "image_size": 28}
MOE = {"num_experts": 12, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "shared_expert_intermediate_size": 40}

# the model that is saved; then one stored name that is not a name in memory, where transformers renames
SAVED = {
    "bert": ("BertModel", hf.BertConfig(**TEXT, **SIZES), None),
    "bert-head": ("BertForPreTraining", hf.BertConfig(**TEXT, **SIZES), "bert.encoder.layer.0.output.dense.weight"),
    "llama": ("LlamaModel", hf.LlamaConfig(**TEXT, **GROUPED), None),
    "llama-head": ("LlamaForCausalLM", hf.LlamaConfig(**TEXT, **GROUPED), "model.layers.1.mlp.up_proj.weight"),
    "dinov2": ("Dinov2Model", hf.Dinov2Config(**DINOV2), "encoder.layer.0.attention.attention.query.weight"),
    "dinov2-head": (
        "Dinov2ForImageClassification", hf.Dinov2Config(**DINOV2),
        "dinov2.encoder.layer.0.attention.attention.query.weight",
    ),
    "dinov2-swiglu": (  # gate and up are one tensor on disk
        "Dinov2Model", hf.Dinov2Config(**DINOV2, use_swiglu_ffn=True), "encoder.layer.0.mlp.weights_in.weight",
    ),
    "vit-head": (
        "ViTForImageClassification", hf.ViTConfig(**SIZES, image_size=28, patch_size=14),
        "vit.encoder.layer.0.attention.attention.query.weight",
    ),
    "gpt2": ("GPT2Model", GPT2, None),
    "gpt2-head": ("GPT2LMHeadModel", GPT2, "transformer.h.0.attn.c_attn.weight"),
    "opt": ("OPTModel", OPT, None),
    "opt-head": ("OPTForCausalLM", OPT, "model.decoder.layers.0.fc1.weight"),
    "mixtral": (  # one tensor per expert and projection; with 12, expert 10 follows 9 only in natural order
        "MixtralForCausalLM", hf.MixtralConfig(**TEXT, **GROUPED, num_local_experts=12),
        "model.layers.0.block_sparse_moe.experts.11.w1.weight",
    ),
    "qwen2-moe": (
        "Qwen2MoeModel", hf.Qwen2MoeConfig(**TEXT, **GROUPED, **MOE), "layers.0.mlp.experts.11.up_proj.weight",
    ),
    "t5-head": ("T5ForConditionalGeneration", hf.T5Config(**T5), None),
    "albert": ("AlbertModel", hf.AlbertConfig(**TEXT, **SIZES, embedding_size=12), None),
}  # fmt: skip


def save(folder, class_name, config, dtype=torch.float32, **kwargs):
    torch.manual_seed(0)
    model = getattr(hf, class_name)(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()  # biases and norms too, so that no two tensors are alike
    model.save_pretrained(folder, **kwargs)
    return folder


def rewrite(folder, change):
    """Apply `change` to the dictionary of stored tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    return folder


@pytest.fixture
def bert(tmp_path):
    return save(tmp_path / "bert", "BertModel", hf.BertConfig(**TEXT, **SIZES))


QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize("shards", [False, True], ids=["single", "sharded"])
@pytest.mark.parametrize("name", SAVED)
def test_streams_the_tensors_that_transformers_loads(tmp_path, name, shards):
    class_name, config, stored_name = SAVED[name]
    save(tmp_path, class_name, config, max_shard_size="10KB" if shards else "1GB")
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == shards
    on_disk = files.read_json(index)["weight_map"] if shards else load_file(tmp_path / "model.safetensors")
    model = getattr(hf, class_name).from_pretrained(tmp_path)
    expected = loading.parameters(model)
    if stored_name:
        assert stored_name in on_disk
        assert stored_name not in expected
    streamed = {weight.name: (weight, tensor.clone()) for weight, tensor in iter_prunable(tmp_path)}
    assert [weight for weight, _ in sorted(streamed.values(), key=lambda pair: pair[0].name)] == (
        loading.find_prunable(model)
    )
    for name, parameter in expected.items():
        assert streamed[name][1].dtype == torch.float32
        assert torch.equal(streamed[name][1], parameter), name


@pytest.mark.parametrize("name", SAVED)
def test_streams_checkpoints_stored_under_the_names_in_memory(tmp_path, name):
    """As saved with `save_original_format=False`: nothing is to be renamed or merged."""
    class_name, config, _ = SAVED[name]
    save(tmp_path, class_name, config, save_original_format=False)
    expected = loading.parameters(getattr(hf, class_name).from_pretrained(tmp_path))
    streamed = {weight.name: tensor.clone() for weight, tensor in iter_prunable(tmp_path)}
    assert streamed.keys() == expected.keys()
    assert all(torch.equal(streamed[name], expected[name]) for name in expected)


def test_order_is_the_same_for_one_file_and_for_shards(tmp_path):
    config = hf.MixtralConfig(**TEXT, **GROUPED, num_local_experts=4)
    one = save(tmp_path / "one", "MixtralForCausalLM", config)
    many = save(tmp_path / "many", "MixtralForCausalLM", config, max_shard_size="10KB")
    assert [w.name for w, _ in iter_prunable(one)] == [w.name for w, _ in iter_prunable(many)]


@pytest.mark.parametrize(("class_name", "prefix"), [("GPT2LMHeadModel", "transformer."), ("OPTForCausalLM", "model.")])
def test_hub_checkpoints_without_their_prefix_and_with_old_buffers(tmp_path, class_name, prefix):
    """gpt2 and opt on the hub: stored from the base model although config.json names the head, with causal masks."""
    save(tmp_path, class_name, GPT2 if class_name.startswith("GPT2") else OPT)

    def as_on_the_hub(tensors):
        for name in list(tensors):
            tensors[name.removeprefix(prefix)] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)

    rewrite(tmp_path, as_on_the_hub)
    expected = loading.parameters(getattr(hf, class_name).from_pretrained(tmp_path))
    streamed = {weight.name: tensor.clone() for weight, tensor in iter_prunable(tmp_path)}
    assert streamed.keys() == expected.keys()
    assert all(torch.equal(streamed[name], expected[name]) for name in expected)
    assert load_model(tmp_path, "AutoModelForCausalLM").lm_head is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_weights_keep_their_bits(tmp_path, dtype):
    save(tmp_path, "LlamaForCausalLM", hf.LlamaConfig(**TEXT, **GROUPED), dtype)
    stored = load_file(tmp_path / "model.safetensors")
    for weight, tensor in iter_prunable(tmp_path):
        assert tensor.dtype == dtype
        assert torch.equal(tensor, stored[f"model.{weight.name}"])
    assert describe(tmp_path)["dtype"] == str(dtype).removeprefix("torch.")
    assert {p.dtype for p in load_model(tmp_path, "AutoModelForCausalLM").parameters()} == {dtype}


def test_stored_dtype_counts_whatever_the_config_says(tmp_path):
    save(tmp_path, "LlamaModel", hf.LlamaConfig(**TEXT, **GROUPED), torch.bfloat16)
    config = files.read_json(tmp_path / "config.json")
    files.write_json(tmp_path / "config.json", config | {"dtype": "float32"})
    assert describe(tmp_path)["dtype"] == "bfloat16"
    assert load_model(tmp_path, "AutoModel").dtype == torch.bfloat16
    assert load_model(tmp_path, "AutoModel", dtype=torch.float32).dtype == torch.float32


def test_mixed_dtypes_are_read_in_the_widest(bert):
    exact = load_file(bert / "model.safetensors")[QUERY].half()
    rewrite(bert, lambda tensors: tensors.update({QUERY: exact}))
    streamed = {weight.name: tensor.clone() for weight, tensor in iter_prunable(bert)}
    assert {tensor.dtype for tensor in streamed.values()} == {torch.float32}
    assert torch.equal(streamed[QUERY], exact.float())
    assert describe(bert)["dtype"] == "float32"


def test_describe(bert):
    attention, mlp = 4 * 24 * 24, 2 * 24 * 40
    biases = 4 * 24 + 40 + 24
    norms = 2 * 2 * 24
    embeddings = (50 + 32 + 2) * 24 + 2 * 24
    pooler = 24 * 24 + 24
    facts = describe(bert)
    lines = sorted(f"{weight.name} {'x'.join(map(str, weight.shape))}\n" for weight, _ in iter_prunable(bert))
    assert facts.pop("prunable_set") == files.sha256_text("".join(lines))
    assert facts == {
        "dtype": "float32",
        "architecture": "BertModel",
        "model_type": "bert",
        "input": "input_ids",
        "n_total": embeddings + 2 * (attention + mlp + biases + norms) + pooler,
        "n_prunable": 2 * (attention + mlp),
        "n_prunable_tensors": 12,
        "n_tensors": 2 * 16 + 5 + 2,
        "stored": {"float32": facts["n_total"]},
        "prunable": {
            **{f"attention.self.{name}": 2 * 24 * 24 for name in ("key", "query", "value")},
            "attention.output.dense": 2 * 24 * 24,
            "intermediate.dense": 2 * 24 * 40,
            "output.dense": 2 * 24 * 40,
        },
        "other": facts["other"],
        "unused": [],
        "new": [],
    }
    assert sum(facts["other"].values()) == facts["n_total"] - facts["n_prunable"]
    assert facts["other"]["pooler.dense"] == pooler


def test_describe_counts_the_base_model_that_is_stored(tmp_path, bert):
    head = describe(save(tmp_path / "head", "BertForPreTraining", hf.BertConfig(**TEXT, **SIZES)))
    assert head["architecture"] == "BertForPreTraining"
    assert len(head["unused"]) > 4
    assert all(name.startswith("cls.") for name in head["unused"])
    same = ("n_total", "n_prunable", "prunable_set", "prunable", "other", "new")
    assert {key: head[key] for key in same} == {key: describe(bert)[key] for key in same}
    no_pooler = describe(save(tmp_path / "mlm", "BertForMaskedLM", hf.BertConfig(**TEXT, **SIZES)))
    assert no_pooler["n_total"] == head["n_total"] - (24 * 24 + 24)
    assert no_pooler["new"] == ["pooler.dense.bias", "pooler.dense.weight"]


def test_describe_counts_tied_embeddings_once(tmp_path):
    save(tmp_path, "T5ForConditionalGeneration", hf.T5Config(**T5))
    attention, mlp, bias = 4 * 24 * 24, 2 * 24 * 40, 32 * 2  # 32 buckets of relative position, 2 heads
    norms = 24 * (2 * 2 + 1 + 3 + 1)  # two per encoder block, three in the decoder block, one after each stack
    total = 50 * 24 + 2 * (attention + mlp) + (2 * attention + mlp) + 2 * bias + norms
    assert describe(tmp_path)["n_total"] == total


def test_describe_counts_what_stands_around_a_base_model_that_is_blocks_alone(tmp_path):
    config = hf.DINOv3ViTConfig(**SIZES, image_size=28, patch_size=14, num_register_tokens=4)
    save(tmp_path, "DINOv3ViTModel", config)
    facts = describe(tmp_path)
    assert facts["n_total"] == sum(parameter.numel() for parameter in hf.DINOv3ViTModel(config).parameters())
    assert sum(facts["other"].values()) == facts["n_total"] - facts["n_prunable"]


def test_describes_and_starts_streaming_without_reading_the_weights(tmp_path):
    """LLaMA-7B as a sparse file of 13 GB: zeros that take no space and would not fit into the allowed memory."""
    hf.LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    with torch.device("meta"):
        names = {name: p.shape for name, p in hf.LlamaForCausalLM(hf.LlamaConfig()).named_parameters()}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in names.items():
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end := end + 2 * shape.numel()]}
    text = json.dumps(header).encode()
    with open(tmp_path / "model.safetensors", "wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
    os.truncate(tmp_path / "model.safetensors", 8 + len(text) + end)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = describe(tmp_path)
    weight, tensor = next(iter_prunable(tmp_path))
    assert facts["n_prunable"] == 6_476_005_376
    assert facts["n_total"] == 6_738_415_616 - 32000 * 4096  # of which the head
    assert tensor.shape == weight.shape
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000  # kilobytes


@pytest.mark.parametrize(
    ("dtype", "said"), [(torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3"), (torch.float64, "F64")]
)
def test_refuses_other_dtypes_naming_the_tensor(bert, dtype, said):
    rewrite(bert, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(dtype)}))
    for use in (describe, lambda folder: next(iter_prunable(folder)), lambda folder: load_model(folder, "AutoModel")):
        with pytest.raises(CheckpointError, match=f"{QUERY} is stored as {said}"):
            use(bert)


def test_buffers_are_whole_numbers_and_other_weights_may_be_wider(bert):
    name = "embeddings.word_embeddings.weight"
    wide = load_file(bert / "model.safetensors")[name].double()
    rewrite(bert, lambda tensors: tensors.update({"embeddings.position_ids": torch.arange(32), name: wide}))
    assert len(list(iter_prunable(bert))) == 12
    describe(bert)
    assert torch.equal(load_model(bert, "AutoModel").state_dict()[name], wide.float())


@pytest.mark.parametrize(("shape", "of_model"), [((1, 1, 8, 8), False), ((3, 2, 8, 8), True), ((1, 1, 8, 4), True)])
def test_of_tensors_without_a_place_causal_masks_alone_are_left_out(bert, shape, of_model):
    rewrite(bert, lambda tensors: tensors.update({"encoder.layer.0.attention.self.more": torch.ones(shape)}))
    with pytest.raises(CheckpointError, match="no place for") if of_model else contextlib.nullcontext():
        describe(bert)


def test_whole_numbers_of_batch_norms_have_their_place(tmp_path):
    config = hf.LevitConfig(
        image_size=32, hidden_sizes=[8, 8, 8], num_attention_heads=[1, 1, 1], depths=[1, 1, 1], key_dim=[8] * 3
    )
    folder = save(tmp_path, "LevitModel", config)
    counted = [name for name, tensor in load_file(folder / "model.safetensors").items() if tensor.dtype == torch.int64]
    assert any(name.endswith("num_batches_tracked") for name in counted)
    with stored.opened(folder) as checkpoint:
        assert stored.without_place(checkpoint.model, checkpoint.entries).codes == {}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool", "float8_e4m3fn"])
@pytest.mark.parametrize(
    "name",
    ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.LayerNorm.bias"],
    ids=["embedding", "norm"],
)
def test_refuses_codes_in_the_place_of_any_weight(tmp_path, name, dtype):
    folder = save(tmp_path, "BertForMaskedLM", hf.BertConfig(**TEXT, **SIZES))
    rewrite(folder, lambda tensors: tensors.update({name: tensors[name].to(getattr(torch, dtype))}))
    for use in (describe, lambda place: load_model(place, "AutoModelForMaskedLM")):
        with pytest.raises(CheckpointError, match=rf"stores {re.escape(name)} as \w+, where Bert\w+ has weights"):
            use(folder)


def test_refuses_codes_in_a_head_where_it_is_read(tmp_path):
    folder, name = (
        save(tmp_path, "BertForMaskedLM", hf.BertConfig(**TEXT, **SIZES)),
        "cls.predictions.transform.dense.weight",
    )
    rewrite(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    assert name in describe(folder)["unused"]
    with pytest.raises(CheckpointError, match=rf"stores {name} as I8, where BertForMaskedLM has weights"):
        load_model(folder, "AutoModelForMaskedLM")


def test_refuses_codes_that_have_no_place(bert):
    name = "encoder.layer.2.output.dense.weight"
    rewrite(bert, lambda tensors: tensors.update({name: torch.ones(24, 40, dtype=torch.int8)}))
    with pytest.raises(CheckpointError, match=rf"no place for \({name}\)"):
        describe(bert)


def test_refuses_codes_in_a_pickle(tmp_path, bert):
    tensors = load_file(bert / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    (bert / "model.safetensors").unlink()
    torch.save(tensors | {name: tensors[name].to(torch.int8)}, bert / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=rf"{name} as torch.int8, where BertModel has weights"):
        describe(bert, allow_pickle=True)


@pytest.mark.parametrize("place", [None, "text_config"])
def test_refuses_a_quantised_config(bert, place):
    config = files.read_json(bert / "config.json")
    entry = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    files.write_json(bert / "config.json", config | ({place: entry} if place else entry))
    with pytest.raises(CheckpointError, match=r"quantised \(gptq\)"):
        describe(bert)


@pytest.mark.parametrize("kept", [0.7, 0.05], ids=["in the data", "in the header"])
def test_refuses_a_file_cut_short(bert, kept):
    path = bert / "model.safetensors"
    os.truncate(path, int(path.stat().st_size * kept) if kept > 0.5 else 100)
    for use in (describe, lambda folder: next(iter_prunable(folder)), lambda folder: load_model(folder, "AutoModel")):
        with pytest.raises(CheckpointError, match=r"model\.safetensors is cut short or corrupt .* Delete the file"):
            use(bert)


def test_refuses_weights_of_another_shape(bert):
    config = files.read_json(bert / "config.json")
    files.write_json(bert / "config.json", config | {"intermediate_size": 48})
    with pytest.raises(CheckpointError, match=r"intermediate\.dense\.weight is stored as \(40, 24\) .* \(48, 24\)"):
        list(iter_prunable(bert))
    with pytest.raises(CheckpointError, match=r"is stored as \(40,\) but BertModel expects \(48,\)"):
        load_model(bert, "AutoModel")


@pytest.mark.parametrize("key", [f"bert.{QUERY}", "embeddings.LayerNorm.gamma"])
def test_refuses_one_weight_under_two_names(bert, key):
    rewrite(bert, lambda tensors: tensors.update({key: torch.zeros(24, 24) if QUERY in key else torch.zeros(24)}))
    for use in (describe, lambda folder: load_model(folder, "AutoModel")):
        with pytest.raises(CheckpointError, match=f"{key} and .*which are both .* only one can count"):
            use(bert)


@pytest.mark.parametrize("name", ["gate_up_proj", "down_proj"])
def test_refuses_experts_that_are_stored_one_by_one_and_merged(tmp_path, name):
    save(tmp_path, "MixtralForCausalLM", hf.MixtralConfig(**TEXT, **GROUPED, num_local_experts=4))
    key = f"model.layers.0.mlp.experts.{name}"
    merged = hf.AutoModelForCausalLM.from_pretrained(tmp_path).get_parameter(key).detach()
    rewrite(tmp_path, lambda tensors: tensors.update({key: merged + 1}))
    with pytest.raises(CheckpointError, match=rf"block_sparse_moe\.experts\.0\.w\d\.weight and {key}, which are both"):
        describe(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_that_are_one_have_one_content(tmp_path, tied):
    save(tmp_path, "LlamaForCausalLM", hf.LlamaConfig(**TEXT, **SIZES, tie_word_embeddings=tied))
    embedding = "model.embed_tokens.weight"
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors[embedding].clone()}))
    assert load_model(tmp_path, "AutoModelForCausalLM").lm_head.weight.equal(
        load_model(tmp_path, "AutoModel").embed_tokens.weight
    )
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors[embedding] + 1}))
    if not tied:
        load_model(tmp_path, "AutoModelForCausalLM")
        return
    load_model(tmp_path, "AutoModel")  # which has no such head
    with pytest.raises(CheckpointError, match=rf"stores lm_head\.weight and {embedding} with different values"):
        load_model(tmp_path, "AutoModelForCausalLM")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", [QUERY, "embeddings.word_embeddings.weight", "embeddings.LayerNorm.bias"])
def test_refuses_a_weight_that_is_no_number(bert, name, value):
    rewrite(bert, lambda tensors: tensors[name].view(-1)[3:4].fill_(value))
    with pytest.raises(CheckpointError, match=f"there is NaN or infinity in {name}: the checkpoint is broken"):
        load_model(bert, "AutoModel")


def test_refuses_missing_prunable_weights(bert):
    rewrite(bert, lambda tensors: tensors.pop(QUERY))
    with pytest.raises(CheckpointError, match=f"lacks 1 of the 12 prunable weights of BertModel \\({QUERY}\\)"):
        describe(bert)


def test_refuses_missing_experts(tmp_path):
    save(tmp_path, "MixtralForCausalLM", hf.MixtralConfig(**TEXT, **GROUPED, num_local_experts=4))
    rewrite(tmp_path, lambda tensors: tensors.pop("model.layers.0.block_sparse_moe.experts.2.w2.weight"))
    with pytest.raises(CheckpointError, match=r"down_proj is stored as \(3, 24, 40\) .* \(4, 24, 40\)"):
        list(iter_prunable(tmp_path))


def test_refuses_a_missing_shard(tmp_path):
    save(tmp_path, "BertModel", hf.BertConfig(**TEXT, **SIZES), max_shard_size="10KB")
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=f"lists files that are not there: {gone.name}"):
        describe(tmp_path)


def test_refuses_folders_without_config_or_weights(tmp_path, bert):
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        describe(tmp_path)
    (bert / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"expected model\.safetensors"):
        describe(bert)
    (bert / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid JSON"):
        describe(bert)
    (bert / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(CheckpointError, match="no-such-model"):
        describe(bert)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "before torch 1.6"])
def test_pickles_are_refused_unless_allowed_and_never_run_code(tmp_path, bert, new_format):
    expected = {weight.name: tensor.clone() for weight, tensor in iter_prunable(bert)}
    facts = describe(bert)
    tensors = load_file(bert / "model.safetensors")
    (bert / "model.safetensors").unlink()
    torch.save(tensors, bert / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    for use in (describe, lambda folder: next(iter_prunable(folder)), lambda folder: load_model(folder, "AutoModel")):
        with pytest.raises(CheckpointError, match="only pickled weights"):
            use(bert)
    assert describe(bert, allow_pickle=True) == facts
    streamed = {weight.name: tensor.clone() for weight, tensor in iter_prunable(bert, allow_pickle=True)}
    assert all(torch.equal(streamed[name], expected[name]) for name in expected)
    loaded = loading.parameters(load_model(bert, "AutoModel", allow_pickle=True))
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)

    torch.save(tensors | {"payload": Payload(tmp_path / "made")}, bert / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin cannot be read as plain weights"):
        describe(bert, allow_pickle=True)
    assert not (tmp_path / "made").exists()


def test_remote_code_is_not_run_unless_trusted(tmp_path, bert):
    (bert / "custom.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n")
    config = files.read_json(bert / "config.json")
    auto_map = {"AutoConfig": "custom.C", "AutoModel": "custom.M"}
    files.write_json(bert / "config.json", config | {"model_type": "custom", "auto_map": auto_map})
    with pytest.raises(CheckpointError, match=r"asks for code of its own \(auto_map\)"):
        load_model(bert, "AutoModel")
    assert not (tmp_path / "ran").exists()


def test_load_model_gives_the_stored_weights_ready_to_evaluate(bert):
    model = load_model(bert, "AutoModel")
    assert not model.training
    stored = load_file(bert / "model.safetensors")
    assert all(torch.equal(parameter, stored[name]) for name, parameter in model.named_parameters())


def test_load_model_refuses_a_head_that_is_not_stored_unless_allowed(bert):
    with pytest.raises(CheckpointError, match=r"lacks 2 parameters of .*\(classifier\.bias, classifier\.weight\)"):
        load_model(bert, "AutoModelForSequenceClassification")
    model = load_model(bert, "AutoModelForSequenceClassification", allow_new=("classifier",), num_labels=3)
    assert model.classifier.out_features == 3
    assert loading.find_prunable(model) == loading.find_prunable(load_model(bert, "AutoModel"))


def test_one_prefix_may_be_given_as_text(bert):
    with pytest.raises(CheckpointError, match=r"cls\.predictions"):  # which starts with a letter of `classifier`
        load_model(bert, "AutoModelForMaskedLM", allow_new="classifier")
    load_model(bert, "AutoModelForMaskedLM", allow_new="cls")


def test_allow_new_holds_with_and_without_the_base_model_s_prefix(tmp_path):
    save(tmp_path, "BertForMaskedLM", hf.BertConfig(**TEXT, **SIZES))  # stored without a pooler
    with pytest.raises(CheckpointError, match=r"bert\.pooler\.dense\.bias"):
        load_model(tmp_path, "AutoModelForSequenceClassification", allow_new="classifier")
    with pytest.raises(CheckpointError, match=r"\(pooler\.dense\.bias, pooler\.dense\.weight\)"):
        load_model(tmp_path, "AutoModel")
    load_model(tmp_path, "AutoModelForSequenceClassification", allow_new=("classifier", "pooler"))
    load_model(tmp_path, "AutoModel", allow_new=("pooler",))
    load_model(tmp_path, "AutoModel", add_pooling_layer=False)


def test_a_stored_head_of_another_size_is_replaced_only_where_allowed(tmp_path):
    save(tmp_path, "BertForSequenceClassification", hf.BertConfig(**TEXT, **SIZES, num_labels=7))
    with pytest.raises(CheckpointError, match=r"classifier\.bias is stored as \(7,\) but .* expects \(3,\)"):
        load_model(tmp_path, "AutoModelForSequenceClassification", num_labels=3)
    model = load_model(tmp_path, "AutoModelForSequenceClassification", num_labels=3, allow_new=("classifier",))
    assert model.classifier.out_features == 3


def test_load_model_names_an_unknown_class(bert):
    with pytest.raises(CheckpointError, match="AutoModelForNothing"):
        load_model(bert, "AutoModelForNothing")


def manifest(folder, source="package", **changes):
    """A manifest as the fetching step writes it, beside `folder`."""
    listed = [
        {"path": str(path.relative_to(folder)), "sha256": files.sha256_file(path), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    where = {"package": folder.name, "path": str(folder), "hub": None}[source]
    path = folder.parent / "manifest.json"
    content = {"manifest_version": 1, "model": "tiny", "source": source, "id": "org/tiny", "revision": None}
    files.write_json(path, content | {"folder": where, "files": listed} | changes)
    return path


@pytest.mark.parametrize("source", ["package", "path"])
def test_verified_folder(bert, source):
    assert verified_folder(manifest(bert, source)) == bert


def test_verified_folder_of_a_dataset_is_beside_its_manifest(bert):
    """A dataset read from a user's path is converted to files of its own; only a model stays where it is."""
    path = manifest(bert, "package")
    content = files.read_json(path)
    content["dataset"] = content.pop("model")
    files.write_json(path, content | {"source": "path"})
    assert verified_folder(path) == bert


def test_verified_folder_notices_every_kind_of_damage(bert):
    path = manifest(bert)
    weights = bert / "model.safetensors"
    good = weights.read_bytes()

    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))  # one bit
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not have the SHA-256 .* Delete .* run again"):
        verified_folder(path)
    weights.write_bytes(good[:-1])
    with pytest.raises(CheckpointError, match=rf"has {len(good) - 1} bytes; .* lists {len(good)}\. Delete"):
        verified_folder(path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing; .* Delete"):
        verified_folder(path)
    weights.write_bytes(good)
    verified_folder(path)


def test_a_manifest_that_no_longer_lists_what_was_fetched_verifies_nothing(bert):
    path = manifest(bert)
    content = files.read_json(path) | {"weights_sha256": loading.weights_sha256(files.read_json(path)["files"])}
    files.write_json(path, content)
    verified_folder(path)
    config = [entry for entry in content["files"] if entry["path"] == "config.json"]
    for changed in ({"files": []}, {"files": config}, {"weights_sha256": "0" * 64}):
        files.write_json(path, content | changed)
        with pytest.raises(
            CheckpointError, match=r"manifest.json was changed: it does not list .* Delete .* and run again"
        ):
            verified_folder(path)


def test_verified_folder_of_a_hub_model_is_found_in_the_cache(tmp_path, bert, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    path = manifest(bert, "hub", revision=commit)
    with pytest.raises(CheckpointError, match=r"org/tiny at revision 0123.* is not in the Hugging Face cache"):
        verified_folder(path)
    snapshot = tmp_path / "cache" / "models--org--tiny" / "snapshots" / commit
    shutil.copytree(bert, snapshot)
    assert verified_folder(path) == snapshot
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="from the Hugging Face cache"):
        verified_folder(path)
