"""A kind of task is one module that declares itself: read without importing it, refused by name where it is wrong."""

from pathlib import Path

import pandas as pd
import pytest
import tiny_models as tiny
import yaml

from essential_sparsity import codefiles, tasks
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.runs import evaluation
from essential_sparsity.study import configuration, grid, kinds, needs, tsv

ROOT = Path(__file__).parents[2]
DECLARATION = """
KIND = {
    "models": ["encoder"],  # what this kind is about
    "protocols": {"zero-shot": {"auto_class": "AutoModel", "columns": ["n_eval"]}},
    "columns": ["max_length"],

    "metrics": ["accuracy"],
    "further_metrics": ["f1"],
    "cost": {"passes": 3, "scored_at_once": 2},
}
"""
MODULE = f'''"""Is the first word of a text nearer to its second than to the one of another text? KIND is below."""

import numpy as np

from essential_sparsity import tasks
from essential_sparsity.tasks import Outcome, Prepared, _text
{DECLARATION}

def prepare(folder, data, settings, seed, cache=None):
    tasks.check_columns(data, settings, "item", "text")
    _, evaluation = tasks.split(data, settings, seed)
    tokenizer = _text.tokenizer(folder)
    rows = _text.encode(tokenizer, _text.max_length(folder, settings, tokenizer), evaluation["text"], cache=cache)
    return Prepared(list(evaluation["item"]), rows, np.zeros(len(rows)), _text.collator(tokenizer))


def run(model, prepared, settings, seed, device):
    size = tasks.batch_size(settings)
    found = tasks.forward(model, prepared.inputs, prepared.collate, size, device, _text.mean_pooled)
    right = (found[:, 0] > found[:, 1]).astype(float)
    return Outcome({{"accuracy": right.mean(), "f1": None}}, tasks.items_frame(prepared.items, right))
'''
ROW = {
    "task": "mine", "label": "Mine", "kind": "first-words", "protocol": "zero-shot", "dataset": "texts", "source": "path",
    "id": "texts.parquet", "format": "parquet", "n_eval": 20, "max_length": 12, "levels_per_job": 3,
}  # fmt: skip


@pytest.fixture
def extend(tmp_path, monkeypatch):
    """Write a module into a folder of extensions that the workflow then finds beside its own kinds."""
    folder = tmp_path / "extensions"
    folder.mkdir()
    monkeypatch.setattr(codefiles, "EXTENSIONS", folder)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name, text: (folder / f"{name}.py").write_text(text)


def test_the_kinds_of_the_package_are_good():
    assert len(tsv.known_kinds()) == 8
    for name, kind in kinds.declared().items():
        module = tasks.load(name)
        assert callable(module.prepare)
        assert callable(module.run)
        assert set(module.KIND["metrics"]) == set(kind.metrics) <= set(METRICS)
        assert {*module.KIND["protocols"]} == {*kind.protocols}
        assert codefiles.task_module(name) == module.__name__


def test_a_kind_is_added_by_one_file_and_one_row(extend, tmp_path, monkeypatch):
    extend("first_words", MODULE)
    extend("helper", "NAMES = ['no kind']\n")
    assert set(tasks.kinds()) == {*kinds._declared(codefiles.TASKS), "first-words"}
    assert codefiles.task_module("first-words") == "extensions.first_words"
    assert codefiles.task_module("perplexity") == "essential_sparsity.tasks.perplexity"
    kind = kinds.declared()["first-words"]
    assert (kind.models, kind.protocols["zero-shot"].auto_class) == (("encoder",), "AutoModel")

    monkeypatch.chdir(ROOT)
    config = yaml.safe_load(Path("config/config.yaml").read_text())
    table = tmp_path / "tasks.tsv"
    frame = pd.DataFrame([dict.fromkeys(configuration.load_schema("tasks")["properties"]) | ROW])
    frame.to_csv(table, sep="\t", index=False)
    models, rows, _ = tsv.read_tables(config | {"tasks": str(table)})
    block = {"models": ["minilm"], "tasks": ["mine"], "patterns": ["global"], "sparsities": [0.5], "seeds": [0]}
    grid.validate(config | {"tasks": str(table), "grid": [block]}, models, rows, "the test")
    with pytest.raises(configuration.ConfigError, match=r"'mine' \(first-words\) evaluates models of type encoder"):
        grid.validate(config | {"grid": [block | {"models": ["smollm2"]}]}, models, rows, "the test")
    with pytest.raises(
        configuration.ConfigError, match=r"column n_eval: blank, but first-words with protocol zero-shot"
    ):
        tsv.check_task("mine", rows["mine"] | {"n_eval": None}, kinds.declared())
    scored = [needs.scored_items(rows["mine"] | {"n_eval": n}) for n in (20, 60)]
    assert scored == [60, 180], "three passes an item"
    assert kinds.tabulated(rows["mine"]) == ("accuracy",)
    assert kinds.tabulated(rows["mine"] | {"metrics": "f1,accuracy"}) == ("f1", "accuracy")

    folder = tiny.save_bert(tmp_path / "model")
    found = list(
        evaluation.evaluate(folder, tiny.reviews(), rows["mine"], "global", [0.3, 0.6], 0, cache=tmp_path / "t")
    )
    assert [level.sparsity for level, _ in found] == [0.3, 0.6]
    assert all(set(outcome.metrics) == {"accuracy", "f1"} and len(outcome.items) == 20 for _, outcome in found)


