"""What fetching says of a data set: rows, labels, what is empty, repeated or in both splits, and what was left out."""

import json

import pandas as pd
import pytest
from PIL import Image

import fetch_dataset
from essential_sparsity import files
from essential_sparsity.acquire import formats, frames, reports
from essential_sparsity.acquire.sources import SourceError


def fetched(tmp_path, form, columns=None, source=None):
    settings = {"source": "path", "id": str(source or tmp_path / "data"), "format": form, "columns": columns}
    return formats.fetch_dataset("mine", settings, tmp_path / "work")["report"]


def write(tmp_path, **tables):
    (tmp_path / "data").mkdir(exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / f"data/{name}.csv", index=False)


@pytest.mark.parametrize("column", ["Split", "subset", "fold"])
def test_a_column_that_says_splits_under_another_name_is_told(tmp_path, column):
    cells = ["train", "Train", "dev", "test"]
    (tmp_path / "data").mkdir()
    pd.DataFrame({"text": list("abcd"), "label": list("xyxy"), column: cells}).to_csv(
        tmp_path / "data/f.csv", index=False
    )
    (warning,) = fetched(tmp_path, "csv")["warnings"]
    assert warning.startswith(f"the column {column!r} says test, train, validation, as splits are called")
    assert f"split={column}" in warning
    assert fetched(tmp_path, "csv", f"split={column}")["warnings"] == []
    pd.DataFrame({"text": list("abcd"), "label": list("xyxy"), column: [*cells[:3], "bus"]}).to_csv(
        tmp_path / "data/f.csv", index=False
    )
    assert fetched(tmp_path, "csv")["warnings"] == []


def test_labels_that_differ_in_capitals_alone_are_told(tmp_path):
    write(tmp_path, train=[("a", "Cat"), ("b", "cat"), ("c", "dog"), ("d", "caf\u00e9"), ("e", "cafe\u0301")])
    (warning,) = fetched(tmp_path, "csv")["warnings"]
    assert warning.endswith(r"are several: 'Cat', 'cat', 'caf\xe9', 'cafe\u0301'")


def test_labels_that_are_one_number_in_two_spellings_are_told(tmp_path):
    write(tmp_path, data=[("a", "1"), ("b", "0"), ("c", "1.0"), ("d", "01"), ("e", "2"), ("f", "v1")])
    (warning,) = fetched(tmp_path, "csv")["warnings"]
    assert warning.endswith("are several: '1', '1.0', '01'")


@pytest.mark.parametrize(
    "labels",
    [
        ["1.1", "1.10", "1.9", "3.1", "3.10"],
        ["724.2", "724.20"],
        ["-1", "0", "1"],
        ["[unknown]", "[not relevant]", "joy"],
        ["[CLS]", "[SEP]", "[18-25]"],
        ["[0]", "[27]", "[-1.5]"],
        ["[0, 10)", "[10, 20)"],
    ],
)
def test_labels_that_are_versions_codes_or_words_in_brackets_are_not_warned_of(tmp_path, labels):
    write(tmp_path, data=[(f"text {number}", label) for number, label in enumerate(labels)])
    assert fetched(tmp_path, "csv")["warnings"] == []


@pytest.mark.parametrize(
    "label", ["[a, b]", "['a', 'b']", "['a' 'b']", "[0 2]", "[ 1  0]", "[-1.5, 2]", "[0\n 1]", "[[0], [1]]"]
)
def test_a_label_of_several_values_is_told(tmp_path, label):
    write(tmp_path, data=[("a", label), ("b", "x")])
    (warning,) = fetched(tmp_path, "csv")["warnings"]
    assert "written as lists" in warning


def test_labels_that_are_written_as_lists_are_told(tmp_path):
    """Several labels a row, in a table of cells: `[0, 2]` is no class beside `[0]` and `[2]`."""
    write(tmp_path, data=[("a", "[0]"), ("b", "[0 2]"), ("c", "[2]"), ("d", "x")])
    (warning,) = fetched(tmp_path, "csv")["warnings"]
    assert warning.endswith("count as one class each, whatever they share: [0], [0 2], [2]")


