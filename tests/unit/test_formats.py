"""What becomes of each format: frames of data, folders of models. Files are tiny and made here."""

import gzip
import io
import json
import re
import struct

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from essential_sparsity.acquire import conversion, formats, parquets, readers
from essential_sparsity.acquire.sources import SourceError


def frame_of(tmp_path, name, content, format_name, **settings):
    """Write one file, fetch it as a data set from its path; return (frame, manifest)."""
    path = tmp_path / "source" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return fetched(tmp_path, path, format_name, **settings)


def fetched(tmp_path, path, format_name, **settings):
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    record = formats.fetch_dataset("data", {"source": "path", "id": str(path), "format": format_name, **settings}, work)
    return pd.read_parquet(work / "files/data.parquet"), record


def pixels_of(encoded: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(encoded)))


# ---- packaged data ---------------------------------------------------------------------------------------------------


def test_ratings_keep_those_that_take_a_side(tmp_path):
    text = '7\t1.0\tfine film\r\n8\t0.99\tso so\r\n9\t-1\tclichéd, "dull"\r\n10\t-0.5\tmeh\r\n11\t3.5\tgreat\r\n'
    frame, record = frame_of(tmp_path, "r.txt", text, "ratings-tsv")
    assert frame["item"].tolist() == ["7", "9", "11"]
    assert frame["label"].tolist() == ["positive", "negative", "positive"]
    assert frame["text"].tolist() == ["fine film", 'clichéd, "dull"', "great"]
    assert frame["rating"].tolist() == [1.0, -1.0, 3.5]
    assert record["columns"] == ["item", "text", "label", "rating"]
    assert record["n_rows"] == {"all": 3}


@pytest.mark.parametrize("line", ["7\t2\tgood\tfilm", "7\t2", "7\tnan\tgood", "7\tinf\tgood", "7\t25\tgood"])
def test_a_line_that_is_no_rating_of_a_text_is_refused(tmp_path, line):
    with pytest.raises(SourceError, match=r"r\.txt, rating 2 .*expected three cells .* from -4 to 4"):
        frame_of(tmp_path, "r.txt", f"6\t1\tfine\n{line}\n", "ratings-tsv")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summaries", '{"A": {"extract": "a", "topic": "x"}, "A": {"extract": "b", "topic": "y"}}'),
        ("digits", '{"data": [0], "data": [1]}'),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, name, content):
    with pytest.raises(SourceError, match=r"s\.json: an object holds the key '(A|data)' twice"):
        frame_of(tmp_path, "s.json", content, f"{name}-json")


def test_word_pairs_skip_comments_and_keep_repeated_pairs(tmp_path):
    text = "# The collection\n# Word 1\tWord 2\tHuman\nmoney\tcash\t9.15\ntiger\ttiger\t10.00\nmoney\tcash\t9.08\n"
    frame, _ = frame_of(tmp_path, "w.tsv", text, "word-pairs")
    assert frame.to_dict("list") == {
        "item": ["0000", "0001", "0002"],
        "text_a": ["money", "tiger", "money"],
        "text_b": ["cash", "tiger", "cash"],
        "target": [9.15, 10.0, 9.08],
    }


def test_summaries_without_a_topic_keep_their_text(tmp_path):
    entries = {
        "Ant": {"title": "Ant", "extract": "Ants are…", "topic": "Biology", "description": "insect"},
        "Odd": {"title": "Odd", "extract": "Odd is…", "topic": "Uncategorized"},
    }
    frame, _ = frame_of(tmp_path, "s.json", json.dumps(entries), "summaries-json")
    assert frame["item"].tolist() == frame["title"].tolist() == ["Ant", "Odd"]
    assert frame["text"].tolist() == ["Ants are…", "Odd is…"]
    assert frame["label"][0] == "Biology"
    assert frame["label"].isna().tolist() == [False, True]


