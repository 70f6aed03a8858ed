"""A small hub on 127.0.0.1: the requests that the real client makes for whole repositories, and ways to break them.

Like the large one, it keeps weights and tables apart (LFS): a tree names their SHA-256, and asking for one leads to another
address, which answers to ranges. The other files are known by git's name of their bytes.

It is written to as well: repositories are made, bytes of large files arrive one by one, and a commit has all of its files or is none.
"""

import base64
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
from urllib.parse import parse_qs, unquote, urlsplit


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
    token: str = ""  # that may write, and may see what is private; empty: whoever asks
    uploaded: dict[str, bytes] = field(default_factory=dict)  # SHA-256 -> large files that came, in a commit or not
    url: str = ""
    elsewhere: str = ""  # where large files lie: another host, as far as the client can tell

    def add(self, kind: str, name: str, files: dict[str, bytes], **branches: str) -> str:
        """Add a repository; returns its commit, that `main` and the given branches point to."""
        commit = hashlib.sha1(name.encode()).hexdigest()
        self.repositories[kind, name] = {"commit": commit, "files": files, "refs": {"main", commit, *branches}}
        self.repositories[kind, name]["private"] = False
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
        elif found := re.fullmatch(r"/api/(datasets)/([^/]+/[^/]+)/tree/([^/]+)/(.+)", path):
            *place, folder = found.groups()
            self.with_repository(*place, functools.partial(self.below, folder))
        elif found := re.fullmatch(r"/(datasets/)?(.+?)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = found.groups()
            self.with_repository("datasets" if kind else "models", name, revision, functools.partial(self.file, file))
        elif found := re.fullmatch(r"/lfs/(models|datasets)/([^/]+/[^/]+)/(.+)", path):
            kind, name, file = found.groups()
            self.content(file, self.hub.repositories[kind, name]["files"][file], {})
        else:
            self.error("EntryNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        if not (self.hub.fault and self.hub.fault(self, path)):
            written_to(self, path, body)

    do_PUT = do_POST

    def known(self) -> bool:
        """Whether who asks may write."""
        return not self.hub.token or self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def with_repository(self, kind, name, revision, answer):
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository["private"] and not self.known()):
            self.error("RepoNotFound")
        elif revision not in repository["refs"]:
            self.error("RevisionNotFound")
        else:
            answer(name, repository)

    def revision(self, name, repository):
        siblings = [{"rfilename": file, "size": len(content)} for file, content in repository["files"].items()]
        about = {"id": name, "sha": repository["commit"], "siblings": siblings, "private": repository["private"]}
        if "model.safetensors" in repository["files"]:
            about["safetensors"] = safetensors_of(repository["files"]["model.safetensors"])
        self.answer(json.dumps(about).encode())

    def tree(self, name, repository):
        self.answer(json.dumps([entry_of(*each) for each in repository["files"].items()]).encode())

    def below(self, folder, name, repository):
        """The files right in a folder of the repository."""
        found = [entry_of(*each) for each in repository["files"].items() if each[0].rpartition("/")[0] == folder]
        self.answer(json.dumps(found).encode())

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
        if self.command != "HEAD":
            self.wfile.write(body if stop is None else body[: max(stop, 0)])
            if stop is not None:
                self.wfile.flush()
                self.close_connection = True

    def log_message(self, *args):
        pass


def written_to(handler: Handler, path: str, body: bytes) -> None:
    """Answer a request that writes, or asks how to."""
    hub = handler.hub
    if path == "/api/validate-yaml":
        say(handler, {"errors": [], "warnings": []})
    elif found := re.fullmatch(r"/upload/([0-9a-f]{64})", path):  # its address is the permission
        right = sha256(body) == found[1]
        if right:
            hub.uploaded[found[1]] = body
        say(handler, {}, 200 if right else 400)
    elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/paths-info/([^/]+)", path):
        handler.with_repository(*found.groups(), lambda _, repository: paths(handler, repository, body))
    elif not handler.known():
        say(handler, {"error": "Invalid credentials in Authorization header"}, 401)
    elif path == "/api/repos/create":
        created(handler, json.loads(body))
    elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
        asked = json.loads(body)["objects"]
        actions = {
            one["oid"]: {
                "upload": {"href": f"{hub.elsewhere}/upload/{one['oid']}"},
                "verify": {"href": f"{hub.url}/verify"},
            }
            for one in asked
        }
        objects = [one if one["oid"] in hub.uploaded else one | {"actions": actions[one["oid"]]} for one in asked]
        say(handler, {"transfer": "basic", "objects": objects})
    elif path == "/verify":
        said = json.loads(body)
        say(handler, {}, 200 if len(hub.uploaded.get(said["oid"], b"")) == said["size"] else 404)
    elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/main", path):
        handler.with_repository(
            "datasets", found[1], "main", lambda _, repository: preupload(handler, repository, body)
        )
    elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/main", path):
        handler.with_repository(
            "datasets", found[1], "main", lambda name, repository: committed(handler, name, repository, body)
        )
    else:
        handler.error("EntryNotFound")


def say(handler: Handler, what: object, status: int = 200) -> None:
    handler.answer(json.dumps(what).encode(), status)


def created(handler: Handler, said: dict) -> None:
    """A repository, with the one file that the large hub begins with."""
    hub, name = handler.hub, f"{said['organization']}/{said['name']}"
    key = f"{said['type']}s", name
    there = key in hub.repositories
    if not there:
        hub.add(*key, {".gitattributes": b"*.parquet filter=lfs\n"})
        hub.repositories[key]["private"] = said.get("visibility") == "private"
    say(handler, {"url": f"{hub.url}/{key[0]}/{name}", "id": name}, 409 if there else 200)


def preupload(handler: Handler, repository: dict, body: bytes) -> None:
    """How each file is to come, and what is there under its name."""
    found = []
    for one in json.loads(body)["files"]:
        entry = {
            "path": one["path"],
            "uploadMode": "lfs" if is_large(one["path"]) else "regular",
            "shouldIgnore": False,
        }
        if (content := repository["files"].get(one["path"])) is not None:
            entry["oid"] = sha256(content) if is_large(one["path"]) else git_name(content)
        found.append(entry)
    say(handler, {"files": found})


def committed(handler: Handler, name: str, repository: dict, body: bytes) -> None:
    """All that a commit says, or nothing of it."""
    hub, files = handler.hub, dict(repository["files"])
    for line in map(json.loads, body.splitlines()):
        said = line["value"]
        if line["key"] == "file":
            files[said["path"]] = base64.b64decode(said["content"])
        elif line["key"] == "lfsFile":
            if said["oid"] not in hub.uploaded:
                say(handler, {"error": f"{said['path']} has not come"}, 400)
                return
            files[said["path"]] = hub.uploaded[said["oid"]]
        elif line["key"] == "deletedFile":
            del files[said["path"]]
    commit = hashlib.sha1(repository["commit"].encode() + body).hexdigest()
    repository |= {"commit": commit, "files": files, "refs": {"main", commit}}
    say(handler, {"commitUrl": f"{hub.url}/datasets/{name}/commit/{commit}", "commitOid": commit})


def paths(handler: Handler, repository: dict, body: bytes) -> None:
    """What a tree says of some files and folders."""
    asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
    found = [entry_of(file, repository["files"][file]) for file in asked if file in repository["files"]]
    found += [
        {"type": "directory", "path": path, "oid": git_name(path.encode())}
        for path in asked
        if any(file.startswith(f"{path}/") for file in repository["files"])
    ]
    say(handler, found)


def is_large(file: str) -> bool:
    return file.endswith((".safetensors", ".bin", ".parquet", ".gguf"))


def entry_of(file: str, content: bytes) -> dict:
    """What a tree says of a file."""
    entry = {"type": "file", "path": file, "size": len(content), "oid": git_name(content)}
    if is_large(file):
        spec = "https://git-lfs.github.com/spec/v1"
        pointer = f"version {spec}\noid sha256:{sha256(content)}\nsize {len(content)}\n".encode()
        lfs = {"oid": sha256(content), "size": len(content), "pointerSize": len(pointer)}
        entry |= {"oid": git_name(pointer), "lfs": lfs}
    return entry


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