def test_texts_of_signs_that_nobody_sees_are_empty(tmp_path):
    texts = ["\u200b", "\ufeff ", "\u00a0", "\u200bx", "\u2003", "x", "\U0001f600", "\u3000"]
    write(tmp_path, train=[(text, "xy"[place % 2]) for place, text in enumerate(texts)])
    assert fetched(tmp_path, "csv")["splits"]["all"]["empty"] == {"text": 5}
    assert [frames.unseen(text) for text in texts] == [True, True, True, False, True, False, False, True]


def test_the_report_counts_what_stands_in_the_files(tmp_path):
    train = [("a", "x"), ("b", "y"), ("b", "y"), ("c", None), (None, "x"), ("  ", "y")]
    write(tmp_path, train=train, test=[("a", "x"), ("d", "z")])
    (tmp_path / "data/README.md").write_text("about")
    (tmp_path / "data/.hidden.csv").write_text("x")
    report = fetched(tmp_path, "csv")
    assert report["splits"]["train"] == {
        "rows": 6,
        "labels": [["x", 2], ["y", 3]],
        "without_label": 1,
        "missing": {},
        "empty": {"text": 2},
        "repeated": 1,
    }
    assert report["splits"]["test"] == {
        "rows": 2,
        "labels": [["x", 1], ["z", 1]],
        "without_label": 0,
        "missing": {},
        "empty": {},
        "repeated": 0,
        "in_training": 1,
    }
    assert report["files"] == {"number": 2, "first": ["test.csv", "train.csv"]}
    assert [name for name, _ in report["files_left_out"]["first"]] == [".hidden.csv", "README.md"]
    assert report["warnings"] == [
        "the split test has labels that no row of train has: 'z'",
        "1 of 2 rows of the split test stand in train as well",
    ]
    told = "\n".join(reports.lines(report))
    for words in (
        "train: 6 rows; labels x 2 (40 %), y 3 (60 %); 1 without a label; 2 empty in text; 1 repeat",
        "README.md (no .csv",
    ):
        assert words in told


@pytest.mark.parametrize("rows", [[("a", "x"), ("b", "x")], [("a", "1")] * 3, [("a", "None"), ("b", "None")]])
def test_one_label_is_a_warning_because_other_kinds_need_none(tmp_path, rows):
    write(tmp_path, data=rows)
    assert "all rows have the one label" in fetched(tmp_path, "csv")["warnings"][0]


def test_the_same_data_give_the_same_manifest_wherever_they_lie(tmp_path):
    found = []
    for name in ("one", "two"):
        write(tmp_path / name if (tmp_path / name).mkdir() is None else None, train=[("a", "x"), ("b", "y")])
        found.append(json.dumps(fetched(tmp_path / name, "csv")))
    assert found[0] == found[1]
    assert str(tmp_path) not in found[0]


@pytest.mark.parametrize("suffix", ["heic", "svg", "txt"])
def test_images_of_which_most_are_not_read_are_refused(tmp_path, suffix):
    for label in ("cat", "dog"):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / f"data/{label}/1.png")
        for i in range(2):
            (tmp_path / f"data/{label}/{i}.{suffix}").write_text("x")
    with pytest.raises(SourceError, match=rf"more than half of the files are no images .*cat/0\.{suffix}"):
        fetched(tmp_path, "imagefolder")


def test_ratings_of_which_most_take_no_side_are_refused(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("1\t0.5\ta\n2\t2\tb\n3\t-2\tc\n")
    assert fetched(tmp_path, "ratings-tsv", source=path)["rows_left_out"] == {
        "a rating between -1 and 1 takes no side": 1
    }
    path.write_text("1\t0.5\ta\n2\t0\tb\n3\t-2\tc\n")
    with pytest.raises(SourceError, match="2 of 3 rows are left out"):
        fetched(tmp_path, "ratings-tsv", source=path)


def test_the_program_prints_the_report_and_keeps_it(tmp_path, capsys):
    write(tmp_path, train=[("a", "x"), ("b", "y")], test=[("c", "x")])
    settings = {"source": "path", "id": str(tmp_path / "data"), "format": "csv", "columns": None, "packages": []}
    manifest = tmp_path / "out/manifest.json"
    fetch_dataset.main(["--dataset", "mine", "--settings", json.dumps(settings), "--manifest", str(manifest)])
    told = capsys.readouterr().out
    for line in reports.lines(files.read_json(manifest)["report"]):
        assert f"  {line}\n" in told
