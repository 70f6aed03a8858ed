"""Workspaces to run in, fresh or with a finished study."""

import os
import shutil

import pytest
from changes import Study
from warm import Warm
from workspace import Workspace


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """The interpreter that has loaded torch and Snakemake; None where there can be none."""
    found = Warm(tmp_path_factory.mktemp("warm")) if hasattr(os, "pidfd_open") else None  # Linux
    yield found
    if found:
        found.close()


@pytest.fixture(scope="module", autouse=True)
def _starting_at_once(warm):
    """Studies of tests here run by it; `finished` before, and all others, by the real one."""
    real = Workspace.python
    Workspace.python = str(warm.python) if warm else real
    yield
    Workspace.python = real


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "study")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """A finished study of 10 evaluation jobs, one level each; tests look at it and put back what they change."""
    workspace = Workspace(tmp_path_factory.mktemp("workflow") / "study")
    workspace.configure_tiny()
    workspace.snakemake("--quiet", "all")
    return workspace


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Study:
    """A finished study, computed by the stand-in."""
    study = Study(tmp_path_factory.mktemp("changes") / "study")
    study.build()
    study.run()
    assert study.planned() == {}
    return study


@pytest.fixture
def study(done, tmp_path) -> Study:
    """A copy of it to change."""
    return Study(tmp_path / "study", done)


@pytest.fixture
def fresh(tmp_path):
    """A study that has computed nothing, of the same configuration, code and data as another one."""

    def make(study: Study) -> Study:
        new = Study(tmp_path / "fresh", study)
        shutil.rmtree(new.folder / "results")
        shutil.rmtree(new.folder / ".snakemake")
        new.run()
        return new

    return make
