"""The prunable weights of each model family, on tiny random configurations counted by hand, and at full size.

Sizes are chosen so that no two roles have the same number of weights: d = 24 (hidden), f = 40 (MLP), 2 heads of 12.
With these, attention (query, key, value, output) has 4·24² weights, a plain MLP 2·24·40 and a gated one 3·24·40.
"""

import dataclasses
import math

import pytest
import torch
import transformers as hf
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import CheckpointError, find_prunable, name_base_, parameters

TEXT = {"vocab_size": 50, "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = SIZES | {"num_key_value_heads": 1}  # key and value: one head of 12 for both query heads
IMAGE = {"image_size": 28, "patch_size": 14}
T5 = {"d_model": 24, "d_kv": 12, "d_ff": 40, "num_heads": 2, "vocab_size": 50, "num_layers": 2, "num_decoder_layers": 1}
WHISPER = {
    "d_model": 24, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "num_mel_bins": 8, "max_source_positions": 10,
    "max_target_positions": 10, "vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "decoder_sparse_step": 1}

ATTENTION = 4 * 24 * 24  # query, key, value, output
GROUPED_ATTENTION = 2 * 24 * 24 + 2 * 12 * 24  # query and output; key and value with one head
MLP = 2 * 24 * 40  # up, down
GATED = 3 * 24 * 40  # gate, up, down
# of ranks 16 and 10: queries (8 + 4 a head) with gates (12 a head) from two inputs of 16; keys and values (8 + 12 a head)
AXK2_ATTENTION = 16 * 24 + 2 * 24 * (2 * 16) + (10 + 4) * 24 + 2 * 20 * 10 + 24 * 24
AXK2_INDEXER = 16 * 16 + 8 * 24 + 2 * 24  # of two heads of 8 with one key: queries, key, a weight for each head
TEXT_WITHOUT_POSITIONS = {name: value for name, value in TEXT.items() if name != "max_position_embeddings"}
ZAMBA = SIZES | {
    "num_hidden_layers": 4, "num_key_value_heads": 2, "mamba_expand": 2,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
}  # fmt: skip

# name: (configuration, weights by hand, matrices, blocks)
ZOO = {
    "bert": (hf.BertConfig(**TEXT, **SIZES), 2 * (ATTENTION + MLP), 2 * 6, 2),
    "roberta": (hf.RobertaConfig(**TEXT, **SIZES), 2 * (ATTENTION + MLP), 2 * 6, 2),
    "distilbert": (
        hf.DistilBertConfig(vocab_size=50, dim=24, hidden_dim=40, n_layers=2, n_heads=2),
        2 * (ATTENTION + MLP), 2 * 6, 2,
    ),
    # one block used twice; the projection from the smaller embeddings is not a block
    "albert": (hf.AlbertConfig(**TEXT, **SIZES, embedding_size=12), 1 * (ATTENTION + MLP), 6, 1),
    "electra": (hf.ElectraConfig(**TEXT, **SIZES, embedding_size=12), 2 * (ATTENTION + MLP), 2 * 6, 2),
    "deberta-v2": (
        hf.DebertaV2Config(
            **TEXT, **SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True,
            position_buckets=8,
        ),
        2 * (ATTENTION + MLP), 2 * 6, 2,
    ),
    # without sharing, attention has two more projections (of relative positions: applied to them, not a table of them)
    "deberta-v2-unshared": (
        hf.DebertaV2Config(
            **TEXT, **SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=False
        ),
        2 * (ATTENTION + 2 * 24 * 24 + MLP), 2 * 8, 2,
    ),
    # fused query-key-value, fused gate and up
    "modernbert": (
        hf.ModernBertConfig(**TEXT, **SIZES, cls_token_id=1, sep_token_id=2),
        2 * (3 * 24 * 24 + 24 * 24 + 2 * 40 * 24 + 24 * 40), 2 * 4, 2,
    ),
    "opt": (
        hf.OPTConfig(**TEXT, hidden_size=24, ffn_dim=40, num_hidden_layers=2, num_attention_heads=2,
                     word_embed_proj_dim=24),
        2 * (ATTENTION + MLP), 2 * 6, 2,
    ),
    "opt-with-projections": (  # project_in and project_out (12 x 24) stand outside the blocks
        hf.OPTConfig(**TEXT, hidden_size=24, ffn_dim=40, num_hidden_layers=2, num_attention_heads=2,
                     word_embed_proj_dim=12, do_layer_norm_before=False),
        2 * (ATTENTION + MLP), 2 * 6, 2,
    ),
    "gpt2": (
        hf.GPT2Config(vocab_size=50, n_positions=32, n_embd=24, n_inner=40, n_layer=2, n_head=2),
        2 * (24 * 72 + 24 * 24 + 24 * 40 + 40 * 24), 2 * 4, 2,
    ),
    "gpt-neox": (hf.GPTNeoXConfig(**TEXT, **SIZES), 2 * (72 * 24 + 24 * 24 + MLP), 2 * 4, 2),
    "olmo": (hf.OlmoConfig(**TEXT, **SIZES), 2 * (ATTENTION + GATED), 2 * 7, 2),
    "olmo2": (hf.Olmo2Config(**TEXT, **SIZES), 2 * (ATTENTION + GATED), 2 * 7, 2),
    "bloom": (  # its MLP is always four times as wide
        hf.BloomConfig(vocab_size=50, hidden_size=24, n_layer=2, n_head=2),
        2 * (72 * 24 + 24 * 24 + 2 * 24 * 96), 2 * 4, 2,
    ),
    "phi3": (  # query, key and value fused: 24 + 12 + 12 outputs; gate and up fused: 2 * 40
        hf.Phi3Config(**TEXT, **GROUPED),
        2 * (48 * 24 + 24 * 24 + 80 * 24 + 24 * 40), 2 * 4, 2,
    ),
    "llama": (hf.LlamaConfig(**TEXT, **SIZES), 2 * (ATTENTION + GATED), 2 * 7, 2),
    "llama-grouped": (hf.LlamaConfig(**TEXT, **GROUPED), 2 * (GROUPED_ATTENTION + GATED), 2 * 7, 2),
    "mistral": (hf.MistralConfig(**TEXT, **GROUPED), 2 * (GROUPED_ATTENTION + GATED), 2 * 7, 2),
    "qwen2": (hf.Qwen2Config(**TEXT, **GROUPED), 2 * (GROUPED_ATTENTION + GATED), 2 * 7, 2),
    # heads of 8: query and output 16 x 24, key and value 8 x 24
    "qwen3": (hf.Qwen3Config(**TEXT, **GROUPED, head_dim=8), 2 * (2 * 16 * 24 + 2 * 8 * 24 + GATED), 2 * 7, 2),
    "gemma": (hf.GemmaConfig(**TEXT, **GROUPED, head_dim=8), 2 * (2 * 16 * 24 + 2 * 8 * 24 + GATED), 2 * 7, 2),
    # four experts in two stacks; the router (4 x 24) is a plain parameter
    "mixtral": (
        hf.MixtralConfig(**TEXT, **GROUPED, num_local_experts=4),
        2 * (GROUPED_ATTENTION + 4 * (80 * 24 + 24 * 40)), 2 * (4 + 2), 2,
    ),
    # and an expert that always works (40 wide), with a gate of one output that does not count
    "qwen2-moe": (
        hf.Qwen2MoeConfig(**TEXT, **GROUPED, **MOE, shared_expert_intermediate_size=40),
        2 * (GROUPED_ATTENTION + 4 * 3 * 20 * 24 + GATED), 2 * (4 + 2 + 3), 2,
    ),
    "qwen3-moe": (
        hf.Qwen3MoeConfig(**TEXT, **GROUPED, **MOE, head_dim=12),
        2 * (GROUPED_ATTENTION + 4 * 3 * 20 * 24), 2 * (4 + 2), 2,
    ),
    "gpt-oss": (  # stacks stored [expert, in, out]
        hf.GptOssConfig(**TEXT, **GROUPED, head_dim=12, num_local_experts=4),
        2 * (GROUPED_ATTENTION + 4 * GATED), 2 * (4 + 2), 2,
    ),
    # stacks stored [expert, in, out], by a class that does not say so; an expert that always works
    "llama4": (
        hf.Llama4TextConfig(**TEXT, **GROUPED, head_dim=12, num_local_experts=4, intermediate_size_mlp=40),
        2 * (GROUPED_ATTENTION + 4 * GATED + GATED), 2 * (4 + 2 + 3), 2,
    ),
    # its router is a linear layer in a module of its own
    "hunyuan-moe": (
        hf.HunYuanMoEV1Config(**TEXT, **GROUPED, head_dim=12, num_experts=4, moe_topk=2),
        2 * (GROUPED_ATTENTION + 4 * GATED + GATED), 2 * (4 + 2 + 3), 2,
    ),
    # two encoder blocks; one decoder block with self- and cross-attention
    "t5": (hf.T5Config(**T5), 2 * (ATTENTION + MLP) + (2 * ATTENTION + MLP), 2 * 6 + 10, 3),
    "t5-gated": (
        hf.T5Config(**T5, feed_forward_proj="gated-gelu"),
        2 * (ATTENTION + GATED) + (2 * ATTENTION + GATED), 2 * 7 + 11, 3,
    ),
    # a mixture of four MLPs in the second encoder block and in the decoder block; its router is a linear layer
    "switch": (
        hf.SwitchTransformersConfig(**T5, num_experts=4, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1),
        (ATTENTION + MLP) + (ATTENTION + 4 * MLP) + (2 * ATTENTION + 4 * MLP), 4 + 2 + 4 + 8 + 8 + 8, 3,
    ),
    "vit": (hf.ViTConfig(**SIZES, **IMAGE), 2 * (ATTENTION + MLP), 2 * 6, 2),
    "deit": (hf.DeiTConfig(**SIZES, **IMAGE), 2 * (ATTENTION + MLP), 2 * 6, 2),
    "dinov2": (  # width of the MLP: mlp_ratio * 24
        hf.Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=3, **IMAGE),
        2 * (ATTENTION + 2 * 24 * 72), 2 * 6, 2,
    ),
    "dinov2-swiglu": (  # width: two thirds of 3 * 24, already a multiple of 8
        hf.Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=3, use_swiglu_ffn=True,
                        **IMAGE),
        2 * (ATTENTION + 3 * 24 * 48), 2 * 7, 2,
    ),
    "dinov3": (hf.DINOv3ViTConfig(**SIZES, **IMAGE), 2 * (ATTENTION + MLP), 2 * 6, 2),  # its base model is its blocks alone
    "vit-mae": (hf.ViTMAEConfig(**SIZES, **IMAGE), 2 * (ATTENTION + MLP), 2 * 6, 2),
    "beit": (
        hf.BeitConfig(**SIZES, **IMAGE, use_relative_position_bias=True, use_mask_token=True, vocab_size=50),
        2 * (ATTENTION + MLP), 2 * 6, 2,
    ),
    # stages of 2 blocks of width 12 and 1 of width 24, MLPs twice as wide; the patch merging (24 x 48) is between them
    "swin": (
        hf.SwinConfig(image_size=32, patch_size=4, embed_dim=12, depths=[2, 1], num_heads=[2, 2], window_size=4,
                      mlp_ratio=2.0),
        2 * (4 * 12 * 12 + 2 * 12 * 24) + (4 * 24 * 24 + 2 * 24 * 48), 3 * 6, 3,
    ),
    # the small network that makes position biases (2 -> 512 -> heads) is not a projection
    "swinv2": (
        hf.Swinv2Config(image_size=32, patch_size=4, embed_dim=12, depths=[2, 1], num_heads=[2, 2], window_size=4,
                        mlp_ratio=2.0),
        2 * (4 * 12 * 12 + 2 * 12 * 24) + (4 * 24 * 24 + 2 * 24 * 48), 3 * 6, 3,
    ),
    "whisper": (hf.WhisperConfig(**WHISPER), 2 * (ATTENTION + MLP) + (2 * ATTENTION + MLP), 2 * 6 + 10, 3),
    "clip": (  # two text blocks as above, one image block of width 16 with an MLP of 20; both projections are outside
        hf.CLIPConfig(
            text_config=TEXT | SIZES,
            vision_config=IMAGE | {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 1,
                                   "num_attention_heads": 2},
            projection_dim=8,
        ),
        2 * (ATTENTION + MLP) + (4 * 16 * 16 + 2 * 16 * 20), 3 * 6, 3,
    ),
    # an adapter for each language is left alone, used or not
    "xmod": (hf.XmodConfig(**TEXT, **SIZES, languages=["en", "de"], default_language="en"), 2 * (ATTENTION + MLP), 2 * 6, 2),
    # a gate of rank 4 inside each norm is left alone; one MLP is dense, one of 4 experts beside one that always works
    "axk2": (
        hf.AXK2Config(
            **TEXT, **SIZES, num_key_value_heads=2, q_lora_rank=16, kv_lora_rank=10, qk_nope_head_dim=8,
            qk_rope_head_dim=4, v_head_dim=12, index_n_heads=2, index_head_dim=8, index_topk=4, gated_norm_rank=4,
            n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=20, n_group=1,
            topk_group=1, mlp_layer_types=["dense", "sparse"],
        ),
        2 * (AXK2_ATTENTION + AXK2_INDEXER) + GATED + (4 + 1) * 3 * 20 * 24, 2 * (5 + 3) + 3 + 2 + 3, 2,
    ),
    # a residual of rank 6 and the input of each layer (8 wide) are linear; what mixes its four streams is left alone
    "gemma3n": (
        hf.Gemma3nTextConfig(
            **TEXT, **GROUPED, head_dim=12, laurel_rank=6, hidden_size_per_layer_input=8, num_kv_shared_layers=0,
            vocab_size_per_layer_input=50, layer_types=["sliding_attention", "full_attention"],
            activation_sparsity_pattern=[0.0, 0.0],
        ),
        2 * (GROUPED_ATTENTION + GATED + 2 * 6 * 24 + 2 * 8 * 24), 2 * (4 + 3 + 2 + 2), 2,
    ),
}  # fmt: skip

