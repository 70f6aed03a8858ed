"""The tables of config/ as people save them: cells as they stand, or a message that names file and line."""

import pytest

from essential_sparsity.study import tsv
from essential_sparsity.study.configuration import ConfigError

HEADER = "model\tlabel\ttype\tsource\tid\trevision\tformat\tparameters\tallow_pickle\tseries\tgroup\taxis\tvalues\tnote"


def line(model, label="L", note=""):
    return f"{model}\t{label}\tencoder\tpath\t/data/{model}\t\ttransformers\t1e6\tfalse\t\t\t\t\t{note}"


def read(path, *lines, encoding="utf-8", end="\n"):
    path.write_bytes(end.join([HEADER, *lines, ""]).encode(encoding))
    return tsv.read_table(str(path), "models", "model")


@pytest.mark.parametrize(
    "cell", ['"Small" BERT', '"one-shot" is meant', '"one', '"', 'a "b"', '"whole"', "Modèle", "a\u00a0b"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_cells_are_what_stands_in_them(tmp_path, cell, end, encoding):
    rows = read(tmp_path / "m.tsv", line("m1", cell, cell), line("m2"), encoding=encoding, end=end)
    assert [(row["model"], row["label"], row["note"]) for row in rows] == [("m1", cell, cell), ("m2", "L", None)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{HEADER}\n{line('m1', 'Modèle')}\n".encode("latin-1"), "line 2: byte 0xe8 is no UTF-8 text.*save it as UTF-8"),
        (f"{HEADER}\n{line('m1')}\n".encode("utf-16"), "no UTF-8 text, but UTF-16"),
        (f"{HEADER}\n{line('m1')}\n".encode("utf-16-le"), "no UTF-8 text, but UTF-16"),
        (HEADER.replace("\t", " ").encode(), "header: one cell, 'model label type.*single tabs"),
        (HEADER.replace("\t", ",").encode(), "header: one cell.*single tabs"),
        (HEADER.replace("\t", ";").encode(), "header: one cell.*single tabs"),
        (f"{HEADER}\n{line('m1').replace(chr(9), '  ')}\n".encode(), "line 2: one cell.*single tabs"),
        (f'{HEADER}\n{line("m1", note=chr(34) + "a, b" + chr(34))}\n'.encode(), 'line 2: the cell "a, b" is quoted'),
        (f'{HEADER}\n{line("m1", note=chr(34) + "say " + 2 * chr(34) + "hi" + 3 * chr(34))}\n'.encode(), "line 2: .*is quoted"),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_or_an_editor_made_else_of_it_is_told_with_its_line(tmp_path, content, words):
    (tmp_path / "m.tsv").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"m\.tsv, {words}|m\.tsv: .*{words}"):
        tsv.read_table(str(tmp_path / "m.tsv"), "models", "model")
