"""Finished results are taken back bit for bit by another attempt, and only where all that decides them is the same."""

import argparse
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import ticket
import torch
from test_tables import run_rows

import collect_runs
from essential_sparsity import codefiles, files, tables
from essential_sparsity.pruning import tickets
from essential_sparsity.runs import kept
from essential_sparsity.study import grid

RUNS, ITEMS = b"PAR1 runs", b"PAR1 items"
FINETUNED = {"kind": "text-classification", "n_train": 10, "allow_pickle": False}


@pytest.fixture
def arguments(tmp_path) -> argparse.Namespace:
    for name in ("manifest", "reference", "ticket"):
        (tmp_path / name).write_text(name)
    return argparse.Namespace(
        model="tiny",
        sparsities="0.300",
        settings={"n_eval": 5},
        manifest=str(tmp_path / "manifest"),
        reference=None,
        tickets=[str(tmp_path / "ticket")],
        work=tmp_path / "work",
        runs=str(tmp_path / "results/runs.parquet"),
        items=str(tmp_path / "results/items.parquet"),
    )


def of_job(arguments: argparse.Namespace, **more) -> kept.Kept:
    more = {"code": "c0de", "torch": "2", "device": "cpu"} | more
    return kept.Kept.of_job(arguments, ("manifest", "reference", "tickets"), ("runs", "items"), **more)


def finish(arguments: argparse.Namespace) -> None:
    """An attempt that ended well, but whose outputs Snakemake deletes."""
    for name, content in (("runs", RUNS), ("items", ITEMS)):
        path = Path(getattr(arguments, name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    of_job(arguments).keep()
    lose(arguments)


def lose(arguments: argparse.Namespace) -> None:
    Path(arguments.runs).unlink()
    Path(arguments.items).unlink()


def is_back(arguments: argparse.Namespace) -> bool:
    return Path(arguments.runs).read_bytes() == RUNS and Path(arguments.items).read_bytes() == ITEMS


def test_taken_back_bit_for_bit_as_often_as_it_is_lost(arguments, capsys):
    assert not of_job(arguments).take_back(), "nothing is kept at first"
    finish(arguments)
    for _ in range(2):
        assert of_job(arguments).take_back()
        assert is_back(arguments)
        told = capsys.readouterr().out
        assert told.startswith(f"Not computed again: {arguments.runs} and {arguments.items}, taken back from")
        lose(arguments)


def test_links_take_no_room_and_where_there_are_none_copies_do(arguments, monkeypatch):
    finish(arguments)
    assert of_job(arguments).take_back()
    assert Path(arguments.runs).samefile(arguments.work / "kept/runs")

    def refused(*paths):
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    finish(arguments)
    assert of_job(arguments).take_back()
    assert is_back(arguments)
    assert not Path(arguments.runs).samefile(arguments.work / "kept/runs")


def test_what_is_taken_back_is_newer_than_what_it_was_made_from(arguments):
    finish(arguments)
    os.utime(arguments.work / "kept/runs", (0, 0))
    of_job(arguments).take_back()
    assert Path(arguments.runs).stat().st_mtime >= Path(arguments.manifest).stat().st_mtime


def test_another_place_of_the_same_files_is_the_same_job(arguments, tmp_path):
    finish(arguments)
    moved = Path(arguments.manifest).rename(tmp_path / "moved")
    arguments.manifest, arguments.runs = str(moved), str(tmp_path / "elsewhere/runs.parquet")
    assert of_job(arguments).take_back()
    assert is_back(arguments)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"settings": {"n_eval": 6}}, "settings"),
        ({"sparsities": "0.400"}, "sparsities"),
        ({"tickets": []}, "tickets"),
        ({"reference": "reference"}, "reference"),
        ({"more": {"code": "edited"}}, "code"),
        ({"more": {"torch": "3", "device": "cuda"}}, "device, torch"),
    ],
)
def test_another_job_computes_anew_and_says_why(arguments, tmp_path, capsys, changed, named):
    finish(arguments)
    more = changed.pop("more", {})
    if "reference" in changed:
        changed = {"reference": str(tmp_path / "reference")}
    vars(arguments).update(changed)
    assert not of_job(arguments, **more).take_back()
    assert f"kept is not used: it is of another run (other {named})." in capsys.readouterr().out
    assert not (arguments.work / "kept").exists()
    assert not Path(arguments.runs).exists()


