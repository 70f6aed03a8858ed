"""Models and data of a hub on nodes that reach none: fetched where the head runs, the rest without a network.

In a network name space with nothing but loopback, so that no request could go anywhere (the second address is for the names of
hosts, which resolve to nothing where loopback has only its own; the packages of SLURM must be there):
    unshare --net sh -c "ip link set lo up && ip addr add 10.255.255.1/32 dev lo && make test-slurm SLURM_TESTS=slurm"
"""

import presets
import pytest
from cluster import evaluations
from small_hub import Hub, running

pytestmark = [pytest.mark.slurm, pytest.mark.thorough]


def test_jobs_need_nothing_but_what_was_fetched(fresh, monkeypatch, tmp_path):
    grid = {
        "models": ["opt-125m"],
        "tasks": ["wikitext2"],
        "patterns": ["global"],
        "sparsities": [0.3, 0.6],
        "seeds": [0],
    }
    fresh.configure(grid=[grid], references=None, refine=None, claims=None)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with running(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        presets.offer(hub, fresh.folder, "opt-125m", "wikitext2")
        fresh.snakemake("--quiet", "all", "--", "fetch")
        asked = len(hub.requests)
        assert asked
    head = fresh.on_slurm()
    assert {job["State"] for job in evaluations(head.run)} == {"COMPLETED"}
    assert len(hub.requests) == asked
    assert fresh.planned() == {}
    assert (fresh.folder / "results/demo/tables/knees.parquet").is_file()
