"""Studies on the test cluster: the undisturbed one, run here without SLURM, and copies of it for each misfortune."""

import signal

import pytest
from cluster import Study
from workspace import Workspace


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Workspace:
    """The tiny real grid, finished by a local run: 10 evaluations of one level each."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a test that is ended stops what it has started
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed") / "study")
    workspace.configure_tiny()
    settle(workspace)
    workspace.snakemake("--quiet", "all")
    return workspace


def settle(workspace: Workspace) -> None:
    """The GPUs of this cluster are names: jobs ask for them and compute on processors."""
    workspace.configure(resources={"gpu": 1, "device": "cpu", "threads": 1})
    profile = workspace.folder / "slurm/profile.v9+.yaml"
    asking = profile.read_text().replace(
        "  prune_eval:\n    slurm_partition", "  prune_eval:\n    gpu: 1\n    slurm_partition"
    )
    assert asking != profile.read_text()
    profile.write_text(asking)


@pytest.fixture
def fresh(tmp_path):
    study = Study(tmp_path / "fresh")
    settle(study)
    yield study
    study.close()


@pytest.fixture
def study(undisturbed, tmp_path):
    study = Study(tmp_path / "study", undisturbed)
    yield study
    study.close()


@pytest.fixture(scope="session")
def expected(undisturbed, tmp_path_factory) -> dict[str, bytes]:
    """The bytes of all results of the undisturbed study."""
    return Study(tmp_path_factory.mktemp("expected") / "study", undisturbed).results()