MAMBA = {
    "mamba_expand": 2,
    "mamba_d_state": 16,
}  # 48 channels; with step sizes of rank 4, 4 + 2 * 16 = 36 numbers a step
HYBRIDS = {  # not every block has attention; their other mixers are linear too, but for convolutions and decays
    # two recurrent blocks of three square matrices and two gates of two heads, one with attention; its MLP has half
    "recurrent-gemma": (
        hf.RecurrentGemmaConfig(**TEXT_WITHOUT_POSITIONS, **GROUPED | {"num_hidden_layers": 3, "intermediate_size": 80}, lru_width=24),
        2 * (3 * 24 * 24 + 2 * 2 * 12 * 12) + GROUPED_ATTENTION + 3 * GATED, 2 * 5 + 4 + 3 * 3, 3,
    ),
    # a block with Mamba and an MLP, one with attention and four experts
    "jamba": (
        hf.JambaConfig(**TEXT, **GROUPED, **MAMBA, mamba_dt_rank=4, attn_layer_period=2, attn_layer_offset=1,
                       expert_layer_period=2, expert_layer_offset=1, num_experts=4),
        (96 * 24 + 36 * 48 + 48 * 4 + 24 * 48) + GATED + GROUPED_ATTENTION + 4 * GATED, 4 + 3 + 4 + 2, 2,
    ),
    # four times Mamba, of two heads of 24 channels; every second block puts before it one attention layer (48 wide, with
    # an MLP) that all share, and a square matrix of its own
    "zamba": (
        hf.ZambaConfig(**TEXT, **ZAMBA, mamba_dt_rank=4, n_mamba_heads=2, mamba_d_state=16),
        4 * (96 * 24 + 2 * 36 * 24 + 2 * 24 * 4 + 24 * 48) + 2 * 24 * 24 + (3 * 48 * 48 + 24 * 48) + GATED,
        4 * 4 + 2 + 4 + 3, 4,
    ),
    # Mamba 2: one projection in, to 2 * 48 channels, 2 * 8 states and 4 heads; adapters of the shared layer are left alone
    "zamba2": (
        hf.Zamba2Config(**TEXT, **ZAMBA, n_mamba_heads=4, mamba_headdim=12, mamba_d_state=8, mamba_ngroups=1,
                        adapter_rank=4, use_shared_attention_adapter=True),
        4 * (116 * 24 + 24 * 48) + 2 * 24 * 24 + (3 * 48 * 48 + 24 * 48) + GATED, 4 * 2 + 2 + 4 + 2, 4,
    ),
}  # fmt: skip
ALL = ZOO | HYBRIDS

