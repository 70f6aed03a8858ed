"""An exported checkpoint is the model that was evaluated, for transformers alone; what cannot be that is refused."""

import contextlib
import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_study
import tiny_models as tiny
import torch
import transformers
from benchmark_programs import loaded
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import export_checkpoint
from essential_sparsity import files, patterns, tables, tasks
from essential_sparsity.checkpoints import loading, rewriting, stored
from essential_sparsity.pruning import tickets
from essential_sparsity.pruning.matrices import matrices
from essential_sparsity.runs import card, chosen, evaluation, exporting, folders
from essential_sparsity.study import configuration, grid, opening, records
from essential_sparsity.tasks import reading
from essential_sparsity.training import finetuning

ROOT = Path(__file__).parents[2]
COMMIT = {"commit": "c0ffee", "changed": []}
CASES = [  # model, task, pattern, sparsity
    ("bert", "pairs", "global", "0.5"),
    ("bert", "pairs", "nm4", "0.75"),
    ("bert", "moods", "lth", "0.5"),
    ("llama", "ppl", "wanda", "0.5"),
    ("llama", "ppl", "sparsegpt", "0.5"),
    ("llama", "ppl", "sparsegpt-nm4", "0.5"),
    ("gpt2", "ppl", "nm4", "0.5"),
    ("mixtral", "ppl", "global", "0.5"),
    ("mixtral", "ppl", "wanda", "0.5"),
    ("vit", "shapes", "global", "0.5"),
]
BARE = """
import json, sys
import numpy, torch, transformers

torch.set_num_threads(1)
for folder, auto_class, out in json.loads(sys.argv[1]):
    model = getattr(transformers, auto_class).from_pretrained(folder).eval()
    given = {"pixel_values": torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)}
    if model.main_input_name == "input_ids":
        given = {"input_ids": torch.arange(4, 14)[None]}
    with torch.inference_mode():
        numpy.save(out, model(**given)[0].float().numpy())
    print(next(model.parameters()).dtype)
assert not any(name.startswith("essential_sparsity") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a finished study, in which programs run."""
    folder = tmp_path_factory.mktemp("study")
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_study.make(folder)
        yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(exact)


@pytest.fixture(scope="module")
def config(place):
    return configuration.read_config(configuration.BASE, small_study.CONFIG)


@pytest.fixture(scope="module")
def exports(config):
    """Case -> (its run, what was exported)."""
    found = {}
    for model, task, pattern, sparsity in CASES:
        run = chosen.choose(config, model, pattern, sparsity, task, 0)
        found[model, task, pattern, sparsity] = run, exporting.export(run, COMMIT)
    return found


@pytest.fixture(scope="module")
def alone(exports, tmp_path_factory):
    """Case -> (outputs, dtype) in a process that knows transformers and none of the workflow's modules."""
    folder = tmp_path_factory.mktemp("outputs")
    given = [
        (str(made.folder.absolute()), auto_class(run), str(folder / f"{number}.npy"))
        for number, (run, made) in enumerate(exports.values())
    ]
    command = [sys.executable, "-I", "-c", BARE, json.dumps(given)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    kinds = [line for line in done.stdout.splitlines() if line.startswith("torch.")]
    return dict(zip(exports, zip([np.load(out) for *_, out in given], kinds, strict=True), strict=True))


def auto_class(run):
    settings = run.study.tasks[run.row["task"]]
    return "AutoModel" if settings["protocol"] == "finetune" else tasks.auto_class(settings)


def outputs(model):
    given = {"pixel_values": torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)}
    if model.main_input_name == "input_ids":
        given = {"input_ids": torch.arange(4, 14)[None]}
    with torch.inference_mode():
        return model.eval()(**given)[0].float().numpy()


@pytest.fixture
def evaluated(monkeypatch):
    """A function from a run to the outputs of the model that evaluation scores, or that it begins to train."""

    def find(run):
        row, found = run.row, []
        calibration = run.study.calibration(row["model"], row["pattern"])
        settings = json.loads(run.study.settings(row["task"], calibration))
        settings |= {"allow_pickle": run.study.models[row["model"]]["allow_pickle"]}
        kind = tasks.load(settings["kind"])
        scored = kind.run
        monkeypatch.setattr(kind, "run", lambda model, *args: found.append(outputs(model)) or scored(model, *args))
        if settings["protocol"] == "finetune":
            monkeypatch.setattr(
                finetuning, "train_", lambda model, *args: found.append(outputs(model.base_model)) or False
            )
        given = None
        if row["ticket"]:
            given = {row["sparsity"]: tickets.read(Path(row["ticket"]).with_suffix(".safetensors"), {}).masks()}
        torch.set_num_threads(settings["threads"])
        list(
            evaluation.evaluate(
                loading.verified_folder(row["checkpoint"]),
                data(row["dataset"]),
                settings,
                row["pattern"],
                [row["sparsity"]],
                row["seed"],
                tickets=given,
                calibration=data(row["calibration"]) if row["calibration"] else None,
            )
        )
        torch.set_num_threads(1)
        return found[0]

    return find


def data(manifest):
    return reading.read(loading.verified_folder(manifest) / "data.parquet")


def weights(folder, run):
    model = loading.load_model(folder, auto_class(run), allow_new=("pooler.",), allow_pickle=True)
    return {weight.name: (weight, tensor) for weight, tensor in loading.prunable_parameters(model)}


