"""What decided a run: each part of it changes its digest, and nothing else does."""

import json
from types import SimpleNamespace

import pytest

from essential_sparsity import files, tables
from essential_sparsity.study import records
from essential_sparsity.tables import provenance

KEY = {"model": "m", "task": "t", "pattern": "global", "seed": 0, "sparsity": "0.500"}
PARTS = {column: column for column in provenance.PARTS}


def test_the_parts_are_columns_of_the_runs():
    assert set(provenance.PARTS) <= set(tables.schema("runs").names)
    assert len(set(provenance.PARTS.values())) == len(provenance.PARTS)


@pytest.mark.parametrize("column", provenance.PARTS)
def test_every_part_is_in_the_digest(column):
    before = provenance.digest(KEY, PARTS)
    assert provenance.digest(KEY, PARTS | {column: "other"}) != before
    assert provenance.digest(KEY, PARTS | {column: None}) != before


@pytest.mark.parametrize("name", KEY)
def test_every_part_of_the_key_is_in_the_digest(name):
    assert provenance.digest(KEY | {name: "other"}, PARTS) != provenance.digest(KEY, PARTS)


def test_order_and_what_decides_nothing_are_not_in_the_digest():
    before = provenance.digest(KEY, PARTS)
    assert provenance.digest(dict(reversed(KEY.items())), dict(reversed(PARTS.items()))) == before
    assert provenance.digest(KEY, PARTS | {"workflow": "9", "items_sha256": "x", "value": 1.0}) == before
    without = {name: value for name, value in PARTS.items() if name != "ticket_sha256"}
    assert provenance.digest(KEY, without) == provenance.digest(KEY, PARTS | {"ticket_sha256": None})


ENTRIES = [{"path": "a", "sha256": "1", "size": 1}, {"path": "b", "sha256": "2", "size": 2}]


def manifest(tmp_path, name, **changed):
    files.write_json(tmp_path / name, {"model": "m", "folder": "x", "files": ENTRIES} | changed)
    return provenance.of_manifest(tmp_path / name)


def test_a_manifest_counts_by_the_files_that_it_lists(tmp_path):
    """Where they came from and how they are called in the study is told in it too, and decides nothing."""
    before = manifest(tmp_path, "one")
    assert manifest(tmp_path, "two", model="n", folder="y", revision="z") == before
    said = {"files": [dict(reversed(entry.items())) for entry in ENTRIES]}
    (tmp_path / "again").write_text(json.dumps(said))
    assert provenance.of_manifest(tmp_path / "again") == before
    assert manifest(tmp_path, "three", files=[ENTRIES[0], ENTRIES[1] | {"sha256": "3"}]) != before
    assert manifest(tmp_path, "four", files=[ENTRIES[0], ENTRIES[1] | {"path": "c"}]) != before
    assert manifest(tmp_path, "five", files=ENTRIES[:1]) != before


def test_a_manifest_counts_by_the_token_that_its_model_is_read_with(tmp_path):
    """Else runs without it would pass for runs with it: they are not computed again where their digest is the same."""
    before = manifest(tmp_path, "one")
    assert manifest(tmp_path, "two", add_bos_token=False, allow_unused=["head"]) == before, (
        "manifests of before say none"
    )
    assert manifest(tmp_path, "three", add_bos_token=True) != before


def test_a_ticket_counts_by_the_digest_beside_it(tmp_path):
    (tmp_path / "ticket").write_bytes(b"a ticket")
    sha256 = files.sha256_file(tmp_path / "ticket")
    (tmp_path / "digest").write_text(f"{sha256}  0.500.safetensors\n")
    assert provenance.of_ticket(tmp_path / "digest") == sha256
    (tmp_path / "digest").write_text("\n")
    assert provenance.of_ticket(tmp_path / "digest") == "", "which no run has: one without a ticket has none"


def test_settings_count_as_they_are_given():
    assert provenance.of_settings('{"n_eval": 5}') != provenance.of_settings('{"n_eval": 6}')


@pytest.mark.parametrize(
    ("lost", "told"), [(["a"], "results/s/a is there"), (["a", "b"], "results/s/a (and 1 more) is")]
)
def test_files_without_a_record_are_counted_where_they_are_several(lost, told):
    study = SimpleNamespace(folder="results/s", skipping=False)
    assert records.advice(study, [f"results/s/{name}" for name in lost]).startswith(told)
