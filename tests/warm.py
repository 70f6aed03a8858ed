"""A Python that has loaded what is slow to load, and forks a child for each program: it starts in milliseconds, not in seconds.

`Warm(folder)` starts such a process and puts a `python` into `folder`, for the front of a PATH: it runs scripts and `-m snakemake` in a
child of that process, with its own arguments, folder, environment and files, deaf to Ctrl-C where it is, and ends as the child does; all else (`-c`, other
modules) by the real interpreter. What is loaded are installed packages; the repository's own code each child reads anew. A signal to
that `python` goes to the child; when it is killed, so is the child. Memory and time of the child are not those of a descendant: what
measures jobs needs the real interpreter, and so does what changes at import with the environment (`HF_HUB_OFFLINE`).
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

LOADED = (
    "torch",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.auto.image_processing_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.trainer",
    "pandas",
    "pyarrow.parquet",
    "datasets",
    "scipy.stats",
    "scipy.optimize",
    "matplotlib.pyplot",
    "jinja2",
    "jsonschema",
    "kneed",
    "plotly.offline",
    "snakemake.cli",
    "snakemake.report.html_reporter",
    "snakemake.storage",
    "smart_open",
    "yte",
)
CLIENT = """#!{python} -IS
import os, sys
if len(sys.argv) < 2 or not (sys.argv[1].endswith(".py") or sys.argv[1:3] == ["-m", "snakemake"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
import json, signal, socket
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
mask = os.umask(0)
os.umask(mask)
deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), mask, os.getpgrp(), deaf]).encode()
socket.send_fds(link, [len(asked).to_bytes(4, "big")], [0, 1, 2])
link.sendall(asked)
answers = link.makefile()
child = int(answers.readline())
for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(one, lambda number, _: os.kill(child, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Warm:
    """The process, and the `python` in `folder` that asks it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.short = Path(tempfile.mkdtemp(prefix="warm-"))  # addresses of sockets may have 107 characters
        address = str(self.short / "socket")
        self.process = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"
        folder.mkdir(parents=True, exist_ok=True)
        self.python = folder / "python"
        self.python.write_text(CLIENT.format(python=sys.executable, address=address))
        self.python.chmod(0o755)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        shutil.rmtree(self.short)


def _serve(address: str) -> None:
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child that collects garbage would copy all pages of what was loaded
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    print("ready", flush=True)
    events = selectors.DefaultSelector()
    events.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is listening:
                _begin(listening.accept()[0], events)
            else:
                _end(*key.data, ended=isinstance(key.fileobj, int), events=events)


def _begin(link: socket.socket, events: selectors.BaseSelector) -> None:
    length, files, _, _ = socket.recv_fds(link, 4, 3)
    asked = b""
    while len(asked) < int.from_bytes(length, "big"):
        asked += link.recv(1 << 20)
    if not (child := os.fork()):
        _become(json.loads(asked), files)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    link.sendall(f"{child}\n".encode())
    events.register(link, selectors.EVENT_READ, (child, link, ended))
    events.register(ended, selectors.EVENT_READ, (child, link, ended))


def _end(child: int, link: socket.socket, pidfd: int, *, ended: bool, events: selectors.BaseSelector) -> None:
    """The child has ended, or who asked for it has."""
    if not ended:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        link.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    for file in (link, pidfd):
        events.unregister(file)
    link.close()
    os.close(pidfd)


def _become(asked: list, files: list[int]) -> None:
    """This process, a child, is now what was asked for, and ends with it."""
    arguments, folder, environment, mask, group, deaf = asked
    signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    with contextlib.suppress(PermissionError):  # of another session
        os.setpgid(0, group)
    os.umask(mask)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            sys.path[0] = folder
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            sys.path[0] = str(Path(arguments[0]).resolve().parent)
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        code = -signal.SIGINT
    except BaseException:  # as the interpreter would end
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        if code == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(code & 0xFF)


if __name__ == "__main__":
    _serve(sys.argv[1])
