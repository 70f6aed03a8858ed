"""Every file of the data is read under its own name, whole and once, and every cell is what stands in it; or it is refused."""

import gzip
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from essential_sparsity.acquire import formats, frames, pictures, splits
from essential_sparsity.acquire.sources import SourceError
from essential_sparsity.tasks import _labels


@pytest.fixture
def fetch(tmp_path):
    """Write files (name -> text, bytes or frame) into a folder of the name given, and fetch it; the frame of the runs."""

    def fetched(files, form, name="data", columns=None):
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, pd.DataFrame):
                content.to_parquet(path)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        work = tmp_path / "work"
        settings = {"source": "path", "id": str(tmp_path / name), "format": form, "columns": columns}
        formats.fetch_dataset("mine", settings, work)
        return pd.read_parquet(work / "files/data.parquet")

    return fetched


def png(grey=9, size=(4, 4), kind="PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("L", size, grey).save(stream, kind)
    return stream.getvalue()


def by_split(frame):
    return frame.groupby("split")["text"].apply(list).to_dict()


# ---- a file is read as something else than it is


@pytest.mark.parametrize("name", ["set[12]", "study [v1]", "a*b", "what?", "x{1,2}", "train::all", "ümlaut 1"])
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_names_are_no_patterns(fetch, name, form):
    content = {
        "csv": "text,label\na,x\n",
        "json": '{"text": "a", "label": "x"}',
        "parquet": pd.DataFrame({"text": ["a"], "label": ["x"]}),
    }[form]
    fetch({f"f.{form}": content}, form, "set1")
    assert fetch({f"f1.{form}": content, f"f[12].{form}": content}, form, f"{name} 2")["text"].tolist() == ["a", "a"]


@pytest.mark.parametrize(
    "names", [("part1.csv", "part[12].csv"), ("what?1.csv", "what-21.csv"), ("a*1.csv", "a-21.csv")]
)
def test_every_file_is_read_once(fetch, names):
    frame = fetch({name: f"text,label\nfrom {name},x\n" for name in names}, "csv")
    assert sorted(frame["text"]) == sorted(f"from {name}" for name in names)


def test_every_image_is_its_own(fetch):
    greys = {"cat/img1.png": 10, "cat/img[1].png": 20, "cat/img?.png": 30, "dog/a.png": 40}
    frame = fetch({name: png(grey) for name, grey in greys.items()}, "imagefolder")
    assert {row.item: np.array(Image.open(io.BytesIO(row.image)))[0, 0] for row in frame.itertuples()} == greys


@pytest.mark.parametrize(
    "suffixes", [("jpg", "JPG"), ("png", "PNG"), ("png", "tif"), ("gif", "Jpeg"), ("webp", "TIFF"), ("png", "avif")]
)
def test_suffixes_of_images_in_every_spelling(fetch, suffixes):
    kinds = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}
    files = {
        f"{split}/{label}/{i}.{suffix}": png(kind=kinds.get(suffix.lower(), suffix.upper()))
        for i in range(2)
        for split in ("train", "test")
        for label, suffix in zip(("cat", "dog"), suffixes, strict=True)
    }
    frame = fetch(files, "imagefolder")
    assert sorted(frame["item"]) == sorted(files)
    assert set(frame["label"]) == {"cat", "dog"}


@pytest.mark.parametrize("other", ["test.CSV", "Test.Tsv", "TEST.csv.gz"])
def test_suffixes_of_tables_in_every_spelling(fetch, other):
    text = f"text{'	' if 'Tsv' in other else ','}label\nb{'	' if 'Tsv' in other else ','}2\n"
    frame = fetch(
        {"train.csv": "text,label\na,1\n", other: gzip.compress(text.encode()) if "gz" in other else text}, "csv"
    )
    assert by_split(frame) == {"train": ["a"], "test": ["b"]}


@pytest.mark.parametrize(
    "hidden", ["._train.csv", "~$train.csv", ".ipynb_checkpoints/train-checkpoint.csv", "__MACOSX/._train.csv"]
)
def test_hidden_files_are_no_data(fetch, hidden):
    assert fetch({"train.csv": "text,label\na,1\n", hidden: b"\0\1"}, "csv")["text"].tolist() == ["a"]


@pytest.mark.parametrize(
    "other",
    [
        "test.ndjson",
        "test.tab",
        "test.txt",
        "test.parquet",
        "dev.json",
        "test.csv.xz",
        "dev.jsonl.zst",
        "test.tar.gz",
        "val.7z",
    ],
)
def test_a_split_in_another_form_is_refused(fetch, other):
    with pytest.raises(SourceError, match=rf"{other} is not read as csv"):
        fetch({"train.csv": "text,label\na,1\n", other: "x"}, "csv")


def test_linked_folders_are_read_and_dead_links_named(fetch, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "elsewhere" / label).mkdir(parents=True)
        (tmp_path / "elsewhere" / label / "1.png").write_bytes(png())
    (tmp_path / "data").mkdir()
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).symlink_to(tmp_path / "elsewhere" / label)
    assert fetch({}, "imagefolder")["item"].tolist() == ["cat/1.png", "dog/1.png"]
    (tmp_path / "data/cat/2.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"2\.png"):
        fetch({}, "imagefolder")


SPARK = "part-{:05d}-{}f2a9c1e-77bb-4d0e-9a51-0c1d2e3f4a5b-c000.csv"  # one hash for all parts of one writing


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("training.csv", "testing.csv"), {"train", "test"}),
        (("train/part0/a.csv", "test/part0/a.csv"), {"train", "test"}),
        (("split=train/a.csv", "split=test/a.csv"), {"train", "test"}),
        (("my-train.csv", "my_valid.csv", "my.eval.csv"), {"train", "validation", "test"}),
        (("data/train-00000-of-00002-0a9f.csv", "data/train-00001-of-00002-77ce.csv", "data/dev-00000-of-00001.csv"), {"train", "validation"}),
        (("train.csv", "validation_matched.csv", "validation_mismatched.csv"), {"train", "validation_matched", "validation_mismatched"}),
        (("Train Set/a.csv", "Test Set/a.csv"), {"train", "test"}),
        (("train-1.csv", "train-2.csv", "validation/val_1.csv", "validation/val_2.csv"), {"train", "validation"}),
        (("train/part-2019.csv", "train/part-2020.csv", "test/part-2020.csv"), {"train", "test"}),
        (("c4-train.00001-of-00002.csv", "c4-train.00002-of-00002.csv", "c4-test.00000-of-00001.csv"), {"train", "test"}),
        (("a1-train-0-of-1.csv", "a2-train-0-of-2.csv", "a2-train-1-of-2.csv", "test.csv"), {"train", "test"}),
        (("unsupervised/train.csv", "unsupervised/test.csv"), {"train", "test"}),
        (("unsupervised_train.csv", "unsupervised_test.csv"), {"train", "test"}),
        (("translated_train.csv", "dev_2k.csv", "test_2k.csv"), {"train", "validation", "test"}),  # PAWS-X
        (("train_rand_split.csv", "dev_rand_split.csv", "test_rand_split_no_answers.csv"), {"train", "validation", "test"}),
        ((f"train/{SPARK.format(0, 'a')}", f"train/{SPARK.format(1, 'a')}", f"test/{SPARK.format(0, 'e')}"), {"train", "test"}),
    ],
)  # fmt: skip
def test_splits_are_found_in_the_names(fetch, names, found):
    frame = fetch({name: f"text,label\n{name},1\n" for name in names}, "csv")
    assert set(frame["split"]) == found
    assert sorted(frame["text"]) == sorted(names)
    for row in frame.itertuples():
        assert splits.KNOWN.split_of(row.text) == row.split


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("wikitext-2/test-00000-of-00001.csv", "wikitext-103/test-00000-of-00001.csv"), "would become one"),
        (("en/train.csv", "de/train.csv"), "would become one"),
        (("en/train.csv", "de/test.csv"), "would become one"),
        (("train/en/a.csv", "train/de/a.csv"), "would become one"),
        (("2019/a.csv", "2020/a.csv"), "would become one"),
        (("imdb_train.csv", "yelp_train.csv", "imdb_test.csv"), "differ by more than a number"),
        (("train.csv", "train_extra.csv"), "differ by more than a number"),
        (
            ("train.csv", "test.csv", "unlabelled.csv"),
            r"unlabelled\.csv: the name says no split.*configs of a card \(README\.md\)",
        ),
        (("train.csv", "test.csv", "unsupervised.csv"), r"unsupervised\.csv: the name says no split"),
        (("train/a.csv", "test/a.csv", "unsupervised/a.csv"), r"unsupervised/a\.csv: the name says no split"),
        (("data/train_r1-00000-of-00001.csv", "data/notes.csv"), r"notes\.csv: the name says no split"),
        (("x/a-00000-of-00001.csv", "x/b-00000-of-00001.csv"), "differ by more than a number"),
        (("train.csv", "unsupervised_train.csv"), "differ by more than a number"),
        (
            ("supervised_train.csv", "unsupervised_test.csv"),
            r"would be splits of one data set.*\(supervised, unsupervised\)",
        ),
        (("train.csv", "heldout.csv"), r"heldout\.csv: the name says no split"),
        (("train/a.csv", "train/test.csv"), "speaks of the splits test and train"),
        (("train.csv", "train.csv.gz"), "one name in two forms"),
        (("a.csv", "a.tsv"), "one name in two forms"),
        (("train.csv", "Train.CSV"), "one name in two forms"),
        (("en-train/a.csv", "de-test/a.csv"), "would become one"),
        (("train-en.csv", "test-de.csv"), r"would be splits of one data set.*\(de, en\)"),
        (("imdb_train-0.csv", "imdb_train-1.csv", "yelp_dev.csv"), "would be splits of one data set"),
        (("train/en.csv", "test/de.csv"), "would be splits of one data set"),
        (("train-en.csv", "dev-en-us.csv", "test-en-gb.csv"), r"would be splits of one data set.*\(en, en gb, en us\)"),
        (("train_2k.csv", "test_sst2.csv", "dev_qnli.csv"), r"would be splits of one data set.*\(qnli, sst\)"),
        (("train.csv", "dev.csv", "val.csv"), "dev.csv, val.csv would all be the split validation"),
        (("train.csv", "test.csv", "eval.csv"), "eval.csv, test.csv would all be the split test"),
        (("train/a.csv", "train/b.csv", "test/a.csv"), "differ by more than a number"),
        (("train/train.csv", "train/data.csv"), "differ by more than a number"),
        (("imdb.csv", "yelp.csv"), "would become one table, although their names differ by more than a number"),
        (("reviews.csv", "reviews (1).csv"), "has a number that another lacks"),
        (("train.csv", "train (1).csv", "test.csv"), "has a number that another lacks"),
        (("part2019.csv", "part2020.csv", "part2020 (1).csv"), "has a number that another lacks"),
        (("part1.csv", "part[1].csv"), "are no parts of one set"),
        (("train.csv", "train-0-of-1.csv"), "are no parts of one set"),
        (("train-00000-of-00001.csv", "train-00000-of-00001 (1).csv"), "are shards of 1 with one number"),
        (("x-train-0-of-1.csv", "x_train-0-of-1.csv"), "are no parts of one set"),
        (("train-0-of-1.csv", "train-0-of-2.csv", "train-1-of-2.csv"), "sets of different sizes"),
        (
            ("data/test-0-of-1.csv", "data/train-0-of-2-aa.csv", "data/train-0-of-2-bb.csv", "data/train-1-of-2.csv"),
            "are shards of 2 with one number",
        ),
        (
            ("train-00000-of-00003.csv", "train-00002-of-00003.csv"),
            r"train: 1 of 3 shards are missing \(the first is number 1\)",
        ),
        (("train-00000-of-00003.csv",), r"2 of 3 shards are missing \(the first is number 1\)"),
        (("train-00000-of-999999999.csv",), "999,999,998 of 999,999,999 shards are missing"),
        (("train-0-of-2.csv", "train-1-of-2.csv", "train-7-of-2.csv"), r"train-7-of-2\.csv are more than the 2 shards"),
        (("part-0.csv", "part-1.csv", "part-3.csv"), r"^part-2\.csv: missing, between files"),
        (("x/train_data1.csv", "x/train_data3.csv", "x/test.csv"), r"^x/train_data2\.csv: missing"),
        (("000.csv", "001.csv", "002.csv", "005.csv"), r"^003\.csv, 004\.csv: missing"),
        (
            ("shard-09-x.csv", "shard-1-x.csv", *(f"shard-{i:02}-x.csv" for i in range(2, 8))),
            r"^shard-8-x\.csv: missing",
        ),
    ],
)
def test_several_data_sets_do_not_become_one(fetch, names, words):
    content = {name: "text\tlabel\na\t1\n" if name.endswith("tsv") else "text,label\na,1\n" for name in names}
    with pytest.raises(SourceError, match=words):
        fetch({n: gzip.compress(c.encode()) if n.endswith("gz") else c for n, c in content.items()}, "csv")