# family: classes with a head, whose prunable weights must be those of the bare model, by name and shape
HEADS = {
    "bert": ["BertForSequenceClassification", "BertForMaskedLM", "BertForQuestionAnswering", "BertForPreTraining"],
    "roberta": ["RobertaForMaskedLM", "RobertaForSequenceClassification"],
    "distilbert": ["DistilBertForSequenceClassification", "DistilBertForMaskedLM"],
    "albert": ["AlbertForMaskedLM", "AlbertForSequenceClassification"],
    "electra": ["ElectraForPreTraining", "ElectraForSequenceClassification"],
    "deberta-v2": ["DebertaV2ForSequenceClassification", "DebertaV2ForMaskedLM"],
    "modernbert": ["ModernBertForMaskedLM", "ModernBertForSequenceClassification"],
    "opt-with-projections": ["OPTForCausalLM", "OPTForSequenceClassification"],
    "gpt2": ["GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2DoubleHeadsModel"],
    "gpt-neox": ["GPTNeoXForCausalLM"],
    "bloom": ["BloomForCausalLM"],
    "llama": ["LlamaForCausalLM", "LlamaForSequenceClassification"],
    "mixtral": ["MixtralForCausalLM"],
    "qwen2-moe": ["Qwen2MoeForCausalLM"],
    "t5": ["T5ForConditionalGeneration", "T5ForSequenceClassification"],
    "vit": ["ViTForImageClassification", "ViTForMaskedImageModeling"],
    "deit": ["DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"],
    "dinov2": ["Dinov2ForImageClassification"],
    "vit-mae": ["ViTMAEForPreTraining"],  # its decoder serves pre-training only and is outside the base model
    "beit": ["BeitForImageClassification", "BeitForMaskedImageModeling"],
    "swin": ["SwinForImageClassification", "SwinForMaskedImageModeling"],
    "whisper": ["WhisperForConditionalGeneration"],
}

