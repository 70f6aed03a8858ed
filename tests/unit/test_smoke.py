"""Before a curve, a few items go through the dense model one by one and together: finite, and the same, or it is refused."""

import dataclasses
import math
import random

import pytest
import tiny_models as tiny
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from essential_sparsity import tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation, smoke
from essential_sparsity.tasks import TaskError

RATED = {key: tiny.FINETUNE[key] for key in ("protocol", "n_train", "n_eval", "batch_size", "learning_rate", "epochs")}
CASES = {
    "probe": (tiny.save_bert, tiny.reviews, tiny.PROBE),
    "probe of a decoder": (tiny.save_llama, tiny.reviews, tiny.PROBE),
    "classes": (tiny.save_bert, tiny.reviews, tiny.FINETUNE | {"epochs": 1}),
    "classes of a decoder": (lambda folder: tiny.save_decoder(folder, "GPT2"), tiny.reviews, tiny.FINETUNE),
    "images": (tiny.save_vit, lambda: tiny.images(80), tiny.IMAGES | {"n_train": 40, "n_eval": 20}),
    "masked images": (
        lambda folder: tiny.save_vision(folder, "ViTMAE"),
        lambda: tiny.images(80), tiny.IMAGES | {"n_train": 40, "n_eval": 20},
    ),
    "similarity": (tiny.save_bert, tiny.pairs, tiny.SIMILARITY),
    "ratings": (tiny.save_bert, lambda: tiny.pairs(60), tiny.SIMILARITY | RATED),
    "perplexity": (tiny.save_llama, tiny.reviews, tiny.PERPLEXITY),
    "masked": (lambda folder: tiny.save_bert(folder, auto_class="AutoModelForMaskedLM"), tiny.reviews, tiny.MASKED),
}  # fmt: skip


def dense(folder, data, settings):
    ((_, outcome),) = evaluation.evaluate(folder, data, settings, "dense", [0.0], 0)
    return outcome


def without_mask(prepared):
    """As a kind would be whose batches forget what is padding."""

    def collate(rows):
        return {key: value for key, value in prepared.collate(rows).items() if key != "attention_mask"}

    return dataclasses.replace(prepared, collate=collate)


def loaded(folder, settings, prepared):
    torch.manual_seed(0)
    return loading.load_model(
        folder, tasks.auto_class(settings), allow_new=("pooler.", "classifier.", "score."), **prepared.model_options
    )


@pytest.mark.parametrize("case", CASES)
def test_it_changes_no_bit_of_a_result(tmp_path, monkeypatch, case):
    saver, data, settings = CASES[case]
    folder, found = saver(tmp_path), []
    check = smoke.check
    monkeypatch.setattr(smoke, "check", lambda *args: found.append(check(*args)))
    with_it = dense(folder, data(), settings)
    monkeypatch.setattr(smoke, "check", lambda *args: None)
    without = dense(folder, data(), settings)
    assert len(found) == 1
    assert found[0] is None if case == "perplexity" else found[0] < 1e-5  # windows are scored one by one
    assert with_it.metrics == without.metrics
    assert with_it.items.equals(without.items)