@pytest.mark.parametrize(
    "names",
    [
        ("data-2019.csv", "data-2021.csv"),
        ("2020-01.csv", "2020-03.csv"),
        ("train_1.csv", "train_3.csv"),
        ("part-0.csv", "part-1000.csv", "part-2000.csv"),
        ("part-2.csv", "part-4.csv", "part-5.csv"),
        ("part-00000-8d1c0001.csv", "part-00001-8d1c0001.csv"),
        ("data1-2019.csv", "data3-2021.csv"),
    ],
)
def test_numbers_that_may_be_no_count_leave_no_hole(fetch, names):
    assert len(fetch(dict.fromkeys(names, "text,label\na,1\n"), "csv")) == len(names)


def test_one_shard_that_the_row_names_is_all_that_is_meant(fetch, tmp_path):
    (tmp_path / "x-00002-of-00003.csv").write_text("text,label\na,1\n")
    assert len(fetch({}, "csv", "x-00002-of-00003.csv")) == 1


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("c/test-00000-of-00001.jsonl", "c/test-00000-of-00003.jsonl"), "sets of different sizes"),
        (
            ("c/test-0-of-2-aa.jsonl", "c/test-0-of-2-bb.jsonl", "c/test-1-of-2.jsonl"),
            "are shards of 2 with one number",
        ),
        (("c/test.jsonl", "c/test-00000-of-00001.jsonl"), "are no parts of one set"),
        (
            ("c/dev-00000-of-00001.jsonl", "c/test-00001-of-00002.jsonl"),
            r"test: 1 of 2 shards are missing \(the first is number 0\)",
        ),
    ],
)
def test_shards_of_documents_are_those_of_one_set(fetch, names, words):
    with pytest.raises(SourceError, match=words):
        fetch(dict.fromkeys(names, '{"q": 1}\n'), "lm-eval")
    whole = ("c/dev-00000-of-00001.jsonl", "c/test-00000-of-00002.jsonl", "c/test-00001-of-00002.jsonl")
    assert fetch(dict.fromkeys(whole, '{"q": 1}\n'), "lm-eval", "whole")["split"].tolist() == ["dev", "test", "test"]


def saved(folder, text, shards=1):
    import datasets

    made = datasets.Dataset.from_dict({"text": [f"{text}{i}" for i in range(6)]})
    made.save_to_disk(folder, num_shards=shards)
    return made


def test_a_save_over_an_older_one_is_refused_by_the_files_that_are_not_of_it(fetch, tmp_path):
    saved(tmp_path / "data", "old", 2)
    assert len(fetch({}, "arrow")) == 6
    saved(tmp_path / "data", "new", 1)
    with pytest.raises(
        SourceError, match=r"state\.json lists data-00000-of-00001\.arrow, not data-00000-of-00002\.arrow, data-00001-"
    ):
        fetch({}, "arrow")
    for old in (tmp_path / "data").glob("*-of-00002.arrow"):
        old.unlink()
    assert fetch({}, "arrow")["text"].tolist() == [f"new{i}" for i in range(6)]
    (tmp_path / "data/data-00000-of-00001.arrow").rename(tmp_path / "data/other.arrow")
    with pytest.raises(SourceError, match=r"not other\.arrow"):
        fetch({}, "arrow")


def test_splits_of_an_older_save_are_refused(fetch, tmp_path):
    import datasets

    made = saved(tmp_path / "one", "new")
    datasets.DatasetDict({"train": made, "test": made, "validation": made}).save_to_disk(tmp_path / "data")
    assert len(fetch({}, "arrow")) == 18
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "data")
    with pytest.raises(
        SourceError, match=r"dataset_dict\.json lists train, test, not validation/data-00000-of-00001\.arrow"
    ):
        fetch({}, "arrow")
    datasets.DatasetDict({"train": made, "test": made, "validation": made}).save_to_disk(tmp_path / "data")
    (tmp_path / "data/validation/data-00000-of-00001.arrow").unlink()
    with pytest.raises(SourceError, match="lists validation, which is not there"):
        fetch({}, "arrow")
    (tmp_path / "data/dataset_dict.json").write_text("[]")
    with pytest.raises(SourceError, match=r"dataset_dict\.json does not say"):
        fetch({}, "arrow")


@pytest.mark.parametrize("words", [("train", "test"), ("Train", "Test"), ("training", "eval")])
def test_a_column_of_splits_is_read_as_names_of_files_are(fetch, words):
    frame = fetch({"f.csv": "text,split\n" + "".join(f"{word} film,{word}\n" for word in words)}, "csv")
    assert frame["split"].tolist() == ["train", "test"]
    assert "split" not in fetch({"f.csv": f"text,split\na,{words[0]}\nb,{words[0]}\n"}, "csv")
    with pytest.raises(SourceError, match="1 rows have no value in the column split"):
        fetch({"f.csv": f"text,split\na,{words[0]}\nb,\n"}, "csv")


@pytest.mark.parametrize(
    ("names", "cells", "words"),
    [
        (
            ("train", "test"),
            ("train", "train"),
            r"test\.csv: its name says the split test, but its column split holds 'train'",
        ),
        (("train", "test"), ("test", "train"), r"test\.csv: .*holds 'train'"),
        (("train", "dev"), ("1", "2"), r"dev\.csv: its name says the split validation, but its column split holds '2'"),
        (("train", "test"), ("train", "validation"), r"test\.csv: .*holds 'validation'"),
        (("train", "test"), ("train", ""), r"test\.csv: .*holds ''"),
        (("train",), ("dev",), r"train\.csv: .*holds 'dev'"),
    ],
)
def test_a_column_of_splits_that_contradicts_the_names_of_files_is_refused(fetch, names, cells, words):
    tables = {f"{name}.csv": f"text,split\na,{cell}\n" for name, cell in zip(names, cells, strict=True)}
    with pytest.raises(SourceError, match=words):
        fetch(tables, "csv")