BASE = {"vocab_size": 50, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"vocab_size": 50, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
FULL_SIZE = {
    "bert-base": (hf.BertConfig(), 84_934_656, 72),
    "bert-large": (hf.BertConfig(**LARGE, intermediate_size=4096), 301_989_888, 144),
    "opt-125m": (hf.OPTConfig(**BASE, ffn_dim=3072, word_embed_proj_dim=768), 84_934_656, 72),
    "opt-350m": (
        hf.OPTConfig(**LARGE, ffn_dim=4096, word_embed_proj_dim=512, do_layer_norm_before=False), 301_989_888, 144,
    ),
    "opt-1.3b": (
        hf.OPTConfig(vocab_size=50, hidden_size=2048, ffn_dim=8192, num_hidden_layers=24, num_attention_heads=32,
                     word_embed_proj_dim=2048),
        1_207_959_552, 144,
    ),
    "vit-base": (hf.ViTConfig(), 84_934_656, 72),
    "vit-large": (
        hf.ViTConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
        301_989_888, 144,
    ),
    "llama-7b": (hf.LlamaConfig(), 6_476_005_376, 224),
}  # fmt: skip


def build(config, class_name="AutoModel", device="meta"):
    with torch.device(device):
        cls = getattr(hf, class_name)
        return cls.from_config(config) if class_name.startswith("Auto") else cls(config)


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


@pytest.mark.parametrize("name", ALL)
def test_count_by_hand(name):
    config, expected, tensors, blocks = ALL[name]
    weights = find_prunable(build(config))
    assert count(weights) == expected, [(w.name, w.shape) for w in weights]
    assert len(weights) == tensors
    assert sorted({weight.layer for weight in weights}) == list(range(blocks))
    assert [weight.name for weight in weights] == sorted(weight.name for weight in weights)


@pytest.mark.parametrize("name", ZOO)
def test_every_block_has_attention_and_mlp_weights(name):
    weights = find_prunable(build(ZOO[name][0]))
    for layer in range(ZOO[name][3]):
        assert {weight.sublayer for weight in weights if weight.layer == layer} == {"attention", "mlp"}


@pytest.mark.parametrize(("name", "head"), [(name, head) for name, heads in HEADS.items() for head in heads])
def test_same_with_and_without_a_head(name, head):
    assert find_prunable(build(ZOO[name][0], head)) == find_prunable(build(ZOO[name][0]))


def test_a_head_that_misnames_its_base_model_is_told():
    model = build(ZOO["llama4"][0], "Llama4ForCausalLM")
    assert model.base_model is model
    name_base_(model)
    assert find_prunable(model) == find_prunable(build(ZOO["llama4"][0]))
    for known in (build(ZOO["llama"][0], "LlamaForCausalLM"), build(ZOO["gpt2"][0]), build(ZOO["dinov3"][0])):
        prefix = known.base_model_prefix
        name_base_(known)
        assert known.base_model_prefix == prefix


def test_a_loaded_model_with_such_a_head_has_the_names_that_are_streamed(tmp_path):
    build(ZOO["llama4"][0], "Llama4ForCausalLM", "cpu").save_pretrained(tmp_path)
    loaded = dict(parameters(loading.load_model(tmp_path, "AutoModelForCausalLM")))
    streamed = {weight.name: tensor for weight, tensor in loading.iter_prunable(tmp_path)}
    assert sorted(loaded) == sorted(streamed)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in streamed.items())


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size(name):
    config, expected, tensors = FULL_SIZE[name]
    weights = find_prunable(build(config))
    assert count(weights) == expected
    assert len(weights) == tensors


