"""What users edit outside of the workflow counts by its content, looked at once a parse and remembered in between."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from essential_sparsity import files
from essential_sparsity.errors import UserError
from essential_sparsity.study import configuration, local


class Place:
    """A folder with two files, of which one lies deeper, and what was remembered of it."""

    def __init__(self, root: Path):
        self.folder, self.cache = root / "mine", str(root / "store/local.json")
        (self.folder / "deep").mkdir(parents=True)
        (self.folder / "a.tsv").write_text("one")
        (self.folder / "deep/b.tsv").write_text("two")
        self.age()

    def age(self, seconds: float = 60) -> None:
        """Changed long ago, all of it."""
        for path in [self.folder, *self.folder.rglob("*")]:
            os.utime(path, (time.time() - seconds,) * 2)

    def digest(self, path: Path | None = None, **options) -> str:
        (found,) = local.contents([str(path or self.folder)], self.cache, **options).values()
        return found


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def hashed(monkeypatch):
    """The files whose content was read."""
    found, sha256_file = [], files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: found.append(Path(path).name) or sha256_file(path))
    return found


def test_times_and_places_are_no_content(place, tmp_path):
    before = place.digest()
    place.age(5)
    assert place.digest() == before
    copied = shutil.copytree(place.folder, tmp_path / "copied")
    assert place.digest(copied) == before


@pytest.mark.parametrize("file", ["a.tsv", "deep/b.tsv"])
@pytest.mark.parametrize("in_place", [True, False])
def test_another_content_is_seen_though_size_and_time_are_the_same(place, file, in_place):
    """A restored backup has the time of the original, but another inode; an edit in place another time of change."""
    before, path = place.digest(), place.folder / file
    status = path.stat()
    if not in_place:
        path.rename(place.folder.parent / "old")
    path.write_text("six")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert place.digest() != before


def test_names_added_and_removed_files_are_content(place):
    digests = [place.digest()]
    (place.folder / "a.tsv").rename(place.folder / "c.tsv")
    digests.append(place.digest())
    (place.folder / "d.tsv").touch()
    digests.append(place.digest())
    (place.folder / "deep/b.tsv").unlink()
    digests.append(place.digest())
    assert len(set(digests)) == 4


def test_names_and_contents_cannot_be_confused(place, tmp_path):
    """The same letters, parted otherwise between names and files."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, names in ((first, ("x", "y")), (second, ("y", "x"))):
        folder.mkdir()
        for name, text in zip(names, ("1", "2"), strict=True):
            (folder / name).write_text(text)
    assert place.digest(first) != place.digest(second)


def test_hidden_files_and_folders_are_left_out(place):
    before = place.digest()
    (place.folder / ".DS_Store").write_text("x")
    (place.folder / "~$data.csv").write_text("x")
    (place.folder / ".git").mkdir()
    (place.folder / ".git/HEAD").write_text("x")
    assert place.digest() == before


def test_what_a_link_leads_to_is_content(place, tmp_path):
    """Weights often lie elsewhere, with a link in the folder, or the whole folder is one."""
    weights, others = tmp_path / "weights.bin", tmp_path / "others.bin"
    weights.write_text("weights")
    others.write_text("another")
    link = place.folder / "weights.bin"
    link.symlink_to(weights)
    before = place.digest()
    copied = shutil.copytree(place.folder, tmp_path / "copied", symlinks=False)
    assert place.digest(copied) == before
    link.unlink()
    link.symlink_to(others)
    assert place.digest() != before

    through = tmp_path / "through"
    through.symlink_to(copied)
    assert place.digest(through) == before
    shutil.copytree(place.folder / "deep", tmp_path / "elsewhere")
    shutil.rmtree(copied / "deep")
    (copied / "deep").symlink_to(tmp_path / "elsewhere")
    assert place.digest(through) == before