@pytest.mark.parametrize("cells", [("train", "validation"), ("Training", " Dev ")])
def test_a_column_of_splits_that_agrees_with_the_names_of_files_is_read(fetch, cells):
    tables = {f"{name}.csv": f"text,split\n{name},{cell}\n" for name, cell in zip(("train", "val"), cells, strict=True)}
    assert by_split(fetch(tables, "csv")) == {"train": ["train"], "validation": ["val"]}


@pytest.mark.parametrize(
    ("file", "content"), [("test.csv", "text,label\n"), ("test.tsv", "text\tlabel\n\n"), ("dev.csv", "text,label")]
)
def test_a_file_without_rows_is_named(fetch, file, content):
    with pytest.raises(SourceError, match=rf"{file} has no rows"):
        fetch({"train.csv": "text,label\na,1\n", file: content}, "csv")


def card(*configurations):
    return f"---\nlicense: mit\nconfigs: {json.dumps(configurations)}\n---\n# Data\n"


def parts(**paths):
    return {"config_name": "default", "data_files": [{"split": split, "path": path} for split, path in paths.items()]}


@pytest.mark.parametrize(
    ("names", "said", "found"),
    [
        (["part1", "part2"], parts(train="part1.csv", test="part2.csv"), {"train": ["part1"], "test": ["part2"]}),
        (["2023", "2024"], parts(train=["2023*"], test="**/2024.csv"), {"train": ["2023"], "test": ["2024"]}),
        (["x/y/1", "x/2", "3"], parts(extra="**/*.csv"), None),
        (["part1", "part2"], {"data_files": {"train": "./part1.csv", "test": "part2.csv"}}, {"train": ["part1"], "test": ["part2"]}),
        (["part1", "part2"], parts(train="part[1].csv", test="part[!13].csv"), {"train": ["part1"], "test": ["part2"]}),
        (["x/a1", "x/a2"], {"data_dir": "./x/", **parts(train="a1.csv", test="./a2.csv")}, {"train": ["x/a1"], "test": ["x/a2"]}),
        (["b", "a", "c"], parts(train=["b.csv", "a.csv"], test="c.csv"), {"train": ["b", "a"], "test": ["c"]}),
        (["b", "a", "c"], parts(**{"clean.100": "[ab].csv", "dev": "c.csv"}), {"clean.100": ["a", "b"], "validation": ["c"]}),
        (["b", "a", "c"], parts(dev="a.csv", validation="b.csv", test="c.csv"), {"dev": ["a"], "validation": ["b"], "test": ["c"]}),
        (["x/train", "x/unsupervised", "raw/dump"], parts(train="x/t*", unsupervised="x/u*"), {"train": ["x/train"], "unsupervised": ["x/unsupervised"]}),
        (
            [f"text/{part}_r{i}-00000-of-00001" for part in ("dev", "train") for i in (1, 2)],
            parts(**{f"{part}_r{i}": f"text/{part}_r{i}-*" for part in ("dev", "train") for i in (1, 2)}),
            {f"{part}_r{i}": [f"text/{part}_r{i}-00000-of-00001"] for part in ("dev", "train") for i in (1, 2)},
        ),  # ANLI
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["csv", "arrow"])
def test_splits_are_those_that_a_card_says(fetch, names, said, found, form):
    def content(name):
        return f"text,label\n{name},x\n" if form == "csv" else arrow(pd.DataFrame({"text": [name], "label": ["x"]}))

    written = card({"config_name": "default", **said}).replace(".csv", f".{form}")
    frame = fetch({**{f"{name}.{form}": content(name) for name in names}, "README.md": written}, form)
    if found is None:
        assert "split" not in frame
        assert sorted(frame["text"]) == sorted(names)
    else:
        assert by_split(frame) == found


@pytest.mark.parametrize(
    ("names", "said", "words"),
    [
        (["train", "test"], [parts(train="test.csv", test="train.csv")], r"puts test\.csv into the split train, and its name says test"),
        (["train", "test"], [{"data_files": "*.csv"}], r"puts test\.csv into the split train, and its name says test"),
        (["part1", "part2"], [{"config_name": n, "data_files": f"part{n}.csv"} for n in (1, 2)], r"'1', and part2\.csv another"),
        (["part1", "part2"], [parts(train="part1.csv"), {"config_name": "b", "data_files": "*"}], r"part2\.csv another one \('b'\)"),
        (["a", "b"], [{"config_name": n, "data_files": [{"split": n, "path": "*"}]} for n in "xy"], "'x', and with other splits the configuration 'y'"),
        (["part1", "part2"], [parts(train="part1.csv")], r"configuration 'default', without part2\.csv"),
        (["part1", "part2"], [parts(train="part1.csv"), {"config_name": "b", "data_files": "b/*"}], r"without part2\.csv"),
        (["part1", "part2"], [parts(train="*.csv", test="part2.csv")], r"names part2\.csv twice in the configuration 'default' \(test, train\)"),
        (["part1", "part2"], [parts(train=["*.csv", "part1.csv"])], r"names part1\.csv twice in the configuration 'default' \(train\)"),
        (["part1", "__x/a"], [parts(train="part1.csv", test="__x/*")], r"__x/a\.csv are of the split test, which are not read: hidden"),
        (["part1", ".a"], [parts(train="part1.csv", test=".a.csv")], r"\.a\.csv are of the split test, which are not read: hidden"),
        (["part1", "a.json"], [parts(train="part1.csv", test="a.json")], r"a\.json are of the split test, which are not read: no \.csv"),
        (["x/part1", "part2"], [parts(train="x/", test="part2.csv")], r"x/ is of the split train .*no such file beside part2\.csv, x/part1\.csv"),
        (["part1", "part2"], [parts(train=["part1.csv", "part3.csv"], test="part2.csv")], r"part3\.csv is of the split train"),
        (["part2"], [parts(train="part1*", test="part2.csv")], r"part1\* is of the split train"),
        (["part1", "part2"], [parts(train=["part1.csv", "hf://x/part3.csv"], test="part2.csv")], r"hf://x/part3\.csv is of the split train"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_say_one_data_set_of_the_files_is_refused(fetch, names, said, words):
    files = {name if name.endswith("json") else f"{name}.csv": "text,label\na,x\n" for name in names}
    with pytest.raises(SourceError, match=f"README.md .*{words}"):
        fetch({**files, "README.md": card(*said)}, "csv")


@pytest.mark.parametrize("beside", ["notes.md", "a.wav", "LICENSE", "README.md", "dataset_infos.json"])
def test_a_card_may_name_what_is_there_and_is_no_data(fetch, beside):
    tables = {f"part{number}.csv": f"text,label\n{number},x\n" for number in (1, 2)}
    files = {**tables, beside: "{}", "README.md": card(parts(train=["part1.csv", beside], test="part2.csv"))}
    assert by_split(fetch(files, "csv")) == {"train": ["1"], "test": ["2"]}


@pytest.mark.parametrize("table", ["metadata.csv", "metadata.jsonl"])
def test_a_card_may_name_the_table_beside_images(fetch, table):
    images = {f"{split}/{label}/1.png": png() for split in ("train", "test") for label in "ab"}
    said = card(parts(train=["train/**/*.png", f"train/{table}"], test="test/**"))
    content = '{"file_name": "a/1.png"}\n' if table.endswith("l") else "file_name\na/1.png\n"
    assert len(fetch({**images, f"train/{table}": content, "README.md": said}, "imagefolder")) == 4


def test_a_file_that_a_card_does_not_name_is_left_out_with_the_reason(tmp_path):
    for name in ("x/train", "x/test", "raw/train"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / f"{name}.csv").write_text(f"text,label\n{name},x\n")
    (tmp_path / "data/README.md").write_text(card(parts(train="x/train.csv", test="x/test.csv")))
    manifest = formats.fetch_dataset(
        "mine", {"source": "path", "id": str(tmp_path / "data"), "format": "csv"}, tmp_path
    )
    assert manifest["report"]["files"]["first"] == ["x/test.csv", "x/train.csv"]
    assert ["raw/train.csv", "not named by README.md"] in manifest["report"]["files_left_out"]["first"]


@pytest.mark.parametrize(
    "beside",
    [
        {"README.md": "---\n" + json.dumps({"dataset_info": {"splits": [{"name": "train_r1"}, {"name": "train"}, {"name": "unsupervised"}]}}) + "\n---\n"},
        {"dataset_infos.json": json.dumps({"x": {"splits": {"train_r1": {}, "train": {}, "unsupervised": {}}}})},
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["{}.csv", "plain_text/{}-00000-of-00001.csv", "my/reviews-{}.csv", "{}/a.csv"])
def test_splits_that_a_data_set_names_are_found_in_the_names_of_files(fetch, beside, name):
    splits_of = ("train_r1", "train", "unsupervised")
    files = {name.format(split): f"text,label\n{split},x\n" for split in splits_of}
    assert by_split(fetch({**files, **beside}, "csv")) == {split: [split] for split in splits_of}


def test_a_split_that_a_data_set_names_by_another_word_is_the_same(fetch):
    said = {"dataset_info": {"splits": [{"name": "train"}, {"name": "dev"}]}}
    files = {f"{name}.csv": f"text,label\n{name},x\n" for name in ("train", "validation/dev")}
    frame = fetch({**files, "README.md": f"---\n{json.dumps(said)}\n---\n"}, "csv", "one")
    assert by_split(frame) == {"train": ["train"], "validation": ["validation/dev"]}


def test_splits_are_found_in_the_names_that_push_to_hub_writes(fetch):
    splits_of = ("train_r1", "train_r2", "dev", "my_test", "unsupervised")
    files = {f"data/{split}-00000-of-00001.csv": f"text,label\n{split},x\n" for split in splits_of}
    expected = {"validation" if split == "dev" else split: [split] for split in splits_of}
    assert by_split(fetch(files, "csv")) == expected
    beside = [f"text/{split}-00000-of-00001.csv" for split in ("train", "test", "unsupervised")]  # IMDb
    frame = fetch({name: f"text,label\n{name},x\n" for name in beside}, "csv", "elsewhere")
    assert by_split(frame) == dict(
        zip(("test", "train", "unsupervised"), sorted([[name] for name in beside]), strict=True)
    )
    both = {f"data/{split}-00000-of-00001.csv": f"text,label\n{split},x\n" for split in ("dev", "validation")}
    assert by_split(fetch(both, "csv", "both")) == {"dev": ["dev"], "validation": ["validation"]}


@pytest.mark.parametrize(
    "splits_of", [("train", "unsupervised"), ("train_r1", "train_r2"), ("en", "dev"), ("dev", "val")]
)
def test_splits_that_save_to_disk_wrote_are_those_of_its_record(fetch, tmp_path, splits_of):
    import datasets

    made = {split: datasets.Dataset.from_dict({"text": [split, "b"]}) for split in splits_of}
    datasets.DatasetDict(made).save_to_disk(tmp_path / "data", num_shards=dict.fromkeys(made, 2))
    found = by_split(fetch({}, "arrow"))
    assert found == {"validation" if split == "dev" and "val" not in made else split: [split, "b"] for split in made}


@pytest.mark.parametrize("line", ["sep=,", "SEP=;", '"sep=,"', "sep=,,,", "sep=\t"])
def test_a_line_for_excel_is_no_header(fetch, line):
    with pytest.raises(SourceError, match=r"f\.csv, line 1: .* tells Excel how cells are separated"):
        fetch({"f.csv": f"\ufeff{line}\r\ntext,label\r\na,x\r\n"}, "csv")


def test_a_column_of_two_words_for_one_split_keeps_both(fetch):
    cells = ("dev", "Dev", "validation", "Train", "train")
    frame = fetch({"f.csv": "text,split\n" + "".join(f"{cell} film,{cell}\n" for cell in cells)}, "csv")
    assert frame["split"].tolist() == ["dev", "dev", "validation", "train", "train"]


def test_a_pattern_of_several_may_name_nothing(fetch):
    said = card(parts(train=["train-*.csv", "more/*.csv"], test="test.csv"))
    frame = fetch({"train-1.csv": "text\na\n", "test.csv": "text\nb\n", "README.md": said}, "csv")
    assert by_split(frame) == {"train": ["a"], "test": ["b"]}


def test_the_classes_of_a_card_count_whatever_the_encoding_of_its_text(fetch):
    classes = (
        "---\ndataset_info:\n  features:\n  - {name: label, dtype: {class_label: {names: [z, a]}}}\n---\ncaf\xe9\n"
    )
    frame = fetch({"f.csv": "text,label\none,0\ntwo,1\n", "README.md": classes.encode("latin-1")}, "csv")
    assert list(frame["label"].cat.categories) == ["z", "a"]
    assert list(frame["label"]) == ["z", "a"]


@pytest.mark.parametrize(
    "text",
    [
        card(parts(train="data/train-*", validation="data/dev*.csv")),
        card({"config_name": "small", "data_files": "data/train-0.csv"}, parts(train="data/tr*", dev="data/dev?0.csv")),
        card({"data_files": "**"}).replace("configs", "other"),
        card("x", {"data_files": 7}, {"data_files": [{"path": None}]}),
        "---\nconfigs: [\n---\n",
        "# no front\n",
        "",
    ],
)
def test_a_card_that_agrees_or_says_nothing_is_about_the_data(fetch, text):
    files = {f"data/{name}-0.csv": f"text,label\n{name},x\n" for name in ("train", "dev")}
    assert by_split(fetch({**files, "README.md": text}, "csv")) == {"train": ["train"], "validation": ["dev"]}


def features(names, **more):
    label = {"name": "label", "dtype": {"class_label": {"names": names}}}
    return {"features": [{"name": "text", "dtype": "string"}, label], **more}


def classes(said, *configurations):
    return f"---\n{json.dumps({'dataset_info': said, 'configs': configurations})}\n---\n"


@pytest.mark.parametrize("cells", [["no", "yes", ""], ["1", "0", "-1"], pd.array([1, 0, None]), ["1", "0", None]])
@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_classes_of_a_card_are_those_of_the_data_in_its_order(fetch, cells, form):
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": cells})
    content = {"csv": frame.to_csv(index=False), "json": frame.to_json(orient="records"), "parquet": frame}[form]
    found = fetch({f"f.{form}": content, "README.md": classes(features({"1": "no", "0": "yes"}))}, form)["label"]
    assert found.astype(object).where(found.notna(), None).tolist() == ["no", "yes", None]
    assert found.cat.categories.tolist() == ["yes", "no"]


def test_a_file_that_an_id_names_is_its_content_and_no_card_beside_it(fetch):
    """What decides the rows counts in their digest, and that of a file is of its content alone."""
    files = {"f.csv": "text,label\na,0\nb,1\n", "README.md": classes(features(["yes", "no"]))}
    assert fetch(files, "csv")["label"].tolist() == ["yes", "no"]
    found = fetch({}, "csv", "data/f.csv")["label"]
    assert found.tolist() == ["0", "1"]
    assert not isinstance(found.dtype, pd.CategoricalDtype)


@pytest.mark.parametrize(
    ("names", "cells", "words"),
    [
        (["yes", "no"], ["yes", "maybe"], "the classes yes, no, in this order, but it holds maybe"),
        (["yes", "no"], ["0", "2"], "but it holds 0, 2"),
        (["yes", "no"], [0, 1.0000001], "but it holds 0, 1.0000001"),
        (["yes", "no"], [[0, 1], [0]], r"but it holds \[0 1\], \[0\]"),
        (["1", "0"], ["0", "1"], "can be their names or their numbers"),
        (["yes", "no"], pd.Categorical(["no", "yes"], ["no", "yes"]), "but the data have them as no, yes"),
    ],
)
def test_classes_of_a_card_that_the_data_have_not_are_refused(fetch, names, cells, words):
    frame = pd.DataFrame({"text": ["a", "b"], "label": cells})
    with pytest.raises(SourceError, match=f"README.md says that the column 'label' has .*{words}"):
        fetch({"f.parquet": frame, "README.md": classes(features(names))}, "parquet")


@pytest.mark.parametrize(("said", "names"), [("[yes, no]", ["yes", "no"]), ("{0: 01, 1: 1.0}", ["01", "1.0"])])
def test_classes_are_the_texts_that_stand_in_a_card(fetch, said, names):
    text = f"---\ndataset_info:\n  features:\n  - name: label\n    dtype: {{class_label: {{names: {said}}}}}\n---\n"
    found = fetch({"f.jsonl": '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n', "README.md": text}, "json")[
        "label"
    ]
    assert (found.tolist(), found.cat.categories.tolist()) == (names[::-1], names)


def test_a_card_that_names_a_class_twice_is_refused(fetch):
    with pytest.raises(SourceError, match=r"README\.md names the class 'no' of the column 'label' twice"):
        fetch({"f.csv": "text,label\na,0\nb,1\n", "README.md": classes(features(["no", "no"]))}, "csv")


def test_classes_of_a_card_are_those_of_the_configuration(fetch):
    said = [features([*name], config_name=name) for name in ("xy", "st")]
    files = {"f.csv": "text,label\na,0\nb,1\n"}
    one = {"config_name": "st", "data_files": "*.csv"}
    assert fetch({**files, "README.md": classes(said, one)}, "csv")["label"].tolist() == ["s", "t"]
    assert fetch({**files, "README.md": classes(said)}, "csv")["label"].tolist() == ["0", "1"]
    odd = [3, {"features": "x"}, {"features": [None, {"name": "label", "dtype": {"class_label": None}}]}]
    assert fetch({**files, "README.md": classes(odd)}, "csv")["label"].tolist() == ["0", "1"]


def arrow(frame):
    """The bytes of an Arrow stream."""
    stream, table = io.BytesIO(), pa.Table.from_pandas(frame)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return stream.getvalue()


def of_configuration(feature, path="*.csv"):
    return f"---\n{json.dumps({'configs': [{'config_name': 'x', 'data_files': path, 'features': [feature]}]})}\n---\n"


LEGACY = json.dumps(
    {"x": {"features": {"text": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": ["yes", "no"]}}}}
)


@pytest.mark.parametrize(
    "beside",
    [
        {"README.md": "\n" + classes(features(["yes", "no"]))},
        {"README.md": of_configuration({"name": "label", "dtype": {"class_label": {"names": ["yes", "no"]}}})},
        {"README.md": classes({"features": [{"name": "label", "class_label": {"names": ["yes", "no"]}}]})},
        {"dataset_infos.json": LEGACY},
        {"dataset_infos.json": LEGACY.replace("yes", "maybe"), "README.md": classes(features(["yes", "no"]))},
        {"dataset_infos.json": LEGACY, "README.md": of_configuration({"name": "text", "dtype": "string"})},
    ],
)
@pytest.mark.parametrize("cells", [["no", "yes"], ["1", "0"]])
def test_classes_are_found_wherever_the_datasets_library_finds_them(fetch, beside, cells):
    found = fetch({"f.csv": f"text,label\na,{cells[0]}\nb,{cells[1]}\n", **beside}, "csv")["label"]
    assert (found.tolist(), found.cat.categories.tolist()) == (["no", "yes"], ["yes", "no"])


@pytest.mark.parametrize(
    "text", ["[", "[1]", "{}", '{"x": 1}', '{"x": {"features": {"label": {"_type": "Value"}}}}', "\0"]
)
def test_what_stood_before_cards_may_say_nothing(fetch, text):
    found = fetch({"f.csv": "text,label\na,1\nb,0\n", "dataset_infos.json": text}, "csv")["label"]
    assert found.tolist() == ["1", "0"]


def test_classes_of_a_card_are_those_of_arrow_files(fetch):
    table = arrow(pd.DataFrame({"text": ["a", "b"], "label": ["no", "yes"]}))
    found = fetch({"f.arrow": table, "README.md": classes(features(["yes", "no"]))}, "arrow")["label"]
    assert (found.tolist(), found.cat.categories.tolist()) == (["no", "yes"], ["yes", "no"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (classes(features({"0": "yes", "2": "no"})), "numbers the classes of the column 'label' 0, 2; expected are all"),
        (classes(features({"0": "yes", "x": "no"})), "numbers the classes of the column 'label' 0, x; expected are all"),
        (
            classes(features(["yes", "no"], config_name="x"), {"config_name": "x", "data_files": "f.csv", **features(["no", "yes"])}),
            "has the classes yes, no, and that it has no, yes, of one configuration",
        ),
    ],
)  # fmt: skip
def test_a_card_that_does_not_say_one_order_of_classes_is_refused(fetch, said, words):
    with pytest.raises(SourceError, match=rf"README\.md .*{words}"):
        fetch({"f.csv": "text,label\na,0\nb,1\n", "README.md": said}, "csv")


OF_SUFFIX = {".csv": "text,label\na,x\n", ".tsv": "text\tlabel\na\tx\n", ".json": '{"text": "a", "label": "x"}\n'}


@pytest.mark.parametrize(
    ("file", "option"),
    [
        ("f.csv", {"header": None}),
        ("f.csv", {"names": ["text", "label"]}),
        ("f.csv", {"sep": ";"}),
        ("f.csv", {"skiprows": 1}),
        ("f.csv", {"encoding": "latin-1"}),
        ("f.csv", {"encoding": "no-such"}),
        ("f.csv", {"encoding": 8}),
        ("f.csv", {"quoting": 3}),
        ("f.csv", {"skip_blank_lines": False}),
        ("f.csv", {"data_dir": ".", "escapechar": "\\"}),
        ("f.tsv", {"data_files": "f.tsv", "delimiter": ","}),
        ("f.json", {"field": "data"}),
    ],
)
def test_a_card_by_which_a_file_is_read_otherwise_is_refused(fetch, file, option):
    files = {file: OF_SUFFIX[file[1:]], "README.md": card({"config_name": "default", **option})}
    with pytest.raises(SourceError, match=rf"README\.md says that {file} is read with {list(option)[-1]} = "):
        fetch(files, "json" if file.endswith("json") else "csv")


@pytest.mark.parametrize(
    ("file", "option"),
    [
        ("f.csv", {"sep": ",", "header": 0, "encoding": "UTF-8", "names": None, "default": True}),
        ("f.csv", {"encoding": "UTF_8"}),
        ("f.json", {"encoding": "utf_8_sig"}),
        ("f.csv", {"data_files": "other.csv", "sep": ";"}),
        ("f.csv", {"data_dir": "other", "header": None}),
        ("f.tsv", {"sep": "\t", "quoting": 3, "header": "infer"}),
        ("f.json", {"sep": ";", "header": None}),
    ],
)
def test_a_card_by_which_a_file_is_read_as_it_is_here_says_nothing_new(fetch, file, option):
    files = {file: OF_SUFFIX[file[1:]], "README.md": card({"config_name": "default", **option})}
    assert fetch(files, "json" if file.endswith("json") else "csv")["text"].tolist() == ["a"]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_table_of_other_labels_beside_images_is_refused(fetch, name):
    def table(*labels):
        frame = pd.DataFrame(
            {"file_name": [f"{folder}/{i}.png" for folder in ("a", "b") for i in range(2)], "label": labels}
        )
        return {"csv": frame.to_csv(index=False), "jsonl": frame.to_json(orient="records", lines=True)}.get(
            name.partition(".")[2], frame
        )

    images = {f"train/{folder}/{i}.png": png() for folder in ("a", "b") for i in range(2)}
    for agreeing in ((0, 0, 1, 1), ("a", "a", "b", "b")):
        frame = fetch({**images, f"train/{name}": table(*agreeing)}, "imagefolder", str(agreeing[0]))
        assert frame["label"].tolist() == ["a", "a", "b", "b"]
    with pytest.raises(SourceError, match=rf"train/{name} has a column 'label' \(cat, dog\).*folders here \(a, b\)"):
        fetch({**images, f"train/{name}": table("cat", "dog", "dog", "cat")}, "imagefolder")


def test_a_table_with_one_name_for_two_columns_is_refused(fetch, tmp_path):
    (tmp_path / "data").mkdir()
    table = pa.table([["a"], ["x"], ["y"]], names=["text", "label", "label"])
    pq.write_table(table, tmp_path / "data/f.parquet")
    with pytest.raises(SourceError, match=r"f\.parquet: the column 'label' stands there twice"):
        fetch({}, "parquet")


@pytest.mark.parametrize(
    ("columns", "words"), [("text=a,text=b", "new name 'text'"), ("text=a,label=b,note=a", "old name 'a'")]
)
def test_a_renaming_that_names_a_column_twice_is_refused(fetch, columns, words):
    with pytest.raises(SourceError, match=f"the {words} stands twice in the column columns"):
        fetch({"f.csv": "a,b\none,two\n"}, "csv", columns=columns)


@pytest.mark.parametrize("columns", ["text", "text=sentence,label", "=a", "text="])
def test_a_renaming_that_renames_nothing_is_named(fetch, columns):
    with pytest.raises(SourceError, match="renames nothing"):
        fetch({"f.csv": "sentence,label\na,1\n"}, "csv", columns=columns)


@pytest.mark.parametrize(
    "names",
    [
        ("train/n01/images/0.JPEG", "train/n02/images/0.JPEG", "val/images/0.JPEG"),
        ("train/n01/0.JPEG", "train/n02/0.JPEG", "val/images/0.JPEG"),
        ("0.png", "1.png"),
        ("train/0.png", "test/0.png"),
        ("sunny/cat/0.png", "rainy/cat/0.png"),
        ("train/cat/0.png", "dog/0.png"),
        ("images/train/cat/0.png", "images/train/dog/0.png"),
    ],
)
def test_images_that_do_not_lie_in_folders_of_labels_are_refused(fetch, names):
    with pytest.raises(SourceError, match=r"\{split\}/\{label\}/\{image\}"):
        fetch({name: png() for name in names}, "imagefolder")


@pytest.mark.parametrize(
    "names",
    [
        ("test/images/0.JPEG", "train/n01/images/0.JPEG", "train/n02/images/0.JPEG", "val/images/0.JPEG"),
        ("train/n01/0.JPEG", "train/n02/0.JPEG", "val/images/0.JPEG"),
    ],
)
def test_what_is_to_be_done_with_tiny_imagenet_is_said(fetch, names):
    with pytest.raises(SourceError, match=r"^\w.*\.JPEG lies in a folder images .*val_annotations\.txt"):
        fetch({**{name: png(kind="JPEG") for name in names}, "val/val_annotations.txt": "x"}, "imagefolder")
    labels = {f"{split}/{label}/0.png": png() for split in ("train", "val") for label in ("images", "drawings")}
    assert set(fetch(labels, "imagefolder", "labels")["label"]) == {"images", "drawings"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"configs": [parts(train="a/**", extra="b/**", dev="c/x/*")]}, {"train": {"a"}, "extra": {"b"}, "validation": {"c"}}),
        ({"dataset_info": {"splits": [{"name": name} for name in "abc"]}}, {name: {name} for name in "abc"}),
    ],
)  # fmt: skip
def test_splits_of_images_are_those_that_a_card_says(fetch, said, found):
    images = {
        f"{part}/{label}/0.png": png() for part in "abc" for label in ("x", "train") if (part, label) != ("c", "train")
    }
    frame = fetch({**images, "README.md": f"---\n{json.dumps(said)}\n---\n"}, "imagefolder")
    assert {split: {item[0] for item in items} for split, items in frame.groupby("split")["item"]} == found
    assert frame["label"].tolist() == [item.split("/")[1] for item in frame["item"]]


@pytest.mark.parametrize("names", [("a/x/0.png", "b/0.png"), ("a/0.png", "0.png")])
def test_images_of_a_card_that_lie_in_no_folder_of_a_label_are_refused(fetch, names):
    said = card(parts(train=names[0], extra=names[1]))
    with pytest.raises(SourceError, match=r"0\.png lies in no folder of a label"):
        fetch({**{name: png() for name in names}, "README.md": said}, "imagefolder")


@pytest.mark.parametrize(
    ("folders", "split"),
    [
        (("train", "train_old", "test"), "train"),
        (("train", "dev", "val"), "validation"),
        (("train", "test", "test_corrupted"), "test"),
        (("Train", "train", "test"), "train"),
    ],
)
def test_two_folders_of_images_do_not_become_one_split(fetch, folders, split):
    with pytest.raises(SourceError, match=f"The folders .* would all be the split {split}"):
        fetch({f"{folder}/{label}/1.png": png() for folder in folders for label in ("cat", "dog")}, "imagefolder")


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (("bird/1.heic", "bird/2.jp2"), r"folder bird is read as an image \(\.heic, \.jp2\)"),
        (("bird/far/1.HEIC",), r"folder bird is read as an image \(\.HEIC\)"),
        (("bird/1",), r"folder bird is read as an image \(1\)"),
    ],
)
@pytest.mark.parametrize("split", ["", "train/"])
def test_a_label_whose_images_are_all_left_out_is_named(fetch, lost, words, split):
    read = {f"{split}{label}/{i}.png": png() for label in ("cat", "dog") for i in range(2)}
    beside = {"README.md": "x", f"{split}notes.txt": "x", f"{split}cat/1.heic": "x"}
    assert set(fetch(read | beside, "imagefolder", "whole")["label"]) == {"cat", "dog"}
    with pytest.raises(SourceError, match=words.replace("bird", f"{split}bird")):
        fetch(read | {f"{split}{name}": "x" for name in lost}, "imagefolder")


def test_a_split_whose_images_are_all_left_out_is_named(fetch):
    read = {f"train/{label}/{i}.png": png() for label in ("cat", "dog") for i in range(2)}
    assert len(fetch(read | {"notes/cat/1.txt": "x"}, "imagefolder", "whole")) == 4
    with pytest.raises(SourceError, match=r"folder val/cat is read as an image \(\.heic\)"):
        fetch(read | {"val/cat/1.heic": "x"}, "imagefolder")


@pytest.mark.parametrize(
    "named", ["{label}/train_1.png {label}/test_1.png", "{label}/{label}-val.png {label}/{label}-train.png"]
)
def test_images_whose_own_names_say_splits_are_no_one_table(fetch, named):
    names = [name.format(label=label) for label in ("cat", "dog") for name in named.split()]
    with pytest.raises(SourceError, match=r"the names of these images say the splits .*train"):
        fetch({name: png() for name in names}, "imagefolder")


def test_a_label_or_a_number_in_the_names_of_images_is_no_split(fetch):
    names = [f"{label}/{label}_{number}.png" for label in ("train", "bus") for number in (1, 2)]
    assert fetch({name: png() for name in names}, "imagefolder")["item"].tolist() == sorted(names)
    names = [f"{label}/test_{number}.png" for label in ("cat", "dog") for number in (1, 2)]
    assert len(fetch({name: png() for name in names}, "imagefolder", "other")) == 4


CHECKPOINT = {
    f"{name}/{file}": "{}"
    for name in ("checkpoints/checkpoint-5", "checkpoint-6")
    for file in ("config.json", "model.safetensors")
}


def test_checkpoints_beside_data_are_none(fetch):
    text = '{"text": "a", "label": "x"}'
    for files, form in (
        ({"train.jsonl": text, "test.jsonl": text}, "json"),
        ({"cat/1.png": png(), "dog/1.png": png()}, "imagefolder"),
    ):
        assert len(fetch(files | CHECKPOINT, form, form)) == 2
    with pytest.raises(SourceError, match=r"runs/t\.jsonl is left out: beside weights"):
        fetch({"runs/t.jsonl": text, "runs/a/model.pt": ""}, "json", "in runs")
    with pytest.raises(SourceError, match=r"config\.json: the name says no split"):
        fetch({"train.jsonl": text, "test.jsonl": text, "runs/config.json": "{}"}, "json", "without weights")


@pytest.mark.parametrize("content", [b"no image", b"", png(kind="TIFF")[:20]])
def test_images_that_are_none_are_named_when_they_are_fetched(fetch, content):
    with pytest.raises(SourceError, match=r"mine: the image dog/2\.png cannot be decoded"):
        fetch({"cat/1.png": png(), "dog/1.png": png(), "dog/2.png": content}, "imagefolder")


def picture(kind, side=64):
    """A picture of noise, several hundred bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_images_that_are_cut_short_are_named_when_they_are_fetched(fetch, kind):
    """Their headers are whole; every job of a study would fail otherwise. What is appended to a picture is no part of it."""
    whole, suffix = picture(kind), kind.lower()
    with pytest.raises(
        SourceError, match=rf"mine: the image dog/2\.{suffix} cannot be decoded.*Save it again, or take it out"
    ):
        fetch({"cat/1.png": png(), f"dog/2.{suffix}": whole[: len(whole) // 2]}, "imagefolder")
    assert len(fetch({"cat/1.png": png(), f"dog/2.{suffix}": whole + b"appended" * 99}, "imagefolder", "whole")) == 2


def test_a_split_of_empty_whole_numbers_stands_beside_any_other():
    """Of pandas' own type for them, the smallest is none."""
    parts = {"train": pd.DataFrame({"a": ["x"]}), "test": pd.DataFrame({"a": pd.array([None], dtype="Int64")})}
    assert frames.concatenated(parts)["a"].isna().tolist() == [False, True]


def test_an_end_is_not_found_within_a_picture_that_is_cut_short():
    """A GIF ends with a semicolon, which every fourth of its middles has in its last bytes."""
    whole = picture("GIF")
    for kept in range(len(whole) // 2, len(whole) // 2 + 300):
        with pytest.raises(SourceError, match="cannot be decoded"):
            pictures.check(whole[:kept], "x")


PIXELS = "0,50,100,255"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"7,{PIXELS}\n3,255,0,0,0\n", "image 1: 255 is no label"),
        ("7,9,50,100,0\n3,255,0,0,0\n", "all labels are 0.*header"),
        ("0.0,0.2,0.4,1.0,7\n", "image 1: the grey value 0.2 is no whole number"),
        ("0,1,0,1,7\n1,1,0,0,3\n", "no grey value is above 1"),
        ("0,256,512,65535,7\n", "the grey value 256"),
        ("0,-1,5,6,7\n", "the grey value -1"),
        ("0,50,,255,7\n", "the grey value nan"),
        ("0,50,NA,255,7\n1,2,3,4,5\n", "label"),
        (f"{PIXELS},1.5\n", "image 1: 1.5 is no label"),
        (f"{PIXELS},7,8\n", "5 grey values a line are no square image"),
        (f"{PIXELS},7\n1,2,3,9\n", "image 2"),
        (f"label,a,b,c,d\n7,{PIXELS},3\n", "more cells than the header"),
        (f"a,b,c,d,kind\n{PIXELS},7\n", "0 columns called label or class"),
        (f"0,1,2,3,4\n{PIXELS},7\n", "the first line counts its cells from 0 to 4"),
    ],
)
def test_grey_values_that_are_none_are_refused(fetch, content, words):
    with pytest.raises(SourceError, match=words):
        fetch({"p.csv": content}, "pixels-csv")


@pytest.mark.parametrize("header", ["label,p0,p1,p2,p3", "p0,p1,p2,p3,label", "p0,p1,Class,p2,p3"])
def test_a_header_says_where_the_label_of_a_table_of_pixels_is(fetch, header):
    place = [name.lower() in ("label", "class") for name in header.split(",")].index(True)
    cells = PIXELS.split(",")
    lines = [",".join([*cells[:place], label, *cells[place:]]) for label in ("7", "3")]
    frame = fetch({"train.csv": "\n".join([header, lines[0]]), "test.csv": "\n".join([header, lines[1]])}, "pixels-csv")
    assert frame[["label", "split"]].to_numpy().tolist() == [["3", "test"], ["7", "train"]]
    assert np.array(Image.open(io.BytesIO(frame["image"][0]))).ravel().tolist() == [0, 50, 100, 255]


@pytest.mark.parametrize(
    "labels", [["3", "", "5"], ["NA", "None", "x"], ["01", "1", "1.0"], ["true", "True", " a"], ["3", "4", "5"]]
)
def test_labels_under_a_header_of_pixels_are_the_texts_that_stand_there(fetch, labels):
    content = "\n".join(["p0,p1,label,p2,p3", *(f"0,50,{label},200,{row}" for row, label in enumerate(labels))])
    assert fetch({"p.csv": content}, "pixels-csv")["label"].tolist() == labels


@pytest.mark.parametrize("before", ["\n", "\r\n \n", "\ufeff\n"])
@pytest.mark.parametrize("header", ["", "p0,p1,p2,p3,label\n"])
def test_blank_lines_before_a_table_of_pixels_are_none_of_its_lines(fetch, before, header):
    frame = fetch({"p.csv": f"{before}{header}{PIXELS},7\n0,1,2,9,3\n"}, "pixels-csv")
    assert frame["label"].tolist() == ["7", "3"]
    assert np.array(Image.open(io.BytesIO(frame["image"][0]))).ravel().tolist() == [0, 50, 100, 255]


def test_a_missing_grey_value_under_a_header_is_refused(fetch):
    for cell in ("", "NA"):
        with pytest.raises(SourceError, match="image 2: the grey value"):
            fetch({"p.csv": f"label,a,b,c,d\n1,0,50,100,255\n2,0,{cell},100,255\n"}, "pixels-csv")


def idx_bytes(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def idx_files(images, labels):
    return {
        f"{prefix}-{name}-ubyte": idx_bytes(array)
        for prefix in ("train", "t10k")
        for name, array in (("images-idx3", images), ("labels-idx1", labels))
    }


def test_idx_images_keep_their_height_and_width(fetch):
    images = np.arange(72).reshape(2, 4, 9)
    frame = fetch(idx_files(images, np.array([1, 2])), "idx")
    assert (np.array(Image.open(io.BytesIO(frame["image"][1]))) == images[1]).all()


@pytest.mark.parametrize("change", [{"x-images-idx3-ubyte": b"x"}, {"t10k-labels-idx1-ubyte": idx_bytes(np.arange(3))}])
def test_idx_files_that_do_not_belong_together_are_refused(fetch, change):
    with pytest.raises(SourceError, match=next(iter(change))):
        fetch(idx_files(np.zeros((2, 4, 4)), np.array([1, 2])) | change, "idx")


@pytest.mark.parametrize(
    ("form", "names"),
    [("word-pairs", ("a.tsv", "b.tsv")), ("ratings-tsv", ("a.txt", "b.txt")), ("summaries-json", ("a.json", "b.json"))],
)
def test_a_format_of_one_file_refuses_a_second(fetch, form, names):
    with pytest.raises(SourceError, match="is one file, but there are 2"):
        fetch(dict.fromkeys(names, "cat\tdog\t7\n"), form)


# ---- a cell is not what stands in it

WORDS = ["None", "NA", "null", "nan", "n/a", "N/A", "01", "1", "1.0", "1e3", "True", "-1", " x ", "#1", "2020-01-01", "a\u2028b", "a\x85b"]  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "jsonl"])
def test_cells_stay_the_text_that_stands_in_them(fetch, form):
    rows = [{"text": f"{word} film", "label": word} for word in WORDS]
    sign = {"csv": ",", "tsv": "\t"}.get(form)
    lines = [f"{row['text']}{sign}{row['label']}" for row in rows]
    content = {
        "json": json.dumps(rows, ensure_ascii=False),
        "jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
    }.get(form) or "\n".join([f"text{sign}label", *lines])
    frame = fetch({f"f.{form}": "\ufeff" + content}, "json" if "json" in form else "csv")
    assert frame["label"].tolist() == WORDS
    assert frame["text"].tolist() == [f"{word} film" for word in WORDS]


