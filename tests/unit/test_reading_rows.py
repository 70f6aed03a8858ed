"""Rows of a file read in pieces: the same frames and bytes as of the whole, with only what is needed in memory."""

import types

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models as tiny
import torch

from essential_sparsity import tasks
from essential_sparsity.acquire import formats
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import _labels, image_classification, reading
from essential_sparsity.training import devices

SETTINGS = tiny.IMAGES | {"n_train": 24, "n_eval": 20, "eval_batch_size": 6}


@pytest.fixture
def stored(tmp_path):
    """A file of sixty images with their labels, in row groups of 7."""
    path = tmp_path / "data.parquet"
    formats.write_frame(tiny.images(60), path)
    pq.write_table(pq.read_table(path), path, row_group_size=7)
    return path


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny.save_vit(tmp_path_factory.mktemp("vit"))


@pytest.mark.parametrize("frame", [tiny.reviews(), tiny.pairs(), tiny.reviews().astype({"label": "category"})])
def test_a_frame_without_bytes_is_that_of_pandas(tmp_path, frame):
    formats.write_frame(frame, tmp_path / "data.parquet")
    expected = pd.read_parquet(tmp_path / "data.parquet")
    found = reading.read(tmp_path / "data.parquet")
    pd.testing.assert_frame_equal(found, expected)
    assert reading.loaded(found)[0] is found


def test_bytes_are_those_of_the_rows_whatever_their_order(stored):
    whole, frame = pd.read_parquet(stored), reading.read(stored)
    assert list(frame) == list(whole)
    pd.testing.assert_frame_equal(frame.drop(columns="image"), whole.drop(columns="image"))
    order = np.random.default_rng(0).permutation(60)
    parts = [frame.iloc[order[:25]], frame[frame["label"] == "upper"], frame.iloc[[]]]
    wholes = [whole.iloc[order[:25]], whole[whole["label"] == "upper"], whole.iloc[[]]]
    for found, expected in zip(reading.loaded(*parts), wholes, strict=True):
        pd.testing.assert_frame_equal(found, expected)


def test_what_is_missing_stays_missing(tmp_path):
    table = pa.table({"item": ["a", "b"], "image": pa.array([b"x", None], pa.binary())})
    pq.write_table(table, tmp_path / "data.parquet")
    (found,) = reading.loaded(reading.read(tmp_path / "data.parquet"))
    assert found["image"].tolist() == [b"x", None]
    with pytest.raises(tasks.TaskError, match="The image b is missing"):
        image_classification.Images(["b"], found["image"][1:], [0], 8, [0] * 3, [1] * 3)[0]


def test_bytes_that_are_no_picture_are_told_as_bytes(tmp_path):
    pq.write_table(pa.table({"item": ["a", "b"], "Answer": [b"x", b"y"]}), tmp_path / "data.parquet")
    assert repr(reading.read(tmp_path / "data.parquet")["Answer"].tolist()) == "[bytes, bytes]"


@pytest.mark.parametrize("image", ["pics/1.png", [[0, 255]], np.zeros((2, 2)), {"bytes": b"x"}])
def test_an_image_that_is_no_file_is_told_by_its_item(vit, image):
    data = tiny.images(60)
    data["image"] = [image] * len(data)
    with pytest.raises(
        tasks.TaskError, match=r"The image i\d+ is .* \(column image\); expected the bytes of an image file"
    ):
        image_classification.prepare(vit, data, SETTINGS, 0)


