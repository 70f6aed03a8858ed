"""What tells the files of a folder: all of their bytes, or the checksums that an archive has of its own."""

import pytest
import torch

from essential_sparsity import files, markers


@pytest.fixture
def folder(tmp_path):
    torch.save({"weight": torch.arange(10_000.0), "more": torch.ones(3)}, tmp_path / "weights.pt")
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "odd.parquet").write_bytes(b"x" * 500 + b"PK\x05\x06" + b"x" * 18)  # ends as an archive would
    return tmp_path


def test_a_marked_folder_is_whole_and_its_archive_was_not_read(folder, monkeypatch):
    read, sha256_file = [], files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: read.append(path.name) or sha256_file(path))
    markers.write(folder, {"of": 1})
    assert sorted(read) == ["odd.parquet", "state.json"]
    assert markers.read(folder, {"of": 1}, "test")[1] == ""
    assert markers.read(folder, {"of": 2}, "test")[1] == "it is of another test (other of)"


@pytest.mark.parametrize("name", ["weights.pt", "state.json", "odd.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_no_bit_that_counts_changes_unnoticed(folder, name, share):
    """Between the parts of an archive lies padding, which nothing reads."""
    markers.write(folder, {})
    good = (folder / name).read_bytes()
    place = int(share * (len(good) - 1))
    (folder / name).write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
    assert markers.read(folder, {}, "test")[1] == f"its file {name} is damaged"


@pytest.mark.parametrize("how", ["shorter", "longer", "gone", "another"])
def test_an_archive_of_another_length_or_content_is_damaged(folder, how):
    markers.write(folder, {})
    path = folder / "weights.pt"
    if how == "gone":
        path.unlink()
    elif how == "another":
        torch.save({"weight": torch.arange(10_000.0) + 1, "more": torch.ones(3)}, path)
    else:
        path.write_bytes(path.read_bytes()[:-1] if how == "shorter" else path.read_bytes() + b"x")
    assert markers.read(folder, {}, "test")[1] == "its file weights.pt is damaged"


@pytest.mark.parametrize("said", ["", "{", "[]", "null", "{}", '{"identity": {}}', '{"identity": 1, "files": {}}'])
def test_a_marker_that_tells_nothing_is_damaged(folder, said):
    (folder / markers.MARKER).write_text(said)
    assert markers.read(folder, {}, "test") == ({}, "its marker is damaged")