@pytest.mark.parametrize("cell", ['"one-shot" is meant', '"one', 'say "hi"', '"whole"', "a, b", "it's"])
def test_quotes_in_tab_separated_files_are_text(fetch, cell):
    frame = fetch({"f.tsv": f"text\tlabel\r\n{cell}\tx\r\nnext\ty\r\n"}, "csv")
    assert frame["text"].tolist() == [cell, "next"]
    assert frame["label"].tolist() == ["x", "y"]


@pytest.mark.parametrize("text", ['a "quoted" word', "a, b", "two\nlines", "two\r\nlines", '"', "a\u2028b"])
def test_what_pandas_writes_as_csv_is_read_back(fetch, text):
    frame = pd.DataFrame({"text": [text, "NA"], "label": ["x", "None"]})
    assert fetch({"f.csv": frame.to_csv(index=False)}, "csv")[["text", "label"]].equals(frame)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("f.csv", "text,label\nModèle,x\n".encode("latin-1"), r"f\.csv, line 2.*encoding.*UTF-8"),
        ("f.csv", "text,label\na,x\n".encode("utf-16"), r"f\.csv is no UTF-8 text"),
        ("f.tsv", "text\tlabel\na\tx\n".encode("utf-16-le"), r"f\.tsv is no UTF-8 text"),
        ("f.json", '{"text": "Modèle"}'.encode("cp1252"), r"f\.json, line 1.*UTF-8"),
        ("f.csv", "text,label\na,x,y\n", r"line 2: 3 cells under 2 columns"),
        ("f.csv", "text,label\na,x\nb\n", r"line 3: 1 cells under 2 columns"),
        ("f.csv", 'text,label\n"a,x\nb,y\n', r"line 2: not readable as csv"),
        ("f.csv", 'text,label\n"a" b,x\n', r"line 2: not readable as csv"),
        ("f.tsv", "text\tlabel\na\tx\ty\n", "line 2: 3 cells"),
        ("f.csv", "text;label\na;x\n", "commas"),
        ("f.tsv", "text,label\na,x\n", "tabs"),
        ("f.tsv", 'text\tlabel\n"say ""hi"""\tx\n', r"quoted as in a \.csv"),
        ("f.tsv", '"text"\t"label"\na\tx\n', r"quoted as in a \.csv"),
        ("f.csv", "text,text\na,b\n", "'text' stands twice"),
        ("f.csv", 'text, label\n"a", "x"\n"b", "y"\n', r"column 'label' are quoted behind a blank \( \"x\"\)"),
        (
            "f.jsonl",
            '{"text": "a"}\n{"text": "b \\ud83d"}\n',
            r"line 2: the column 'text' holds half a character \('\\ud83d'",
        ),
        (
            "f.jsonl",
            '{"text": ["a"]}\n{"text": ["b", "c \\ud83d"]}\n',
            r"line 2: the column 'text' holds half a character \('\\ud83d'",
        ),
        ("f.csv", "text,label\na,x\ntext,label\nb,y\n", r"line 3: the header \(text, label\) stands there once more"),
        ("f.tsv", "text\tlabel\r\na\tx\r\n\ufefftext\tlabel\r\nb\ty\r\n", "line 3: the header"),
        ("f.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("f.csv.gz", b"no gzip", r"f\.csv\.gz cannot be unpacked"),
        ("f.json", '[{"label": 1}, {"label": "x"}]', "'label' holds values of several kinds"),
        ("f.json", '[{"label": 1.5}, {"label": true}]', "'label' holds values of several kinds"),
        ("f.json", '[{"label": [1]}, {"label": ["x"]}]', "'label' holds values of several kinds"),
        ("f.json", '{"label": 1180591620717411303424}', "'label' holds values"),
        ("f.json", '{"label": 1, "label": 2}', "'label' twice"),
        ("f.json", '["a", "b"]', "is no object"),
        ("f.json", '{\n"data": []\n}', "one object over many lines"),
        ("f.jsonl", '{"a": 1}\n{"a": \n', r"line 2: not readable as json"),
    ],
)
def test_text_that_would_have_to_be_guessed_is_refused(fetch, file, content, words):
    with pytest.raises(SourceError, match=words):
        fetch({file: content}, "json" if "json" in file else "csv")