@pytest.mark.parametrize("file", ["manifest", "ticket"])
def test_other_content_of_what_is_read_computes_anew(arguments, tmp_path, file):
    finish(arguments)
    (tmp_path / file).write_text("other weights")
    assert not of_job(arguments).take_back()


def test_a_result_damaged_in_place_computes_anew(arguments, capsys):
    """The link shares its bytes with the result."""
    finish(arguments)
    of_job(arguments).take_back()
    with open(arguments.items, "r+b") as handle:
        handle.write(b"rubbish")
    assert not of_job(arguments).take_back()
    assert "its file items is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda seal: seal.unlink(), "it was not written to its end"),
        (lambda seal: seal.write_text("{"), "its seal is damaged"),
        (lambda seal: (seal.parent / "runs").unlink(), "its file runs is damaged"),
    ],
)
def test_what_is_not_whole_computes_anew(arguments, capsys, damage, told):
    finish(arguments)
    damage(arguments.work / "kept/seal.json")
    assert not of_job(arguments).take_back()
    assert told in capsys.readouterr().out


def test_a_job_that_finds_no_room_to_keep_its_results_has_ended_well(arguments, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_json", full)
    finish(arguments)
    assert "could not be kept" in capsys.readouterr().out
    assert not (arguments.work / "kept").exists()


# --- the programs


def test_a_ticket_is_taken_back_with_its_digest(tmp_path, monkeypatch, capsys):
    for name in ("model", "data"):
        files.write_json(tmp_path / f"{name}.json", {"weights_sha256": "0" * 64})
    provenance = {"model": "tiny", "iteration": 1, "k": 1, "n": 2}
    monkeypatch.setattr(ticket, "prune", lambda *args: ({"a": torch.tensor([True, False])}, provenance))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *args, **options: None)
    options = {
        "model": "tiny", "task": "mine", "seed": "0", "sparsity": "0.500", "iteration": "1", "share": "0.5",
        "settings": json.dumps(FINETUNED), "manifest": str(tmp_path / "model.json"), "data": str(tmp_path / "data.json"),
        "work": str(tmp_path / "work"), "out": str(tmp_path / "0.500.safetensors"), "digest": str(tmp_path / "0.500.sha256"),
    }  # fmt: skip
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    ticket.main(words)
    written = [Path(options[name]) for name in ("out", "digest")]
    before = [path.read_bytes() for path in written]
    for path in written:
        path.unlink()
    monkeypatch.setattr(ticket, "prune", lambda *args: 1 / 0)
    ticket.main(words)
    assert [path.read_bytes() for path in written] == before
    assert tickets.read(written[0], {"iteration": 1}).provenance["k"] == 1
    assert "Not computed again" in capsys.readouterr().out

    monkeypatch.setattr(codefiles, "digest", lambda paths: "edited")
    with pytest.raises(ZeroDivisionError):
        ticket.main(words)


def test_collecting_clears_what_the_jobs_of_its_grid_have_kept_and_no_others(tmp_path):
    block = {"models": ["tiny"], "tasks": ["words"], "patterns": ["global", "lth"], "sparsities": [0.2], "seeds": [0]}
    given = {"blocks": [block], "levels_per_job": {"words": 1}}
    for job in grid.expand(**given):
        frame = run_rows(sparsities=(float(job.token),)).assign(pattern=job.pattern)
        tables.write(frame, "runs", tmp_path / f"runs/{job.path}.parquet")
    work = tmp_path / "work"
    mine = [
        "prune_eval/tiny/words/global/0.200/seed0",
        "ticket/tiny/words/seed0/0.100",
        "ticket/tiny/words/seed0/0.200",
    ]
    other = ["prune_eval/tiny/words/global/0.300/seed0", "ticket/tiny/words/seed1/0.100"]
    for name in mine + other:
        (work / name / "kept").mkdir(parents=True)
    program = ["--grid", json.dumps(given), "--runs", str(tmp_path / "runs"), "--share", "0.1", "--work", str(work)]
    collect_runs.main([*program, "--out", str(tmp_path / "runs.parquet")])
    assert len(pd.read_parquet(tmp_path / "runs.parquet")) == 3
    assert sorted(str(path.parent.relative_to(work)) for path in work.rglob("kept")) == sorted(other)

    kept.clear(work, other)
    assert not work.exists(), "empty folders do not stay either"
