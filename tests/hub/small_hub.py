"""A small hub on 127.0.0.1: the requests that the real client makes for whole repositories, and ways to break them.

Like the large one, it keeps weights and tables apart (LFS): a tree names their SHA-256, and asking for one leads to another
address, which answers to ranges. The other files are known by git's name of their bytes.
"""

import contextlib
import functools
import hashlib
import http.server
import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by (kind, id), kind being models or datasets; `files` maps names to bytes, at one commit each."""

    repositories: dict[tuple[str, str], dict] = field(default_factory=dict)
    cut: str = ""  # a file whose transfer breaks off after `cut_after` bytes
    cut_after: int = 0
    cut_times: int = 10**9
    served: dict[str, bytes] = field(default_factory=dict)  # file -> bytes that are sent in the place of its own
    fault: "Callable[[Handler, str], bool] | None" = (
        None  # answers a request (its path) in the hub's place, or says that it does not
    )
    requests: list[str] = field(default_factory=list)
    ranges: list[tuple[str, int]] = field(default_factory=list)  # (file, first byte) of each transfer
    url: str = ""
    elsewhere: str = ""  # where large files lie: another host, as far as the client can tell

    def add(self, kind: str, name: str, files: dict[str, bytes], **branches: str) -> str:
        """Add a repository; returns its commit, that `main` and the given branches point to."""
        commit = hashlib.sha1(name.encode()).hexdigest()
        self.repositories[kind, name] = {"commit": commit, "files": files, "refs": {"main", commit, *branches}}
        return commit


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *args):
        self.hub = hub
        super().__init__(*args)

    def do_GET(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        if self.hub.fault and self.hub.fault(self, path):
            return
        if found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)", path):
            self.with_repository(*found.groups(), "main", self.revision)
        elif found := re.fullmatch(r"/api/(models|datasets)/(.+?)/(revision|tree)/([^/]+)", path):
            kind, name, what, revision = found.groups()
            self.with_repository(kind, name, revision, getattr(self, what))
        elif found := re.fullmatch(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = found.groups()
            self.with_repository("datasets" if kind else "models", name, revision, functools.partial(self.file, file))
        elif found := re.fullmatch(r"/lfs/(models|datasets)/([^/]+/[^/]+)/(.+)", path):
            kind, name, file = found.groups()
            self.content(file, self.hub.repositories[kind, name]["files"][file], {})
        else:
            self.error("EntryNotFound")

    do_HEAD = do_GET

    def with_repository(self, kind, name, revision, answer):
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self.error("RepoNotFound")
        elif revision not in repository["refs"]:
            self.error("RevisionNotFound")
        else:
            answer(name, repository)

    def revision(self, name, repository):
        siblings = [{"rfilename": file, "size": len(content)} for file, content in repository["files"].items()]
        about = {"id": name, "sha": repository["commit"], "siblings": siblings}
        if "model.safetensors" in repository["files"]:
            about["safetensors"] = safetensors_of(repository["files"]["model.safetensors"])
        self.answer(json.dumps(about).encode())

    def tree(self, name, repository):
        entries = []
        for file, content in repository["files"].items():
            entry = {"type": "file", "path": file, "size": len(content), "oid": git_name(content)}
            if is_large(file):
                spec = "https://git-lfs.github.com/spec/v1"
                pointer = f"version {spec}\noid sha256:{sha256(content)}\nsize {len(content)}\n".encode()
                entry |= {
                    "oid": git_name(pointer),
                    "lfs": {"oid": sha256(content), "size": len(content), "pointerSize": len(pointer)},
                }
            entries.append(entry)
        self.answer(json.dumps(entries).encode())

    def file(self, file, name, repository):
        content = repository["files"].get(file)
        if content is None:
            self.error("EntryNotFound")
            return
        headers = {"X-Repo-Commit": repository["commit"]}
        if is_large(file):
            kind = "datasets" if self.path.startswith("/datasets/") else "models"
            headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
            self.answer(b"", 302, {**headers, "Location": f"{self.hub.elsewhere}/lfs/{kind}/{name}/{file}"})
        else:
            self.content(file, content, headers)

    def content(self, file, content, headers):
        """The bytes of a file, or from where it is asked for."""
        etag = sha256(content) if is_large(file) else git_name(content)
        content = self.hub.served.get(file, content)
        headers = {**headers, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(start[1]) if start else 0
        if start:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        stop = None
        if self.command == "GET":
            self.hub.ranges.append((file, first))
            if file == self.hub.cut and self.hub.cut_times > 0:
                self.hub.cut_times -= 1
                stop = self.hub.cut_after
        self.answer(content[first:], 206 if start else 200, headers, stop)

    def error(self, code):
        self.answer(b"{}", 404, {"X-Error-Code": code})

    def answer(self, body, status=200, headers=None, stop=None):
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if stop is None else body[: max(stop, 0)])
            if stop is not None:
                self.wfile.flush()
                self.close_connection = True

    def log_message(self, *args):
        pass


def is_large(file: str) -> bool:
    return file.endswith((".safetensors", ".bin", ".parquet", ".gguf"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_name(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def safetensors_of(content: bytes) -> dict:
    """What the hub says of a file of weights: how many values of each type it holds."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    counts: dict[str, int] = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    return {"parameters": counts, "total": sum(counts.values())}


@contextlib.contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, hub)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url, hub.elsewhere = (f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost"))
        yield hub
        server.shutdown()