def test_row_groups_without_a_wanted_row_are_not_read(stored, monkeypatch):
    read, iter_batches = [], pq.ParquetFile.iter_batches

    def watched(self, *args, row_groups, **options):
        read.extend(row_groups)
        return iter_batches(self, *args, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    whole = pd.read_parquet(stored)["item"]
    for wanted, groups in (([0, 6, 30, 59], [0, 4, 8]), ([], []), ([7], [1])):
        read.clear()
        pieces = reading.pieces(stored, ["item"], np.array(wanted, dtype=np.int64), 3)
        assert [item for piece in pieces for item in piece["item"].to_pylist()] == whole.iloc[wanted].tolist()
        assert read == groups
    pieces = list(reading.pieces(stored, ["item"], None, 4))
    assert max(map(len, pieces)) == 4
    assert [item for piece in pieces for item in piece["item"].to_pylist()] == whole.tolist()


def features(vit, prepared, threads):
    torch.set_num_threads(threads)
    model = image_classification_model(vit)
    return tasks.forward(model, prepared.inputs, prepared.collate, 6, "cpu", image_classification.reader(model))


def image_classification_model(vit):
    return evaluation.loading.load_model(vit, "AutoModel", allow_new=("pooler.",))


def test_an_evaluation_from_the_file_has_the_bits_of_one_from_the_frame(vit, stored):
    torch.set_num_threads(1)
    found = [
        next(evaluation.evaluate(vit, data, SETTINGS, "global", [0.3], 0))[1]
        for data in (pd.read_parquet(stored), reading.read(stored))
    ]
    assert found[0].metrics == found[1].metrics
    pd.testing.assert_frame_equal(found[0].items, found[1].items, check_exact=True)


@pytest.fixture
def workers(monkeypatch):
    """Numbers of processes that loaders were made with, and how many a job can have."""
    made, loader = [], torch.utils.data.DataLoader
    monkeypatch.setattr(
        torch.utils.data, "DataLoader", lambda *args, **options: made.append(options["num_workers"]) or loader(*args, **options)
    )  # fmt: skip
    return made


def test_workers_decode_the_same_batches_in_the_same_order(vit, stored, workers, monkeypatch):
    prepared = image_classification.prepare(vit, reading.read(stored), SETTINGS, 0)
    monkeypatch.setattr(devices, "workers", lambda: 0)
    expected = list(tasks.Batches(prepared.inputs, np.arange(20), 6, prepared.collate).loaded(torch.device("cpu")))
    assert workers == [], "one thread decodes itself"
    monkeypatch.setattr(devices, "workers", lambda: 2)
    state = torch.get_rng_state()
    found = list(tasks.Batches(prepared.inputs, np.arange(20), 6, prepared.collate).loaded(torch.device("cpu")))
    assert torch.equal(torch.get_rng_state(), state), "what else is random stays as it was"
    assert workers == [2]
    assert [len(batch["labels"]) for batch in found] == [6, 6, 6, 2]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert torch.equal(ours["pixel_values"], theirs["pixel_values"])
        assert torch.equal(ours["labels"], theirs["labels"])
        assert ours["interpolate_pos_encoding"] is True


def test_outputs_are_the_same_with_workers(vit, stored, monkeypatch, workers):
    torch.set_num_threads(1)
    prepared = image_classification.prepare(vit, reading.read(stored), SETTINGS, 0)
    found = []
    for number in (0, 2):
        monkeypatch.setattr(devices, "workers", lambda number=number: number)
        found.append(features(vit, prepared, 1))
    assert workers == [2]
    assert np.array_equal(found[0], found[1])


def test_a_broken_image_is_told_in_one_sentence_by_a_worker_too(vit, stored, monkeypatch):
    monkeypatch.setattr(devices, "workers", lambda: 2)
    data = tiny.images(60)
    data.loc[5, "image"] = b"not an image"
    images = image_classification.Images(data["item"], data["image"], [0] * 60, 16, [0] * 3, [1] * 3)
    with pytest.raises(
        tasks.TaskError, match=r"\AThe image i005 cannot be decoded \(.*\)\. Save it again, or take it out\.\Z"
    ):
        list(tasks.Batches(images, np.arange(60), 4, list).loaded(torch.device("cpu")))


@pytest.mark.parametrize(("threads", "expected"), [(1, 0), (2, 1), (64, devices.MOST_WORKERS)])
def test_workers_are_the_threads_that_a_job_can_spare(monkeypatch, threads, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(devices.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1 << 40))
    assert devices.workers() == expected
    monkeypatch.setattr(devices.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=64 << 20))
    assert devices.workers() == 0, "a container's shared memory"
    monkeypatch.setattr(devices.sys, "platform", "darwin")
    assert devices.workers() == 0


def test_shared_pictures_are_still_counted(vit, stored, capsys):
    """What a job says of its data reads the pictures themselves, not their places in the file."""
    (frame,) = reading.loaded(reading.read(stored))
    frame = frame.assign(target=0)
    frame.loc[30:, "target"] = 1
    _labels.check_drawn(frame, frame.iloc[:5], ["a", "b"], SETTINGS, "image")
    assert "5 of 5 evaluated rows have the content of a training row" in capsys.readouterr().out