def test_quotes_behind_a_blank_in_some_cells_are_text(fetch):
    frame = fetch({"f.csv": 'text,label\n" ""hi"" he said",x\n ,y\n" ""hi""",x\nb,y\n'}, "csv")
    assert frame["text"].tolist() == [' "hi" he said', " ", ' "hi"', "b"]


def test_a_line_without_three_cells_is_no_pair_of_words(fetch):
    with pytest.raises(SourceError, match=r"f\.tsv, pair 2 \('dog wolf 3'\): expected three cells between tabs"):
        fetch({"f.tsv": "# rated\ncat\tdog\t7\ndog wolf 3\n"}, "word-pairs")


def test_short_floats_are_labels_like_others(fetch):
    rows = pa.table({"text": ["a", "b"], "label": pa.array(np.array([1, 2], np.float16))})
    file = io.BytesIO()
    pq.write_table(rows, file)
    frame = fetch({"f.parquet": file.getvalue()}, "parquet")
    assert frame.groupby("label").size().to_dict() == {1.0: 1, 2.0: 1}


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.duration("s")])
def test_dates_are_no_ratings(fetch, kind):
    file = io.BytesIO()
    pq.write_table(pa.table({"text_a": ["a", "b"], "text_b": ["c", "d"], "target": pa.array([1, 2], kind)}), file)
    with pytest.raises(SourceError, match=r"the column 'target' holds (datetime64|timedelta64).*expected ratings"):
        fetch({"f.parquet": file.getvalue()}, "parquet")