def block(text, holding):
    """The block of code of a card that holds some words."""
    return next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if holding in code)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_transformers_alone_gives_what_the_evaluated_model_gives(case, exports, alone, evaluated):
    run, _ = exports[case]
    found, kind = alone[case]
    assert np.array_equal(found, evaluated(run)), "other bits"
    assert kind == f"torch.{run.found['dtype'].iloc[0]}"


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_masks_are_the_zeroed_weights_and_the_rest_is_the_source(case, exports):
    """By the code that the card gives."""
    run, made = exports[case]
    text = ModelCard.load(made.folder / "README.md").text
    namespace = {}
    exec(block(text, "unpackbits").replace("path/to/this/folder", str(made.folder)), namespace)
    source, written = (weights(folder, run) for folder in (loading.verified_folder(run.row["checkpoint"]), made.folder))
    assert namespace["masks"].keys() == written.keys()
    zeros = 0
    for name, mask in namespace["masks"].items():
        before, after = source[name][1], written[name][1]
        assert not after[torch.from_numpy(mask)].any()
        zeros += int(mask.sum())
        if patterns.find(run.row["pattern"]).score != "sparsegpt":
            assert torch.equal(before.masked_fill(torch.from_numpy(mask), 0), after)
    assert zeros == run.found["k"].iloc[0]
    if patterns.find(run.row["pattern"]).allocation == "all":
        assert zeros == math.floor(run.row["sparsity"] * run.found["n_prunable"].iloc[0] + 0.5)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_tensors_have_the_names_and_types_of_the_source_and_all_but_the_prunable_its_bits(case, exports):
    run, made = exports[case]
    with (
        stored.opened(loading.verified_folder(run.row["checkpoint"]), allow_pickle=True) as source,
        stored.opened(made.folder) as written,
    ):
        assert {key: (e.dtype, e.shape) for key, e in source.entries.items()} == {
            key: (e.dtype, e.shape) for key, e in written.entries.items()
        }
        pruned = {entry.key for part in source.parts for entry in part.entries}
        for key in source.entries.keys() - pruned:
            assert torch.equal(source.entries[key].read(), written.entries[key].read()), key


