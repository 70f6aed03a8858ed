"""A hub of models and data: its own client, with an end to every wait, and bytes compared with what the hub says they are.

What goes wrong is told in words of what to do, the same wherever the hub is asked. Tokens are the client's affair (`hf auth
login`, HF_TOKEN): none is read, printed or written here.
"""

import contextlib
import errno
import functools
import glob
import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from essential_sparsity import files
from essential_sparsity.acquire.archives import Choose, SourceError

if TYPE_CHECKING:
    from httpx2 import Request, Response

T = TypeVar("T")
SILENCE_S = 60  # a connection, or the next byte of an answer, may take so long
SLOWEST = 1024  # bytes a second, in the mean of SILENCE_S: less is as good as nothing
LONGEST_WAIT_S = 300  # that a hub may ask for (Retry-After)
TRIES = 5
AGAIN = (408, 429, 500, 502, 503, 504)  # the status of a hub that is busy, or fails for now
CHUNK = 1 << 22
STATUS = {
    401: "does not accept the login: run `hf auth login` again, or correct HF_TOKEN",
    403: "refuses access: accept its terms on the hub, or log in with `hf auth login` as somebody who may read it",
    404: "has no such place: correct the column id, or HF_ENDPOINT",
    429: "says that it is asked too often: run again later, or log in with `hf auth login`, which allows more",
}


def download(repo: str, revision: str | None, repo_type: str, choose: Choose) -> tuple[Path, list[str], str, dict]:
    """Download what `choose` picks at one commit into the client's own cache, and compare it with what the hub says it is.

    Returns the folder, the chosen names, the commit (a branch or tag is resolved first), and the SHA-256 of each chosen file.
    Without network (HF_HUB_OFFLINE, or no route) the cache is used if it holds what is needed of the revision. A file of the
    cache that is not what the hub says is fetched anew once. Raises SourceError.
    """
    from huggingface_hub import snapshot_download

    if not revision:
        raise SourceError(
            f"{repo} has no revision. A hub repository can change at any time: put the commit into the column revision "
            "(a branch or tag works too, and is resolved to its commit)."
        )
    with told(repo, revision):
        commit, known = asked(lambda: _resolved(repo, revision, repo_type))
    wanted = choose(sorted(known))
    literal = [glob.escape(name) for name in wanted]
    with told(repo, revision):
        folder = Path(
            asked(lambda: snapshot_download(repo, revision=commit, repo_type=repo_type, allow_patterns=literal))
        )
    digests = {
        name: _verified(folder, name, known[name], functools.partial(_anew, folder, repo, name, commit, repo_type))
        for name in wanted
    }
    return folder, wanted, commit, digests


def sizes(repo: str, revision: str, repo_type: str) -> dict[str, int | None]:
    """Bytes of each file of a repository at a revision, as the hub lists them; None where nothing is listed. Raises SourceError."""
    with told(repo, revision):
        _, known = asked(lambda: _resolved(repo, revision, repo_type))
    return {name: said.size for name, said in sorted(known.items())}


@dataclass(frozen=True)
class Said:
    """What a hub's list of files says of one, None where there is no list: `size` in bytes; `blob`, git's name of what git keeps of it."""

    size: int | None = None
    blob: str | None = None


class _Unreadable(Exception):
    """The client failed with an error that it has no name for, its cause."""


@contextlib.contextmanager
def told(repo: str, revision: str | None = None) -> Iterator[None]:
    """What fails inside says as SourceError what is wrong with `repo` at `revision`, and what to do."""
    from huggingface_hub import constants, errors, set_client_factory

    place = f"{repo} at {revision}" if revision else repo
    set_client_factory(_client)
    constants.HF_HUB_DISABLE_XET = True  # another way of transfer, whose waits have no end that is set here
    try:
        yield
    except errors.HFValidationError as error:
        raise SourceError(f"{repo!r} is no id of the hub ({error}). Correct the column id: owner/name.") from error
    except errors.GatedRepoError as error:
        raise SourceError(f"{repo} is gated: accept its terms on the hub, then log in with `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{repo} has no revision {revision!r}. Correct the column revision.") from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"{repo} is not on the hub, or is private. Correct the column id, or log in with `hf auth login`."
        ) from error
    except (errors.HTTPError, OSError) as error:
        raise SourceError(_words(place, error)) from error
    except _Unreadable as unnamed:
        error = unnamed.__cause__
        raise SourceError(
            f"{place}: the hub cannot be asked, or its answer not be read ({type(error).__name__}: {str(error).partition(chr(10))[0]}). A "
            "login page of the network may stand in between, or HF_ENDPOINT or a proxy of the environment (HTTPS_PROXY, ALL_PROXY) be wrong."
        ) from error


