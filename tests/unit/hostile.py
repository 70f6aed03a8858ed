"""What a stranger's bytes do to a program: each attempt in a process of its own, with an end to its time and memory.

One process imports what the programs import and forks a child for each attempt, so that an attempt takes milliseconds. A child may
write below its folder alone, and start no program: Python's audit events tell of each try, and so does what lies beside the folder.
As a program (`python hostile.py FOLDER`) this module is that process.
"""

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SECONDS = 20  # of an attempt: of a processor, since the machine may do other work beside it
PATIENCE = 6  # times that, by the clock, after which it is stopped
MEMORY = 3 << 29  # bytes of addresses that an attempt may take beyond what the imported libraries have
LITTLE = 800  # MiB that an attempt may take beyond what was there
SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
IMPORTED = (
    "essential_sparsity.acquire.fetching",
    "essential_sparsity.acquire.formats",
    "essential_sparsity.tasks.image_classification",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.llama.modeling_llama",
    "transformers.modeling_gguf_pytorch_utils",
    "datasets",
    "gguf",
    "onnx",
)
STARTED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn", "socket.connect")


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: its exit code (None: it had to be stopped), what it printed, its seconds of a processor, MiB of memory that it took
    beyond what was there, and what it did beside its folder."""

    code: int | None
    said: str
    seconds: float
    memory: float
    beside: list[str]

    @property
    def refused(self) -> bool:
        """Whether it ended as a program does that names what is wrong: one error, no traceback, nothing done beside its folder."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        return self.code == 1 and len(errors) == 1 and "Traceback" not in self.said and not self.beside

    def check_refused(self, words: str) -> None:
        """Assert that it was refused with these words (a pattern), in little time and memory."""
        assert self.refused, self
        error = next(line for line in self.said.splitlines() if line.startswith("error: "))
        assert re.search(words, error), error
        self._check_bounded()

    def check_passed(self, words: str) -> None:
        """Assert that it ended well and said these words (a pattern), in little time and memory."""
        assert self.code == 0, self
        assert not self.beside, self
        assert re.search(words, self.said), self.said
        self._check_bounded()

    def _check_bounded(self) -> None:
        assert self.seconds < SECONDS / 2, self.seconds
        assert self.memory < LITTLE, self.memory


class Attempts:
    """The process that attempts are forked from; `folder` holds what they may change."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def program(
        self, name: str, *arguments: object, folder: Path, seconds: int = SECONDS, memory: int = MEMORY
    ) -> Ended:
        """Run `workflow/scripts/{name}.py`, from `folder`."""
        return self._ended({"program": name, "arguments": list(map(str, arguments))}, folder, seconds, memory)

    def call(
        self, function: str, *arguments: object, folder: Path, seconds: int = SECONDS, memory: int = MEMORY
    ) -> Ended:
        """Call `module:function` with arguments that JSON knows, as a program would."""
        return self._ended({"call": function, "arguments": list(arguments)}, folder, seconds, memory)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def _ended(self, asked: dict, folder: Path, seconds: int, memory: int) -> Ended:
        asked |= {"folder": str(folder), "seconds": seconds, "memory": memory}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return Ended(**json.loads(self.process.stdout.readline()))


def _serve(answers) -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        before = set(os.listdir(Path(asked["folder"]).parent))
        printed = Path(asked["folder"]).parent / f".{Path(asked['folder']).name}.printed"
        beside, told = os.pipe()
        start = time.monotonic()
        if not (child := os.fork()):
            os.close(beside)
            _attempt(asked, printed, told)
        os.close(told)
        code = None
        while (waited := time.monotonic() - start) < PATIENCE * asked["seconds"]:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.005)
        else:
            os.kill(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
        taken = used.ru_utime + used.ru_stime
        if waited < PATIENCE * asked["seconds"]:
            code = os.waitstatus_to_exitcode(status)
        with open(beside, errors="replace") as pipe:
            done = pipe.read().splitlines()
        after = set(os.listdir(Path(asked["folder"]).parent)) - {printed.name}
        done += [f"made {name}" for name in sorted(after - before)]
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ended = Ended(code, printed.read_text(errors="replace"), taken, max(used.ru_maxrss - own, 0) / 1024, done)
        print(json.dumps(vars(ended)), file=answers, flush=True)


def _attempt(asked: dict, printed: Path, told: int) -> None:
    """The child: its limits, its watch, and the program; it does not return."""
    from essential_sparsity import cli

    code = 99
    try:
        stream = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        folder = os.path.realpath(asked["folder"])
        os.chdir(folder)
        os.environ["TMPDIR"] = folder
        has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (has + asked["memory"],) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

        def watch(event: str, arguments: tuple) -> None:
            if event in STARTED:
                os.write(told, f"{event} {arguments[0]!r}\n".encode()[:500])
            elif event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                path = os.path.realpath(os.fsdecode(arguments[0]))
                if path != os.devnull and not f"{path}/".startswith(f"{folder}/"):
                    os.write(told, f"wrote {path}\n".encode()[:500])

        sys.addaudithook(watch)
        if "program" in asked:
            sys.argv = [f"{asked['program']}.py", *asked["arguments"]]
            cli.run(importlib.import_module(asked["program"]).main)
        else:
            module, _, name = asked["call"].partition(":")
            function = getattr(importlib.import_module(module), name)
            sys.argv = [f"{name}.py"]
            cli.run(lambda: print(function(*asked["arguments"])))
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        code = 98
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path[:0] = [str(SCRIPTS), str(Path(__file__).parent)]
    _out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints while it is imported is no answer
    _serve(_out)