def test_the_code_of_an_extension_counts_with_what_it_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(codefiles, "SCRIPTS", tmp_path)
    (tmp_path / "extensions").mkdir()
    texts = {
        "extensions/mine.py": "import beside\nfrom extensions import first\nfrom . import second\nfrom .third import ONE\n",
        "extensions/first.py": "import json\nimport torch\n",
        "extensions/second.py": "from .. import nothing\n",
        "extensions/third.py": "ONE = 1\n",
        "extensions/not_imported.py": "ONE = 1\n",
        "beside.py": "ONE = 1\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    codefiles._top_level.cache_clear()
    found = codefiles.modules("extensions.mine")
    codefiles._top_level.cache_clear()
    assert [file.name for file in found] == ["beside.py", "first.py", "mine.py", "second.py", "third.py"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"models": ["encoder"]', '"model": ["encoder"]', "unknown key 'model'; known are models, protocols"),
        ('    "metrics": ["accuracy"],\n', "", "the key 'metrics' is missing"),
        ('["accuracy"]', '"accuracy"', "key metrics: 'accuracy' is no list of texts"),
        ('["accuracy"]', "[]", "key metrics: the list is empty"),
        ('"zero-shot"', '"zero_shot"', "key protocols: .* is no dictionary from protocols, of zero-shot, probe"),
        ('"auto_class": "AutoModel", ', "", "key protocols, zero-shot: the key 'auto_class' is missing"),
        ('"passes": 3', '"passes": 0', "key cost, key passes: 0 is no whole number from 1 on"),
        ('"passes": 3', '"pases": 3', "key cost: unknown key 'pases'"),
        ('["f1"]', "list(OTHERS)", "KIND is no literal"),
        ('{\n    "models"', '{\n"models"', "KIND is no literal .*its lines indented"),
        ('["encoder"]', '["encodre"]', "there is no type of model 'encodre'; did you mean 'encoder'"),
        ('["max_length"]', '["max_len"]', "there is no column of the tasks table 'max_len'; did you mean 'max_length'"),
        ('["n_eval"]', '["neval"]', "there is no column of the tasks table 'neval'"),
        ('"passes": 3', '"passes": "pairs"', "there is no column of the tasks table 'pairs'"),
        ('["f1"]', '["f2"]', "there is no metric 'f2'"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(extend, old, new, message):
    assert old in DECLARATION
    extend("first_words", DECLARATION.replace(old, new))
    with pytest.raises(configuration.ConfigError, match=rf"extensions/first_words\.py.*{message}"):
        tsv.known_kinds()


@pytest.mark.parametrize("module", [MODULE, "ONE = 1\n"])
def test_two_modules_cannot_be_the_same_kind(extend, module):
    """Nor may a module without a declaration take the place of a kind's code."""
    extend("perplexity", module)
    with pytest.raises(
        kinds.KindError, match=r"extensions/perplexity\.py: the kind 'perplexity' stands in .*tasks/perpl"
    ):
        kinds.declared()


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("context", 512, "512, but text-classification with protocol probe does not read it"),
        ("learning_rate", 1e-3, "0.001, but text-classification with protocol probe does not read it"),
        ("gradient_checkpointing", True, "does not read it"),
        ("epsilon", 1.0, "1 of accuracy would take any loss as none; one point of it is 0.01"),
        ("metrics", "accuracy,accuracy", "names one twice"),
    ],
)
def test_a_cell_that_says_nothing_of_its_task_is_refused(column, value, told):
    _, rows, _ = tsv.read_tables(configuration.read_config(str(ROOT / "config/config.yaml")))
    row = rows["reviews-probe"]
    tsv.check_task("t", row | {"gradient_checkpointing": False, "epsilon": 0.02}, tsv.known_kinds())
    with pytest.raises(configuration.ConfigError, match=f"column {column}: .*{told}"):
        tsv.check_task("t", row | {column: value}, tsv.known_kinds())


def test_a_per_cent_of_a_perplexity_is_no_one(extend):
    extend("first_words", MODULE.replace('"accuracy"', '"perplexity"'))
    row = dict.fromkeys(tsv.load_schema("tasks")["properties"]) | ROW
    tsv.check_task("t", row | {"epsilon": 0.5}, tsv.known_kinds())
    with pytest.raises(configuration.ConfigError, match="1 of perplexity is a factor of 2"):
        tsv.check_task("t", row | {"epsilon": 1.0}, tsv.known_kinds())


def test_a_kind_that_says_which_columns_it_reads_refuses_the_others(extend):
    more = '"columns": ["max_length"], "further_columns": ["eval_split"],'
    extend("first_words", MODULE.replace('"columns": ["max_length"],', more))
    blank = dict.fromkeys(tsv.load_schema("tasks")["properties"])
    tsv.check_task("t", blank | ROW | {"eval_split": "test"}, tsv.known_kinds())
    with pytest.raises(configuration.ConfigError, match="column context: 8, but first-words with protocol zero-shot"):
        tsv.check_task("t", blank | ROW | {"context": 8}, tsv.known_kinds())