def test_pixels_become_pictures(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 16))
    lines = "".join(",".join(map(str, [*row, label])) + "\n" for row, label in zip(images, [7, 0, 7], strict=True))
    frame, _ = frame_of(tmp_path, "p.csv.gz", gzip.compress(lines.encode()), "pixels-csv")
    assert frame["label"].tolist() == ["7", "0", "7"]
    for encoded, image in zip(frame["image"], images, strict=True):
        assert encoded.startswith(b"\x89PNG")
        assert (pixels_of(encoded) == image.reshape(4, 4)).all()


def test_digits_are_exact_although_stored_to_three_decimals(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 784))
    images[0, :256] = range(256)
    stored = {"data": [round(value / 255, 3) for value in images.ravel().tolist()]}
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/3.json").write_text(json.dumps(stored))
    (tmp_path / "digits/1.json").write_text(json.dumps({"data": [0] * 784}))
    frame, record = fetched(tmp_path, tmp_path / "digits", "digits-json")
    assert frame["item"].tolist() == ["1-0000", "3-0000", "3-0001"]
    assert frame["label"].tolist() == ["1", "3", "3"]
    assert (pixels_of(frame["image"][1]) == images[0].reshape(28, 28)).all()
    assert record["n_rows"] == {"all": 3}


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def test_idx_splits_and_pictures(tmp_path):
    images = np.arange(4 * 9).reshape(4, 3, 3)
    (tmp_path / "idx").mkdir()
    for prefix, part in (("train", slice(0, 3)), ("t10k", slice(3, 4))):
        (tmp_path / f"idx/{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images[part])))
        (tmp_path / f"idx/{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([9, 8, 7, 6])[part]))
    frame, record = fetched(tmp_path, tmp_path / "idx", "idx")
    assert frame["item"].tolist() == ["train-00000", "train-00001", "train-00002", "test-00000"]
    assert frame["label"].tolist() == ["9", "8", "7", "6"]
    assert all((pixels_of(encoded) == image).all() for encoded, image in zip(frame["image"], images, strict=True))
    assert record["n_rows"] == {"train": 3, "test": 1}
    (tmp_path / "idx/train-labels-idx1-ubyte").write_bytes(b"\0\0\x0d\1")
    with pytest.raises(SourceError, match="train-labels-idx1-ubyte is not an IDX file"):
        fetched(tmp_path, tmp_path / "idx", "idx")


@pytest.mark.parametrize(
    ("name", "content", "format_name"),
    [
        ("r.txt", "7\tnot a number\ttext\n", "ratings-tsv"),
        ("w.tsv", "one column\n", "word-pairs"),
        ("s.json", '{"a": 1}', "summaries-json"),
        ("s.json", "{", "summaries-json"),
        ("p.csv", "a,b\nc", "pixels-csv"),
        ("d.json", '{"data": [0, 1]}', "digits-json"),
        ("a.json", "{,", "json"),
        ("a.parquet", b"PAR1", "parquet"),
        ("a.csv", "", "csv"),
    ],
)
def test_malformed_files_are_an_error_for_a_person(tmp_path, name, content, format_name):
    with pytest.raises(SourceError, match=rf"{name}.*{format_name}"):
        frame_of(tmp_path, name, content, format_name)
    assert not (tmp_path / "work/files").exists()


# ---- files of the user or of the hub, through the datasets library ---------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))


def test_csv_columns_are_kept_renamed_and_items_made(tmp_path):
    frame, record = frame_of(tmp_path, "a.csv", 'sentence,gold\ngood film,1\n"bad, film",0\n', "csv")
    assert record["columns"] == ["item", "sentence", "gold"]
    assert frame["item"].tolist() == ["0000000", "0000001"]
    frame, _ = frame_of(tmp_path, "a.csv", "sentence,gold\ngood film,1\n", "csv", columns="text=sentence,label=gold")
    assert frame.to_dict("list") == {"item": ["0000000"], "text": ["good film"], "label": ["1"]}
    with pytest.raises(SourceError, match=r"no column 'sentense', which .* name; it has sentence, gold"):
        frame_of(tmp_path, "a.csv", "sentence,gold\ngood film,1\n", "csv", columns="text=sentense")


def test_renaming_can_swap_and_replace(tmp_path):
    frame, _ = frame_of(tmp_path, "a.csv", "text,label,raw\nt,l,r\n", "csv", columns="text=label,label=text")
    assert frame.loc[0, ["text", "label", "raw"]].tolist() == ["l", "t", "r"]
    frame, record = frame_of(tmp_path, "a.csv", "text,label,raw\nt,l,r\n", "csv", columns="text=raw")
    assert record["columns"] == ["item", "label", "text"]
    assert frame["text"].tolist() == ["r"]


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        ("text_a=premise", ["premise", "text_b"]),
        ("text_a=premise,text_b=text", ["premise", "text"]),
        ("text_a=text_a", ["text_a", "text_b"]),
        ("text=premise", ["premise"]),
        ("text=text", ["text"]),
        ("text=premise,text_b=text_b", ["premise", "text_b"]),
        ("text=text,text_a=text_a", ["text", "text_a", "text_b"]),
        ("label=label", ["text", "text_a", "text_b"]),
    ],
)
def test_what_a_row_names_is_not_read_beside_the_data_s_own_of_the_other_form(tmp_path, columns, left):
    frame, _ = frame_of(tmp_path, "a.csv", "premise,text,text_a,text_b,label\n" * 2, "csv", columns=columns)
    read = [name for name in ("text", "text_a", "text_b") if name in frame]
    assert sorted(frame.loc[0, read]) == left


