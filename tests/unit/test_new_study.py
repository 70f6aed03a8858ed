"""A study of one's own from a checkpoint and data: what is seen, what is written, what is asked for."""

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny_models as tiny
import torch
import transformers
import yaml
from PIL import Image
from test_formats import tiny_gguf

import new_study
from essential_sparsity.acquire import looking
from essential_sparsity.runs import evaluation
from essential_sparsity.study import configuration, opening, study

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the workflow's tables, in which programs run, and a small encoder `mine/bert`."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "mine/bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    tiny.save_bert(tmp_path / "mine/bert")
    return tmp_path


def call(*options: str) -> None:
    new_study.main(["--model", *options])


def asked(name: str) -> study.Study:
    """The study that the written file asks for, as the workflow reads it."""
    return opening.read(configuration.read_config("config/config.yaml", f"config/{name}.yaml"))


def table(columns: dict[str, list], path: str = "mine/texts.csv") -> str:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


WORDS = [
    f"{first} {second} {third} film"
    for first in tiny.WORDS[:9]
    for second, third in zip(tiny.WORDS[:10], tiny.WORDS[2:], strict=False)
]
MOODS = ["glad", "sad", "sad"] * 30


def test_a_folder_and_a_table_of_two_columns_become_a_study(place, capsys):
    call("mine/bert", "--data", table({"text": WORDS, "label": MOODS}))
    found = asked("bert-texts")
    assert found.curves == [("bert", "texts")]
    assert found.patterns == {("bert", "texts"): ["dense", "global", "layerwise", "random"]}
    task = found.tasks["texts"]
    assert (task["kind"], task["protocol"], task["n_train"], task["n_eval"]) == ("text-classification", "probe", 48, 30)
    assert found.models["bert"]["parameters"] == sum(
        p.numel() for p in transformers.AutoModel.from_pretrained("mine/bert").parameters()
    )
    said = capsys.readouterr().out
    assert "labels glad 30 (33 %), sad 60 (67 %)" in said
    assert "make demo CONFIG=config/bert-texts.yaml" in said


@pytest.mark.parametrize(
    ("form", "names", "beside"),
    [
        ("json", ["train.jsonl", "test.jsonl"], [".ipynb_checkpoints/train-checkpoint.csv", "__MACOSX/train.csv"]),
        ("csv", ["train.csv"], ["checkpoints/checkpoint-5/config.json", "checkpoints/checkpoint-5/model.safetensors"]),
        ("csv", ["train.csv"], ["checkpoint-5/config.json", "checkpoint-5/pytorch_model.bin", "dataset_infos.json"]),
        ("imagefolder", ["train/a/1.png", "train/b/1.png"], ["train/metadata.csv"]),
        ("csv", ["metadata.csv"], ["notes.txt"]),
        (
            "arrow",
            ["train/data-00000-of-00001.arrow"],
            ["dataset_dict.json", "train/state.json", "train/dataset_info.json"],
        ),
    ],
)
def test_the_format_of_a_folder_is_that_of_its_data(tmp_path, form, names, beside):
    for name in [*names, *beside]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert looking.format_of(tmp_path) == form