def asked(question: Callable[[], T]) -> T:
    """What `question`, the client's own, returns, asked again where a hub is busy or fails for now: TRIES times, as long apart as it says."""
    from httpx2 import InvalidURL
    from huggingface_hub import errors

    unnamed = (ValueError, LookupError, TypeError, AttributeError, AssertionError, ImportError, InvalidURL)

    for number in range(TRIES):
        try:
            return question()
        except (SourceError, errors.HFValidationError):
            raise
        except (errors.HTTPError, OSError) as error:
            answer = _answer(error)
            if answer is None or answer.status_code not in AGAIN or number == TRIES - 1:
                raise
            wait = _wait(answer) or 2**number
            print(f"The hub answered {answer.status_code}; asked again in {wait:.0f} s.", flush=True)
            time.sleep(wait)
        except unnamed as error:
            raise _Unreadable from error
    raise AssertionError("the last try raises or returns")


def _answer(error: BaseException | None) -> "Response | None":
    """The hub's answer behind an error: the client says of most that a file is not in the cache, and names this as the cause."""
    while error is not None:
        if (answer := getattr(error, "response", None)) is not None:
            return answer
        error = error.__cause__
    return None


def unanswered(error: SourceError) -> bool:
    """Whether nothing answered, as without a network: then nothing else of the hub can be asked either."""
    return error.__cause__ is not None and _answer(error.__cause__) is None


def _words(place: str, error: Exception) -> str:
    from huggingface_hub import constants, errors

    answer = _answer(error)
    if answer is not None:
        status = answer.status_code
        said = STATUS.get(status) or (
            "fails for now: run again later; files that are complete are kept" if status >= 500 else "says no more"
        )
        return f"{place}: the hub answers with status {status} and {said}."
    if getattr(error, "errno", None) == errno.ENOSPC:
        return f"{place}: no space is left where the cache lies ({constants.HF_HUB_CACHE}). Make room, or let HF_HOME name another disk."
    if isinstance(error.__cause__, errors.FileMetadataError):  # an answer without what a hub says of a file
        error = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the hub cannot be reached ({_way()})"
        return (
            f"{place} is not complete in the local cache ({constants.HF_HUB_CACHE}), and {why}. Fetch it where there is a network, with "
            "the same HF_HOME and without HF_HUB_OFFLINE."
        )
    return (
        f"{place} could not be downloaded ({type(error).__name__}: {str(error).partition(chr(10))[0]}). Run again: files that are "
        "complete are kept."
    )


def _way() -> str:
    """Where the hub is asked, and through which proxy of the environment; of both only the machine, since a password may stand before it."""
    from huggingface_hub import constants

    at = urlsplit(constants.ENDPOINT)
    known = getproxies()
    proxy = known.get(at.scheme) or known.get("all")
    host = at.netloc.rpartition("@")[2]
    if not proxy or proxy_bypass(host):
        return f"{at.scheme}://{host}, without a proxy"
    return f"{at.scheme}://{host}, through the proxy {urlsplit(proxy).netloc.rpartition('@')[2] or 'that the environment names'}"


def _resolved(repo: str, revision: str, repo_type: str) -> tuple[str, dict[str, Said]]:
    """The commit of a revision and its files, with what the hub says of each; no file is downloaded."""
    from huggingface_hub import errors, get_cached_repo_tree, snapshot_download

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would warn that no file is asked for
    try:
        known = Path(snapshot_download(repo, revision=revision, repo_type=repo_type, allow_patterns=[]))
    finally:
        logger.setLevel(level)
    try:
        tree = get_cached_repo_tree(repo, revision=known.name, repo_type=repo_type)
    except errors.CachedRepoTreeNotFoundError:  # offline, and the cache was filled file by file
        return known.name, dict.fromkeys(files.names_under(known), Said())
    return known.name, {entry.path: Said(entry.size, entry.blob_id) for entry in tree}


# ---- the bytes -------------------------------------------------------------------------------------------------------


def _anew(folder: Path, repo: str, name: str, commit: str, repo_type: str) -> None:
    from huggingface_hub import hf_hub_download

    print(f"warning: {name} of {repo} in the cache is not what the hub says it is; it is fetched anew.", flush=True)
    (folder / name).unlink()  # where it is no link, the client would leave it
    with told(repo, commit):
        asked(lambda: hf_hub_download(repo, name, revision=commit, repo_type=repo_type, force_download=True))


