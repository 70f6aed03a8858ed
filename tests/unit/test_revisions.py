"""Branches and tags stand for the commits that were written down; without one, nothing runs."""

import pytest

from essential_sparsity.study import configuration, revisions

COMMIT = "0123456789" * 4


def rows(**changed):
    return {"m": {"model": "m", "source": "hub", "id": "team/model", "revision": "main"} | changed}


def test_a_branch_becomes_its_commit():
    models = rows()
    revisions.apply_(models, ["m"], "model", {("model", "team/model", "main"): COMMIT}, "models.tsv")
    assert models["m"]["revision"] == COMMIT


def test_commits_and_other_sources_stay_as_they_are():
    for models in (rows(revision=COMMIT), rows(source="path", revision=None)):
        before = dict(models)
        revisions.apply_(models, ["m"], "model", {}, "models.tsv")
        assert models == before


def test_a_branch_without_commit_is_refused_with_the_command_that_finds_it():
    locked = {("dataset", "team/model", "main"): COMMIT}  # a data set of that name is another repository
    with pytest.raises(configuration.ConfigError, match=r"models.tsv: team/model at 'main'.*make lock"):
        revisions.apply_(rows(id="team/model:part"), ["m"], "model", locked, "models.tsv")


def test_the_shipped_table_is_read():
    assert isinstance(revisions.read("config/revisions.tsv"), dict)


def test_two_commits_of_one_branch_are_refused(tmp_path):
    path = tmp_path / "revisions.tsv"
    rows = ["kind repository revision commit", f"model team/model main {COMMIT}", f"model team/model main {'f' * 40}"]
    path.write_text("\n".join(rows).replace(" ", "\t") + "\n")
    with pytest.raises(configuration.ConfigError, match=r"team/model at 'main' has two commits, 0123\S+ and ffff"):
        revisions.read(str(path))
    path.write_text("\n".join([*rows[:2], rows[1]]).replace(" ", "\t") + "\n")
    assert revisions.read(str(path)) == {("model", "team/model", "main"): COMMIT}
