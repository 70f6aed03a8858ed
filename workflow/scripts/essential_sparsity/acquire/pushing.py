"""A folder as a data set of a hub: its own client, one commit or none, and in words what keeps it from being there.

Tokens are the client's affair, as in `hub`.
"""

import contextlib
import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from essential_sparsity import files
from essential_sparsity.acquire import hub
from essential_sparsity.acquire.archives import SourceError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo

REPO = re.compile(r"[\w.-]+/[\w.-]+")
ITS_OWN = {".gitattributes", "README.md"}  # files that a hub, or whoever makes a repository there, begins with
UNCHANGED = "nothing of this study is to be seen there"
STATUS = hub.STATUS | {
    403: "does not let this login write there: log in with `hf auth login` as somebody who may, with a token that may write",
    404: "has no such place: correct REPO (owner/name), or HF_ENDPOINT",
}


@dataclass(frozen=True)
class Pushed:
    """Where it lies: `url`, `commit`; whether this call made the commit, and whether only those who are let in see it."""

    url: str
    commit: str
    new: bool
    private: bool


def check(repo: str) -> None:
    """SourceError where a text is no owner/name."""
    if not REPO.fullmatch(repo):
        raise SourceError(f"REPO is {repo!r}: write owner/name, as the hub has it.")


def push(folder: Path, repo: str, private: bool, record: str, message: str) -> Pushed:
    """Make a data set of a hub hold the files of `folder`, in one commit; where it does already, no commit is made.

    `private`: who may see a data set that is not there yet. `record`: the file of the folder that says under `key` what it is of; a
    data set that holds files and no such record, or another key, is left alone. Files that an earlier folder of the same key had,
    or that lie in a folder of this one's, and that this one has not are deleted. Raises SourceError.
    """
    from huggingface_hub import HfApi

    check(repo)
    with _told(repo):
        api = HfApi()
        hub.asked(lambda: api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True))
        before = hub.asked(lambda: api.dataset_info(repo))
        if private and not before.private:
            raise SourceError(
                f"{repo} is there and public, and this is to be private: {UNCHANGED}. Name another REPO, make that one private on the hub, "
                "or say PRIVATE=false."
            )
        names = {entry.rfilename for entry in before.siblings or ()}
        earlier = _earlier(api, repo, before, names, record, files.read_json(folder / record)["key"])
        mine = files.names_under(folder)
        gone = [f"{place}/*" for place in sorted({path.split("/")[0] for path in mine if "/" in path})]
        gone += [glob.escape(name) for name in sorted(earlier - {*mine})]
        made = hub.asked(lambda: _uploaded(api, folder, repo, message, gone))
    return Pushed(f"{api.endpoint}/datasets/{repo}", made.oid, made.oid != before.sha, bool(before.private))


def _uploaded(api: "HfApi", folder: Path, repo: str, message: str, gone: list[str]) -> Any:
    try:
        return api.upload_folder(
            repo_id=repo, repo_type="dataset", folder_path=folder, commit_message=message, delete_patterns=gone
        )
    except RuntimeError as error:  # the client says so of a file that did not arrive, and names why as the cause
        raise error.__cause__ or error from None


def _earlier(
    api: "HfApi", repo: str, before: "DatasetInfo", names: set[str], record: str, key: Mapping[str, Any]
) -> set[str]:
    """The files that an earlier folder of the same key had. SourceError where the data set holds what is not of it."""
    if record not in names:
        if others := sorted(names - ITS_OWN):
            raise SourceError(
                f"{repo} holds something else ({files.some(others)}; no {record}): {UNCHANGED}. Name another REPO."
            )
        return set()
    place = hub.asked(lambda: api.hf_hub_download(repo, record, repo_type="dataset", revision=before.sha))
    said = files.read_json(place)
    held = said.get("key")
    if held != key:
        told = ", ".join(f"{name} {value}" for name, value in (held or {}).items()) or "no key"
        raise SourceError(f"{repo} holds something else ({told}): {UNCHANGED}. Name another REPO.")
    return set(said["files"])


@contextlib.contextmanager
def _told(repo: str) -> Iterator[None]:
    """What fails inside says as SourceError what is wrong with pushing to `repo`, and what to do."""
    from huggingface_hub import errors

    with hub.told(repo):
        try:
            yield
        except errors.HFValidationError as error:
            raise SourceError(f"REPO is {repo!r}, which is no id of the hub ({error}). Write owner/name.") from error
        except (errors.HTTPError, OSError) as error:
            raise SourceError(_words(repo, error)) from error


def _words(repo: str, error: Exception) -> str:
    from huggingface_hub import constants, errors

    cause: BaseException | None = error
    while cause is not None and getattr(cause, "response", None) is None:
        cause = cause.__cause__
    if cause is not None:
        status = cause.response.status_code
        said = STATUS.get(status) or ("fails for now: push again later" if status >= 500 else "says no more")
        return f"{repo}: the hub answers with status {status} and {said}; {UNCHANGED}."
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo}: HF_HUB_OFFLINE is set, and pushing needs the hub. Unset it where there is a network, and push again."
    return (
        f"{repo}: the hub at {constants.ENDPOINT} cannot be reached ({type(error).__name__}: {str(error).partition(chr(10))[0]}); {UNCHANGED}. "
        "Push again where there is a network, or correct HF_ENDPOINT."
    )