def stream(*texts):
    """An Arrow stream of one batch a text, and where each ends."""
    file, ends = io.BytesIO(), []
    with pa.ipc.new_stream(file, pa.schema([("text", pa.string())])) as writer:
        for text in texts:
            writer.write_batch(pa.record_batch({"text": [text]}))
            ends.append(file.tell())
    return file.getvalue(), ends


def test_a_stream_that_is_cut_between_batches_or_goes_on_after_its_end_is_refused(fetch):
    whole, ends = stream("a", "b", "c")
    assert fetch({"f.arrow": whole}, "arrow", "whole")["text"].tolist() == list("abc")
    for end, rows in zip(ends, (1, 2, 3), strict=True):
        with pytest.raises(SourceError, match=rf"f\.arrow holds {rows} rows, and no end of its table"):
            fetch({"f.arrow": whole[:end]}, "arrow")
    with pytest.raises(SourceError, match=r"f\.arrow holds 3 rows, and more after the end of its table"):
        fetch({"f.arrow": whole + stream("d")[0]}, "arrow")


LARGE = (1 << 53, (1 << 53) + 1)  # one number, as floats


@pytest.mark.parametrize("container", ["parquet", "arrow", "json"])
def test_large_whole_numbers_are_not_rounded_where_some_are_missing(fetch, tmp_path, container):
    def form(*labels):
        if container == "json":
            return "\n".join(json.dumps({"text": "a", "label": label}) for label in labels)
        table, stream = pa.table({"text": ["a"] * len(labels), "label": pa.array(labels, pa.int64())}), io.BytesIO()
        if container == "parquet":
            pq.write_table(table, stream)
        else:
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
        return stream.getvalue()

    assert fetch({f"whole.{container}": form(*LARGE)}, container, "a")["label"].tolist() == list(LARGE)
    assert fetch({f"small.{container}": form(1, None, 2)}, container, "b")["label"].dropna().tolist() == [1, 2]
    with pytest.raises(SourceError, match=r"one\.\w+: the column 'label' holds whole numbers beyond .* and lacks some"):
        fetch({f"one.{container}": form(*LARGE, None)}, container, "c")
    for test in ([1, None], [None]):
        with pytest.raises(SourceError, match=r"'label' holds whole numbers beyond .* beside files that lack some"):
            fetch({f"train.{container}": form(*LARGE), f"test.{container}": form(*test)}, container, "d")


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_truth_values_are_of_one_kind_whether_or_not_one_is_missing(fetch, form):
    def files(train, test):
        parts = {"train": train, "test": test}
        frames = {
            f"{split}.{form}": pd.DataFrame({"text": ["a", "b"], "label": cells}) for split, cells in parts.items()
        }
        return {name: frame.to_json(orient="records") if form == "json" else frame for name, frame in frames.items()}

    found = fetch(files([True, None], [False, True]), form, "missing").set_index("item")["label"]
    assert found.sort_index().tolist() == [False, True, True, None]
    with pytest.raises(SourceError, match=r"holds numbers in test, truth values in train\. Write it"):
        fetch(files([True, False], [1, 0]), form)