@pytest.mark.parametrize(
    ("columns", "kind", "renamed"),
    [
        ({"what was said": WORDS, "mood": MOODS}, "text-classification", "text=what was said,label=mood"),
        ({"id": range(90), "sentence": WORDS, "gold": MOODS}, "text-classification", "text=sentence,label=gold"),
        ({"premise": WORDS, "hypothesis": WORDS[::-1], "label": MOODS}, "text-classification", "text_a=premise,text_b=hypothesis"),
        ({"sentence1": WORDS, "sentence2": WORDS[::-1], "score": [i / 7 for i in range(90)]}, "text-similarity", "text_a=sentence1,text_b=sentence2,target=score"),
        ({"text": MOODS, "premise": WORDS, "hypothesis": WORDS[::-1], "label": MOODS}, "text-classification", "text_a=premise,text_b=hypothesis"),
        ({"text": MOODS, "text_a": WORDS, "text_b": WORDS[::-1], "label": MOODS}, "text-classification", "text_a=text_a,text_b=text_b"),
        ({"body": WORDS}, "masked-lm", "text=body"),
        ({"note": WORDS, "verdict": ["very good", "not so good", "not so good"] * 30}, "text-classification", "text=note,label=verdict"),
    ],
)  # fmt: skip
def test_columns_are_told_by_name_and_content(place, columns, kind, renamed):
    call("mine/bert", "--data", table(columns), "--study", "mine")
    task = asked("mine").tasks["texts"]
    assert (task["kind"], task["columns"]) == (kind, renamed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["mine/nothing", "--task", "ws353"], "mine/nothing is no file or folder here"),
        (["minilm", "--task", "ws353", "--name", "mine"], "is about a checkpoint that is no row yet: config/models.tsv has 'minilm' and says it"),
        (["mine/bert", "--task", "mnist-probe"], "Tasks for it: ws353"),
        (["mine/bert", "--task", "ws35"], "did you mean 'ws353'"),
        (["mine/bert", "--data", "mine/none.csv"], "mine/none.csv does not exist"),
        (["mine/bert", "--data", "mine/unclear.csv"], "Its columns are: a, b, c. Say COLUMNS=text=…,label=… (without make: --columns)"),
        (["mine/bert", "--data", "mine/texts.csv", "--columns", "text=a,lable=b"], "no task reads a column 'lable'; did you mean 'label'?"),
        (["mine/bert", "--data", "mine/texts.csv", "--columns", "text=remark"], "has no column 'remark', which its `columns` name"),
        (["mine/bert", "--data", "mine/two.csv"], "which of mood, place is the label"),
        (["mine/bert", "--data", "mine/few.csv"], "too few rows"),
        (["mine/bert", "--data", "mine/texts.csv", "--protocol", "zero-shot"], "has no protocol 'zero-shot'; it has probe"),
        (["mine/bert", "--data", "mine/texts.csv", "--study", "store"], "names a folder"),
        (["mine/bert", "--data", "mine/texts.csv", "--study", "demo"], "config/config.yaml is the study 'demo' already"),
        (["mine/bert", "--data", "mine/one.csv"], "has glad alone: at least two are needed"),
        (["mine/bert", "--data", "mine/blank.csv"], "has glad alone: at least two are needed"),
        (["mine/bert", "--data", "mine/scores.csv"], "the labels are numbers such as 0.1, no classes"),
        (["mine/bert/model.safetensors", "--task", "ws353"], "name the folder that holds config.json"),
        (["mine", "--task", "ws353"], "There is no config.json"),
        (["mine/half", "--task", "ws353"], "model.safetensors is cut short or corrupt"),
        (["mine/bart", "--task", "ws353"], "encoder with a decoder"),
        (["mine/bert", "--data", "mine/headless.csv"], "the column 'glad' holds its own name"),
        (["mine/bert", "--data", "mine/comma.csv"], "the column 'film, review' has a comma or an equals sign in its name"),
        (["mine/bert", "--data", "mine/rated.csv"], "score can be a number to predict or a class"),
        (["mine/bert"], "Name one thing to evaluate: TASK=…"),
        (["mine/bert", "--task", "ws353", "--data", "mine/texts.csv"], "Name one thing to evaluate"),
        (["mine/bert", "--task", "ws353", "--columns", "text=a"], "COLUMNS=… (without make: --columns) is about data of your own"),
        (["", "--task", "ws353"], "MODEL= (without make: --model) is blank"),
        (["mine/bert", "--name", "my bert", "--task", "ws353"], "NAME=my bert (without make: --name): a name is of letters"),
        (["mine/quantised", "--data", "mine/texts.csv"], "quantised (gptq)"),
        (["mine/bare", "--data", "mine/texts.csv"], "There is no tokenizer in mine/bare. Put the files"),
        (["mine/bare", "--task", "ws353"], "There is no tokenizer in mine/bare. Put the files"),
        (["mine/shallow", "--task", "ws353"], "stores 16 tensors that BertModel has no place for"),
        (["mine/own", "--task", "ws353"], "it asks for code of its own (auto_map), which is never run here"),
        (["mine/adapter", "--task", "ws353"], "There is an adapter alone"),
        (["mine/bert", "--data", "mine/rated.csv", "--columns", "text=text_b,text_a=text_a,label=score"], "has a column text and a column text_a"),
        (["mine/bert", "--data", "mine/ids.csv", "--columns", "label=id"], "has 90 values in 90 rows (0, 1, 10 and 87 more)"),
        (["mine/bert", "--data", "mine/same.csv"], "makes the same 4 tokens"),
        (["mine/bert", "--data", "mine/gap.csv"], "the text is empty"),
        (["mine/bert", "--data", "mine/foreign.csv"], "unknown to the tokenizer"),
        (["mine/bert", "--data", "mine/new"], "no row of train has the label 'angry' of the split 'test'"),
        (["mine/bert", "--data", "mine/hidden"], "labels of the split 'test' of data set 'hidden' are not published, or missing"),
        (["mine/llama", "--data", "mine/short.csv"], "too few for a window of 32 tokens"),
        (["mine/vit", "--data", "mine/pets"], "image cat/3.png cannot be decoded (no image of AVIF, BMP, GIF, JPEG,"),
        (["mine/be\trt", "--task", "ws353"], "'mine/be\\trt' cannot stand in a cell of config/models.tsv"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_asked_for_and_nothing_is_written(place, options, message):
    table({"text": WORDS, "label": MOODS})
    table({"a": WORDS, "b": WORDS, "c": WORDS}, "mine/unclear.csv")
    pd.DataFrame({"text": WORDS, "label": MOODS}).to_csv("mine/headless.csv", index=False, header=False)
    table({"text_a": WORDS, "text_b": WORDS[::-1], "score": [0, 1, 2] * 30}, "mine/rated.csv")
    table({"film, review": WORDS, "label": MOODS}, "mine/comma.csv")
    table({"text": WORDS, "mood": MOODS, "place": MOODS}, "mine/two.csv")
    table({"text": WORDS, "label": ["glad"] * 90}, "mine/one.csv")
    table({"text": WORDS, "label": ["glad", ""] * 45}, "mine/blank.csv")
    table({"text": WORDS, "label": [i / 100 + 0.1 for i in range(90)]}, "mine/scores.csv")
    table({"text": WORDS[:20], "label": MOODS[:20]}, "mine/few.csv")
    shutil.copytree("mine/bert", "mine/half")
    Path("mine/half/model.safetensors").write_bytes(Path("mine/bert/model.safetensors").read_bytes()[:100])
    shutil.copytree("mine/bert", "mine/be\trt")
    shutil.copytree("mine/bert", "mine/bart")
    transformers.BartConfig(d_model=8).save_pretrained("mine/bart")
    table({"text": WORDS, "id": range(90)}, "mine/ids.csv")
    table({"text": ["good film"] * 90, "label": MOODS}, "mine/same.csv")
    table({"text": [*WORDS[:-1], " "], "label": MOODS}, "mine/gap.csv")
    table(
        {"text": [f"good {word}" for word in ("złoto", "łoś", "ćma")] * 29 + WORDS[:3], "label": MOODS},
        "mine/foreign.csv",
    )
    for name, labels in (("new", ["angry", "glad"] * 45), ("hidden", [""] * 90)):
        Path("mine", name).mkdir()
        table({"text": WORDS, "label": MOODS}, f"mine/{name}/train.csv")
        table({"text": WORDS[::-1], "label": labels}, f"mine/{name}/test.csv")
    table({"text": WORDS[:5]}, "mine/short.csv")
    tiny.save_llama(Path("mine/llama"))
    tiny.save_vit(Path("mine/vit"))
    for name in ("cat", "dog"):
        Path("mine/pets", name).mkdir(parents=True)
        for i in range(30):
            Image.new("RGB", (8, 8)).save(f"mine/pets/{name}/{i}.png")
    Path("mine/pets/cat/3.png").write_bytes(Path("mine/pets/cat/3.png").read_bytes()[:40])
    changes = {
        "quantised": {"quantization_config": {"quant_method": "gptq"}}, "shallow": {"num_hidden_layers": 1}, "bare": {},
        "own": {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}, "adapter": {},
    }  # fmt: skip
    for name, changed in changes.items():
        shutil.copytree("mine/bert", f"mine/{name}")
        config = json.loads(Path("mine/bert/config.json").read_text()) | changed
        Path(f"mine/{name}/config.json").write_text(json.dumps(config))
    Path("mine/bare/tokenizer.json").unlink()
    Path("mine/adapter/config.json").rename("mine/adapter/adapter_config.json")
    before = {path: path.read_bytes() for path in filter(Path.is_file, Path("config").rglob("*"))}
    with pytest.raises(ValueError, match=re.escape(message)):
        call(*options)
    assert {path: path.read_bytes() for path in filter(Path.is_file, Path("config").rglob("*"))} == before


def test_the_same_twice_adds_nothing_and_another_of_the_same_name_is_refused(place):
    call("mine/bert", "--data", table({"text": WORDS, "label": MOODS}))
    before = {path: path.read_bytes() for path in filter(Path.is_file, Path("config").rglob("*"))}
    for model, data in (("mine/bert", "mine/texts.csv"), ("./mine/bert/", "mine//./texts.csv")):
        call(model, "--data", data)
        assert {path: path.read_bytes() for path in filter(Path.is_file, Path("config").rglob("*"))} == before
    models = Path("config/models.tsv")
    models.write_text(models.read_text().replace("\nbert\tbert\t", "\nbert\tMy own words\t"))
    assert "My own words" in models.read_text()
    call("mine/bert", "--data", "mine/texts.csv")
    assert "My own words" in models.read_text(), "a label is no other model"
    shutil.copytree("mine/bert", "other/bert")
    with pytest.raises(ValueError, match="has a row 'bert' already, with another id"):
        call("other/bert", "--data", "mine/texts.csv")
    with pytest.raises(ValueError, match=r"another id .*NAME=… \(without make: --name\)"):
        call("other/bert", "--data", "mine/texts.csv")
    call("other/bert", "--name", "other", "--data", "mine/texts.csv")
    assert asked("other-texts").curves == [("other", "texts")]


@pytest.mark.parametrize("beside", [["--task", "ws353"], ["--data", "mine/texts.csv"]])
def test_a_model_of_the_table_is_named_as_it_is(place, capsys, beside):
    """The packaged model with data of one's own is a first thing to try."""
    table({"text": WORDS, "label": MOODS})
    before = (place / "config/models.tsv").read_text()
    call("minilm", *beside)
    assert "config/models.tsv has the model minilm\nminilm: of type encoder\n" in capsys.readouterr().out
    assert (place / "config/models.tsv").read_text() == before
    task = {"--task": "ws353", "--data": "texts"}[beside[0]]
    assert {(job.model, job.task) for job in asked(f"minilm-{task}").jobs} == {("minilm", task)}


def of_table(place, name: str, **cells) -> None:
    """A row of the models table whose checkpoint lies here."""
    file = place / "config/models.tsv"
    header = next(line for line in file.read_text().splitlines() if not line.startswith("#")).split("\t")
    row = {
        "model": name,
        "label": name,
        "source": "path",
        "format": "transformers",
        "parameters": "1e6",
        "allow_pickle": "false",
    }
    line = "\t".join((row | cells).get(column, "") for column in header)
    file.write_text(f"{file.read_text().rstrip()}\n{line}\n")


def test_a_model_of_the_table_that_lies_here_is_given_what_it_takes(place):
    tiny.save_vit(place / "mine/vit")
    of_table(place, "small", type="vision", id="mine/vit")
    for number in range(80):
        for name in ("dark", "light"):
            path = place / f"pictures/{name}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, number, 200 * (name == "light"))).save(path)
    call("small", "--data", "pictures")
    size = transformers.AutoConfig.from_pretrained("mine/vit").image_size
    assert asked("small-pictures").tasks["pictures"]["image_size"] == size


@pytest.mark.parametrize("beside", [["--task", "ws353"], ["--data", "mine/texts.csv"]])
def test_a_model_of_the_table_that_is_gone_is_named(place, beside):
    table({"text": WORDS, "label": MOODS})
    of_table(place, "gone", type="encoder", id="mine/gone")
    with pytest.raises(ValueError, match=r"has the model gone, but mine/gone is not there\. Correct the column id"):
        call("gone", *beside)


def test_the_row_says_what_an_estimate_would_take_for_ten_thousand_long_texts(place):
    """Of 220 short pairs it said an hour in the place of a minute."""
    pairs = {"text_a": WORDS, "text_b": WORDS[::-1], "score": [i / 9 for i in range(len(WORDS))]}
    call("mine/bert", "--data", table(pairs, "mine/pairs.csv"))
    task = asked("bert-pairs").tasks["pairs"]
    assert (task["kind"], task["protocol"], task["passes"]) == ("text-similarity", "zero-shot", len(WORDS) // 3)
    call(
        "mine/bert",
        "--data",
        table({"text": ["good film", "dull plot"] * 45, "label": ["a", "b"] * 45}, "mine/short.csv"),
    )
    task = asked("bert-short").tasks["short"]
    assert (task["mean_length"], task["passes"]) == (7, None), "nine characters; n_eval says how many"


def test_names_that_are_numbers_are_names(place):
    shutil.copytree("mine/bert", "2024")
    for _ in range(2):
        call("2024", "--data", table({"text": WORDS, "label": MOODS}, "007.csv"))
    assert asked("2024-007").curves == [("2024", "007")]


def test_shards_in_half_precision_a_decoder_and_its_window(place):
    tiny.save_llama(Path("mine/llama"))
    model = transformers.AutoModelForCausalLM.from_pretrained("mine/llama", dtype=torch.bfloat16)
    count = sum(p.numel() for p in model.parameters())
    os.remove("mine/llama/model.safetensors")
    model.save_pretrained("mine/llama", max_shard_size="4KB")
    assert len(list(Path("mine/llama").glob("model-*.safetensors"))) > 1
    call("mine/llama", "--data", table({"text": WORDS}))
    found = asked("llama-texts")
    assert (found.models["llama"]["type"], found.models["llama"]["parameters"]) == ("decoder", count)
    task = found.tasks["texts"]
    assert task["kind"] == "perplexity"
    assert task["context"] <= model.config.max_position_embeddings


def test_folders_of_images(place):
    tiny.save_vit(Path("mine/vit"))
    for label in ("cat", "dog"):
        Path("mine/pets", label).mkdir(parents=True)
        for i in range(40):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(f"mine/pets/{label}/{i}.png")
    call("mine/vit", "--data", "mine/pets", "--protocol", "finetune")
    task = asked("vit-pets").tasks["pets"]
    assert (task["kind"], task["protocol"], task["format"]) == ("image-classification", "finetune", "imagefolder")
    assert task["image_size"] == transformers.AutoConfig.from_pretrained("mine/vit").image_size


def test_images_that_are_no_whole_number_of_patches_are_refused_before_anything_is_written(place):
    """By what a run would refuse; it says which sizes are."""
    tiny.save_vit(place / "mine/vit")
    text = (place / "config/tasks.tsv").read_text()
    header = text.splitlines()[0].split("\t")
    row = next(line for line in text.splitlines() if line.startswith("mnist-probe\t")).split("\t")
    row += [""] * (len(header) - len(row))
    row[header.index("task")], row[header.index("image_size")] = "odd", "18"
    (place / "config/tasks.tsv").write_text(text + "\t".join(row).rstrip("\t") + "\n")
    with pytest.raises(
        ValueError, match=r"image_size = 18 is not a multiple of the model's patch size 4\. Write 16 or 20 in the"
    ):
        call("mine/vit", "--task", "odd")
    assert not (place / "config/vit-odd.yaml").exists()


def test_sizes_that_a_configuration_says_are_offered_where_they_are_one_number():
    found = looking._most(transformers.ViTConfig(image_size=[32, 32]))
    assert found == {"image_size": 32}
    assert looking._most(transformers.ViTConfig(image_size=[32, 16])) == {}
    assert looking._most(transformers.XLNetConfig()) == {}  # says -1: any number of tokens


def test_a_split_that_is_there_is_evaluated(place):
    for split, size in (("train", 60), ("test", 30)):
        Path("mine/news").mkdir(exist_ok=True)
        table({"text": WORDS[:size], "label": MOODS[:size]}, f"mine/news/{split}.csv")
    call("mine/bert", "--data", "mine/news")
    task = asked("bert-news").tasks["news"]
    assert (task["n_train"], task["n_eval"], task["eval_split"]) == (48, 30, "test")


def test_data_without_a_split_to_train_on_are_refused_until_their_card_says_one(place):
    Path("mine/rounds").mkdir()
    for split in ("train_r1", "train_r2", "dev_r1", "dev_r2"):
        table({"text": WORDS[:40], "label": MOODS[:40]}, f"mine/rounds/{split}.csv")
    said = {"dataset_info": {"splits": [{"name": name} for name in ("train_r1", "train_r2", "dev_r1", "dev_r2")]}}
    Path("mine/rounds/README.md").write_text(f"---\n{json.dumps(said)}\n---\n")
    with pytest.raises(ValueError, match=r"has the splits dev_r1, dev_r2, train_r1, train_r2, and none is train"):
        call("mine/bert", "--data", "mine/rounds")
    of_splits = [{"split": "train", "path": "train_*"}, {"split": "dev_r1", "path": "dev_r1*"}]
    of_splits.append({"split": "dev_r2", "path": "dev_r2*"})
    said = {"configs": [{"config_name": "default", "data_files": of_splits}]}
    Path("mine/rounds/README.md").write_text(f"---\n{json.dumps(said)}\n---\n")
    call("mine/bert", "--data", "mine/rounds")
    task = asked("bert-rounds").tasks["rounds"]
    assert (task["n_train"], task["n_eval"], task["eval_split"]) == (64, 40, "dev_r1")


def test_a_split_with_the_fewest_rows_to_train_is_enough(place):
    Path("mine/news").mkdir(exist_ok=True)
    for split in ("train", "test"):
        table({"text": WORDS[:20], "label": MOODS[:20]}, f"mine/news/{split}.csv")
    call("mine/bert", "--data", "mine/news")
    assert asked("bert-news").tasks["news"]["n_train"] == 20


def test_rows_without_a_label_are_none_of_the_items_that_are_asked_for(place):
    call("mine/bert", "--data", table({"text": WORDS, "label": ["", *MOODS[1:]]}))
    task = asked("bert-texts").tasks["texts"]
    assert (task["n_train"], task["n_eval"]) == (47, 29)
    for split, size in (("train", 60), ("test", 30)):
        Path("mine/news").mkdir(exist_ok=True)
        table({"text": WORDS[:size], "label": [*MOODS[: size - 2], "", ""]}, f"mine/news/{split}.csv")
    call("mine/bert", "--data", "mine/news")
    task = asked("bert-news").tasks["news"]
    assert (task["n_train"], task["n_eval"]) == (46, 28)


def test_the_file_is_what_a_person_would_write(place):
    call("mine/bert", "--task", "ws353", "--study", "words")
    text = Path("config/words.yaml").read_text()
    assert "&" not in text
    assert list(yaml.safe_load(text)) == ["study", "grid"]
    assert "sparsities: {from: 0.1, to: 0.9, step: 0.1}" in text
    grid = yaml.safe_load(text)["grid"]  # nothing trains: what a seed draws is the random control alone
    assert [(block["patterns"], block["seeds"]) for block in grid] == [
        (["global", "layerwise"], [0]),
        (["random"], [0, 1, 2]),
    ]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("mine/bert", "bert"),
        ("mine/bert/", "bert"),
        ("runs/bert-large/checkpoint-500", "bert-large-checkpoint-500"),
        ("runs/sst/checkpoint", "sst"),
        ("results/store/checkpoints/minilm/files", "minilm"),
        (f"cache/models--google-bert--bert-base-uncased/snapshots/{'0a' * 20}", "bert-base-uncased"),
        ("owner/name", "name"),
        ("owner/model", "owner"),
        ("tiny/model.gguf", "tiny"),
        ("reviews/train.csv", "reviews"),
        ("my reviews.tsv.gz", "my-reviews"),
        ("data.csv", "data"),
    ],
)
def test_a_name_tells_what_it_is(typed, name):
    assert looking.name_of(typed, "name") == name


