"""What a hub, a network or a cache does wrong: told in words of what to do, bounded in time, and nothing false is used."""

import json
import os
import time
from pathlib import Path

import pytest
from small_hub import Hub, git_name, running, sha256

from essential_sparsity.acquire import hub as client
from essential_sparsity.acquire.archives import SourceError

MODEL = "team/model"
WEIGHTS = bytes(range(256)) * 4000
FILES = {"model.safetensors.part.bin": WEIGHTS, "config.json": b'{"a": 1}'}
LARGE = "model.safetensors.part.bin"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one model, and the real client in this process with an empty cache of its own."""
    from huggingface_hub import constants

    with running(Hub()) as hub:
        for name in [name for name in os.environ if name.upper().startswith(("HTTP", "ALL_PROXY"))]:
            monkeypatch.delenv(name)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(client.time, "sleep", lambda seconds: hub.requests.append(f"slept {seconds:g}"))
        hub.add("models", MODEL, FILES)
        yield hub


@pytest.fixture
def offline(hub, monkeypatch):
    from huggingface_hub import constants

    def switch(on: bool = True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", on)

    return switch


def download(revision="main", repo=MODEL):
    return client.download(repo, revision, "model", lambda names: [name for name in names if name != "README.md"])


def blob(tmp_path, content: bytes) -> Path:
    name = sha256(content) if content == WEIGHTS else git_name(content)
    return next((tmp_path / "cache").rglob(f"blobs/{name}"))


def answering(status: int, times: int = 10**9, only: str = "/api/models", body=b"{}", **headers: str):
    """A fault: the next `times` requests below `only` get this status."""
    left = [times]

    def fault(handler, path):
        if not path.startswith(only) or left[0] == 0:
            return False
        left[0] -= 1
        handler.answer(body, status, {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return fault


def test_what_is_downloaded_has_the_digests_that_the_hub_names(hub):
    folder, names, commit, digests = download()
    assert names == sorted(FILES)
    assert folder.name == commit
    assert digests == {name: sha256(content) for name, content in FILES.items()}


@pytest.mark.parametrize("name", FILES)
def test_bytes_that_are_not_those_of_the_hub_are_refused_at_the_first_fetch(hub, tmp_path, name):
    wrong = bytearray(FILES[name])
    wrong[5] ^= 1
    hub.served[name] = bytes(wrong)
    with pytest.raises(SourceError, match=rf"{name}.*the hub says.*Do not use it"):
        download()
    assert [file for file, _ in hub.ranges].count(name) == 2, "it may have been the network: once more, and no more"
    del hub.served[name]
    assert download()[3][name] == sha256(FILES[name]), "the next run ends well"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["a bit", "cut", "longer"])
def test_a_damaged_file_of_the_cache_is_fetched_anew_and_without_network_it_is_refused(
    hub, tmp_path, offline, name, damage
):
    download()
    path, content = blob(tmp_path, FILES[name]), FILES[name]
    damaged = {"a bit": content[:3] + b"\xff" + content[4:], "cut": content[:-3], "longer": content + b"0"}[damage]
    path.write_bytes(damaged)
    offline()
    with pytest.raises(SourceError, match=rf"{name}: .*the hub says.*Delete .*fetch it where there is a network"):
        download()
    assert path.read_bytes() == damaged, "without network nothing is deleted"
    offline(False)
    hub.ranges.clear()
    assert download()[3][name] == sha256(content)
    assert [file for file, _ in hub.ranges] == [name], "that file alone"


@pytest.mark.parametrize("name", FILES)
def test_a_cache_without_links_is_compared_with_the_list_of_files(hub, offline, name):
    """As on a file system that has none, or after a copy that follows them."""
    folder = download()[0]
    for path in list(folder.iterdir()):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    offline()
    assert download()[3] == {name: sha256(content) for name, content in FILES.items()}
    (folder / name).write_bytes(FILES[name].replace(b"a", b"b"))
    with pytest.raises(
        SourceError, match=rf"{name}: git's name of its bytes is .*, and the hub says .*Delete .*{name}"
    ):
        download()
    offline(False)
    assert download()[3][name] == sha256(FILES[name])


def test_what_links_of_the_cache_lead_to_may_be_a_link_itself(hub, tmp_path):
    """The client keeps blobs that several caches share in a store, under other names."""
    download()
    path = blob(tmp_path, WEIGHTS)
    path.rename(tmp_path / ("0" * 64))
    path.symlink_to(tmp_path / ("0" * 64))
    hub.ranges.clear()
    assert download()[3][LARGE] == sha256(WEIGHTS)
    assert not hub.ranges


def test_names_of_every_kind_are_files_as_others(hub):
    files = {"ü ö [1].bin": b"abc", "none.bin": b"", "none.txt": b"", "a#b?c%20d.txt": b"x", "b/c/*.txt": b"y"}
    files |= {"a" * 40: b"1", "b" * 64: b"2"}
    hub.add("models", "team/odd", files)
    folder, names, _, digests = download(repo="team/odd")
    assert names == sorted(files)
    assert digests == {name: sha256(content) for name, content in files.items()}
    (folder / ("a" * 40)).unlink()
    (folder / ("a" * 40)).write_bytes(b"1")  # its own name, no digest
    assert download(repo="team/odd")[3] == digests


def test_every_transfer_is_one_that_is_watched(hub):
    """Where a hub offers the client another way (Xet), which has its own connections."""
    content, ways = hub.repositories["models", MODEL]["files"][LARGE], []

    def fault(handler, path):
        if "/xet" in path or "xet" in handler.headers.get("Authorization", ""):
            ways.append(path)
        if not path.endswith(f"/{LARGE}") or path.startswith("/lfs"):
            return False
        told = {"X-Repo-Commit": hub.repositories["models", MODEL]["commit"], "X-Linked-Etag": f'"{sha256(content)}"'}
        told |= {"X-Xet-Hash": "0" * 64, "X-Linked-Size": str(len(content))}
        told |= {"Link": f'<{hub.url}/xet-read-token>; rel="xet-auth"'}
        handler.answer(b"", 302, told | {"Location": f"{hub.elsewhere}/lfs/models/{MODEL}/{LARGE}"})
        return True

    hub.fault = fault
    assert download()[3][LARGE] == sha256(WEIGHTS)
    assert (LARGE, 0) in hub.ranges
    assert not ways


@pytest.mark.parametrize("where", ["choose", "comparing"])
def test_a_fault_of_this_code_is_no_fault_of_a_hub(hub, monkeypatch, where):
    def wrong(*_):
        raise KeyError("a fault of this code")

    if where == "comparing":
        monkeypatch.setattr(client, "_compared", wrong)
    with pytest.raises(KeyError, match="a fault of this code"):
        client.download(MODEL, "main", "model", wrong if where == "choose" else sorted)


@pytest.mark.parametrize("endpoint", ["nonsense", "ftp://hub.example", "http://[::1", "http://hub.example:port"])
def test_an_address_that_is_none_is_told(hub, monkeypatch, endpoint):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    with pytest.raises(SourceError, match=MODEL):
        download()


@pytest.mark.parametrize("proxy", ["ftp://me:secretOfNobody@proxy.example", "socks5://me:secretOfNobody@proxy.example"])
def test_a_proxy_that_is_none_is_told_without_its_password(hub, monkeypatch, proxy):
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    with pytest.raises(SourceError, match="a proxy of the environment") as caught:
        download()
    assert "secretOfNobody" not in str(caught.value)


def test_a_transfer_that_breaks_off_goes_on_from_where_it_was(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(
        constants, "DOWNLOAD_CHUNK_SIZE", 100_000
    )  # what is not yet written is lost: 10 MB of a large file
    hub.cut, hub.cut_after, hub.cut_times = LARGE, 300_000, 2
    assert download()[3][LARGE] == sha256(WEIGHTS)
    assert [first for file, first in hub.ranges if file == LARGE] == [0, 300_000, 600_000]


def test_a_transfer_that_breaks_off_again_and_again_is_given_up_and_ends_well_the_next_time(hub):
    hub.cut, hub.cut_after = LARGE, 0
    with pytest.raises(SourceError, match="Run again: files that are complete are kept"):
        download()
    hub.cut = ""
    hub.ranges.clear()
    assert download()[3][LARGE] == sha256(WEIGHTS)
    assert [file for file, _ in hub.ranges] == [LARGE], "the other file is there"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_hub_that_is_busy_is_asked_again(hub, status):
    hub.fault = answering(status, times=2)
    assert download()[1] == sorted(FILES)
    assert [line for line in hub.requests if "slept" in line][:2] == ["slept 1", "slept 2"]


def test_it_waits_as_long_as_the_hub_asks_for(hub):
    hub.fault = answering(429, times=1, Retry_After="7")
    download()
    assert "slept 7" in hub.requests


def test_a_date_to_wait_for_is_no_number_and_waits_as_without(hub):
    hub.fault = answering(503, times=1, Retry_After="Wed, 21 Oct 2037 07:28:00 GMT")
    download()
    assert "slept 1" in hub.requests


@pytest.mark.parametrize("only", ["/api/models", "/team/model/resolve", "/lfs"])
def test_nobody_waits_for_a_day(hub, only):
    hub.fault = answering(429, only=only, Retry_After="100000")
    started = time.monotonic()
    with pytest.raises(SourceError, match="asks to wait 100,000 s"):
        download()
    assert time.monotonic() - started < 20
    assert not [line for line in hub.requests if "slept" in line and float(line.split()[1]) > client.LONGEST_WAIT_S]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not accept the login"),
        (403, "refuses access"),
        (404, "correct the column id, or HF_ENDPOINT"),
        (418, "status 418"),
        (429, "asked too often"),
        (503, "fails for now: run again later"),
    ],
)
def test_each_refusal_is_told_as_what_it_is(hub, status, said):
    hub.fault = answering(status)
    with pytest.raises(SourceError, match=said) as caught:
        download()
    assert MODEL in str(caught.value)
    assert "cannot be reached" not in str(caught.value), "it was reached"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("GatedRepo", 403, "accept its terms on the hub"),
        ("RepoNotFound", 404, "is not on the hub, or is private"),
        ("RevisionNotFound", 404, "has no revision 'main'"),
    ],
)
def test_the_hubs_own_words_are_understood(hub, code, status, said):
    hub.fault = answering(status, X_Error_Code=code)
    with pytest.raises(SourceError, match=said):
        download()


def test_a_login_page_of_the_network_is_no_hub(hub):
    hub.fault = answering(200, only="/", body=b"<html>log in</html>", Content_Type="text/html; charset=utf-8")
    with pytest.raises(SourceError, match="a web page where a hub answers with data"):
        download()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"sha": 3}', b"\xff\xfe"])
def test_an_answer_that_nobody_expects_is_told(hub, body):
    hub.fault = answering(200, body=body)
    with pytest.raises(SourceError, match=MODEL):
        download()


def test_a_file_without_what_a_hub_says_of_it_is_told(hub):
    hub.fault = answering(200, only="/team/model/resolve", body=b"something")
    with pytest.raises(SourceError, match="Commit"):
        download()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("where", ["/api/models", "/lfs"])
def test_a_hub_that_says_nothing_is_not_waited_for_for_ever(hub, monkeypatch, where):
    from huggingface_hub import constants

    monkeypatch.setattr(client, "SILENCE_S", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    real = time.time

    def fault(handler, path):
        if not path.startswith(where) or handler.command == "HEAD":
            return False
        end = real() + 2
        while real() < end:
            select_nothing()
        return True

    def select_nothing():
        import select

        select.select([], [], [], 0.1)

    hub.fault = fault
    started = time.monotonic()
    with pytest.raises(SourceError, match=MODEL):
        download()
    assert time.monotonic() - started < 60


@pytest.mark.timeout(120)
@pytest.mark.parametrize("first", [1, 500_000])
def test_a_trickle_is_not_waited_for(hub, monkeypatch, first):
    """A byte now and then keeps every time-out of a connection from striking, however fast it began."""
    import select

    monkeypatch.setattr(client, "SILENCE_S", 1)

    def fault(handler, path):
        if not path.startswith("/lfs") or handler.command == "HEAD":
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(WEIGHTS)))
        handler.end_headers()
        try:
            handler.wfile.write(WEIGHTS[:first])
            for byte in WEIGHTS[first : first + 200]:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                select.select([], [], [], 0.1)
        except OSError:  # the client has gone
            handler.close_connection = True
        return True

    hub.fault = fault
    started = time.monotonic()
    with pytest.raises(SourceError, match="less than 1,024 a second"):
        download()
    assert time.monotonic() - started < 15


def test_half_a_cache_without_network_says_where_to_fetch_the_rest(hub, tmp_path, offline):
    _, _, commit, _ = download()
    next((tmp_path / "cache").rglob(f"snapshots/*/{LARGE}")).unlink()
    offline()
    with pytest.raises(
        SourceError, match=r"not complete in the local cache.*HF_HUB_OFFLINE is set. Fetch it where there is a network"
    ):
        download(commit)


@pytest.mark.parametrize(
    ("proxy", "way"),
    [
        (None, r"http://127.0.0.1:9, without a proxy\)"),
        ("http://me:secretOfNobody@127.0.0.1:9", r"http://127.0.0.1:9, through the proxy 127.0.0.1:9\)"),
    ],
    ids=["directly", "through a proxy with a password"],
)
def test_a_hub_that_cannot_be_reached_is_named_with_the_proxy(hub, monkeypatch, proxy, way):
    """Both by their machine alone"""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(SourceError, match=f"the hub cannot be reached \\({way}") as caught:
        download()
    assert "secretOfNobody" not in str(caught.value)


def test_a_full_disk_is_called_so(hub, monkeypatch):
    import errno

    import huggingface_hub

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(SourceError, match=r"no space is left where the cache lies .*HF_HOME"):
        download()


def test_a_token_stands_in_no_message(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsASecretOfNobody")
    for status in (401, 403, 503):
        hub.fault = answering(status)
        with pytest.raises(SourceError) as caught:
            download()
        assert "SecretOfNobody" not in str(caught.value)
    hub.fault = None
    _, *rest = download()
    said = capsys.readouterr()
    assert "SecretOfNobody" not in json.dumps(list(map(str, rest))) + said.out + said.err