def test_json_lines_with_their_own_items(tmp_path):
    lines = "".join(json.dumps({"text": f"t{i}", "item": 10 - i}) + "\n" for i in range(3))
    frame, _ = frame_of(tmp_path, "a.jsonl", lines, "json")
    assert list(frame.columns) == ["item", "text"]
    assert frame["item"].tolist() == ["10", "9", "8"]
    with pytest.raises(SourceError, match="repeated or empty: 1"):
        frame_of(tmp_path, "a.jsonl", '{"item": 1}\n{"item": 1}\n', "json")


def test_parquet_splits_classes_and_pictures(tmp_path):
    import datasets

    buffer = io.BytesIO()
    Image.fromarray(np.eye(3, dtype=np.uint8)).save(buffer, "PNG")
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["no", "yes"]), "image": datasets.Image(), "text": datasets.Value("string")}
    )
    (tmp_path / "d/plain").mkdir(parents=True)
    names = {"train": "train-00000-of-00001", "matched": "validation_matched-00000-of-00001", "test": "test"}
    for split, labels in {"train": [1, 0], "matched": [0], "test": [-1]}.items():
        image = {"bytes": buffer.getvalue(), "path": None}
        columns = {"label": labels, "image": [image] * len(labels), "text": ["restrain-the-test"] * len(labels)}
        data = datasets.Dataset.from_dict(columns, features=features)
        data.to_parquet(tmp_path / f"d/plain/{names[split]}.parquet")
    (tmp_path / "d/README.md").write_text("about")
    frame, record = fetched(tmp_path, tmp_path / "d", "parquet")
    assert record["n_rows"] == {"train": 2, "validation_matched": 1, "test": 1}
    by_item = frame.set_index("item")
    assert by_item.loc["train-0000000", "label"] == "yes"
    assert by_item.loc["train-0000001", "label"] == "no"
    assert by_item["label"].isna().to_dict()["test-0000000"]
    assert (pixels_of(frame["image"][0]) == np.eye(3)).all()


def test_a_single_split_is_all_of_the_data(tmp_path):
    frame, record = frame_of(tmp_path, "train.csv", "text\na\nb\n", "csv")
    assert "split" not in frame
    assert record["n_rows"] == {"all": 2}


def test_tab_separated_files(tmp_path):
    frame, _ = frame_of(tmp_path, "dev.tsv", "a\tb\nx, y\t1\n", "csv")
    assert frame.loc[0, ["a", "b"]].tolist() == ["x, y", "1"]