@pytest.mark.parametrize("case", [case for case in CASES if "nm4" in case[2]], ids="-".join)
def test_no_group_holds_more_than_the_pattern_says(case, exports):
    run, made = exports[case]
    keep = round(4 * (1 - run.row["sparsity"]))
    for matrix in matrices(weights(made.folder, run).values()):
        rows = matrix.rows()
        for start in range(0, matrix.inputs // 4 * 4, 4):
            assert int((rows[:, start : start + 4] != 0).sum(dim=1).max()) <= keep
    exporting.check_groups(list(weights(made.folder, run).values()), 4, keep)
    with pytest.raises(ValueError, match=rf"groups of 4 inputs hold more than {keep - 1} weights: this is no"):
        exporting.check_groups(list(weights(made.folder, run).values()), 4, keep - 1)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_the_card_is_the_hubs_and_has_the_numbers_of_the_tables(case, exports):
    run, made = exports[case]
    found = ModelCard.load(made.folder / "README.md")
    assert found.data.library_name == "transformers"
    assert {"pruned", run.row["pattern"]} <= set(found.data.tags)
    assert found.data.license == "unknown"  # a folder says none
    rows = [line.strip("| ").split(" | ") for line in found.text.splitlines() if re.match(r"\| [01]\.[0-9]{3}", line)]
    table = tables.read("results/small/tables/runs.parquet", "runs")
    for row in rows:
        own = table[(table["model"] == case[0]) & (table["task"] == case[1]) & (table["metric"] == run.metric)]
        own = own[own["pattern"].isin([case[2], "dense"]) & (own["sparsity"] == float(row[0].split()[0]))]
        assert row[1:] == [card.number(value) for value in own.sort_values("seed")["value"]]
    assert [row[0] for row in rows if "this checkpoint" in row[0]] == [f"{run.level} (this checkpoint)"]
    assert f"{run.found['k'].iloc[0]} of {run.found['n_prunable'].iloc[0]} prunable weights" in found.text
    for name in ("weights_sha256", "data_sha256", "digest"):
        assert run.found[name].iloc[0] in found.text
    for count in made.sizes.values():
        assert f"{count:,}" in found.text
    assert "commit c0ffee" in found.text
    assert ("fine-tuned weights are not kept" in found.text) == (case[1] == "moods")
    assert ("2:4" in found.text) == (case[2] in ("nm4", "sparsegpt-nm4") and case[3] == "0.5")
    assert ("No speed in any common runtime" in found.text) == ("2:4" not in found.text)


def test_the_card_counts_weights_that_were_zero_before(exports, monkeypatch, tmp_path):
    run, made = exports[CASES[0]]
    assert "are pruned and zero. " in ModelCard.load(made.folder / "README.md").text
    load = loading.load_model

    def with_zeros(*given, **named):
        model = load(*given, **named)
        for _, tensor in loading.prunable_parameters(model):
            tensor[: len(tensor) * 3 // 4] = 0
        return model

    monkeypatch.setattr(loading, "load_model", with_zeros)
    monkeypatch.setattr(exporting, "place", lambda *_: tmp_path / "export")
    exporting.export(run, COMMIT)
    k, n = (int(run.found[name].iloc[0]) for name in ("k", "n_prunable"))
    said = ModelCard.load(tmp_path / "export/README.md").text
    assert f"are pruned, and {n * 3 // 4:,} are zero: the others were so in the source" in said
    assert k < n * 3 // 4


def test_what_the_card_says_of_loading_works(exports):
    for case in (CASES[0], CASES[3], CASES[-1]):
        _, made = exports[case]
        namespace = {}
        code = block(ModelCard.load(made.folder / "README.md").text, "from_pretrained")
        exec(code.replace("path/to/this/folder", str(made.folder)), namespace)
        assert isinstance(namespace["model"], transformers.PreTrainedModel)


def test_what_the_card_says_of_images_gives_what_was_evaluated(exports, tmp_path):
    """Its image processor, which crops, or is not there, would give others."""
    run, made = exports[CASES[-1]]
    namespace = {}
    text = ModelCard.load(made.folder / "README.md").text
    assert "AutoImageProcessor" not in text
    code = block(text, "def pixel_values")
    exec(code, namespace)
    settings = json.loads(run.study.settings(run.row["task"]))
    prepared = tasks.load(settings["kind"]).prepare(
        loading.verified_folder(run.row["checkpoint"]), data(run.row["dataset"]), settings, 0
    )
    picture = tmp_path / "a.png"
    picture.write_bytes(prepared.inputs.encoded[0].as_py())
    batch = prepared.collate([prepared.inputs[0]])
    torch.testing.assert_close(namespace["pixel_values"](picture), batch["pixel_values"], rtol=0, atol=1e-6)
    for name in set(batch) - {"pixel_values", "labels"}:
        assert f"{name}={batch[name]!r}" in code
    assert "AutoTokenizer" not in text
    assert "pixel_values" not in ModelCard.load(exports[CASES[0]][1].folder / "README.md").text


def test_calibrated_runs_are_evaluated_once_more(exports):
    for (_, _, pattern, _), (run, made) in exports.items():
        again = re.search(
            r"Evaluated once more when it was exported: (\S+)\.\n", (made.folder / "README.md").read_text()
        )
        assert bool(again) == (patterns.find(pattern).needs == "calibration")
        assert not again or again[1] == card.number(run.value)


def test_a_second_call_gives_the_same_bytes_and_readable_files(exports):
    run, made = exports[CASES[1]]
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    assert exporting.export(run, COMMIT) == made
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before
    assert {path.stat().st_mode & 0o044 for path in made.folder.iterdir()} == {0o044}


def test_an_export_that_ends_badly_leaves_the_one_before(exports, monkeypatch):
    run, made = exports[CASES[1]]
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    beside = sorted(made.folder.parent.iterdir())
    left = made.folder.with_name(f".{made.folder.name}.part")  # of a process that was killed
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    monkeypatch.setattr(exporting, "_verify", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        exporting.export(run, COMMIT)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before
    assert sorted(made.folder.parent.iterdir()) == beside
    shutil.rmtree(made.folder)
    with pytest.raises(KeyboardInterrupt):
        exporting.export(run, COMMIT)
    assert not made.folder.exists()
    monkeypatch.undo()
    monkeypatch.chdir(beside[0].parents[3])
    exporting.export(run, COMMIT)
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before


def test_what_a_killed_call_had_put_aside_comes_back(tmp_path):
    target, old = tmp_path / "export", tmp_path / ".export.old"
    old.mkdir()
    (old / "README.md").write_text("the one before")
    with contextlib.suppress(KeyboardInterrupt), folders.whole(target):
        assert (target / "README.md").read_text() == "the one before"
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_a_lock_that_a_killed_call_left_keeps_nobody_waiting(tmp_path):
    (tmp_path / ".export.lock").touch()
    with folders.alone(tmp_path / "export"):
        pass
    assert not list(tmp_path.iterdir())


def test_two_calls_at_once_do_not_write_one_folder(exports, config, monkeypatch):
    run, made = exports[CASES[0]]
    other = chosen.choose(config, "bert", "global", "0.5", "moods", 0)
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    beside = sorted(made.folder.parent.iterdir())
    verify, told = exporting._verify, []

    def meanwhile(*given):
        for second in (run, other):
            with pytest.raises(ValueError, match=r"Another call that writes .*bert-global-0\.500 is at work") as caught:
                exporting.export(second, COMMIT)
            told.append(caught)
        verify(*given)

    monkeypatch.setattr(exporting, "_verify", meanwhile)
    assert exporting.export(run, COMMIT) == made
    assert len(told) == 2
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == before
    assert sorted(made.folder.parent.iterdir()) == beside


def test_large_checkpoints_are_written_in_shards(exports, config, monkeypatch, tmp_path):
    monkeypatch.setattr(rewriting, "SHARD", 8_000)
    run, made = exports[CASES[3]]
    monkeypatch.setattr(exporting, "place", lambda _, train: tmp_path / "shards")
    exporting.export(run, COMMIT)
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) == 2
    one, other = weights(made.folder, run), weights(tmp_path / "shards", run)
    assert all(torch.equal(one[name][1], other[name][1]) for name in one)
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "shards")


def test_weights_that_their_stored_type_cannot_hold_are_refused(tmp_path):
    """Where types are mixed, a model is evaluated in the widest."""
    folder, name = tiny.save_bert(tmp_path / "mixed"), "encoder.layer.1.output.dense.weight"
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: tensors[name].bfloat16()}, folder / "model.safetensors", metadata={"format": "pt"})
    weights = {weight.name: tensor.clone() for weight, tensor in loading.iter_prunable(folder)}
    rewriting.rewrite(folder, tmp_path, weights | {name: weights[name] / 2}, False)
    assert torch.equal(load_file(tmp_path / "model.safetensors")[name].float(), weights[name] / 2)
    with pytest.raises(ValueError, match=f"{name} is stored as BF16, which cannot hold its pruned weights"):
        rewriting.rewrite(folder, tmp_path, weights | {name: weights[name] / 3}, False)


