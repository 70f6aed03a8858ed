"""What programs set for their whole process, when a test calls them in this one, is taken back after the test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _torch_as_it_was():
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def attempts(tmp_path_factory):
    """Programs in processes of their own, for what strangers bring (`hostile.py`)."""
    import hostile

    started = hostile.Attempts(tmp_path_factory.mktemp("attempts"))
    yield started
    started.close()
