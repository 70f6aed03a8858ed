"""Two that fetch the same at once, and one that is killed: the real client in processes of its own, with one cache."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_hub import Hub, running, sha256

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
MODEL, LARGE = "team/model", "pytorch_model.bin"
FILES = {LARGE: os.urandom(30 << 20), "config.json": b"{}"}
PROGRAM = f"""
import contextlib
import json
from essential_sparsity import cli
from essential_sparsity.acquire import hub
cli.run(lambda: print(json.dumps(hub.download({MODEL!r}, "main", "model", list)[3])))
"""


@pytest.fixture
def hub():
    with running(Hub()) as hub:
        hub.add("models", MODEL, FILES)
        yield hub


@pytest.fixture
def fetching(hub, tmp_path):
    """Start to fetch."""
    own = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))}
    own |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(SCRIPTS)}
    started = []

    def start():
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen([sys.executable, "-c", PROGRAM], env=own, text=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def digests(process):
    said, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    return json.loads(said.splitlines()[-1])


EXPECTED = {name: sha256(content) for name, content in FILES.items()}


def test_two_that_fetch_the_same_model_both_end_well(hub, fetching):
    """Neither takes what the other has half, and nothing is transferred twice"""
    both = [fetching(), fetching()]
    assert [digests(process) for process in both] == [EXPECTED, EXPECTED]
    assert len([file for file, _ in hub.ranges if file == LARGE]) == 1


def half_written(cache):
    """Bytes of files that are being fetched; the client makes and removes folders beside them."""
    paths = [
        Path(folder, name) for folder, _, names in os.walk(cache) for name in names if name.endswith(".incomplete")
    ]
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in paths)
    return 0


def test_what_was_complete_when_one_was_killed_is_not_fetched_again(hub, fetching, tmp_path):
    """Its half file is not used, and asked for from the start: the client keeps no half of another process"""
    half, go_on = len(FILES[LARGE]) // 2, threading.Event()  # the client writes 10 MiB at once

    def stall(handler, path):
        if not path.startswith("/lfs") or go_on.is_set():
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(FILES[LARGE])))
        handler.send_header("ETag", f'"{sha256(FILES[LARGE])}"')
        handler.end_headers()
        handler.wfile.write(FILES[LARGE][:half])
        handler.wfile.flush()
        go_on.wait(60)
        handler.close_connection = True
        return True

    hub.fault = stall
    first = fetching()
    deadline = time.monotonic() + 60
    while half_written(tmp_path / "hf") < half // 2:
        assert time.monotonic() < deadline
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.05)
    first.kill()
    first.wait()
    go_on.set()
    assert digests(fetching()) == EXPECTED
    assert sorted(hub.ranges) == [("config.json", 0), (LARGE, 0)]