@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_arrays_that_no_task_reads_beside_a_text_are_lists(fetch, tmp_path, container):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "box": datasets.Array2D((2, 2), "int64")})
    parts = {
        split: datasets.Dataset.from_dict({"text": [split], "box": [[[1, 2], [3, 4]]]}, features)
        for split in ("train", "test")
    }
    if container == "arrow":
        datasets.DatasetDict(parts).save_to_disk(tmp_path / "data")
    else:
        for split, part in parts.items():
            part.to_parquet(tmp_path / f"data/{split}.parquet")
    frame = fetch({}, container)
    assert by_split(frame) == {"test": ["test"], "train": ["train"]}
    assert [[row.tolist() for row in box] for box in frame["box"]] == [[[1, 2], [3, 4]]] * 2


@pytest.mark.parametrize("values", [[{}, {}], [[{}], []], [{"a": {}}, {"a": {}}]])
def test_mappings_without_a_key_are_told_by_their_column(fetch, values):
    rows = [{"text": "a", "meta": value} for value in values]
    with pytest.raises(SourceError, match="The column 'meta' holds mappings without a key"):
        fetch({"f.json": json.dumps(rows)}, "json")


def test_files_of_one_split_have_the_same_columns_and_kinds(fetch):
    with pytest.raises(SourceError, match=r"a1\.csv and a2\.csv have other columns \(label"):
        fetch({"a1.csv": "text,label\na,1\n", "a2.csv": "text\nb\n"}, "csv", "one")
    numbers, words = pd.DataFrame({"label": [0, 1]}), pd.DataFrame({"label": ["no", "yes"]})
    with pytest.raises(SourceError, match="'label' holds numbers in test, texts in train"):
        fetch({"train.parquet": words, "test.parquet": numbers}, "parquet", "two")