def roles(name, layer):
    return {w.role: (w.sublayer, w.shape, w.input_dim) for w in find_prunable(build(ALL[name][0])) if w.layer == layer}


def test_roles_of_bert():
    square, up, down = (24, 24), (40, 24), (24, 40)
    assert roles("bert", 1) == {
        "attention.self.query": ("attention", square, 1),
        "attention.self.key": ("attention", square, 1),
        "attention.self.value": ("attention", square, 1),
        "attention.output.dense": ("attention", square, 1),
        "intermediate.dense": ("mlp", up, 1),
        "output.dense": ("mlp", down, 1),
    }


def test_conv1d_has_its_inputs_first():
    assert roles("gpt2", 0) == {
        "attn.c_attn": ("attention", (24, 72), 0),
        "attn.c_proj": ("attention", (24, 24), 0),
        "mlp.c_fc": ("mlp", (24, 40), 0),
        "mlp.c_proj": ("mlp", (40, 24), 0),
    }


def test_stacks_of_experts_say_where_their_inputs_are():
    mixtral, gpt_oss = roles("mixtral", 0), roles("gpt-oss", 0)
    assert mixtral["mlp.experts.gate_up_proj"] == ("mlp", (4, 80, 24), 2)
    assert mixtral["mlp.experts.down_proj"] == ("mlp", (4, 24, 40), 2)
    assert gpt_oss["mlp.experts.gate_up_proj"] == ("mlp", (4, 24, 80), 1)
    assert gpt_oss["mlp.experts.down_proj"] == ("mlp", (4, 40, 24), 1)
    llama4 = roles("llama4", 0)
    assert llama4["feed_forward.experts.gate_up_proj"] == ("mlp", (4, 24, 80), 1)
    assert llama4["feed_forward.experts.down_proj"] == ("mlp", (4, 40, 24), 1)


