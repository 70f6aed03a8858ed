"""Workspaces to run in, fresh or with a finished study."""

import pytest
from workspace import Workspace


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