def test_folders_that_are_not_its_own_are_left_alone(exports, config):
    run, made = exports[CASES[0]]
    other = chosen.choose(config, "bert", "global", "0.5", "moods", 0)
    with pytest.raises(ValueError, match=r"was written of something else \(task pairs\)\. Move it away"):
        exporting.export(other, COMMIT)
    note = made.folder / "notes.txt"
    note.write_text("mine")
    with pytest.raises(ValueError, match=r"has been changed since it was written \(notes\.txt\)"):
        exporting.export(run, COMMIT)
    assert note.read_text() == "mine"
    note.unlink()
    record = (made.folder / folders.RECORD).read_bytes()
    (made.folder / folders.RECORD).unlink()
    with pytest.raises(ValueError, match="was not written by this command: it has no"):
        exporting.export(run, COMMIT)
    (made.folder / folders.RECORD).write_bytes(record)


def test_a_pattern_whose_zeros_train_again_is_refused(config):
    with pytest.raises(ValueError, match="'deletion' lets pruned weights train again"):
        exporting.export(chosen.choose(config, "bert", "deletion", "0.5"), COMMIT)


@pytest.mark.parametrize(
    ("column", "value"), [("k", 7), ("n_prunable", 9), ("calibration_drawn_sha256", "0" * 64), ("value", 9.5)]
)
def test_a_model_that_is_not_the_one_of_the_run_is_refused(column, value, exports):
    run, _ = exports[CASES[3]]
    other = chosen.Chosen(**{**vars(run), "found": run.found.assign(**{column: value})})
    with pytest.raises(ValueError, match=rf"but the run in the tables has {value}: it is another model"):
        exporting.export(other, COMMIT)


# --- trained once more

TRAINED = ("bert", "moods", "lth", "0.5")


@pytest.fixture(scope="module")
def trained(config):
    run = chosen.choose(config, *(TRAINED[0], TRAINED[2], TRAINED[3], TRAINED[1]), 0)
    return run, exporting.export(run, COMMIT, train=True)


def test_transformers_alone_gives_what_the_trained_model_gives(trained, monkeypatch, tmp_path):
    """Whole, with its head and labels, after the same training."""
    run, made = trained
    kind, found = tasks.load("text-classification"), []
    scored = kind.run
    monkeypatch.setattr(kind, "run", lambda model, *args: found.append(outputs(model)) or scored(model, *args))
    settings = json.loads(run.study.settings(run.row["task"])) | {"allow_pickle": True}
    given = {run.row["sparsity"]: tickets.read(Path(run.row["ticket"]).with_suffix(".safetensors"), {}).masks()}
    folder, row = loading.verified_folder(run.row["checkpoint"]), run.row
    level = evaluation.evaluate(folder, data(row["dataset"]), settings, "lth", [0.5], row["seed"], tickets=given)
    list(level)
    asked = [(str(made.folder.absolute()), "AutoModelForSequenceClassification", str(tmp_path / "out.npy"))]
    command = [sys.executable, "-I", "-c", BARE, json.dumps(asked)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), found[0])
    told = files.read_json(made.folder / "config.json")
    assert len(told["id2label"]) == found[0].shape[1]
    assert str(Path.cwd()) not in (made.folder / "config.json").read_text(), "no path of this machine"
    before = loading.load_model(folder, "AutoModel", allow_new=("pooler.",), allow_pickle=True)
    after = loading.load_model(made.folder, "AutoModelForSequenceClassification").base_model
    assert not torch.equal(before.embeddings.word_embeddings.weight, after.embeddings.word_embeddings.weight)


def test_its_masks_hold_and_its_card_and_the_program_say_what_it_is(trained, capsys):
    run, made = trained
    text = (made.folder / "README.md").read_text()
    assert "trained once more for this folder" in text
    assert "not kept" not in text
    assert "AutoModelForSequenceClassification.from_pretrained" in text
    assert made.folder.name == "bert-lth-0.500-moods-trained"
    assert made.folder != exporting.place(run)
    model = loading.load_model(made.folder, "AutoModelForSequenceClassification")
    zeros = sum(int((tensor == 0).sum()) for _, tensor in loading.prunable_parameters(model))
    assert zeros >= run.found["k"].iloc[0]
    named = ["--study", "small", "--model", "bert", "--pattern", "lth", "--sparsity", "0.5", "--task", "moods"]
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    export_checkpoint.main([*named, "--train", "true"])
    assert "Trained once more, it says of every item what the run said" in capsys.readouterr().out
    again = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    for name in before.keys() - {folders.RECORD, exporting.CARD}:
        assert again[name] == before[name], name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": 0.123}, "but the run in the tables has 0.123"),
        ({"torch": "2.0.0"}, r"has torch = .*, but the run in the tables has 2\.0\.0"),
        ({"device": "cuda"}, "trained on cuda, and this machine computes on cpu"),
    ],
)
def test_a_training_that_would_be_or_was_another_one_is_refused(change, message, trained):
    run, made = trained
    other = chosen.Chosen(**{**vars(run), "found": run.found.assign(**change)})
    with pytest.raises(ValueError, match=message):
        exporting.export(other, COMMIT, train=True)
    assert made.folder.is_dir()


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (lambda frame: frame.assign(score=frame["score"] + (frame["item"] == frame["item"].iloc[-1]) * 1e-15), 1),
        (lambda frame: frame.assign(prediction=frame["prediction"] + 1), None),
        (lambda frame: frame.iloc[1:], None),
        (lambda frame: pd.concat([frame.assign(sparsity=0.25, score=frame["score"] + 1), frame]), 0),
    ],
    ids=["a last digit", "other answers", "another item", "another level in the file"],
)
def test_a_training_that_scores_alike_and_says_otherwise_of_an_item_is_another_one(trained, monkeypatch, change, count):
    """As many right ones do not make the same model."""
    run, made = trained
    read = tables.read
    monkeypatch.setattr(
        exporting.tables, "read", lambda path, name: change(read(path, name)) if name == "items" else read(path, name)
    )
    if count == 0:
        exporting.export(run, COMMIT, train=True)
        return
    told = rf"items of which it says something else = {count or '[1-9]'}"
    with pytest.raises(ValueError, match=told + ".*, but the run in the tables has 0"):
        exporting.export(run, COMMIT, train=True)
    assert made.folder.is_dir()