def test_a_link_to_a_folder_that_is_there_already_is_content(place):
    """It brings rows, such as a split; one to a folder above is walked no second time."""
    (place.folder / "deep/label").mkdir()
    (place.folder / "deep/label/c.tsv").write_text("three")
    place.age()
    before = place.digest()
    (place.folder / "validation").symlink_to("deep")
    assert place.digest() != before
    assert [name for name, _ in local.listing(place.folder)] == files.names_under(place.folder)
    (place.folder / "deep/label/up").symlink_to("..")
    assert [name for name, _ in local.listing(place.folder)] == files.names_under(place.folder)


def test_links_that_lead_to_each_other_are_walked_once(place):
    (place.folder / "other").mkdir()
    (place.folder / "deep/there").symlink_to("../other")
    (place.folder / "other/back").symlink_to("../deep")
    found = ["a.tsv", "deep/b.tsv", "other/back/b.tsv"]
    assert [name for name, _ in local.listing(place.folder)] == files.names_under(place.folder) == found


def test_a_folder_that_cannot_be_read_is_named(place, monkeypatch):
    """Its rows would be missing, and nothing said; what is hidden is no data."""
    scandir = os.scandir

    def closed(path):
        if Path(path).name in ("deep", ".trash"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    (place.folder / ".trash").mkdir()
    for listed in (local.listing, files.names_under):
        with pytest.raises(UserError, match=r"/deep cannot be read \(Permission denied\)"):
            listed(place.folder)
    (place.folder / "deep").rename(place.folder / "shallow")
    assert files.names_under(place.folder) == ["a.tsv", "shallow/b.tsv"]


def test_a_single_file_is_its_content(place, tmp_path):
    before = place.digest(place.folder / "a.tsv")
    assert place.digest(shutil.copy(place.folder / "a.tsv", tmp_path / "other-name.tsv")) == before
    (place.folder / "a.tsv").write_text("six")
    assert place.digest(place.folder / "a.tsv") != before


def test_what_has_not_changed_is_not_read_again(place, hashed):
    before = place.digest()
    assert sorted(hashed) == ["a.tsv", "b.tsv"]
    assert place.digest() == before
    assert len(hashed) == 2, "remembered"
    (place.folder / "a.tsv").touch()
    place.age(30)
    assert place.digest() == before
    assert len(hashed) == 4


def test_an_edit_within_the_same_second_is_seen(place):
    """Where times are coarse, a file can change again without another time: what is that young is never trusted."""
    path, moment = place.folder / "a.tsv", time.time_ns()
    path.write_text("one")
    os.utime(path, ns=(moment, moment))
    before = place.digest()
    with open(path, "r+") as handle:  # the same file, size and time
        handle.write("six")
    os.utime(path, ns=(moment, moment))
    assert place.digest() != before


def test_a_path_that_is_not_there_is_named(place):
    with pytest.raises(configuration.ConfigError, match=r"mine/absent does not exist\. Correct the column id"):
        place.digest(place.folder / "absent")


def test_jobs_trust_what_the_head_has_seen(place, hashed):
    before = place.digest()
    remembered = Path(place.cache).read_bytes()
    hashed.clear()
    (place.folder / "a.tsv").write_text("edited while jobs run")
    assert place.digest(look=False) == before
    shutil.rmtree(place.folder)
    assert place.digest(look=False) == before, "on a machine that does not have the folder"
    assert hashed == []
    assert Path(place.cache).read_bytes() == remembered


def test_a_job_that_finds_nothing_remembered_looks_but_leaves_no_trace(place):
    assert place.digest(look=False) == Place.digest(place)
    Path(place.cache).unlink()
    place.digest(look=False)
    assert not Path(place.cache).exists()


def test_each_path_is_remembered_for_itself(place, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("x")
    paths = [str(place.folder), str(other), str(other)]
    found = local.contents(paths, place.cache)
    assert set(found) == set(paths)
    assert local.contents(paths[1:], place.cache) == {str(other): found[str(other)]}
    assert set(json.loads(Path(place.cache).read_text())) == set(paths), "other studies' paths stay"
