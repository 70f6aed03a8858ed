"""Everything is fetched on a machine with a network; the study then runs on machines without one."""

import os
import subprocess
import sys

import presets
from small_hub import Hub, running
from workspace import STORE, Workspace

MODEL, TASK = "opt-125m", "wikitext2"
NO_NETWORK = ["unshare", "--net", "--map-root-user"]  # a network name space without a route, not even to itself


def test_a_study_is_fetched_first_and_runs_without_a_network(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "study")
    grid = [{"models": [MODEL], "tasks": [TASK], "patterns": ["global"], "sparsities": [0.3, 0.6], "seeds": [0]}]
    workspace.configure(grid=grid, references=None, refine=None, claims=None)
    run = [sys.executable, "workflow/scripts/run_alone.py", "--cores", "2", "--quiet", "rules", "host"]
    for name in [name for name in os.environ if name.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with running(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        presets.offer(hub, workspace.folder, MODEL, TASK)
        hub.fault = lambda handler, path: path.startswith("/lfs") and not handler.answer(b"", 404)
        failed = workspace.call(*run, "--", "fetch", check=False)
        assert failed.returncode
        assert "Making the tables" not in failed.stdout, "nothing but what was asked for"
        hub.fault = None
        said = workspace.call(*run, "--", "fetch").stdout
        assert "fetch_model" in said
        assert not (workspace.folder / STORE / "runs").exists()
        hub.requests.clear()
        workspace.call(*run, "--", "fetch")
        assert not [line for line in hub.requests if "/resolve/" in line or "/lfs/" in line]
    possible = subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False).returncode == 0
    done = workspace.call(*(NO_NETWORK if possible else []), *run)
    assert "fetch_" not in done.stdout
    assert len(list((workspace.folder / STORE / "runs").rglob("*.parquet"))) >= 2