@pytest.mark.parametrize("typed", ["model", ".", "../main/", "files/checkpoint", "train.csv", "checkpoint-500"])
def test_a_place_that_tells_no_name_is_asked_for_one(typed):
    with pytest.raises(ValueError, match=r"tells no name for tables and figures: say NAME=… \(without make: --name\)"):
        looking.name_of(typed, "name")


def test_the_same_data_for_another_model_are_another_task_or_are_taken_as_they_are(place):
    for name in ("GPT2", "OPT"):
        tiny.save_decoder(Path("mine", name.lower()), name)
    config = transformers.AutoConfig.from_pretrained("mine/opt")
    config.max_position_embeddings = 16
    transformers.OPTForCausalLM(config).save_pretrained("mine/opt")
    call("mine/gpt2", "--data", table({"text": WORDS}))
    with pytest.raises(
        ValueError, match=r"another context \(32 instead of 16\)\. .*TASK_NAME=.* TASK=… .* in the place of DATA"
    ):
        call("mine/opt", "--data", "mine/texts.csv")
    call("mine/opt", "--data", "mine/texts.csv", "--task-name", "short")
    assert asked("opt-short").tasks["short"]["context"] == 16
    call("mine/bert", "--data", "mine/texts.csv", "--task-name", "masked")
    assert asked("bert-masked").tasks["masked"]["kind"] == "masked-lm"