def test_items_that_are_gone_are_told_before_anything_is_trained(trained, monkeypatch):
    run, _ = trained
    monkeypatch.setattr(exporting, "_prune", None)
    other = chosen.Chosen(**{**vars(run), "row": run.row | {"items": "gone.parquet"}})
    with pytest.raises(ValueError, match=r"its items is gone \(gone\.parquet\)"):
        exporting.export(other, COMMIT, train=True)


def test_a_class_that_transformers_has_not_is_not_trained_for_it(config, monkeypatch, tmp_path):
    """As ViT-MAE's classifier, which loads in this process alone."""
    run = chosen.choose(config, *(TRAINED[0], TRAINED[2], TRAINED[3], TRAINED[1]), 0)
    monkeypatch.setattr(exporting, "place", lambda *_: tmp_path / "export")
    with monkeypatch.context() as patch:
        load = finetuning.load_trainable

        def of_this_project(*given, **options):
            model = load(*given, **options)
            model.__class__ = type("ViTMAEForImageClassification", (type(model),), {})
            return model

        patch.setattr(finetuning, "load_trainable", of_this_project)
        with pytest.raises(ValueError, match=r"head of this project's own \(ViTMAEForImageClassification\)"):
            exporting.export(run, COMMIT, train=True)
    assert not list(tmp_path.iterdir())


def test_what_trains_nothing_is_not_trained_again(exports):
    run, _ = exports[CASES[3]]
    with pytest.raises(ValueError, match=r"'ppl' trains no model \(protocol zero-shot\)"):
        exporting.export(run, COMMIT, train=True)


# --- which run is meant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "brt"}, r"no pruned run of the model 'brt'; did you mean 'bert'\? It has: bert, gpt2, llama, mixtral, vit\."),
        ({"pattern": "wanda"}, r"model bert has no pruned run of the pattern 'wanda'.*It has: deletion, global, lth, nm4\."),
        ({"pattern": "globl"}, r"unknown pattern 'globl'; did you mean 'global'\?"),
        ({"task": "ppl"}, r"pattern global has no pruned run of the task 'ppl'.*It has: moods, pairs\."),
        ({"sparsity": "0.4"}, r"was not measured at 0\.4\. Write essential or a level that was: moods: 0\.500; pairs: 0\.250, 0\.500, 0\.750\."),
        ({"sparsity": "half"}, r"The sparsity is 'half': write essential or a level"),
        ({"sparsity": "0.5"}, r"on several tasks\. Say whose curve is meant: TASK=moods, TASK=pairs\."),
        ({"sparsity": "0.25", "seed": 5}, r"has no seed 5\. It has: 0, 1\."),
        ({"pattern": "lth", "sparsity": "essential"}, r"has no essential sparsity \(moods: the dense model collapsed.*\)\. Write a level that was measured: 0\.500\."),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_refused_with_what_was(given, message, config):
    with pytest.raises(ValueError, match=message):
        chosen.choose(**{"config": config, "model": "bert", "pattern": "global", "sparsity": "0.5"} | given)


OTHER_KNEES = [{"model": "aaa"}, {"model": "zzz"}, {"metric": "pearson", "headline": False}]


def with_knees(apart=0.1, **essential):
    """The table of knees with these essential sparsities of bert under `global`, by task, in levels so far `apart`, for the length of a `with` block."""
    path = Path("results/small/tables/knees.parquet")
    before = path.read_bytes()

    class Written:
        def __enter__(self):
            knees = tables.read(path, "knees")
            own = (knees["model"] == "bert") & (knees["pattern"] == "global") & knees["headline"]
            for task, value in essential.items():
                rows = own & (knees["task"] == task)
                knees.loc[rows, "essential_sparsity"] = value
                if value is not None:
                    knees.loc[rows, ["bracket_low", "bracket_high"]] = value - apart / 2, value + apart / 2
                knees.loc[rows, "reason"] = "it falls at once" if value is None else None
            tables.write(knees, "knees", path)

        def __exit__(self, *_):
            path.write_bytes(before)

    return Written()