@pytest.mark.parametrize("case", ["probe", "classes", "similarity", "masked"])
def test_outputs_that_depend_on_the_batch_are_refused(tmp_path, case):
    saver, data, settings = CASES[case]
    folder = saver(tmp_path)
    texts = data()
    if case == "similarity":  # words of one token each need no padding
        texts = texts.assign(text_a=tiny.reviews(len(texts))["text"])
    prepared = tasks.load(settings["kind"]).prepare(folder, texts, settings, 0)
    model = loaded(folder, settings, prepared)
    assert smoke.check(model, prepared, settings, "cpu") < 1e-5
    with pytest.raises(
        TaskError, match=r"'tiny': .* in batches of 8 than one by one: .* of their norm, more than 0.001"
    ):
        smoke.check(model, without_mask(prepared), settings, "cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_given_its_rounding(tmp_path, dtype):
    folder = tiny.save_bert(tmp_path, dtype)
    prepared = tasks.load("text-classification").prepare(folder, tiny.reviews(), tiny.PROBE, 0)
    assert smoke.check(loaded(folder, tiny.PROBE, prepared), prepared, tiny.PROBE, "cpu") < 0.02


DAMAGED = {  # a tensor that is not pruned, so that no ranking of weights sees it
    "bert": (tiny.save_bert, tiny.reviews, tiny.PROBE, "embeddings.LayerNorm.weight"),
    "llama": (tiny.save_llama, tiny.reviews, tiny.PERPLEXITY, "model.norm.weight"),
    "vit": (tiny.save_vit, lambda: tiny.images(80), CASES["images"][2], "embeddings.cls_token"),
    "gpt2": (CASES["classes of a decoder"][0], tiny.reviews, tiny.FINETUNE, "transformer.wpe.weight"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_outputs_that_are_not_finite_are_refused(tmp_path, name):
    """Of weights that are finite; those that are not are refused when they are loaded."""
    saver, data, settings, tensor = DAMAGED[name]
    path = saver(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {tensor: torch.full_like(tensors[tensor], 3e38)}, path, metadata={"format": "pt"})
    with pytest.raises(TaskError, match=r"outputs that are not finite for \d of \d items"):
        dense(tmp_path, data(), settings)


def test_generators_and_the_model_are_left_as_they_were(tmp_path):
    folder = tiny.save_bert(tmp_path)
    prepared = tasks.load("text-classification").prepare(folder, tiny.reviews(), tiny.FINETUNE, 0)
    model = loaded(folder, tiny.FINETUNE, prepared)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate()
    smoke.check(model, prepared, tiny.FINETUNE, "cpu")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_a_kind_looks_at_is_asked_of_the_dense_model(tmp_path, monkeypatch):
    seen = []

    def look(model, settings, device, **windows):
        seen.append((type(model).__name__, model.training, settings["task"], device, sorted(windows)))

    monkeypatch.setattr(tasks.load("perplexity"), "check", look)
    folder = tiny.save_llama(tmp_path)
    dense(folder, tiny.reviews(), tiny.PERPLEXITY)
    assert seen == [("LlamaForCausalLM", False, "tiny", "cpu", ["bos", "inputs"])]
    list(evaluation.evaluate(folder, tiny.reviews(), tiny.PERPLEXITY, "global", [0.5], 0))
    assert len(seen) == 1


def test_sparse_models_may_collapse(tmp_path, monkeypatch):
    monkeypatch.setattr(smoke, "check", lambda *args: pytest.fail("only the dense model is looked at"))
    list(evaluation.evaluate(tiny.save_bert(tmp_path), tiny.reviews(), tiny.PROBE, "global", [0.5, 0.99], 0))


def test_where_memory_lets_fewer_through_fewer_go(tmp_path):
    folder = tiny.save_bert(tmp_path)
    prepared = tasks.load("text-classification").prepare(folder, tiny.reviews(), tiny.PROBE, 0)
    model, sizes = loaded(folder, tiny.PROBE, prepared), []
    forward = model.forward

    def crowded(input_ids, **inputs):
        sizes.append(len(input_ids))
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(input_ids=input_ids, **inputs)

    model.forward = crowded
    assert smoke.check(model, prepared, tiny.PROBE, "cpu") < 1e-5
    assert sizes == [1] * 8 + [8, 4] + [2] * 4


# --- encoder-decoders

SEQ2SEQ = {
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=16, d_model=16, num_layers=2, num_heads=2, d_ff=32, d_kv=8, decoder_start_token_id=0)
    ),
    "bart": lambda: hf.BartForConditionalGeneration(
        hf.BartConfig(
            vocab_size=16, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
        )
    ),
    "pegasus": lambda: hf.PegasusForConditionalGeneration(
        hf.PegasusConfig(
            vocab_size=16, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=1,
        )
    ),
}  # fmt: skip
TASKS = {
    "probe": (tiny.reviews, tiny.PROBE),
    "finetune": (tiny.reviews, tiny.FINETUNE),
    "similarity": (tiny.pairs, tiny.SIMILARITY),
    "perplexity": (tiny.reviews, tiny.PERPLEXITY),
    "masked": (tiny.reviews, tiny.MASKED),
}


@pytest.mark.parametrize("name", SEQ2SEQ)
@pytest.mark.parametrize("task", TASKS)
def test_an_encoder_decoder_is_refused_in_words(tmp_path, name, task):
    SEQ2SEQ[name]().save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    data, settings = TASKS[task]
    with pytest.raises(TaskError, match=rf"'tiny': '{name}', the architecture of .*, is an encoder-decoder"):
        dense(tmp_path, data(), settings)


@pytest.mark.parametrize("name", ["bart", "pegasus"])
def test_an_encoder_decoder_that_says_it_is_none_is_refused(tmp_path, name):
    """Its base model takes a text all the same: it gives the decoder's states of that text, moved by one token."""
    model = SEQ2SEQ[name]()
    model.config.is_encoder_decoder = False
    model.save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    with pytest.raises(TaskError, match=rf"'{name}', the architecture of .*, is an encoder-decoder"):
        dense(tmp_path, tiny.reviews(), tiny.PROBE)


def test_cross_attention_to_no_encoder_is_refused(tmp_path):
    """A third of what would be pruned had no effect on any output."""
    cross = {"is_decoder": True, "add_cross_attention": True}
    folder = tiny.save_bert(tmp_path, auto_class="AutoModelForCausalLM", **cross)
    with pytest.raises(TaskError, match=r"has cross-attention .*to an encoder that there is not"):
        dense(folder, tiny.reviews(), tiny.PERPLEXITY)


def test_a_model_that_gives_no_states_of_its_tokens_is_refused(tmp_path):
    shape = {"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    hf.DPRQuestionEncoder(hf.DPRConfig(**shape, intermediate_size=32)).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    for data, settings in ((tiny.reviews(), tiny.PROBE), (tiny.pairs(), tiny.SIMILARITY)):
        with pytest.raises(TaskError, match=r"no states of its tokens \(pooler_output alone\)"):
            dense(tmp_path, data, settings)


def test_an_encoder_is_no_model_that_predicts_what_comes_next(tmp_path):
    """transformers loads a BERT with a head for it, which sees the tokens that it is to predict."""
    folder = tiny.save_bert(tmp_path / "encoder", auto_class="AutoModelForMaskedLM")
    with pytest.raises(TaskError, match=r"'tiny': 'bert', the architecture of .*, is an encoder \(is_decoder is false"):
        dense(folder, tiny.reviews(), tiny.PERPLEXITY)
    decoder = tiny.save_bert(tmp_path / "decoder", auto_class="AutoModelForCausalLM", is_decoder=True)
    dense(decoder, tiny.reviews(), tiny.PERPLEXITY)
    torch.manual_seed(7)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    neox = hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(vocab_size=16, max_position_embeddings=32, **shape))
    neox.save_pretrained(tmp_path / "neox")
    tiny.save_tokenizer(tmp_path / "neox", special=False)
    dense(tmp_path / "neox", tiny.reviews(), tiny.PERPLEXITY)


def test_weights_that_no_text_comes_to_are_not_counted_as_those_of_a_model_of_texts(tmp_path):
    """Gemma 3 from 4B on has a model of images in it, which the class of language models loads too."""
    sides = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    texts = sides | {"vocab_size": 16, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}
    images = sides | {"image_size": 16, "patch_size": 4}
    config = hf.Gemma3Config(text_config=texts, vision_config=images, mm_tokens_per_image=4)
    hf.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "both")
    tiny.save_tokenizer(tmp_path / "both", special=False)
    told = r"gemma3 has weights for more than texts in it \(vision_config in .* \(model_type gemma3_text\)"
    with pytest.raises(TaskError, match=told):
        dense(tmp_path / "both", tiny.reviews(), tiny.PERPLEXITY)
    hf.Gemma3ForCausalLM(config.text_config).save_pretrained(tmp_path / "texts")
    tiny.save_tokenizer(tmp_path / "texts", special=False)
    dense(tmp_path / "texts", tiny.reviews(), tiny.PERPLEXITY)


