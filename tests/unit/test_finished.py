"""Finished results are found again bit for bit by another attempt, and only where all that decides them is the same."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from test_tables import grid_rows, run_rows, write_runs

import collect_runs
import find_ticket
from essential_sparsity import files, tables
from essential_sparsity.pruning import tickets
from essential_sparsity.runs import finished, job
from essential_sparsity.tables import provenance

RUNS, ITEMS = b"PAR1 runs", b"PAR1 items"
MADE = {
    "settings": {"n_eval": 5, "sizes": (1, 2)},
    "sparsities": "0.300",
    "ticket": "aa",
    "code": "c0de",
    "torch": "2",
    "device": "cpu",
}


@pytest.fixture
def outputs(tmp_path) -> dict[str, Path]:
    return {name: tmp_path / f"results/{name}.parquet" for name in ("runs", "items")}


def of_job(outputs: dict[str, Path], **changed) -> finished.Finished:
    return finished.Finished.of_job(outputs["runs"].parents[1] / "work", MADE | changed, outputs)


def kept(outputs: dict[str, Path]) -> Path:
    return of_job(outputs).folder


def finish(outputs: dict[str, Path]) -> None:
    """An attempt that ended well, but whose outputs Snakemake deletes."""
    for name, content in (("runs", RUNS), ("items", ITEMS)):
        outputs[name].parent.mkdir(parents=True, exist_ok=True)
        outputs[name].write_bytes(content)
    of_job(outputs).keep()
    lose(outputs)


def lose(outputs: dict[str, Path]) -> None:
    for path in outputs.values():
        path.unlink()


def is_back(outputs: dict[str, Path]) -> bool:
    return outputs["runs"].read_bytes() == RUNS and outputs["items"].read_bytes() == ITEMS


def test_taken_back_bit_for_bit_as_often_as_it_is_lost(outputs, capsys):
    assert not of_job(outputs).take_back(), "nothing is kept at first"
    finish(outputs)
    for _ in range(2):
        assert of_job(outputs).take_back()
        assert is_back(outputs)
        told = capsys.readouterr().out
        assert told.startswith(f"Not computed again: {outputs['runs']} and {outputs['items']}, taken back from")
        lose(outputs)


def test_links_take_no_room_and_where_there_are_none_copies_do(outputs, monkeypatch):
    finish(outputs)
    assert of_job(outputs).take_back()
    assert outputs["runs"].samefile(kept(outputs) / "runs")

    def refused(*paths):
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    finish(outputs)
    assert of_job(outputs).take_back()
    assert is_back(outputs)
    assert not outputs["runs"].samefile(kept(outputs) / "runs")


def test_what_is_taken_back_or_found_is_newer_than_what_it_was_made_from(outputs):
    finish(outputs)
    os.utime(kept(outputs) / "runs", (0, 0))
    before = kept(outputs).stat().st_mtime
    of_job(outputs).take_back()
    assert all(path.stat().st_mtime >= before for path in outputs.values())
    for path in outputs.values():
        os.utime(path, (0, 0))
    assert of_job(outputs).there(lambda: True)
    assert all(path.stat().st_mtime >= before for path in outputs.values())


def test_another_place_is_the_same_job(outputs, tmp_path):
    finish(outputs)
    outputs["runs"] = tmp_path / "elsewhere/runs.parquet"
    assert of_job(outputs).take_back()
    assert is_back(outputs)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": {"n_eval": 6}}, "settings"),
        ({"sparsities": "0.400"}, "sparsities"),
        ({"ticket": None}, "ticket"),
        ({"code": "edited"}, "code"),
        ({"torch": "3", "device": "cuda"}, "device, torch"),
    ],
)
def test_another_job_computes_anew_and_says_why(outputs, capsys, changed, named):
    finish(outputs)
    assert not of_job(outputs, **changed).take_back()
    assert f"kept is not used: it is of another run (other {named})." in capsys.readouterr().out
    assert not kept(outputs).exists()
    assert not outputs["runs"].exists()


def test_a_result_damaged_in_place_computes_anew(outputs, capsys):
    """The link shares its bytes with the result."""
    finish(outputs)
    of_job(outputs).take_back()
    with open(outputs["items"], "r+b") as handle:
        handle.write(b"rubbish")
    assert not of_job(outputs).take_back()
    assert "its file items is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda marker: marker.unlink(), "it was not written to its end"),
        (lambda marker: marker.write_text("{"), "its marker is damaged"),
        (lambda marker: (marker.parent / "runs").unlink(), "its file runs is damaged"),
    ],
)
def test_what_is_not_whole_computes_anew(outputs, capsys, damage, told):
    finish(outputs)
    damage(kept(outputs) / "complete.json")
    assert not of_job(outputs).take_back()
    assert told in capsys.readouterr().out


def test_a_job_that_finds_no_room_to_keep_its_results_has_ended_well(outputs, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    finish(outputs)
    assert "could not be kept" in capsys.readouterr().out
    assert not kept(outputs).exists()


def test_what_lies_there_counts_only_when_all_of_it_does_and_is_whole(outputs):
    finish(outputs)
    assert not of_job(outputs).there(lambda: True), "nothing lies there"
    of_job(outputs).take_back()
    assert of_job(outputs).there(lambda: True)
    assert not of_job(outputs).there(lambda: False)
    outputs["items"].unlink()
    assert not of_job(outputs).there(lambda: 1 / 0), "not even read"


# --- an evaluation job


VERSIONS = {"torch": "2", "transformers": "5", "device": "cpu"}


@pytest.fixture
def arguments(tmp_path) -> argparse.Namespace:
    for name in ("model", "data"):
        files.write_json(tmp_path / f"{name}.json", {"files": [{"path": name, "sha256": name}]})
    (tmp_path / "ticket").write_text("a ticket")
    return argparse.Namespace(
        model="tiny", task="words", pattern="lth", sparsities="0.200+0.400", seed=0, settings='{"n_eval": 5}', code="c0de",
        manifest=str(tmp_path / "model.json"), data=str(tmp_path / "data.json"), tickets=[str(tmp_path / "ticket")] * 2,
        calibration=str(tmp_path / "data.json"), dense=[], references=None, disagreement="stop", work=tmp_path / "work", runs=tmp_path / "results/runs.parquet",
        items=tmp_path / "results/items.parquet",
    )  # fmt: skip


def computing(arguments: argparse.Namespace, **versions) -> bool:
    """Run a job; whether it computed."""
    called = []

    def evaluate(made: job.Made) -> tuple[pd.DataFrame, pd.DataFrame]:
        called.append(made)
        rows = [run_rows(0, (float(level),)).assign(**job.key(arguments), **parts) for level, parts in made.items()]
        items = dict.fromkeys(tables.schema("items").names) | job.key(arguments) | {"item": "i", "weight": 1.0}
        runs = pd.concat(rows).drop(columns="items_sha256")
        return runs, pd.DataFrame([items | {"sparsity": float(level)} for level in made])

    job.run(arguments, VERSIONS | versions, evaluate)
    return bool(called)


def test_a_run_says_what_it_was_made_of(arguments):
    assert computing(arguments)
    runs = tables.read(arguments.runs, "runs")
    assert set(runs["items_sha256"]) == {files.sha256_file(arguments.items)}
    assert set(runs["ticket_sha256"]) == {files.sha256_file(arguments.tickets[0])}
    assert set(runs["settings_sha256"]) == {files.sha256_text(arguments.settings)}
    assert set(runs["code_sha256"]) == {"c0de"}
    assert runs["digest"].nunique() == 2
    assert set(runs["device"]) == {"cpu"}


def test_a_run_that_is_there_is_not_computed_again_and_neither_is_one_that_was_lost(arguments, capsys):
    assert computing(arguments)
    before = [path.read_bytes() for path in (arguments.runs, arguments.items)]
    assert not computing(arguments)
    assert "made of the same before" in capsys.readouterr().out
    arguments.runs.unlink()
    assert not computing(arguments)
    assert "taken back from" in capsys.readouterr().out
    assert [path.read_bytes() for path in (arguments.runs, arguments.items)] == before


def test_places_and_what_decides_nothing_are_no_other_run(arguments, tmp_path):
    computing(arguments)
    arguments.manifest = str(Path(arguments.manifest).rename(tmp_path / "moved.json"))
    arguments.tickets = [str(Path(arguments.tickets[0]).rename(tmp_path / "moved"))] * 2
    arguments.disagreement = "warn"
    assert not computing(arguments)


CHANGES: dict[str, tuple[Callable[[argparse.Namespace, Path], None], str]] = {
    "settings": (lambda args, place: vars(args).update(settings='{"n_eval": 6}'), "settings"),
    "code": (lambda args, place: vars(args).update(code="edited"), "code"),
    "seed": (lambda args, place: vars(args).update(seed=1), "seed"),
    "levels": (lambda args, place: vars(args).update(sparsities="0.200+0.500"), "sparsities"),
    "checkpoint": (lambda args, place: vars(args).update(manifest=other(place)), "checkpoint"),
    "data": (lambda args, place: vars(args).update(data=other(place)), "data"),
    "calibration": (lambda args, place: vars(args).update(calibration=other(place)), "calibration"),
    "ticket": (lambda args, place: Path(args.tickets[0]).write_text("another ticket"), "lottery ticket"),
}


def other(place: Path) -> str:
    files.write_json(place / "other.json", {"files": [{"path": "model", "sha256": "other"}]})
    return str(place / "other.json")


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_of_something_else_is_computed_and_the_log_says_what(arguments, tmp_path, capsys, change):
    computing(arguments)
    edit, named = CHANGES[change]
    edit(arguments, tmp_path)
    assert computing(arguments)
    assert f"it is of another run (other {named})." in capsys.readouterr().out
    assert not computing(arguments)


def test_other_libraries_or_another_device_are_another_run(arguments, capsys):
    computing(arguments)
    assert computing(arguments, torch="3", device="cuda")
    assert "(other type of device, version of torch)" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["runs", "items"])
def test_damaged_tables_are_not_taken_for_the_run(arguments, file):
    """Damaged in place, so that what was kept is damaged with them."""
    computing(arguments)
    with open(getattr(arguments, file), "r+b") as handle:
        handle.write(b"rubbish")
    assert computing(arguments)
    assert len(tables.read(arguments.runs, "runs")) == 2


def test_items_of_another_attempt_are_not_taken_for_those_of_the_run(arguments):
    computing(arguments)
    items = tables.read(arguments.items, "items")
    arguments.items.unlink()
    tables.write(items.assign(weight=2.0), "items", arguments.items)
    assert not computing(arguments), "the ones that were kept belong to the run"
    assert set(tables.read(arguments.items, "items")["weight"]) == {1.0}


def test_items_that_a_second_copy_of_the_job_puts_in_their_place_are_not_those_of_the_run(arguments, monkeypatch):
    """Its run would else stand beside items that another machine has rounded otherwise."""
    replace = Path.replace

    def overtaken(own: Path, place: Path) -> None:
        replace(own, place)
        if place == arguments.items:
            place.write_bytes(b"rounded otherwise")

    monkeypatch.setattr(Path, "replace", overtaken)
    assert computing(arguments)
    assert files.sha256_file(arguments.items) not in set(tables.read(arguments.runs, "runs")["items_sha256"])


def test_a_file_of_runs_is_whole_with_its_levels_and_no_others(arguments):
    computing(arguments)
    made, whole = job.made_of(arguments, VERSIONS), tables.read(arguments.runs, "runs")
    assert job.whole(arguments, made)
    more = pd.concat([whole, whole[:1].assign(sparsity=0.9, digest="x")])
    for rows in (whole[1:], more, whole.assign(digest=whole["digest"][::-1].tolist()), whole.assign(items_sha256="x")):
        tables.write(rows, "runs", arguments.runs)
        assert not job.whole(arguments, made)


def test_each_level_is_of_its_own_ticket(arguments, tmp_path, capsys):
    other = tmp_path / "other"
    other.write_text("another ticket")
    arguments.tickets = [arguments.tickets[0], str(other)]
    for text in ("another ticket", "a third one"):
        other.write_text(text)
        assert computing(arguments), "the ticket of any level decides the job"
        found = tables.read(arguments.runs, "runs").set_index("sparsity")["ticket_sha256"].to_dict()
        assert found == dict(zip((0.2, 0.4), map(files.sha256_file, arguments.tickets), strict=True))
    assert "it is of another run (other lottery ticket)." in capsys.readouterr().out
    arguments.tickets = arguments.tickets[:1]
    with pytest.raises(ValueError, match="shorter"):
        job.made_of(arguments, VERSIONS)


def test_an_evaluation_that_is_told_nothing_more_stops_at_a_disagreement_and_reads_no_pickle():
    parser = argparse.ArgumentParser()
    job.arguments(parser)
    given = parser.parse_args([f"--{name}=x" for name in ("settings", "code", "manifest", "data")])
    assert (given.disagreement, given.allow_pickle, given.device, given.dense) == ("stop", False, "auto", [])


def test_an_evaluation_may_do_what_its_options_and_its_manifest_say(arguments):
    said = {"task": "words", "metrics": "f1,accuracy"}
    for allowed in (False, True):
        vars(arguments).update(allow_pickle=allowed, metrics=said["metrics"])
        assert job.permissions(arguments) == said | {
            "allow_pickle": allowed,
            "allow_unused": (),
            "add_bos_token": False,
        }
    files.write_json(arguments.manifest, files.read_json(arguments.manifest) | {"allow_unused": ["head"]})
    assert job.permissions(arguments)["allow_unused"] == ("head",)


def test_runs_without_the_bos_token_are_not_taken_for_runs_with_it(arguments):
    assert computing(arguments)
    assert not computing(arguments)
    files.write_json(arguments.manifest, files.read_json(arguments.manifest) | {"add_bos_token": True})
    provenance.of_manifest.cache_clear()  # another job is another process
    assert computing(arguments)


# --- the programs


def test_an_iteration_from_another_ticket_is_another(tmp_path):
    paths = [tmp_path / name for name in ("model.json", "data.json", "before.safetensors")]
    for path in paths:
        files.write_json(path, {"files": []})
    given = dict.fromkeys(("model", "task", "seed", "sparsity", "iteration", "share", "code"), "1")
    args = argparse.Namespace(
        **given, settings="{}", manifest=paths[0], data=paths[1], previous=paths[2:], device="cpu"
    )
    found = find_ticket.digest_of(args)
    assert found == find_ticket.digest_of(args)
    paths[2].write_text("other masks")
    assert find_ticket.digest_of(args) != found


def test_a_ticket_is_taken_back_with_its_digest(tmp_path, monkeypatch, capsys):
    for name in ("model", "data"):
        files.write_json(tmp_path / f"{name}.json", {"weights_sha256": "0" * 64, "files": []})
    record = {"model": "tiny", "iteration": 1, "k": 1, "n": 2, "diverged": None}
    monkeypatch.setattr(find_ticket, "prune", lambda *args: ({"a": torch.tensor([True, False])}, record))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *args, **options: None)
    settings = {"kind": "text-classification", "n_train": 10, "threads": torch.get_num_threads()}
    options = {
        "model": "tiny", "task": "mine", "seed": "0", "sparsity": "0.500", "iteration": "1", "share": "0.5", "code": "c0de",
        "settings": json.dumps(settings), "manifest": str(tmp_path / "model.json"), "data": str(tmp_path / "data.json"),
        "work": str(tmp_path / "work"), "out": str(tmp_path / "0.500.safetensors"), "digest": str(tmp_path / "0.500.sha256"),
    }  # fmt: skip

    def call(**changed):
        find_ticket.main([word for name, value in (options | changed).items() for word in (f"--{name}", value)])

    call()
    written = [Path(options[name]) for name in ("out", "digest")]
    before = [path.read_bytes() for path in written]
    for path in written:
        path.unlink()
    monkeypatch.setattr(find_ticket, "prune", lambda *args: 1 / 0)
    call()
    assert [path.read_bytes() for path in written] == before
    assert tickets.read(written[0], {"iteration": 1}).provenance["k"] == 1
    assert "Not computed again" in capsys.readouterr().out
    with pytest.raises(ZeroDivisionError):
        call(code="edited")
    assert "(other code)" in capsys.readouterr().out


def test_collecting_clears_what_the_jobs_of_its_grid_have_kept_and_no_others(tmp_path):
    rows = pd.concat([grid_rows(tmp_path, "global"), grid_rows(tmp_path, "lth"), grid_rows(tmp_path, "dense", (0.0,))])
    write_runs(rows)
    tables.write(rows, "grid", tmp_path / "grid.parquet")
    work = tmp_path / "work"
    mine = [
        "prune_eval/tiny/words/global/0.200/seed0",
        "find_ticket/tiny/words/seed0/0.100",
        "find_ticket/tiny/words/seed0/0.200",
    ]
    others = [
        "prune_eval/tiny/words/global/0.300/seed0",
        "find_ticket/tiny/words/seed0/0.300",
        "find_ticket/tiny/words/seed1/0.100",
    ]
    for name in mine + others:
        (work / name / "kept").mkdir(parents=True)
    program = ["--grid", tmp_path / "grid.parquet", "--work", work, "--out", tmp_path / "runs.parquet"]
    program += ["--logs", tmp_path / "logs", "--missing-runs", tmp_path / "missing_runs.parquet"]
    program += ["--digest", files.sha256_rows(pq.read_table(tmp_path / "grid.parquet").to_pylist())]
    collect_runs.main([str(part) for part in program])
    assert len(pd.read_parquet(tmp_path / "runs.parquet")) == 3
    assert sorted(str(path.parent.relative_to(work)) for path in work.rglob("kept")) == sorted(others)

    finished.clear(work, others)
    assert not work.exists(), "empty folders do not stay either"