@pytest.mark.parametrize(
    ("essential", "level"), [(0.25, "0.250"), (0.6, "0.500"), (0.5, "0.500"), (0.5 - 1e-12, "0.500"), (0.749, "0.500")]
)
def test_essential_is_the_largest_measured_level_not_above_it(essential, level, config):
    with with_knees(pairs=essential, moods=None):
        found = chosen.choose(config, "bert", "global", "essential")
    assert (found.row["task"], found.level) == ("pairs", level)
    told = rf"is {essential:.3f} \(between the levels 0\.\d+ and [01]\.\d+\); this checkpoint is pruned to {level}"
    assert re.search(told, found.said[0])


def test_a_run_and_its_knee_are_those_of_its_model_level_and_headline(config):
    """Of another model, and of another metric, there are knees of the same pattern and task."""
    path = Path("results/small/tables/knees.parquet")
    with with_knees(pairs=0.6, moods=None):
        knees = tables.read(path, "knees")
        (own,) = knees[knees["model"].eq("bert") & knees["pattern"].eq("global") & knees["task"].eq("pairs")].index
        rows = [knees.loc[[own]].assign(essential_sparsity=0.3, **other) for other in OTHER_KNEES]
        tables.write(pd.concat([*rows, knees]), "knees", path)
        found = chosen.choose(config, "bert", "global", "essential", seed=1)
        numbered = chosen.choose(config, "bert", "global", "0.5", "pairs", 1)
    for run in (found, numbered):
        assert (run.knee["model"], run.knee["metric"], run.knee["essential_sparsity"]) == ("bert", "spearman", 0.6)
        assert run.found[["task", "pattern", "sparsity", "seed"]].drop_duplicates().to_numpy().tolist() == [
            ["pairs", "global", 0.5, 1]
        ]
        (row,) = run.found[run.found["metric"] == "spearman"].to_dict("records")
        assert run.value == row["value"]
        assert set(run.curve["pattern"]) == {"dense", "global"}
        assert set(run.curve["model"]) == {"bert"}


def test_levels_far_apart_are_told_in_the_place_of_a_number_that_nobody_measured(config):
    with with_knees(apart=0.2, pairs=0.6, moods=None):
        found = chosen.choose(config, "bert", "global", "essential")
    assert card._knee(found)["coarse"]
    assert "lies between the levels 0.500 and 0.700; this checkpoint" in found.said[0]


def test_of_several_tasks_with_a_knee_one_has_to_be_named(config):
    with with_knees(pairs=0.6, moods=0.5):
        with pytest.raises(
            ValueError, match=r"on each of several tasks.*: TASK=moods \(0\.500\), TASK=pairs \(0\.600\)\."
        ):
            chosen.choose(config, "bert", "global", "essential")
        assert chosen.choose(config, "bert", "global", "essential", "moods").level == "0.500"


def test_the_level_of_an_essential_sparsity_was_measured_on_its_task(config):
    with with_knees(pairs=None, moods=0.8):
        found = chosen.choose(config, "bert", "global", "essential")
    assert (found.row["task"], found.level) == ("moods", "0.500")


def test_a_knee_before_the_first_level_has_no_checkpoint(config):
    with (
        with_knees(pairs=0.1, moods=None),
        pytest.raises(ValueError, match=r"is 0\.100 .*, below the first level that was measured"),
    ):
        chosen.choose(config, "bert", "global", "essential")


def test_a_level_of_an_essential_sparsity_with_another_tolerance_is_refused(config):
    path = Path("config/tasks.tsv")
    before = path.read_text()
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    frame.loc[frame["task"] == "pairs", "epsilon"] = "0.05"
    frame.to_csv(path, sep="\t", index=False)
    try:
        with (
            with_knees(pairs=0.6, moods=None),
            pytest.raises(ValueError, match="another value of the tolerance of pairs"),
        ):
            chosen.choose(config, "bert", "global", "essential")
    finally:
        path.write_text(before)
    with with_knees(pairs=0.6, moods=None):
        assert chosen.choose(config, "bert", "global", "essential").level == "0.500"


def test_a_run_of_other_settings_or_of_data_that_are_gone_is_refused(config):
    place = Path("config/tasks.tsv")
    before = place.read_text()
    place.write_text(re.sub(r"^(pairs\t.*)\t8\t", r"\1\t9\t", before, flags=re.MULTILINE))
    assert place.read_text() != before
    with pytest.raises(ValueError, match="made of other settings than the configuration asks for now"):
        chosen.choose(config, "bert", "nm4", "0.5")
    place.write_text(before)
    path = Path("results/store/datasets/pairs/manifest.json")
    path.rename("away.json")
    with pytest.raises(ValueError, match=r"datasets/pairs/manifest\.json is not there: the run was made of it"):
        chosen.choose(config, "bert", "nm4", "0.5")
    Path("away.json").rename(path)
    record = records._place(records.PLACES[0], str(path))
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"params": [repr("another source")]}))
    with pytest.raises(ValueError, match=r"datasets/pairs/manifest\.json is of another source than there is now"):
        chosen.choose(config, "bert", "nm4", "0.5")
    shutil.rmtree(".snakemake")
    fewer = config | {"grid": [block | {"seeds": [1]} for block in config["grid"][:1]]}
    with pytest.raises(ValueError, match="does not ask for any more"):
        chosen.choose(fewer, "bert", "nm4", "0.5", seed=0)


@contextlib.contextmanager
def with_runs(change):
    """The table of runs as a function makes it, for the length of a `with` block."""
    path = Path("results/small/tables/runs.parquet")
    before = path.read_bytes()
    tables.write(change(tables.read(path, "runs")), "runs", path)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("column", ["settings", "checkpoint", "data", "calibration", "ticket"])