def test_a_gguf_file_says_how_long_a_window_can_be(place):
    tiny_gguf("mine/llama.gguf")
    call("mine/llama.gguf", "--data", table({"text": ["abc def"] * 90 + ["ab"]}))
    found = asked("llama-texts")
    assert found.tasks["texts"]["context"] == 32
    assert (found.models["llama"]["type"], found.models["llama"]["format"]) == ("decoder", "gguf")


TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SEEN, READ = TOWER | {"image_size": 16, "patch_size": 4}, TOWER | {"vocab_size": 16, "max_position_embeddings": 32}


@pytest.mark.parametrize("name", ["CLIP", "Siglip", "ChineseCLIP"])
def test_a_model_with_a_tower_for_texts_is_asked_for_that_of_images(place, name):
    config = getattr(transformers, f"{name}Config")(text_config=READ, vision_config=SEEN, projection_dim=8)
    getattr(transformers, f"{name}Model")(config).save_pretrained("mine/two")
    tiny.save_tokenizer(Path("mine/two"))
    told = rf"a model of images beside one of texts.* {name}VisionModel\.from_pretrained\(folder\)\.save_pretrained\(another\)"
    with pytest.raises(ValueError, match=told):
        call("mine/two", "--task", "mnist-probe")
    images = tiny.IMAGES | {"n_train": 40, "n_eval": 20}
    for data, settings in ((tiny.images(80), images), (tiny.reviews(), tiny.PROBE)):
        with pytest.raises(ValueError, match=told):
            next(iter(evaluation.evaluate("mine/two", data, settings, "dense", [0.0], 0)))
    getattr(transformers, f"{name}VisionModel").from_pretrained("mine/two").save_pretrained("mine/one")
    call("mine/one", "--task", "mnist-probe")
    assert asked("one-mnist-probe").models["one"]["type"] == "vision"
    assert next(iter(evaluation.evaluate("mine/one", tiny.images(80), images, "dense", [0.0], 0)))[1].metrics


def test_a_pickle_is_taken_where_it_is_allowed(place):
    model = transformers.AutoModel.from_pretrained("mine/bert")
    torch.save(model.state_dict(), "mine/bert/pytorch_model.bin")
    os.remove("mine/bert/model.safetensors")
    with pytest.raises(ValueError, match="make study: ALLOW_PICKLE=true"):
        call("mine/bert", "--task", "ws353")
    call("mine/bert", "--task", "ws353", "--allow-pickle", "true")
    assert asked("bert-ws353").models["bert"]["allow_pickle"] is True
