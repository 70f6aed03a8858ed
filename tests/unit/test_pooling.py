"""One vector of a text, as the checkpoint itself says: another one would give similarities that are not its own."""

import json
import shutil
import types

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers

from essential_sparsity import tasks
from essential_sparsity.acquire import conversion
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import TaskError, _pooling, _text

TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
NORMALIZE = {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
HIDDEN = torch.tensor([[[1.0, -9.0], [2.0, 8.0], [4.0, 0.0]], [[50.0, 60.0], [-3.0, -5.0], [-2.0, -7.0]]])
BATCH = {"attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])}  # the second is padded in front


def sentence_model(folder, *modes, modules=(TRANSFORMER, POOLING, NORMALIZE), **said):
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules))
    flags = {f"pooling_mode_{flag}": flag in modes for flag in FLAGS}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 2} | flags | said))
    return folder


def vectors(folder):
    return _pooling.pooling(folder)(types.SimpleNamespace(last_hidden_state=HIDDEN), BATCH).tolist()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls_token", [[1, -9], [-3, -5]]),
        ("lasttoken", [[4, 0], [-2, -7]]),
        ("max_tokens", [[4, 8], [-2, -5]]),
        ("mean_tokens", [[7 / 3, -1 / 3], [-2.5, -6]]),
        ("mean_sqrt_len_tokens", [[7 / 3, -1 / 3], [-2.5, -6]]),  # of the same angle
    ],
)
def test_padding_is_no_part_of_a_vector(tmp_path, mode, expected):
    np.testing.assert_allclose(vectors(sentence_model(tmp_path, mode)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "like"),
    [("cls", "cls_token"), ("mean", "mean_tokens"), ("lasttoken", "lasttoken"), ("max", "max_tokens")],
)
def test_a_way_of_pooling_may_be_one_name(tmp_path, name, like):
    (tmp_path / "a/1_Pooling").mkdir(parents=True)
    (tmp_path / "a/modules.json").write_text(json.dumps([TRANSFORMER, POOLING]))
    (tmp_path / "a/1_Pooling/config.json").write_text(json.dumps({"pooling_mode": name}))
    assert vectors(tmp_path / "a") == vectors(sentence_model(tmp_path / "b", like))


def test_texts_are_in_small_letters_where_the_checkpoint_says_so(tmp_path, capsys):
    folder, texts = sentence_model(tmp_path, "mean_tokens"), ["A Cat", "ÄRGER"]
    assert _pooling.as_read(folder, texts, 128) == texts
    said = folder / "sentence_bert_config.json"
    said.write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))
    assert _pooling.as_read(folder, texts, 128) == texts
    assert not capsys.readouterr().out
    said.write_text(json.dumps({"max_seq_length": 64, "do_lower_case": True}))
    assert _pooling.as_read(folder, texts, 128) == ["a cat", "ärger"]
    assert (
        "up to 128 tokens (column max_length of the task); the checkpoint by itself cuts them at 64"
        in capsys.readouterr().out
    )
    said.write_text("[]")
    with pytest.raises(TaskError, match="which says how the checkpoint reads texts"):
        _pooling.as_read(folder, texts, 128)
    (folder / "modules.json").unlink()
    assert _pooling.as_read(folder, texts, 128) == texts


def test_without_modules_it_is_the_mean(tmp_path):
    assert _pooling.pooling(tmp_path) is _text.mean_pooled