def test_a_run_of_another_part_is_refused_and_of_other_code_is_told(column, config):
    other = {"ticket": "lottery ticket"}.get(column, column)
    with (
        with_runs(lambda found: found.assign(**{f"{column}_sha256": "x", "code_sha256": "x"})),
        pytest.raises(ValueError, match=f"made of other {other} than the configuration asks for now"),
    ):
        chosen.choose(config, "bert", "nm4", "0.5")
    with with_runs(lambda found: found.assign(code_sha256="x")):
        said = chosen.choose(config, "bert", "nm4", "0.5").said
    assert "The code that evaluates has changed since the run was computed." in said


@pytest.mark.parametrize(("run", "column"), [(("bert", "lth"), "ticket"), (("llama", "wanda"), "calibration")])
def test_a_run_whose_ticket_or_calibration_is_gone_or_of_something_else_is_refused(run, column, config):
    path = Path(chosen.choose(config, *run, "0.5").row[column])
    path.rename("away")
    with pytest.raises(ValueError, match=f"{path} is not there: the run was made of it"):
        chosen.choose(config, *run, "0.5")
    Path("away").rename(path)
    record = records._place(records.PLACES[0], str(path))
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"params": [repr("another source")]}))
    with pytest.raises(ValueError, match=f"{path} is of another source than there is now"):
        chosen.choose(config, *run, "0.5")
    shutil.rmtree(".snakemake")


def test_a_curve_is_of_one_task_one_metric_and_the_seeds_of_its_pattern(config):
    """Although another task has the same metric, and the dense model was evaluated with a seed more."""

    def more(found):
        own = found["model"].eq("bert") & found["task"].eq("pairs")
        return pd.concat(
            [found[~(own & found["pattern"].eq("nm4") & found["seed"].eq(1))], found[own].assign(task="x")]
        )

    with with_runs(more):
        curve = chosen.choose(config, "bert", "nm4", "0.5", "pairs").curve
    assert curve[["task", "metric", "seed"]].drop_duplicates().to_numpy().tolist() == [["pairs", "spearman", 0]]
    assert chosen.choose(config, "bert", "deletion", "0.5").curve["sparsity"].tolist() == [0.0, 0.5]


def test_of_a_job_of_several_levels_the_row_of_the_asked_one_is_taken(config, monkeypatch):
    levels = ("0.250", "0.500", "0.750")
    job = grid.Job("bert", "pairs", "nm4", levels, 0, levels)
    asked = dataclasses.replace(opening.read(config), jobs=[job])
    monkeypatch.setattr(opening, "read", lambda _: asked)
    assert chosen.choose(config, "bert", "nm4", "0.5", seed=0).level == "0.500"


def test_of_a_score_of_its_own_that_has_changed_the_run_evaluated_another_model(config, monkeypatch):
    entry = dataclasses.replace(patterns.find("global"), score="mine:score")
    monkeypatch.setitem(patterns.PATTERNS, "global", entry)
    with pytest.raises(
        ValueError, match=r"the pattern 'global' has a score of its own \(mine:score\): pruned again, the model could"
    ):
        chosen.choose(config, "bert", "global", "0.5", "pairs")


def test_a_study_is_found_by_its_name(place):
    assert chosen.configured("small", [])["study"] == "small"
    assert chosen.configured(None, [])["study"] == "demo"
    assert chosen.configured("demo", [])["grid"] == chosen.configured(None, [])["grid"]
    with pytest.raises(
        ValueError, match=r"No file of config/ has the study 'smal'; did you mean 'small'\? There are: "
    ):
        chosen.configured("smal", [])
    with pytest.raises(ValueError, match="is the configuration of the study 'small', not of 'demo'"):
        chosen.configured("demo", [small_study.CONFIG])
    shutil.copy(small_study.CONFIG, "config/another.yaml")
    with pytest.raises(ValueError, match="both have the study 'small': say which by CONFIG="):
        chosen.configured("small", [])
    Path("config/another.yaml").unlink()
    with pytest.raises(
        ValueError, match=r"results/demo/tables/runs\.parquet is not there: the study 'demo' has not been run"
    ):
        chosen.choose(chosen.configured("demo", []), "minilm", "global", "0.5")


# --- what a licence is, and the program


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Apache-2.0", ("apache-2.0", "Apache-2.0")),
        ("MIT (package), Apache-2.0 (weights)", ("apache-2.0", "Apache-2.0")),
        ("My own", ("other", "My own")),
        (None, ("unknown", "")),
    ],
)
def test_the_licence_is_that_of_the_weights(said, expected, exports):
    run, _ = exports[CASES[0]]
    run.study.packages["p"] = [{"name": "other", "licence": "MIT"}, {"name": "mine", "licence": said}]
    assert card._licence(run, {"id": "p", "package": {"name": "mine"}}) == expected
    del run.study.packages["p"]