def test_the_same_data_give_the_same_bytes_without_a_trace_of_the_place(tmp_path):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        frame_of(tmp_path / name, "a.csv", "text\na\nb\n", "csv")
        written.append((tmp_path / name / "work/files/data.parquet").read_bytes())
    assert written[0] == written[1]
    assert not pq.read_schema(tmp_path / "one/work/files/data.parquet").metadata


def test_wrong_format_and_missing_files_are_named(tmp_path):
    with pytest.raises(SourceError, match=r"format is 'excel'; .*parquet"):
        frame_of(tmp_path, "a.csv", "a", "excel")
    with pytest.raises(SourceError, match=r"no file \.parquet for the format parquet among a\.csv"):
        frame_of(tmp_path, "a.csv", "a", "parquet")
    assert set(readers.SUFFIXES) == set(readers.READERS)
    found, left_out = formats.data_files(["a.json", "dataset_infos.json", "b/c.json", ".d.json", "README.md"], "json")
    assert found == ["a.json", "b/c.json"]
    assert left_out == {
        "dataset_infos.json": "about the data",
        ".d.json": "hidden",
        "README.md": "no .json or .jsonl or .json.gz or .jsonl.gz",
    }


# ---- models ----------------------------------------------------------------------------------------------------------

REPOSITORY = ["README.md", "config.json", "tokenizer.json", "vocab.txt", "merges.txt", "spiece.model", "modeling_x.py"]
WANTED = ["config.json", "merges.txt", "spiece.model", "tokenizer.json", "vocab.txt"]


@pytest.mark.parametrize(
    ("weights", "allowed", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "onnx/model.onnx"], False, ["model.safetensors"]),
        (["model.safetensors", "pytorch_model.bin"], True, ["model.safetensors"]),
        (["pytorch_model.bin", "pytorch_model.bin.index.json"], True, ["pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            False,
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["model.safetensors", "consolidated.safetensors", "sub/model.safetensors", "sub/config.json"],
            False,
            ["model.safetensors"],
        ),
    ],
)
def test_one_set_of_weights_is_chosen(weights, allowed, chosen):
    assert conversion.transformers_files(REPOSITORY + weights, allowed) == sorted(WANTED + chosen)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([*REPOSITORY, "pytorch_model.bin"], r"only as a pickle \(pytorch_model.bin\).*allow_pickle"),
        ([*REPOSITORY, "model-00001-of-00002.safetensors"], "no model.safetensors, nor an index"),
        (["model.safetensors"], "no config.json"),
        (
            [*REPOSITORY, "model.safetensors", "model.safetensors.index.json", "model-00001-of-00001.safetensors"],
            "only the first would be read",
        ),
    ],
)
def test_models_that_cannot_be_used_are_refused(names, message):
    with pytest.raises(SourceError, match=message):
        conversion.transformers_files(names)


def test_a_converted_format_needs_exactly_one_file():
    assert conversion.only_file(["a.gguf", "README.md"], ".gguf") == ["a.gguf"]
    with pytest.raises(SourceError, match=r"one \.gguf file among a\.gguf, b\.gguf, found 2"):
        conversion.only_file(["a.gguf", "b.gguf"], ".gguf")


HIDDEN, LAYERS, PATCH = 64, 2, 2


