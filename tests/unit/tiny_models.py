"""Tiny random models with a tokenizer of their own, saved as checkpoint folders, and data to match."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["good", "bad", "film", "plot", "actor", "slow", "fast", "long", "short", "dull", "bright", "story"]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]

CALIBRATION = {
    "calibration": "tiny",
    "dataset": "texts",
    "split": None,
    "sequences": 6,
    "length": 8,
    "sampling": "joined",
    "seed": 0,
}  # a row of the table of calibrations, as a run has it


def save_tokenizer(folder: Path, special: bool = True, padding: bool = True, words: Sequence[str] = WORDS) -> None:
    """A word-level tokenizer; `special` frames texts and pairs as BERT does, `padding` False leaves an end token alone."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*SPECIAL, *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **({"pad_token": "[PAD]"} if padding else {"eos_token": "[SEP]"}),
        unk_token="[UNK]",
        **({"mask_token": "[UNK]"} if special else {}),
        model_max_length=32,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"] if special else ["input_ids"],
    ).save_pretrained(folder)


def save_bert(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    auto_class: str = "AutoModel",
    words: Sequence[str] = WORDS,
    **options,
) -> Path:
    torch.manual_seed(7)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL) + len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.2,
        **options,
    )
    getattr(transformers, auto_class).from_config(config).to(dtype).save_pretrained(folder)
    save_tokenizer(folder, words=words)
    return folder


def save_llama(folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    torch.manual_seed(7)
    config = transformers.LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    save_tokenizer(folder, special=False)
    return folder


def save_decoder(folder: Path, name: str) -> Path:
    """OPT, or GPT-2 whose tokenizer has no padding token, as published; named by the prefix of their classes."""
    torch.manual_seed(7)
    common = {"vocab_size": 16, "max_position_embeddings": 32, "bos_token_id": 2, "eos_token_id": 2}
    if name == "OPT":
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "init_std": 0.2}
        config = transformers.OPTConfig(**common, **shape, word_embed_proj_dim=16, pad_token_id=0)
    else:
        config = transformers.GPT2Config(**common, n_embd=16, n_layer=2, n_head=2, initializer_range=0.2)
    getattr(transformers, f"{name}LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(config).save_pretrained(
        folder
    )
    save_tokenizer(folder, special=False, padding=name == "OPT")
    return folder


def save_vision(folder: Path, name: str, **options) -> Path:
    """A model of the classes with this prefix: ViT, DeiT, Dinov2, Swin, …, or ViTMAE with its decoder, as published."""
    torch.manual_seed(7)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if name == "ViTMAE":
        shape |= {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        shape |= {"decoder_intermediate_size": 16}
    if name.startswith("Swin"):
        shape = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
    if name != "SiglipVision":
        options["initializer_range"] = 0.2
    config = getattr(transformers, f"{name}Config")(**shape, image_size=16, patch_size=4, **options)
    model = getattr(transformers, "ViTMAEForPreTraining" if name == "ViTMAE" else f"{name}Model")(config)
    model.save_pretrained(folder)
    return folder


def save_vit(folder: Path) -> Path:
    torch.manual_seed(7)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=4,
        initializer_range=0.2,
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def reviews(n: int = 60) -> pd.DataFrame:
    """Texts of 2 to 9 words, labelled by their first word."""
    draw = np.random.default_rng(0)
    texts = [" ".join([WORDS[i % 2], *draw.choice(WORDS[2:], size=draw.integers(1, 9))]) for i in range(n)]
    return pd.DataFrame(
        {"item": [f"r{i:03d}" for i in range(n)], "text": texts, "label": [WORDS[i % 2] for i in range(n)]}
    )


def pairs(n: int = 20) -> pd.DataFrame:
    draw = np.random.default_rng(1)
    words = draw.choice(WORDS, size=(n, 2))
    return pd.DataFrame(
        {
            "item": [f"p{i:02d}" for i in range(n)],
            "text_a": words[:, 0],
            "text_b": words[:, 1],
            "target": draw.random(n),
        }
    )


def images(n: int = 260, size: int = 8) -> pd.DataFrame:
    """Greyscale PNGs, bright in the upper or in the lower half."""
    draw = np.random.default_rng(2)
    rows = []
    for i in range(n):
        pixels = draw.integers(0, 120, size=(size, size), dtype=np.uint8)
        half = slice(0, size // 2) if i % 2 else slice(size // 2, size)
        pixels[half] += 60
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        rows.append((f"i{i:03d}", "upper" if i % 2 else "lower", stream.getvalue()))
    return pd.DataFrame(rows, columns=["item", "label", "image"])


FINETUNE = {
    "task": "tiny",
    "dataset": "tiny",
    "kind": "text-classification",
    "protocol": "finetune",
    "n_train": 24,
    "n_eval": 20,
    "max_length": 12,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 1e-2,
}
PROBE = FINETUNE | {"protocol": "probe", "epochs": None, "batch_size": None, "learning_rate": None}
SIMILARITY = {"task": "tiny", "dataset": "tiny", "kind": "text-similarity", "protocol": "zero-shot", "max_length": 8}
PERPLEXITY = {
    "task": "tiny",
    "dataset": "tiny",
    "kind": "perplexity",
    "protocol": "zero-shot",
    "context": 8,
    "windows": 3,
}
MASKED = {
    "task": "tiny",
    "dataset": "tiny",
    "kind": "masked-lm",
    "protocol": "zero-shot",
    "n_eval": 12,
    "max_length": 12,
    "positions": 3,
}
IMAGES = PROBE | {"kind": "image-classification", "n_train": 200, "n_eval": 60, "max_length": None, "image_size": 16}
