"""Data of strangers: texts, tables and images that bomb, nest or point elsewhere are refused when they are fetched, by name."""

import gzip
import io
import json
import os
import pickle
import struct
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from essential_sparsity.acquire import readers

RAN = "ran"  # the file that hostile code would make
PIECE = 1 << 22
BOMB = (1 << 28) + 2 * PIECE  # bytes of a repeated letter, packed by a thousand
GHOSTSCRIPT = (
    f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(/bin/sh -c 'touch {RAN}') (w) file\n{{}} loop\n"
)


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {RAN}",)


def file(name, content):
    """Write one file of the data."""

    def write(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content() if callable(content) else content)

    return write


def several(*writes):
    return lambda folder: [write(folder) for write in writes]


def linked(name, target):
    def write(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)

    return write


def pipe(name):
    def write(folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)

    return write


def table(columns, metadata=None, **options):
    """A Parquet file."""
    found = pa.table(columns)
    stream = io.BytesIO()
    pq.write_table(found.replace_schema_metadata(metadata) if metadata else found, stream, **options)
    return stream.getvalue()


def image_column(value):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return {"image": pa.array([{"bytes": None, "path": value}], kind), "label": ["cat"]}


def huge_values(**options):
    """A text of 4 MiB, by its number in a dictionary, in each of 100,000 rows."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * PIECE]))
    return table({"text": texts}, **options)


def many_rows():
    """A hundred million rows of one number."""
    schema, stream = pa.schema({"label": pa.int8()}), io.BytesIO()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        batch = pa.table({"label": pa.array(np.zeros(20_000_000, np.int8))}, schema)
        for _ in range(5):
            writer.write_table(batch, row_group_size=20_000_000)
    return stream.getvalue()


def arrow_file(change):
    """An Arrow stream of one column of texts, changed."""
    stream = io.BytesIO()
    texts = pa.table({"text": ["a" * 40, "b" * 40]})
    with pa.ipc.new_stream(stream, texts.schema) as writer:
        writer.write_table(texts)
    content = stream.getvalue()
    place = content.index(struct.pack("<iii", 0, 40, 80))
    return content[:place] + struct.pack("<iii", *change) + content[place + 12 :]


def extension():
    """An Arrow stream whose type is, by its name, a pickle (CVE-2023-47248)."""
    field = pa.field(
        "text", pa.string(),
        metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Evil())},
    )  # fmt: skip
    stream = io.BytesIO()
    texts = pa.table([pa.array(["a", "b"])], schema=pa.schema([field]))
    with pa.ipc.new_stream(stream, texts.schema) as writer:
        writer.write_table(texts)
    return stream.getvalue()


def png(width, height, data=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", data or zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def picture():
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def pictures(*others):
    """A folder of images of two classes, with others."""
    return several(file("cat/1.png", picture()), file("dog/1.png", picture()), *others)


DEEP = b"[" * 200_000 + b"]" * 200_000
TEXTS = {
    "JSON two hundred thousand lists deep": ("json", file("x.json", DEEP), "x.json"),
    "a line of JSON two hundred thousand lists deep": ("json", file("x.jsonl", b'{"a":' + DEEP + b"}"), "x.jsonl"),
    "summaries that are deep": ("summaries-json", file("x.json", DEEP), "x.json"),
    "summaries that are a list": ("summaries-json", file("x.json", b"[1]"), "x.json"),
    "grey values that are deep": ("digits-json", file("1.json", b'{"data":' + DEEP + b"}"), "1.json"),
    "a number of a million digits": ("json", file("x.jsonl", b'{"a": ' + b"9" * 1_000_000 + b"}"), "x.jsonl"),
    "another key in each of 20,000 objects": (
        "json", file("x.jsonl", b"\n".join(b'{"k%d":1}' % i for i in range(20_000))), "x.jsonl holds 20,000 objects",
    ),
    "texts that are packed a thousand times": (
        "json", file("x.jsonl.gz", lambda: gzip.compress(b"x" * PIECE) * (BOMB // PIECE)), "x.jsonl.gz holds more than",
    ),
    "a table that is packed a thousand times": (
        "csv", file("x.csv.gz", lambda: gzip.compress(b"x" * PIECE) * (BOMB // PIECE)), "x.csv.gz holds more than",
    ),
    "an IDX file that is packed a thousand times": (
        "idx",
        several(
            file("train-images-idx3-ubyte.gz", lambda: gzip.compress(b"x" * PIECE) * (BOMB // PIECE)),
            *(file(f"{name}-ubyte", b"") for name in ("train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")),
        ),
        "train-images-idx3-ubyte.gz holds more than",
    ),
    "gzip that is damaged": ("csv", file("x.csv.gz", gzip.compress(b"a,b\n" * 999)[:-20]), "x.csv.gz cannot be unpacked"),
    "gzip that is none": ("csv", file("x.csv.gz", b"\x1f\x8b" + b"\xff" * 99), "x.csv.gz cannot be unpacked"),
    "an IDX file of 2^31 images": (
        "idx",
        several(
            file("train-images-idx3-ubyte", b"\0\0\x08\x03" + struct.pack(">iii", (1 << 31) - 1, 28, 28)),
            *(file(f"{name}-ubyte", b"\0\0\x08\x01\0\0\0\0") for name in ("train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")),
        ),
        "train-images-idx3-ubyte",
    ),
    "a quote that does not end": ("csv", file("x.csv", b'a,b\n"' + b"x" * 5_000_000), "x.csv, line 2"),
    "two hundred thousand columns for one row": ("csv", file("x.csv", b"," * 200_000 + b"\n1\n"), "x.csv"),
    "zero bytes": ("csv", file("x.csv", b"a,b\n\0,1\n"), "x.csv is no UTF-8 text"),
    "objects pickled by the name of a table": ("csv", file("x.csv", pickle.dumps(Evil())), "x.csv"),
    "a pickle, an .npy, an .npz and a .joblib": (
        "csv", several(*(file(f"x.{kind}", pickle.dumps(Evil())) for kind in ("pkl", "npy", "npz", "joblib"))), "There is no file .csv",
    ),
}  # fmt: skip
TABLES = {
    "an image by the name of a pipe": (
        "parquet", several(file("x.parquet", table(image_column("pipe"))), pipe("pipe")), "x.parquet.*without holding it",
    ),
    "an image by the name of a device without an end": (
        "parquet", file("x.parquet", table(image_column("/dev/zero"))), "x.parquet.*without holding it",
    ),
    "an image by the name of a file of the system": (
        "parquet", file("x.parquet", table(image_column("/etc/passwd"))), "x.parquet.*without holding it",
    ),
    "a category of 4 MiB in each of 100,000 rows": ("parquet", file("x.parquet", huge_values), "x.parquet holds more than"),
    "a text of 4 MiB in each of 100,000 rows": (
        "parquet", file("x.parquet", lambda: huge_values(store_schema=False)), "x.parquet.*memory",
    ),
    "a hundred million rows in a few bytes": ("parquet", file("x.parquet", many_rows), "x.parquet holds more than"),
    "the first half of a table": ("parquet", file("x.parquet", lambda: table({"a": list(range(999))})[:2000]), "x.parquet"),
    "a footer that is longer than its file": (
        "parquet", file("x.parquet", b"PAR1" + b"\0" * 99 + struct.pack("<I", 1 << 30) + b"PAR1"), "x.parquet",
    ),
    "a footer of other bytes": ("parquet", file("x.parquet", b"PAR1" + b"\xff" * 99 + struct.pack("<I", 90) + b"PAR1"), "x.parquet"),
    "a page of other bytes": (
        "parquet",
        file("x.parquet", lambda: (c := table({"a": ["t" * 9] * 999}, compression="NONE"))[:4] + b"\xff" * 60 + c[64:]),
        "x.parquet",
    ),
    "classes that are deep": (
        "parquet",
        file("x.parquet", lambda: table({"label": [0, 1]}, metadata={b"huggingface": b'{"info": {"features": ' + DEEP + b"}}"})),
        "x.parquet",
    ),
    "a class of 2^62": (
        "parquet",
        file("x.parquet", lambda: table({"label": [0, 1 << 62]}, metadata={b"huggingface": json.dumps(
            {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}).encode()})),
        "x.parquet",
    ),
    "texts that end outside of their file": ("arrow", file("x.arrow", lambda: arrow_file((0, 40, 1 << 30))), "x.arrow"),
    "texts that start before their file": ("arrow", file("x.arrow", lambda: arrow_file((-(1 << 20), 40, 80))), "x.arrow"),
    "texts that end before they start": ("arrow", file("x.arrow", lambda: arrow_file((0, 80, 40))), "x.arrow"),
    "an Arrow file of other bytes": ("arrow", file("x.arrow", b"ARROW1\0\0" + b"\xff" * 999), "x.arrow"),
    "documents of other bytes": ("lm-eval", file("c/x.parquet", b"PAR1" + b"\xff" * 99), "x.parquet"),
}  # fmt: skip
IMAGES = {
    "a program for Ghostscript": ("imagefolder", pictures(file("cat/2.png", GHOSTSCRIPT.encode())), "cat/2.png cannot be decoded"),
    "a program for Ghostscript, in a table": (
        "parquet",
        file("x.parquet", table({"image": pa.array([{"bytes": GHOSTSCRIPT.encode(), "path": "a.eps"}]), "label": ["cat"]})),
        "the image 0000000 cannot be decoded",
    ),
    "an image of a hundred thousand pixels each way": ("imagefolder", pictures(file("cat/2.png", png(100_000, 100_000))), "cat/2.png"),
    "an image that says 2^31 pixels each way": ("imagefolder", pictures(file("cat/2.png", png((1 << 31) - 1, (1 << 31) - 1))), "cat/2.png"),
    "an image of no pixel": ("imagefolder", pictures(file("cat/2.png", png(0, 0))), "cat/2.png"),
    "an image that is a pipe": ("imagefolder", pictures(pipe("cat/2.png")), "cat/2.png is a device"),
    "an image that is a device without an end": ("imagefolder", pictures(linked("cat/2.png", "/dev/zero")), "cat/2.png is a device"),
    "an image that is a text of the system": ("imagefolder", pictures(linked("cat/2.png", "/etc/passwd")), "cat/2.png cannot be decoded"),
    "an image that leads to itself": ("imagefolder", pictures(linked("cat/2.png", "2.png")), "cat/2.png cannot be read"),
    "an image that leads nowhere": ("imagefolder", pictures(linked("cat/2.png", "nowhere")), "cat/2.png cannot be read"),
    "an image without a byte": ("imagefolder", pictures(file("cat/2.png", b"")), "cat/2.png cannot be decoded"),
}  # fmt: skip


def attempted(attempts, tmp_path, format_name, write, **settings):
    """Fetch data in this format; how that ended. A program by the name of Ghostscript lies in wait."""
    work = tmp_path / "work"
    (work / "d").mkdir(parents=True)
    write(work / "d")
    row = {"source": "path", "id": "d", "revision": None, "format": format_name, "columns": None} | settings
    arguments = ["--dataset", "x", "--settings", json.dumps(row), "--manifest", "out/manifest.json"]
    ended = attempts.program("fetch_dataset", *arguments, folder=work)
    assert not (work / RAN).exists()
    assert not (work / "d" / RAN).exists()
    return work, ended


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_bomb_or_nest(attempts, tmp_path, name):
    """Refused by the name of the file, before they fill the memory"""
    format_name, write, words = TEXTS[name]
    work, ended = attempted(attempts, tmp_path, format_name, write)
    ended.check_refused(words)
    assert not (work / "out/manifest.json").exists()


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_bomb_or_point_elsewhere(attempts, tmp_path, name):
    """Refused by the name of the file; no file that a table names is opened, and no place outside of it is read"""
    format_name, write, words = TABLES[name]
    work, ended = attempted(attempts, tmp_path, format_name, write)
    ended.check_refused(words)
    assert not (work / "out/manifest.json").exists()


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_bomb_or_run(attempts, tmp_path, name):
    """Refused by the name of the image; no program is started for it, and what is no file is not opened"""
    format_name, write, words = IMAGES[name]
    work, ended = attempted(attempts, tmp_path, format_name, write)
    ended.check_refused(words)
    assert not (work / "out/manifest.json").exists()


def test_a_type_of_arrow_that_is_a_pickle(attempts, tmp_path):
    """Read as what it is stored as: nothing is unpickled"""
    work, ended = attempted(attempts, tmp_path, "arrow", file("x.arrow", extension()))
    ended.check_passed("2 rows with item, text")
    assert pd.read_parquet(work / "out/files/data.parquet")["text"].tolist() == ["a", "b"]


def test_a_link_out_of_a_folder(attempts, tmp_path):
    """Read, since caches are made of links, and named in the log with the place that it leads to"""
    (tmp_path / "elsewhere.csv").write_text("text,label\na,b\nc,d\n")
    _, ended = attempted(attempts, tmp_path, "csv", linked("x.csv", tmp_path / "elsewhere.csv"))
    ended.check_passed(r"warning: d holds links to files outside of it, which are read: x.csv \(.*elsewhere.csv\)")


def test_a_link_to_a_folder_above(attempts, tmp_path):
    """Not followed, so it is not read for ever"""
    _, ended = attempted(attempts, tmp_path, "imagefolder", pictures(linked("cat/d", "../..")))
    ended.check_passed("files read: 2 ")


CELLS = {
    "a formula of a spreadsheet": "=cmd|'/c calc'!A0",
    "a command of a shell": f"$(touch {RAN}); `touch {RAN}` | tee {RAN} & touch {RAN}",
    "markup": "<script>alert(1)</script>{{ 7 * 7 }}<img src=x onerror=alert(1)>",
    "mathematics": "$x^$ \\input{/etc/passwd} %s %n {0.__class__}",
    "letters that turn the text around": "\u202eabc\u2066\u2069\u200f",
    "control characters": "a\x1b[2Jb\x07\x7f",
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_another_program_would_run(attempts, tmp_path, name):
    """Kept as the text that it is, in texts, labels and names of columns"""
    cell = CELLS[name]
    lines = "\n".join(json.dumps({"text": cell, "label": cell, cell: "x", "item": f"{cell}{i}"}) for i in range(2))
    work, ended = attempted(attempts, tmp_path, "json", file("x.jsonl", lines.encode()))
    ended.check_passed("2 rows with item")
    found = pd.read_parquet(work / "out/files/data.parquet")
    assert found["text"].tolist() == found["label"].tolist() == [cell, cell]
    assert cell in found.columns


def test_texts_that_many_rows_share_are_no_bomb(tmp_path):
    """Read, with the dictionary of a column held once, though each piece that is read brings one"""
    codes = np.random.default_rng(0).integers(0, 50_000, 250_000)
    texts = pd.Categorical.from_codes(codes, [f"{number:0100d}" for number in range(50_000)])
    pd.DataFrame({"text": texts}).to_parquet(tmp_path / "x.parquet")
    found = readers.parquet(tmp_path / "x.parquet")
    np.testing.assert_array_equal(found["text"].cat.codes, codes)
    assert found["text"].cat.categories.equals(texts.categories)