@pytest.mark.parametrize("source", ["hub", "package"])
def test_the_card_links_to_a_source_on_the_hub_alone(source, exports, tmp_path):
    run, made = exports[CASES[0]]
    manifest = files.read_json(run.row["checkpoint"]) | {"source": source, "id": "owner/name", "revision": "4b1d" * 10}
    if source == "package":
        manifest |= {
            "package": {"registry": "pypi", "name": "mine", "version": "1.2", "sha256": "a" * 64},
            "revision": None,
        }
        run.study.packages["owner/name"] = [{"name": "mine", "licence": "My own (weights)"}]
    level = exporting.Level(0.5, 1, 2)
    card.write(tmp_path / "README.md", run, manifest, level, 1, made.sizes, {"commit": None, "changed": None}, {}, None)
    run.study.packages.pop("owner/name", None)
    found = ModelCard.load(tmp_path / "README.md")
    assert found.data.base_model == ("owner/name" if source == "hub" else None)
    assert ("4b1d" * 10 in found.text) == (source == "hub")
    assert (found.data.license, found.data.get("license_name")) == (
        ("unknown", None) if source == "hub" else ("other", "my-own")
    )
    assert ("package mine 1.2 (pypi), SHA-256 " + "a" * 64 in found.text) == (source == "package")


@pytest.mark.parametrize("bos", [False, True])
def test_the_card_says_that_windows_began_with_a_bos_token(bos, exports, tmp_path):
    """Whoever evaluates it without gets other numbers."""
    run, made = exports[next(case for case in CASES if isinstance(exports[case][0].row["calibration"], str))]
    manifest = files.read_json(run.row["checkpoint"]) | {"add_bos_token": bos}
    commit = {"commit": None, "changed": None}
    card.write(tmp_path / "README.md", run, manifest, exporting.Level(0.5, 1, 2), 1, made.sizes, commit, {}, None)
    assert ("began with the tokenizer's BOS token" in (tmp_path / "README.md").read_text()) == bos


@pytest.mark.parametrize(("essential", "above"), [(0.49, True), (0.5, False), (0.51, False)])
def test_the_card_says_whether_the_checkpoint_is_above_the_essential_sparsity(essential, above, exports, tmp_path):
    run, made = exports[CASES[0]]
    ends = {"bracket_low": 0.25, "bracket_high": 0.75, "essential_sparsity_low": 0.25, "essential_sparsity_high": 0.75}
    other = dataclasses.replace(run, knee={**run.knee, **ends, "essential_sparsity": essential, "reason": None})
    manifest, commit = files.read_json(run.row["checkpoint"]), {"commit": None, "changed": None}
    card.write(tmp_path / "README.md", other, manifest, exporting.Level(0.5, 1, 2), 1, made.sizes, commit, {}, None)
    said = ModelCard.load(tmp_path / "README.md").text
    assert ("This checkpoint is above it: it is worse than the dense model" in said) == above
    assert ("This checkpoint is not above it." in said) != above


def test_the_program_says_what_it_wrote(exports, capsys):
    export_checkpoint.main(["--study", "small", "--model", "vit", "--pattern", "global", "--sparsity", "0.3"])
    said = capsys.readouterr().out
    assert "results/small/export/vit-global-0.300: vit, global at 0.300" in said
    assert ModelCard.load("results/small/export/vit-global-0.300/README.md").data.tags[-1] == "global"
    record = files.read_json("results/small/export/vit-global-0.300/essential-sparsity.json")
    assert record["k"] == math.floor(0.3 * record["n"] + 0.5)


def test_masks_are_read_by_the_workflow_too(exports):
    run, made = exports[CASES[0]]
    found = tickets.read(made.folder / "masks.safetensors", {"model": "bert", "sparsity": 0.5, "pattern": "global"})
    assert sum(int(mask.sum()) for mask in found.masks().values()) == run.found["k"].iloc[0]
    with safe_open(made.folder / "masks.safetensors", framework="numpy") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {np.dtype("uint8")}  # noqa: SIM118


def test_a_seed_is_chosen_where_none_is_named(config):
    found = chosen.choose(config, "bert", "nm4", "0.5")
    assert (found.row["seed"], found.said) == (0, ["Of its seeds 0, 1 this is the run of 0."])
    assert chosen.choose(config, "bert", "nm4", "0.5", seed=1).row["seed"] == 1
    assert dataclasses.replace(found, found=found.found.assign(value=np.nan)).value is None
    assert isinstance(found.curve, pd.DataFrame)
    assert set(found.curve["pattern"]) == {"dense", "nm4"}


def test_what_a_card_says_of_speed_was_measured():
    """The numbers of the template are those of the page that the script on the card wrote."""
    said = (ROOT / "workflow/report/model_card.md.jinja").read_text()
    measured = (ROOT / "docs/gpu.md").read_text()
    rows = re.findall(r"[0-9]+ / [0-9]+ / [0-9]+", " ".join(said.split()))
    assert len(rows) == 3
    assert all(row in measured for row in rows)


def test_a_level_trained_for_other_epochs_is_printed_beside_that_of_the_study(place, config, capsys, monkeypatch):
    """benchmarks/epochs.py, at the epochs of the row and at others."""
    epochs = loaded("epochs")
    asked = ["--config", small_study.CONFIG, "--model", "bert", "--task", "moods", "--epochs", "1", "3"]
    epochs.main([*asked, "--pattern", "global", "--sparsity", "0.5"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "epochs in batches" in line]
    assert [re.search(r"([\d.]+) epochs in batches of (\d+)", line).groups() for line in lines] == [
        ("1", "8"),
        ("3", "8"),
    ]
    found = tables.read("results/small/tables/runs.parquet", "runs")
    own = found.query("model == 'bert' and task == 'moods' and pattern == 'global' and sparsity == 0.5")
    accuracy = own.set_index("metric").loc["accuracy"]
    assert re.search(rf": accuracy {accuracy['value']:.4g} ± [\d.]+ \({accuracy['n_items']} items, ", lines[0])