def _verified(folder: Path, name: str, said: Said, anew: Callable[[], None]) -> str:
    """The SHA-256 of a file of the cache, which is what the hub says it is; otherwise after it was fetched `anew`. SourceError."""
    from huggingface_hub import constants

    wrong, digest = _compared(folder / name, said)
    if wrong and not constants.HF_HUB_OFFLINE:
        anew()
        wrong, digest = _compared(folder / name, said)
    if wrong:
        raise SourceError(
            f"{name}: {wrong}. It is not used. "
            + (
                f"Delete {(folder / name).resolve()} and fetch it where there is a network."
                if constants.HF_HUB_OFFLINE
                else "It was fetched twice: the hub, or a proxy in between, serves other bytes than were published. Do not use it; "
                "try later, or from another network."
            )
        )
    return digest


def _compared(path: Path, said: Said) -> tuple[str, str]:
    """How a file of the cache differs from what the hub says of it, in words ('' where it does not), and its SHA-256.

    The client names the bytes that it keeps as the hub does: large files by their SHA-256, the others as git names them, and links to
    them. Where the cache lies on a file system without links, or was copied without, git's name of the file counts, or of the pointer
    that git keeps of a large one (git-lfs, docs/spec.md).
    """
    digest, size, name = files.sha256_file(path), path.stat().st_size, path.readlink().name if path.is_symlink() else ""
    if said.size is not None and size != said.size:
        return f"it has {size:,} bytes, of the {said.size:,} that the hub says", digest
    if re.fullmatch("[0-9a-f]{64}", name):
        return "" if name == digest else f"its SHA-256 is {digest}, and the hub says {name}", digest
    named = name if re.fullmatch("[0-9a-f]{40}", name) else said.blob
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n".encode()
    if named is None or named == _git_name(len(pointer), [pointer]):
        return "", digest
    with open(path, "rb") as handle:
        found = _git_name(size, iter(lambda: handle.read(CHUNK), b""))
    return "" if found == named else f"git's name of its bytes is {found}, and the hub says {named}", digest


def _git_name(size: int, parts: Iterable[bytes]) -> str:
    """git's SHA-1 of bytes as a blob."""
    found = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    for part in parts:
        found.update(part)
    return found.hexdigest()


# ---- an end to every wait --------------------------------------------------------------------------------------------


def _client() -> Any:
    """The client's own HTTP client; by itself, and in most of its requests, it waits for ever."""
    from huggingface_hub.utils._http import default_client_factory  # it has no public name

    client = default_client_factory()
    hooks = {
        "request": [*client.event_hooks["request"], _bounded],
        "response": [*client.event_hooks["response"], _looked_at],
    }
    client.event_hooks = hooks
    return client


def _bounded(request: "Request") -> None:
    """Let no part of a request wait for ever."""
    times = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        part: times.get(part) or SILENCE_S for part in ("connect", "read", "write", "pool")
    }


def _looked_at(response: "Response") -> None:
    """Refuse an answer that is a web page or asks for too long a wait, and watch how fast the others come. SourceError."""
    url = response.request.url
    if response.status_code in AGAIN:
        _wait(response)
    page = response.headers.get("Content-Type", "").startswith("text/html")
    if page and response.is_success and url.path.startswith("/api/"):
        raise SourceError(
            f"{url.host} answered with a web page where a hub answers with data: a login page of the network, a proxy, or HF_ENDPOINT "
            "names no hub. Open it in a browser, or correct HF_ENDPOINT."
        )
    response.stream = _watched(response.stream, f"{url.host}{url.path}")


def _wait(response: "Response") -> float | None:
    """Seconds that a busy hub asks to wait, None where it says nothing that can be read. SourceError where they are too many."""
    try:
        seconds = float(response.headers["Retry-After"])
    except (KeyError, ValueError):  # or a date
        return None
    if not 0 <= seconds <= LONGEST_WAIT_S:
        raise SourceError(
            f"{response.request.url.host} answers with status {response.status_code} and asks to wait {seconds:,.0f} s. Run again "
            "then: files that are complete are kept."
        )
    return seconds


def _watched(stream: Iterable[bytes], what: str) -> Iterable[bytes]:
    """The stream, which ends in an error where hardly anything comes."""
    from httpx2 import SyncByteStream

    class Watched(SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            since, count = time.monotonic(), 0
            for part in stream:
                count += len(part)
                if (passed := time.monotonic() - since) > SILENCE_S:
                    if count < SLOWEST * passed:
                        raise SourceError(
                            f"{what}: {count:,} bytes in {passed:.0f} s, less than {SLOWEST:,} a second. Run again, or from another "
                            "network: files that are complete are kept."
                        )
                    since, count = time.monotonic(), 0
                yield part

        def close(self) -> None:
            if hasattr(stream, "close"):
                stream.close()

    return Watched()