def test_stacks_of_heads_are_multiplied_as_their_forward_pass_does():
    recurrent, zamba = roles("recurrent-gemma", 0), roles("zamba", 0)
    assert recurrent["temporal_block.rg_lru.input_gate_weight"] == ("mlp", (2, 12, 12), 1)
    assert recurrent["temporal_block.rg_lru.recurrent_gate_weight"] == ("mlp", (2, 12, 12), 1)
    assert zamba["mamba.x_proj_weight"] == ("mlp", (2, 36, 24), 2)
    assert zamba["mamba.dt_proj_weight"] == ("mlp", (2, 24, 4), 2)


def test_an_mlp_inside_an_attention_layer_is_one():
    shared = {role: found[0] for role, found in roles("zamba", 1).items() if role.startswith("shared_transf.")}
    assert {shared[f"shared_transf.feed_forward.{part}_proj"] for part in ("gate", "up", "down")} == {"mlp"}
    assert {shared[f"shared_transf.self_attn.{part}_proj"] for part in "qkvo"} == {"attention"}


def test_encoder_blocks_come_before_decoder_blocks():
    weights = find_prunable(build(ZOO["t5"][0]))
    assert {weight.name.split(".")[0] for weight in weights if weight.layer < 2} == {"encoder"}
    assert {weight.name.split(".")[0] for weight in weights if weight.layer == 2} == {"decoder"}
    assert {w.role for w in weights if w.layer == 2 and w.sublayer == "attention"} == {
        f"layer.{part}.{letter}" for part in ("SelfAttention", "EncDecAttention") for letter in "qkvo"
    }


