"""A large file is read once on a node; whatever could have changed it has it read again."""

import json
import os

import pytest
from test_checkpoints import manifest

from essential_sparsity import files
from essential_sparsity.checkpoints import loading, verified

CONTENT = b"a" * 5000
RECENT_NS = verified.RECENT_NS


@pytest.fixture
def read(monkeypatch, tmp_path):
    """The files whose bytes were read; they may be small and young, and records lie in the test's own folder."""
    found, digest = [], verified.hashlib.file_digest
    monkeypatch.setattr(verified, "LEAST", 0)
    monkeypatch.setattr(verified, "RECENT_NS", -(10**9))
    monkeypatch.setattr(verified, "place", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        verified.hashlib, "file_digest", lambda handle, name: found.append(handle.name) or digest(handle, name)
    )
    return found


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENT)
    return path


def record(tmp_path):
    (path,) = (tmp_path / "cache").iterdir()
    return path


def test_the_second_verification_reads_no_bytes(read, weights):
    expected = files.sha256_file(weights)
    read.clear()
    assert [verified.sha256_file(weights) for _ in range(3)] == [expected] * 3
    assert len(read) == 1


def test_a_checkpoint_is_read_once_and_damage_is_still_found(read, tmp_path):
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")
    path = manifest(folder)
    read.clear()
    assert [loading.verified_folder(path) for _ in range(3)] == [folder] * 3
    assert len(read) == 2
    (folder / "model.safetensors").write_bytes(CONTENT[:-1] + b"b")
    with pytest.raises(loading.CheckpointError, match="does not have the SHA-256"):
        loading.verified_folder(path)


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_changed_content_whose_times_were_put_back_is_read(read, weights, tmp_path, how):
    verified.sha256_file(weights)
    before = weights.stat()
    other = CONTENT[:-1] + b"b"
    if how == "in place":
        weights.write_bytes(other)
    else:
        (tmp_path / "new").write_bytes(other)
        (tmp_path / "new").replace(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_mtime_ns == before.st_mtime_ns
    assert weights.stat().st_size == before.st_size
    read.clear()
    assert verified.sha256_file(weights) == files.sha256_file(weights)
    assert read


@pytest.mark.parametrize("key", ["ino", "dev", "size", "mtime_ns", "ctime_ns", "node", "boot", "path"])
def test_a_record_of_anything_else_is_not_believed(read, weights, tmp_path, key):
    expected = verified.sha256_file(weights)
    told = json.loads(record(tmp_path).read_text())
    told["of"][key] = "other" if isinstance(told["of"][key], str) else told["of"][key] + 1
    record(tmp_path).write_text(json.dumps(told | {"sha256": "0" * 64}))
    read.clear()
    assert verified.sha256_file(weights) == expected
    assert len(read) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"of": 1}', b"\xff\xfe", "folder"])
def test_a_damaged_record_is_as_if_it_was_not_there(read, weights, tmp_path, damage):
    expected = verified.sha256_file(weights)
    path = record(tmp_path)
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    read.clear()
    assert [verified.sha256_file(weights) for _ in range(2)] == [expected] * 2
    assert len(read) == (2 if damage == "folder" else 1)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_not_believed(read, weights, tmp_path, mode):
    """All of them, those of the group, or those outside it."""
    expected = verified.sha256_file(weights)
    told = json.loads(record(tmp_path).read_text())
    record(tmp_path).write_text(json.dumps(told | {"sha256": "0" * 64}))
    (tmp_path / "cache").chmod(mode)
    assert verified.sha256_file(weights) == expected


def test_a_folder_of_another_user_is_not_believed(read, weights, tmp_path, monkeypatch):
    expected = verified.sha256_file(weights)
    told = json.loads(record(tmp_path).read_text())
    record(tmp_path).write_text(json.dumps(told | {"sha256": "0" * 64}))
    user = os.geteuid()
    monkeypatch.setattr(verified.os, "geteuid", lambda: user + 1)
    assert verified.sha256_file(weights) == expected


@pytest.mark.parametrize("sha256", [None, 1, ["0" * 64]])
def test_a_record_without_a_digest_is_as_if_it_was_not_there(read, weights, tmp_path, sha256):
    expected = verified.sha256_file(weights)
    told = json.loads(record(tmp_path).read_text())
    record(tmp_path).write_text(json.dumps(told | {"sha256": sha256}))
    assert verified.sha256_file(weights) == expected


def test_a_folder_that_cannot_be_made_costs_the_remembering_alone(read, weights, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    expected = files.sha256_file(weights)
    read.clear()
    assert [verified.sha256_file(weights) for _ in range(2)] == [expected] * 2
    assert len(read) == 2


def test_a_node_that_does_not_say_when_it_was_started_keeps_nothing(read, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(verified, "BOOT", tmp_path / "nothing")
    verified.sha256_file(weights)
    assert not list((tmp_path / "cache").iterdir())


def test_a_file_that_was_just_written_is_not_remembered(read, weights, tmp_path, monkeypatch):
    """It could change within the same tick of the file system's clock."""
    monkeypatch.setattr(verified, "RECENT_NS", 10**12)
    os.utime(weights, (0, 0))  # which does not say when it was
    verified.sha256_file(weights)
    assert not list((tmp_path / "cache").iterdir())


def test_two_seconds_are_recent():
    """File systems whose clock ticks that seldom are in use."""
    assert RECENT_NS == 2 * 10**9


def test_a_file_that_changes_while_it_is_read_is_not_remembered(read, weights, tmp_path, monkeypatch):
    digest = verified.hashlib.file_digest

    def slowly(handle, name):
        weights.write_bytes(CONTENT + b"more")
        return digest(handle, name)

    monkeypatch.setattr(verified.hashlib, "file_digest", slowly)
    verified.sha256_file(weights)
    assert not list((tmp_path / "cache").iterdir())


def test_small_files_leave_no_records(read, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(verified, "LEAST", len(CONTENT) + 1)
    verified.sha256_file(weights)
    assert not (tmp_path / "cache").exists()


def test_records_lie_by_node_in_the_users_own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verified.platform, "node", lambda: "node17")
    assert verified.place() == tmp_path / "essential-sparsity/verified/node17"


def test_a_user_without_a_home_remembers_nothing(monkeypatch, tmp_path, weights):
    """In a container with a number for a user; a relative XDG_CACHE_HOME counts for nothing either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verified, "LEAST", 0)
    monkeypatch.setattr(verified, "RECENT_NS", -(10**9))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(verified.os.path, "expanduser", lambda path: path)
    assert verified.sha256_file(weights) == files.sha256_file(weights)
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert verified.sha256_file(weights) == files.sha256_file(weights)
    assert list(tmp_path.iterdir()) == [weights]