@pytest.mark.parametrize(
    ("modes", "options", "told"),
    [
        (["weightedmean_tokens"], {}, "by weightedmean_tokens"),
        (["cls_token", "mean_tokens"], {}, "by cls_token and mean_tokens"),
        ([], {}, "without a pooling"),
        (["mean_tokens"], {"modules": [TRANSFORMER, POOLING, DENSE]}, "with Dense"),
        (["mean_tokens"], {"modules": [TRANSFORMER]}, "without a pooling"),
        (["mean_tokens"], {"modules": [TRANSFORMER, POOLING | {"path": "gone"}]}, "cannot be read with what it names"),
        (["mean_tokens"], {"modules": [1]}, "cannot be read with what it names"),
        (["mean_tokens"], {"modules": [TRANSFORMER, POOLING | {"path": 1}]}, "cannot be read with what it names"),
        (
            ["mean_tokens"],
            {"modules": [TRANSFORMER, POOLING | {"path": "../1_Pooling"}]},
            "no folder such as 1_Pooling",
        ),
        (["mean_tokens"], {"modules": [TRANSFORMER, POOLING | {"path": ""}]}, "no folder such as 1_Pooling"),
        ([], {"pooling_mode": "weightedmean"}, "by weightedmean"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_to_do(tmp_path, modes, options, told):
    with pytest.raises(TaskError, match=rf"modules\.json.*{told}.*a copy without modules\.json"):
        _pooling.pooling(sentence_model(tmp_path, *modes, **options))


def test_a_pooling_that_is_no_mapping_is_refused(tmp_path):
    (sentence_model(tmp_path, "mean_tokens") / "1_Pooling/config.json").write_text("[]")
    with pytest.raises(TaskError, match="cannot be read with what it names"):
        _pooling.pooling(tmp_path)


def test_how_a_vector_is_made_is_told_by_files_that_decide_a_run_alone(tmp_path):
    """What lies elsewhere is in no manifest: a change of it would go unseen."""
    pooling = _pooling.PLACE.pattern
    assert conversion.SIDE_FILES.pattern.endswith(rf"|{pooling}/config\.json")
    folder = sentence_model(tmp_path / "a", "cls_token")
    (folder / "1_Pooling").rename(tmp_path / "1_Pooling")
    for place in (str(tmp_path / "1_Pooling"), "../1_Pooling"):
        (folder / "modules.json").write_text(json.dumps([TRANSFORMER, POOLING | {"path": place}]))
        with pytest.raises(TaskError, match="no folder such as 1_Pooling"):
            _pooling.pooling(folder)


def test_similarities_are_those_of_the_checkpoint_s_own_vectors(tmp_path):
    folder, data = sentence_model(tiny.save_bert(tmp_path), "cls_token"), tiny.pairs()
    ((_, outcome),) = evaluation.evaluate(folder, data, tiny.SIMILARITY, "dense", [0.0], 0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()

    def embedded(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0].double().numpy()

    rows = data.set_index("item").loc[outcome.items["item"]]
    for score, a, b in zip(outcome.items["score"], rows["text_a"], rows["text_b"], strict=True):
        one, other = embedded(a), embedded(b)
        assert score == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)


def test_a_prompt_of_its_own_is_told(tmp_path, capsys):
    sentence_model(tmp_path, "mean_tokens")
    _pooling.pooling(tmp_path)
    assert capsys.readouterr().out == ""
    said = {"prompts": {"query": "Represent this: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(said))
    _pooling.pooling(tmp_path)
    assert "without the prompt 'query' that the checkpoint puts before each by itself" in capsys.readouterr().out


def test_another_similarity_of_its_own_is_told(tmp_path, capsys):
    sentence_model(tmp_path, "mean_tokens")
    said = tmp_path / "config_sentence_transformers.json"
    for plain in ({}, {"similarity_fn_name": None}, {"similarity_fn_name": "cosine"}, []):
        said.write_text(json.dumps(plain))
        _pooling.pooling(tmp_path)
        assert capsys.readouterr().out == ""
    said.write_text(json.dumps({"similarity_fn_name": "dot"}))
    _pooling.pooling(tmp_path)
    assert "trained for another similarity (dot)" in capsys.readouterr().out


def test_the_files_that_say_it_come_with_the_checkpoint():
    names = [
        "config.json",
        "model.safetensors",
        "modules.json",
        "1_Pooling/config.json",
        "onnx/config.json",
        "2_Dense/model.safetensors",
    ]
    assert conversion.transformers_files(names) == [
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "modules.json",
    ]


def test_what_is_read_of_a_pooling_is_what_a_manifest_lists():
    """The two say it apart, so that an evaluation does not depend on the code of fetching."""
    for place, listed in (
        ("1_Pooling", True),
        ("12_Pooling", True),
        ("pooling", False),
        ("../1_Pooling", False),
        ("0_a/1_Pooling", False),
    ):
        assert bool(_pooling.PLACE.fullmatch(place)) is listed
        assert bool(conversion.SIDE_FILES.fullmatch(f"{place}/config.json")) is listed


def test_a_kind_that_trains_looks_at_none_of_it(tmp_path):
    folder = sentence_model(tiny.save_bert(tmp_path), "weightedmean_tokens")
    settings = tiny.SIMILARITY | {
        key: tiny.FINETUNE[key] for key in ("n_train", "n_eval", "batch_size", "learning_rate", "epochs")
    }
    assert tasks.load("text-similarity").prepare(folder, tiny.pairs(60), settings | {"protocol": "finetune"}, 0)


def test_a_similarity_reads_texts_as_the_checkpoint_does(tmp_path, monkeypatch):
    folder, data = sentence_model(tiny.save_bert(tmp_path), "mean_tokens"), tiny.pairs(20)
    plain = tasks.load("text-similarity").prepare(folder, data, tiny.SIMILARITY, 0)
    monkeypatch.setattr(_pooling, "as_read", lambda folder, texts, length: texts[::-1])
    read = tasks.load("text-similarity").prepare(folder, data, tiny.SIMILARITY, 0)
    assert [list(read.inputs[row]["input_ids"]) for row in range(40)] == [
        list(plain.inputs[row]["input_ids"]) for row in reversed(range(40))
    ]


def test_the_module_of_a_checkpoint_named_alone_is_refused_until_it_says_how_it_pools(tmp_path):
    module = TRANSFORMER | {"path": "0_Transformer"}
    folder = tiny.save_bert(sentence_model(tmp_path / "mine", "cls_token", modules=(module, POOLING)) / "0_Transformer")
    with pytest.raises(TaskError, match=r"0_Transformer is one module of .*mine.*Copy modules.json and the folder"):
        _pooling.pooling(folder)
    shutil.copy(tmp_path / "mine/modules.json", folder)
    shutil.copytree(tmp_path / "mine/1_Pooling", folder / "1_Pooling")
    assert _pooling.pooling(folder) is _pooling.first
    assert _pooling.pooling(shutil.copytree(folder, tmp_path / "alone")) is _pooling.first
    (tmp_path / "alone/modules.json").unlink()
    assert _pooling.pooling(tmp_path / "alone") is _text.mean_pooled


def test_the_module_of_a_checkpoint_that_pools_by_the_mean_is_read_alone(tmp_path):
    modules = (TRANSFORMER | {"path": "0_BERT"}, POOLING, NORMALIZE)
    folder = tiny.save_bert(sentence_model(tmp_path / "mine", "mean_tokens", modules=modules) / "0_BERT")
    said = folder / "sentence_bert_config.json"
    said.write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))
    assert _pooling.pooling(folder) is _text.mean_pooled
    said.write_text(json.dumps({"do_lower_case": True}))  # which is read beside modules.json alone
    with pytest.raises(TaskError, match=r"0_BERT is one module"):
        _pooling.pooling(folder)
    said.unlink()
    sentence_model(tmp_path / "mine", "mean_tokens", modules=(*modules, DENSE))
    with pytest.raises(TaskError, match=r"0_BERT is one module"):
        _pooling.pooling(folder)