def test_parameters_are_the_model_s_own_and_never_its_embeddings():
    model = build(ZOO["gpt2"][0], "GPT2LMHeadModel", "cpu")  # its one nn.Linear is the embedding itself
    found = parameters(model)
    assert list(found) == [weight.name for weight in find_prunable(model)]
    assert found["h.1.mlp.c_fc.weight"] is model.transformer.h[1].mlp.c_fc.weight
    assert all(parameter is not model.lm_head.weight for parameter in found.values())


class Expert(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(24, 40), nn.Linear(40, 24))


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(24, 4)
        self.experts = nn.ModuleList(Expert() for _ in range(4))


class Block(nn.Module):
    def __init__(self, mlp):
        super().__init__()
        self.attn = nn.ModuleDict({"qkv": nn.Linear(24, 72), "out": nn.Linear(24, 24)})
        self.mlp = mlp


class Checkpointed(GradientCheckpointingLayer):
    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class Other(Checkpointed):
    pass


class Toy(hf.PreTrainedModel):
    """A model as custom code writes it: plain modules, no classes of the library."""

    config_class = hf.BertConfig
    base_model_prefix = "toy"

    def __init__(self, mlp=None, tied=None, layers=None):
        super().__init__(hf.BertConfig())
        self.layers = layers or nn.ModuleList(Block(mlp()) for _ in range(2))
        if tied:
            tied(self)
        self.post_init()

    def _init_weights(self, module):
        pass


def test_linear_router_beside_a_list_of_experts_is_left_alone():
    weights = find_prunable(Toy(Mixture))
    assert count(weights) == 2 * (24 * 72 + 24 * 24 + 4 * 2 * 24 * 40)
    assert "mlp.gate" not in {weight.role for weight in weights}
    assert {"attn.qkv", "attn.out", "mlp.experts"} == {weight.role for weight in weights}


def test_projection_beside_a_router_may_be_as_wide_as_there_are_experts():
    found = []
    for latent in (8, 12):  # beside eight experts
        model = build(hf.NemotronHConfig(moe_latent_size=latent, n_routed_experts=8))
        found.append([weight.name for weight in find_prunable(model)])
    assert found[0] == found[1]
    assert any(name.endswith("fc1_latent_proj.weight") for name in found[0])


def test_blocks_in_a_sequential_container():
    assert count(find_prunable(Toy(layers=nn.Sequential(Block(Expert()), Block(Expert()))))) == (
        2 * (24 * 72 + 24 * 24 + 2 * 24 * 40)
    )


def test_blocks_of_several_classes_are_known_by_gradient_checkpointing():
    first = Checkpointed(self_attn=nn.ModuleDict({"q": nn.Linear(24, 24)}), mlp=Expert())
    second = Other(self_attn=nn.ModuleDict({"q": nn.Linear(24, 12)}), mlp=Expert())
    weights = find_prunable(Toy(layers=nn.ModuleList([first, second])))
    assert count(weights) == 24 * 24 + 12 * 24 + 2 * 2 * 24 * 40
    assert {weight.layer for weight in weights} == {0, 1}