def test_what_is_finite_alone_and_not_in_a_batch_is_refused(tmp_path):
    folder = tiny.save_bert(tmp_path)
    prepared = tasks.load(tiny.PROBE["kind"]).prepare(folder, tiny.reviews(), tiny.PROBE, 0)
    model = loaded(folder, tiny.PROBE, prepared)

    def spoil(module, args, output):
        if len(output.last_hidden_state) > 1:
            output.last_hidden_state[0, 0, 0] = math.nan
        return output

    model.register_forward_hook(spoil)
    with pytest.raises(TaskError, match="differ by inf of their norm"):
        smoke.check(model, prepared, tiny.PROBE, "cpu")


def test_a_model_that_cannot_take_the_items_is_told_by_its_type(tmp_path):
    folder = tiny.save_vision(tmp_path, "CLIPVision")
    settings, data = tiny.IMAGES | {"n_train": 40, "n_eval": 20}, tiny.images(80)
    prepared = tasks.load(settings["kind"]).prepare(folder, data, settings, 0)
    model = loaded(folder, settings, prepared)

    def collate(rows):
        batch = prepared.collate(rows)
        return batch | {"pixel_values": batch["pixel_values"][..., :8], "interpolate_pos_encoding": False}

    with pytest.raises(
        TaskError, match=r"the dense model \(clip_vision_model\) cannot take what it is given \(ValueError: Input image"
    ):
        smoke.check(model, dataclasses.replace(prepared, collate=collate), settings, "cpu")


@pytest.mark.parametrize("said", ["CUDA error: misaligned address", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"])
def test_a_fault_of_a_card_is_no_fault_of_the_input(tmp_path, said):
    """It keeps its own error, and the job is tried again."""
    folder = tiny.save_vit(tmp_path)
    settings, data = tiny.IMAGES | {"n_train": 40, "n_eval": 20}, tiny.images(80)
    prepared = tasks.load(settings["kind"]).prepare(folder, data, settings, 0)
    model = loaded(folder, settings, prepared)

    def fails(*_):
        raise RuntimeError(said)

    model.register_forward_pre_hook(fails)
    with pytest.raises(RuntimeError, match=said) as raised:
        smoke.check(model, prepared, settings, "cpu")
    assert not isinstance(raised.value, TaskError)