# ---- the data set's own order of classes


@pytest.mark.parametrize("order", [["small", "medium", "large"], ["yes", "no"], ["b", "c", "a"]])
@pytest.mark.parametrize("container", ["datasets", "arrow", "pandas", "save_to_disk", "ipc"])
def test_the_order_of_classes_holds_in_every_container(fetch, tmp_path, order, container):
    import datasets

    (tmp_path / "data").mkdir()
    features = datasets.Features({"label": datasets.ClassLabel(names=order), "text": datasets.Value("string")})
    made = {}
    for split, labels in (("train", order[::-1]), ("test", order[:1])):
        path = tmp_path / "data" / f"{split}.parquet"
        codes = [order.index(label) for label in labels]
        made[split] = datasets.Dataset.from_dict({"label": codes, "text": labels}, features=features)
        column = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(order))
        table = pa.table({"label": column, "text": labels})
        if container == "datasets":
            made[split].to_parquet(path)
        elif container == "arrow":
            pq.write_table(table, path)
        elif container == "pandas":
            pd.DataFrame({"label": pd.Categorical(labels, order), "text": labels}).to_parquet(path)
        elif container == "ipc":
            with pa.ipc.new_file(path.with_suffix(".arrow"), table.schema) as file:
                file.write_table(table)
    if container == "save_to_disk":
        datasets.DatasetDict(made).save_to_disk(tmp_path / "data")
        (tmp_path / "data/train/cache-0123.arrow").write_bytes(b"x")
    form = "arrow" if container in ("save_to_disk", "ipc") else "parquet"
    frame = fetch({}, form)
    assert len(frame) == len(order) + 1
    assert list(frame["label"].cat.categories) == order
    assert frame["label"].tolist() == frame["text"].tolist()


@pytest.mark.parametrize(
    ("train", "test", "order"),
    [
        (["neg", "pos"], ["neg", "pos"], ["neg", "pos"]),
        (["c", "b", "a"], ["b"], ["c", "b", "a"]),
        (["a", "c"], ["b", "c"], ["a", "b", "c"]),
        (["neg", "pos"], ["pos", "neg"], None),
        (["a", "b", "c"], ["c", "a"], None),
    ],
)
def test_classes_stand_in_one_order_in_all_files(fetch, train, test, order):
    tables = {
        f"{name}.parquet": pd.DataFrame({"text": labels, "label": pd.Categorical(labels, labels)})
        for name, labels in (("train", train), ("test", test))
    }
    if order:
        assert sorted(fetch(tables, "parquet")["label"].cat.categories) == sorted(order)
        found = fetch(tables, "parquet")["label"].cat.categories
        assert [label for label in found if label in train] == train
        assert [label for label in found if label in test] == test
    else:
        with pytest.raises(SourceError, match="The classes of the column 'label' stand in another order in"):
            fetch(tables, "parquet")


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (("10", "9", "2"), ["2", "9", "10"]),
        (("b", "10", "9"), ["10", "9", "b"]),
        (("-1", "1", "01"), ["-1", "01", "1"]),
    ],
)
def test_labels_of_folders_are_in_the_order_of_those_of_a_table(fetch, labels, order):
    found = fetch({f"{label}/1.png": png() for label in labels}, "imagefolder")["label"]
    assert list(found.cat.categories) == order
    table = pd.DataFrame({"item": labels, "label": labels})
    assert _labels.labelled(table, {"task": "t", "dataset": "d"})[1] == order


# ---- a value is no single one


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("label", [[0, 2], [1, 2]], "item i: the column 'label' holds a list; expected one text or number"),
        ("label", [{"name": "a"}, {"name": "b"}], "item i: the column 'label' holds a mapping"),
        ("label", [b"a", b"b"], "item i: the column 'label' holds bytes"),
        ("label", pa.array([b"a", b"b"]).dictionary_encode(), "item i: the column 'label' holds bytes"),
        ("text", [b"good", b"bad"], "item i: the column 'text' holds bytes"),
        ("text", [None, ["good", "film"]], "item j: the column 'text' holds a list"),
        ("split", [["train"], ["test"]], "item i: the column 'split' holds a list"),
        (
            "image",
            [[[0, 255]], [[1, 2]]],
            "item i: the column 'image' holds a list; expected the bytes of an image file",
        ),
        ("image", [[{"bytes": b"x", "path": None}]] * 2, "item i: the column 'image' holds a list"),
        ("image", [{"pixels": b"x"}] * 2, "item i: the column 'image' holds a mapping"),
        ("image", ["pics/1.png", "pics/2.png"], "item i: the column 'image' holds 'pics/1.png'.*imagefolder"),
        ("image", [1, 2], "item i: the column 'image' holds int"),
    ],
)
def test_a_value_that_is_no_single_one_is_told_by_column_and_item(fetch, tmp_path, column, values, words):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"item": ["i", "j"], "idle": ["x", "y"], column: values}), tmp_path / "data/x.parquet")
    with pytest.raises(SourceError, match=f"mine: {words}"):
        fetch({}, "parquet")
    assert set(fetch({}, "parquet", columns=f"unread={column}")) == {"item", "idle", "unread"}


@pytest.mark.parametrize("column", ["image", "context", "question"])
@pytest.mark.parametrize("values", [["http://a", "http://b"], [["a", "b"], ["c"]], [{"a": 1}, {"a": 2}]])
def test_what_no_task_reads_beside_a_text_is_kept_as_it_is(fetch, tmp_path, column, values):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"text": ["x", "y"], column: values}), tmp_path / "data/x.parquet")
    assert len(fetch({}, "parquet")[column]) == 2