def test_torch_s_own_attention():
    blocks = [Checkpointed(attn=nn.MultiheadAttention(24, 2), mlp=Expert()) for _ in range(2)]
    weights = find_prunable(Toy(layers=nn.ModuleList(blocks)))
    assert count(weights) == 2 * (72 * 24 + 24 * 24 + 2 * 24 * 40)
    assert {weight.role for weight in weights if weight.sublayer == "attention"} == {
        "attn.in_proj_weight",
        "attn.out_proj",
    }


def test_shared_weights_count_once_under_their_first_name():
    def tie(model):
        model.layers[1].mlp[0].weight = model.layers[0].mlp[0].weight

    weights = find_prunable(Toy(Expert, tie))
    assert count(weights) == 2 * (24 * 72 + 24 * 24 + 2 * 24 * 40) - 24 * 40
    assert "layers.0.mlp.0.weight" in {weight.name for weight in weights}
    assert "layers.1.mlp.0.weight" not in {weight.name for weight in weights}


def test_input_embeddings_inside_a_block_are_left_alone():
    model = Toy(Expert)
    model.get_input_embeddings = lambda: model.layers[0].mlp[0]
    assert "layers.0.mlp.0.weight" not in {weight.name for weight in find_prunable(model)}


def test_refuses_blocks_of_unknown_parameters():
    class Flat(nn.Module):  # experts folded into the rows of one matrix
        def __init__(self):
            super().__init__()
            self.w1 = nn.Parameter(torch.zeros(4 * 40, 24))

    with pytest.raises(CheckpointError, match=r"unknown role \(layers\.0\.mlp\.w1, layers\.1\.mlp\.w1"):
        find_prunable(Toy(Flat))


def test_refuses_experts_in_embeddings():
    config = hf.DogeConfig(**TEXT, **GROUPED, is_moe=True, num_experts=64, num_experts_per_tok=4)
    with pytest.raises(
        CheckpointError, match=r"unknown role \(layers\.0\.mlp\.down_embed\.weight, layers\.0\.mlp\.up_embed"
    ):
        find_prunable(build(config))


def test_refuses_a_linear_layer_that_is_written_as_a_convolution():
    class Pointwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.conv = nn.Linear(40, 24), nn.Conv1d(24, 40, 1)

    class Depthwise(Pointwise):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(24, 24, 3, groups=24)

    with pytest.raises(
        CheckpointError, match=r"23% of its blocks in parameters of unknown role \(layers\.0\.mlp\.conv"
    ):
        find_prunable(Toy(Pointwise))
    assert count(find_prunable(Toy(Depthwise))) == 2 * (24 * 72 + 24 * 24 + 40 * 24)


def test_refuses_projections_of_another_shape():
    """Funnel's of relative positions is (inputs, heads, outputs of a head)."""
    config = hf.FunnelConfig(vocab_size=50, block_sizes=[1, 1], d_model=24, n_head=2, d_head=12, d_inner=40)
    with pytest.raises(CheckpointError, match=r"unknown role \(.*attention\.r_kernel"):
        find_prunable(build(config, "FunnelModel"))


def test_refuses_attention_beside_the_blocks():
    model = Toy(Expert)
    model.cross_attn_layers = nn.ModuleList(nn.MultiheadAttention(24, 2) for _ in range(2))
    with pytest.raises(CheckpointError, match=r"attention outside of its blocks \(cross_attn_layers\)"):
        find_prunable(model)


def test_refuses_matrices_of_no_expert():
    config = hf.LongcatFlashConfig(
        **TEXT, hidden_size=24, num_layers=1, num_attention_heads=2, ffn_hidden_size=40, expert_ffn_hidden_size=20,
        n_routed_experts=4, zero_expert_num=2, moe_topk=2, q_lora_rank=16, kv_lora_rank=10, qk_nope_head_dim=8,
        qk_rope_head_dim=4, v_head_dim=12, head_dim=4,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"stacks of 4 and 6 matrices in layers\.0\.mlp\.experts"):
        find_prunable(build(config))


def test_refuses_a_model_without_transformer_blocks():
    with pytest.raises(CheckpointError, match="ResNetModel has no prunable weights"):
        find_prunable(build(hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])))


def test_prunable_weights_cannot_be_changed():
    weight = find_prunable(build(ZOO["bert"][0]))[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        weight.layer = 5
