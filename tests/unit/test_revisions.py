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