def dinov2_onnx(path, leave_out=""):
    """A graph with the initialisers and node names of an exported DINOv2 backbone; returns the matrices by hub name."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    arrays, nodes, matrices = {}, [], {}

    def add(name, *shape):
        arrays[name] = rng.normal(size=shape).astype(np.float32)
        return arrays[name]

    add("backbone.embeddings.cls_token", 1, 1, HIDDEN)
    add("onnx::Concat_1", 1, 1, HIDDEN)
    add("onnx::Reshape_2", 1, 9, HIDDEN)
    add("backbone.embeddings.patch_embeddings.projection.weight", HIDDEN, 3, PATCH, PATCH)
    add("backbone.embeddings.patch_embeddings.projection.bias", HIDDEN)
    add("decoder.upconv1.weight", HIDDEN, 8, 4, 4)
    for name in ("weight", "bias"):
        add(f"backbone.layernorm.{name}", HIDDEN)
    for layer in range(LAYERS):
        block = f"encoder.layer.{layer}"
        for norm in ("norm1", "norm2"):
            add(f"backbone.{block}.{norm}.weight", HIDDEN)
            add(f"backbone.{block}.{norm}.bias", HIDDEN)
        for scale in ("layer_scale1", "layer_scale2"):
            add(f"backbone.{block}.{scale}.lambda1", HIDDEN)
        shapes = {f"attention.attention.{part}": (HIDDEN, HIDDEN) for part in ("key", "value", "query")}
        shapes |= {
            "attention.output.dense": (HIDDEN, HIDDEN),
            "mlp.fc1": (HIDDEN, 4 * HIDDEN),
            "mlp.fc2": (4 * HIDDEN, HIDDEN),
        }
        for number, (role, shape) in enumerate(shapes.items()):
            add(f"backbone.{block}.{role}.bias", shape[1])
            matrix = f"onnx::MatMul_{layer}{number}"
            matrices[f"{block}.{role}.weight"] = add(matrix, *shape).T
            node = f"/backbone/encoder/layer.{layer}/{role.replace('.', '/')}/MatMul"
            nodes.append(helper.make_node("MatMul", ["x", matrix], [f"y{layer}{number}"], name=node))
        nodes.append(
            helper.make_node(
                "MatMul", ["a", "b"], [f"z{layer}"], name=f"/backbone/encoder/layer.{layer}/attention/MatMul"
            )
        )
    arrays = {name: array for name, array in arrays.items() if not leave_out or leave_out not in name}
    initialisers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    output = helper.make_tensor_value_info("y00", TensorProto.FLOAT, None)
    save(helper.make_model(helper.make_graph(nodes, "g", [], [output], initialisers)), path)
    return matrices, arrays


def fetch_model(tmp_path, path, format_name, **more):
    work = tmp_path / "key/.fetching"
    work.mkdir(parents=True, exist_ok=True)
    settings = {"source": "path", "id": str(path), "format": format_name, **more}
    return conversion.fetch_model("key", settings, work)


def test_dinov2_is_taken_out_of_its_graph(tmp_path):
    from transformers import AutoImageProcessor, AutoModel

    matrices, arrays = dinov2_onnx(tmp_path / "x.onnx")
    folder, record = fetch_model(tmp_path, tmp_path / "x.onnx", "dinov2-onnx")
    assert record["folder"] == str(tmp_path / "key/files")
    assert [entry["path"] for entry in record["files"]] == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    model, loading = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert (model.config.num_hidden_layers, model.config.image_size, model.config.patch_size) == (
        LAYERS,
        3 * PATCH,
        PATCH,
    )
    loaded = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    roles = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "dense": "o_proj", "fc1": "fc1", "fc2": "fc2"}
    for name, matrix in matrices.items():  # transformers renames modules in memory, so found by value
        found = next(other for other, held in loaded.items() if np.array_equal(held, matrix))
        *_, layer, block, role = re.sub(
            r"attention\.(attention|output)", "attention", name.removesuffix(".weight")
        ).split(".")
        assert f"layer.{layer}.{block}." in found
        assert found.endswith(f"{roles[role]}.weight")
    positions = model.embeddings.position_embeddings.detach().numpy()
    assert np.array_equal(positions[:, :1], arrays["onnx::Concat_1"])
    assert np.array_equal(positions[:, 1:], arrays["onnx::Reshape_2"])
    assert AutoImageProcessor.from_pretrained(folder).image_mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [("Reshape_2", "positions"), ("projection.weight", "projection.weight"), ("norm2.bias", "missing")],
)
def test_a_graph_that_lacks_something_is_refused(tmp_path, leave_out, message):
    dinov2_onnx(tmp_path / "x.onnx", leave_out)
    with pytest.raises(SourceError, match=message):
        fetch_model(tmp_path, tmp_path / "x.onnx", "dinov2-onnx")
    (tmp_path / "y.onnx").write_bytes(b"not onnx")
    with pytest.raises(SourceError, match=r"y\.onnx cannot be read as ONNX"):
        fetch_model(tmp_path, tmp_path / "y.onnx", "dinov2-onnx")


def tiny_gguf(path, more=()):
    """A LLaMA-like model of 1 block, 4-bit, with a byte-level tokenizer; returns its dequantised matrices.

    `more`: names of vectors that its header says nothing of.
    """
    import gguf
    from gguf.quants import dequantize, quantize

    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(34)
    words = ["<|a|>", "<|b|>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "ab", "cd", "ef", "gh", "ij"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, *[1] * (len(words) - 2)])
    writer.add_token_merges(["a b", "c d", "e f", "g h", "i j"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    shapes = {"token_embd": (34, 32), "blk.0.attn_q": (32, 32), "blk.0.attn_k": (32, 32), "blk.0.attn_v": (32, 32)}
    shapes |= {
        "blk.0.attn_output": (32, 32),
        "blk.0.ffn_gate": (64, 32),
        "blk.0.ffn_up": (64, 32),
        "blk.0.ffn_down": (32, 64),
    }
    kept = {}
    for name, shape in shapes.items():
        packed = quantize(rng.normal(size=shape).astype(np.float32), gguf.GGMLQuantizationType.Q4_1)
        kept[name] = dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    for name in more:
        writer.add_tensor(name, np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def test_gguf_is_dequantised_once(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kept = tiny_gguf(tmp_path / "x.gguf")
    folder, record = fetch_model(tmp_path, tmp_path / "x.gguf", "gguf")
    assert record["note"] == "4-bit GGUF (Q4_1), dequantised to float32"
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    state = model.state_dict()
    for name, part in (("ffn_gate", "mlp.gate_proj"), ("ffn_down", "mlp.down_proj"), ("attn_v", "self_attn.v_proj")):
        assert np.array_equal(state[f"model.layers.0.{part}.weight"].numpy(), kept[f"blk.0.{name}"])
    assert model.lm_head.weight is model.model.embed_tokens.weight  # no output matrix in the file: tied
    assert AutoTokenizer.from_pretrained(folder)("ab cd")["input_ids"][-1] == 30
    for path in folder.glob("*.json"):
        assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    "name",
    [
        "blk.1.ffn_up.weight",
        "blk.0.attn_q_norm.weight",
        "blk.0.attn_q.bias",
        "blk.0.adapter.weight",
        "blk.0.attn_q.weight.lora_a",
    ],
)
def test_a_gguf_file_with_more_than_its_header_has_a_place_for_is_refused(tmp_path, name):
    tiny_gguf(tmp_path / "x.gguf", [name])
    with pytest.raises(
        SourceError, match=rf"x\.gguf stores 1 tensors that .* no place for \({re.escape(name)}\).*allow_unused"
    ):
        fetch_model(tmp_path, tmp_path / "x.gguf", "gguf")


def test_what_a_gguf_file_may_leave_out_is_said(tmp_path):
    tiny_gguf(tmp_path / "x.gguf", ["rope_freqs.weight", "blk.0.attn_rot_embd.weight", "blk.1.nextn.enorm.weight"])
    with pytest.raises(SourceError, match=r"stores 1 tensors .*\(blk\.1\.nextn\.enorm\.weight\)"):
        fetch_model(tmp_path, tmp_path / "x.gguf", "gguf")
    _, record = fetch_model(tmp_path, tmp_path / "x.gguf", "gguf", allow_unused="other,blk.1.")
    told = "rope_freqs.weight, blk.0.attn_rot_embd.weight, blk.1.nextn.enorm.weight"
    assert record["note"] == f"4-bit GGUF (Q4_1), dequantised to float32; not read: {told}"


@pytest.mark.parametrize("what", ["another file", "cut in its header", "cut in its tensors", "another architecture"])
def test_a_gguf_file_that_cannot_be_read_is_told_by_name(tmp_path, what):
    path = tmp_path / "x.gguf"
    tiny_gguf(path)
    content = path.read_bytes()
    changed = {
        "another file": b"hello, this is no model",
        "cut in its header": content[:100],
        "cut in its tensors": content[:-500],
        "another architecture": content.replace(b"llama", b"lbama"),
    }
    path.write_bytes(changed[what])
    told = "cannot read" if what == "another architecture" else "is no whole GGUF file"
    with pytest.raises(SourceError, match=rf"x\.gguf .*{told}"):
        fetch_model(tmp_path, path, "gguf")


def test_a_model_folder_is_used_in_place(tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / "m" / name).write_text(name)
    folder, record = fetch_model(tmp_path, tmp_path / "m", "transformers")
    assert folder == tmp_path / "m"
    assert record["folder"] == str(tmp_path / "m")
    assert [entry["path"] for entry in record["files"]] == ["config.json", "model.safetensors"]
    before = record["weights_sha256"]
    (tmp_path / "m/config.json").write_text("other")
    assert fetch_model(tmp_path, tmp_path / "m", "transformers")[1]["weights_sha256"] == before
    (tmp_path / "m/model.safetensors").write_text("other")
    assert fetch_model(tmp_path, tmp_path / "m", "transformers")[1]["weights_sha256"] != before


def test_parquet_of_several_row_groups_is_read_whole_and_in_order(tmp_path, monkeypatch):
    """Pieces of texts are put together a few at a time; columns that need a value, numbers and categories stay what they are."""
    rows = 5000
    known = pa.array([f"class {row % 3}" for row in range(rows)]).dictionary_encode()
    texts = [f"sentence {row}" if row % 7 else None for row in range(rows)]
    fields = [pa.field("item", pa.string(), nullable=False), pa.field("text", pa.string()), pa.field("n", pa.int64())]
    table = pa.table([[f"id-{row}" for row in range(rows)], texts, range(rows)], pa.schema(fields))
    (tmp_path / "d").mkdir()
    monkeypatch.setattr(parquets, "TOGETHER", 40_000)
    for kind, written in {"plain": table, "with classes": table.append_column("label", known)}.items():
        pq.write_table(written, tmp_path / f"d/{kind}.parquet", row_group_size=1300)
        frame, _ = fetched(tmp_path / "d", tmp_path / f"d/{kind}.parquet", "parquet")
        assert frame["item"].tolist() == table["item"].to_pylist()
        assert frame["text"].astype(object).where(frame["text"].notna(), None).tolist() == texts
        assert frame["n"].tolist() == list(range(rows))
    assert list(frame["label"].cat.categories) == ["class 0", "class 1", "class 2"]
    assert frame["label"].astype(str).tolist() == known.to_pylist()


def test_large_pieces_of_a_parquet_file_are_not_put_together(monkeypatch):
    """Two gigabytes of pictures are the most that one array of them has room for."""
    monkeypatch.setattr(parquets, "TOGETHER", 1000)
    sizes = [10, 10, 5000, 10, 5000, 5000, 990, 990]
    pieces = [pa.RecordBatch.from_pydict({"image": [bytes([number]) * size]}) for number, size in enumerate(sizes)]
    found = list(parquets._together(iter(pieces)))
    assert [piece.num_rows for piece in found] == [2, 1, 1, 1, 1, 2]
    kept = [image for piece in found for image in piece["image"].to_pylist()]
    assert kept == [piece["image"][0].as_py() for piece in pieces]


def test_rows_without_items_are_counted_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "AT_ONCE", 3)
    frame, _ = frame_of(tmp_path, "a.csv", "text\n" + "a\n" * 8, "csv")
    assert frame["item"].tolist() == [f"{row:07d}" for row in range(8)]
