"""Models of strangers that lie about themselves, or bring code: each is refused when it is fetched, by the name of the file at fault."""

import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_formats import tiny_gguf

from essential_sparsity.acquire import untrusted

RAN = "ran"  # the file that hostile code would make


class Evil:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return os.system, (f"touch {RAN}",)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One of each kind that the cases change."""
    folder = tmp_path_factory.mktemp("models")
    tiny.save_bert(folder / "bert")
    tiny.save_vision(folder / "swin", "Swin")
    tiny.save_llama(folder / "llama")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(7)
    transformers.Qwen2Model(
        transformers.Qwen2Config(**shape, vocab_size=16, max_position_embeddings=32)
    ).save_pretrained(folder / "qwen2")
    tiny.save_tokenizer(folder / "qwen2", special=False)
    return folder


def configured(**changes):
    """Change keys of config.json."""

    def change(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def written(name, content):
    return lambda folder: (folder / name).write_bytes(
        content if isinstance(content, bytes) else json.dumps(content).encode()
    )


def both(*changes):
    return lambda folder: [change(folder) for change in changes]


def within(prefix):
    """All tensors under names with this beginning."""

    def change(folder):
        path = folder / "model.safetensors"
        save_file({prefix + name: tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})

    return change


DEEP = b"[" * 200_000
NESTED = b'{"a":' * 2_000 + b"1" + b"}" * 2_000
CODE = f"import os\nos.system('touch {RAN}')\nclass Own: pass\n".encode()
CONFIGURATIONS = {
    "a thousand million layers": ("bert", configured(num_hidden_layers=10**9), "num_hidden_layers is 1,000,000,000"),
    "a thousand million layers, in a list that its class makes": ("qwen2", configured(num_hidden_layers=10**9), "num_hidden_layers"),
    "a thousand million layers, one for each of two stages": ("swin", configured(depths=[10**9, 10**9]), "depths is 1,000,"),
    "nine thousand layers, of which two are stored": ("bert", configured(num_hidden_layers=9_000), "model of more than"),
    "a thousand million labels": ("bert", configured(num_labels=10**9), "num_labels is 1,000,000,000"),
    "a thousand million heads": ("bert", configured(num_attention_heads=10**9), "num_attention_heads"),
    "a hidden size of 10^15": ("bert", configured(hidden_size=10**15), "config.json|m has no model|is stored as"),
    "a vocabulary of 10^12 tokens": ("bert", configured(vocab_size=10**12), "is stored as"),
    "no heads": ("bert", configured(num_attention_heads=0), "config.json.*ZeroDivision"),
    "no vocabulary": ("bert", configured(vocab_size=0), "config.json"),
    "a size below zero": ("bert", configured(intermediate_size=-1), "config.json"),
    "null for a number": ("bert", configured(hidden_size=None), "config.json"),
    "a text for a number": ("bert", configured(num_hidden_layers="many"), "config.json|m has no model"),
    "a list for a number": ("bert", configured(num_hidden_layers=[1, 2]), "config.json"),
    "an object for a number": ("bert", configured(max_position_embeddings={"a": 1}), "config.json"),
    "the largest number of a float": ("bert", configured(num_hidden_layers=1e308), "config.json"),
    "a list for the kind of model": ("bert", configured(model_type=["bert"]), "config.json"),
    "a list for the configuration": ("bert", written("config.json", [1]), "config.json holds list"),
    "lists two hundred thousand deep": ("bert", written("config.json", DEEP), "config.json cannot be read"),
    "objects two thousand deep": ("bert", written("config.json", NESTED), "config.json"),
    "objects five hundred deep inside a good one": (
        "bert", lambda f: configured(text_config=json.loads(b'{"a":' * 500 + b"1" + b"}" * 500))(f), "config.json|refused",
    ),
    "bytes that are no text": ("bert", written("config.json", b"\xff\xfe{}"), "config.json cannot be read"),
    "attention by code of the hub": ("bert", configured(attn_implementation="evil/kernel"), "config.json: attn_implementation"),
    "weights of another file": (
        "bert",
        both(
            configured(transformers_weights="other.safetensors"),
            lambda f: shutil.copy(f / "model.safetensors", f / "other.safetensors"),
        ),
        "config.json: transformers_weights is 'other.safetensors'",
    ),
    "outputs without names": ("bert", configured(return_dict=False), "config.json says return_dict = false"),
    "outputs without names, for a trace": ("bert", configured(torchscript=True), "config.json says torchscript = true"),
    "weights in the wrapper of a compiled model": ("bert", within("_orig_mod."), r"begin with '_orig_mod\.' \(.* in the wrapper"),
    "weights in two wrappers": ("bert", within("module._orig_mod."), r"begin with 'module\._orig_mod\.'"),
    "a configuration with code of its own": (
        "bert",
        both(configured(model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Own"}), written("own.py", CODE)),
        "asks for code of its own",
    ),
}  # fmt: skip


def header(said, data=b"\0" * 64, length=None):
    """A safetensors file with this header."""
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return written("model.safetensors", struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def indexed(weight_map):
    def change(folder):
        (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_bytes(
            weight_map if isinstance(weight_map, bytes) else json.dumps({"weight_map": weight_map}).encode()
        )

    return change


def in_shards(add, listed=True):
    """The weights in two shards, of which the second stores what `add` says beside its own."""

    def change(folder):
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        index = dict.fromkeys(tensors, names[0]) | (dict.fromkeys(add, names[1]) if listed else {})
        save_file(tensors, folder / names[0], metadata={"format": "pt"})
        save_file(add, folder / names[1], metadata={"format": "pt"})
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    return change


def adapted(folder):
    """A LoRA adapter that was saved into the folder of its model."""
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    save_file({"base_model.model.a.lora_A.weight": torch.ones(4, 16)}, folder / "adapter_model.safetensors")


def pickled(content):
    def change(folder):
        (folder / "model.safetensors").unlink()
        content(folder / "pytorch_model.bin")

    return change


def as_zip(path):
    """torch's own container, with a pickle of another's making."""
    torch.save({"weight": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, pickle.dumps(Evil()) if name.endswith("data.pkl") else data)


WEIGHTS = {
    "a header longer than its file": ("bert", header({}, length=1 << 40), "model.safetensors is cut short or corrupt"),
    "a header of 2^64 bytes": ("bert", header({}, length=(1 << 64) - 1), "model.safetensors"),
    "a header that is no JSON": ("bert", header(b"{" * 100), "model.safetensors"),
    "a header of lists a hundred thousand deep": ("bert", header(b"[" * 100_000), "model.safetensors"),
    "a tensor that ends outside of its file": ("bert", header({"a": entry([1000], 0, 4000)}), "model.safetensors"),
    "a tensor whose shape is not its bytes": ("bert", header({"a": entry([1 << 40], 0, 64)}), "model.safetensors"),
    "a shape whose product overflows": ("bert", header({"a": entry([1 << 62, 1 << 62], 0, 64)}), "model.safetensors"),
    "a shape below zero": ("bert", header({"a": entry([-1], 0, 64)}), "model.safetensors"),
    "tensors that overlap": ("bert", header({"a": entry([16], 0, 64), "b": entry([8], 16, 48)}), "model.safetensors"),
    "a hole between tensors": ("bert", header({"a": entry([4], 0, 16), "b": entry([8], 32, 64)}), "model.safetensors"),
    "a tensor that ends before it starts": ("bert", header({"a": entry([16], 64, 0)}), "model.safetensors"),
    "a type that there is not": ("bert", header({"a": entry([16], 0, 64, "X99")}), "model.safetensors"),
    "no tensor at all": ("bert", header({}, data=b""), "lacks"),
    "a file without a byte": ("bert", written("model.safetensors", b""), "model.safetensors"),
    "an index that is a list": ("bert", indexed(b"[1]"), "index.json holds list"),
    "an index that is deep": ("bert", indexed(DEEP), "index.json cannot be read"),
    "an index of nothing": ("bert", indexed({}), "index.json has no weight_map"),
    "an index whose files are numbers": ("bert", indexed({"a": 1}), "index.json: a is in int 1"),
    "an index that points outside": ("bert", indexed({"a": "../../other.safetensors"}), "index.json: a is in '../../other"),
    "an index that points to an absolute path": ("bert", indexed({"a": "/dev/zero"}), "index.json: a is in '/dev/zero'"),
    "an index that names itself": ("bert", indexed({"a": "config.json"}), "index.json: a is in|cut short"),
    "a shard that its index does not list": (
        "bert", in_shards({"encoder.layer.2.x": torch.zeros(2)}, listed=False),
        "index.json does not list model-00002-of-00002.safetensors",
    ),
    "a tensor in two shards": (
        "bert", in_shards({"pooler.dense.bias": torch.zeros(16)}), "00002-of-00002.safetensors stores pooler.dense.bias, which another",
    ),
    "an adapter beside its model": (
        "bert", adapted, r"adapter beside the model \(adapter_config.json, adapter_model.safetensors\).*Merge it",
    ),
    "weights of an adapter beside a model": (
        "bert", lambda f: torch.save({}, f / "adapter_model.bin"), r"adapter beside the model \(adapter_model.bin\)",
    ),
    "weights that are a pipe": (
        "bert", lambda f: [(f / "model.safetensors").unlink(), os.mkfifo(f / "model.safetensors")], "model.safetensors is a device",
    ),
    "weights that are a device without an end": (
        "bert", lambda f: [(f / "model.safetensors").unlink(), (f / "model.safetensors").symlink_to("/dev/zero")],
        "model.safetensors is a device",
    ),
    "a pickle, not allowed": ("bert", pickled(lambda path: path.write_bytes(pickle.dumps(Evil()))), "stored only as a pickle"),
    "weights as .npz, .npy, .joblib, .pt, .pkl": (
        "bert",
        lambda f: [
            (f / "model.safetensors").unlink(),
            np.savez(f / "model.npz", a=np.array([Evil()], dtype=object)),
            *((f / f"model.{suffix}").write_bytes(pickle.dumps(Evil())) for suffix in ("npy", "joblib", "pt", "pkl")),
        ],
        "There is no model.safetensors",
    ),
}  # fmt: skip
PICKLES = {
    "a plain one": lambda path: path.write_bytes(pickle.dumps(Evil())),
    "one in torch's container": as_zip,
    "one before torch 1.6": lambda path: torch.save({"weight": Evil()}, path, _use_new_zipfile_serialization=False),
    "one that is cut": lambda path: (torch.save({"w": torch.ones(99)}, path), os.truncate(path, 300)),
    "one of numbers alone": lambda path: torch.save([1, 2, 3], path),
}


def attempted(attempts, models, tmp_path, kind, change, **settings):
    """Fetch a changed model; how that ended."""
    work = tmp_path / "work"
    shutil.copytree(models / kind, work / "m")
    change(work / "m")
    row = {"source": "path", "id": "m", "revision": None, "format": "transformers"} | settings
    allow = ["--allow-pickle"] if settings.get("allow_pickle") else []
    arguments = ["--model", "x", "--settings", json.dumps(row), "--manifest", "out/manifest.json", *allow]
    ended = attempts.program("fetch_model", *arguments, folder=work)
    assert not (work / RAN).exists()
    assert not ended.beside
    return work, ended


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_that_no_model_has(attempts, models, tmp_path, name):
    """Refused by the name of config.json, before anything of the size that it says is made"""
    kind, change, words = CONFIGURATIONS[name]
    work, ended = attempted(attempts, models, tmp_path, kind, change)
    ended.check_refused(words)
    assert not (work / "out/manifest.json").exists()


GENUINE = {  # as published models have them
    "a class of ImageNet-22k": {
        "label2id": {"cassette player": 10_543, "headstock": 12_001, "block and tackle": 20_000}
    },
    "experts that are rows of a table": {"num_experts": 16_384},
    "a base of rotations": {"layer_rope_theta": 500_000.0},
    "inputs of experts": {
        "llama.expert_feed_forward_length": 28_672,
        "moe_head_dim": 16_384,
        "head_out_channels": 18_714,
    },
    "a sub-vocabulary": {"text_config": {"encoder_hash_byte_group_vocab": 500_002}},
}


@pytest.mark.parametrize("name", GENUINE)
def test_what_a_genuine_configuration_says_is_no_count_of_layers(name):
    untrusted.check_counts("config.json", GENUINE[name], 200)
    with pytest.raises(ValueError, match="num_hidden_layers is 100,001, but 200 tensors are stored"):
        untrusted.check_counts("config.json", GENUINE[name] | {"num_hidden_layers": 100_001}, 200)


@pytest.mark.parametrize("name", WEIGHTS)
def test_files_of_weights_that_lie_or_run(attempts, models, tmp_path, name):
    """Refused by the name of the file; nothing is read outside of the model's folder, and no pickle is opened"""
    kind, change, words = WEIGHTS[name]
    work, ended = attempted(attempts, models, tmp_path, kind, change)
    ended.check_refused(words)
    assert not (work / "out/manifest.json").exists()


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_allowed(attempts, models, tmp_path, name):
    """Read as plain weights alone (`weights_only`): what calls code, or is no table of tensors, is refused by name"""
    _, ended = attempted(attempts, models, tmp_path, "bert", pickled(PICKLES[name]), allow_pickle=True)
    ended.check_refused("pytorch_model.bin|lacks|config.json")


@pytest.mark.parametrize(
    "name", ["a thousand million layers", "lists two hundred thousand deep", "no heads", "an index of nothing"]
)
def test_a_model_that_is_looked_at_for_a_new_study(attempts, models, tmp_path, name):
    """Refused as when it is fetched, before a study is written"""
    kind, change, words = {**CONFIGURATIONS, **WEIGHTS}[name]
    shutil.copytree(models / kind, tmp_path / "work/m")
    change(tmp_path / "work/m")
    ended = attempts.call("essential_sparsity.acquire.looking:checkpoint", "m", folder=tmp_path / "work")
    ended.check_refused(words)


# ---- tokenizers ------------------------------------------------------------------------------------------------------


def tokenizer(**changes):
    def change(folder):
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def vocabulary(change):
    def changed(folder):
        path = folder / "tokenizer.json"
        said = json.loads(path.read_text())
        change(said)
        path.write_text(json.dumps(said))

    return changed


TOKENIZERS = {
    "a list": (written("tokenizer.json", [1]), "tokenizer.json holds list"),
    "lists two hundred thousand deep": (written("tokenizer.json", DEEP), "tokenizer.json cannot be read"),
    "settings that are a list": (written("tokenizer_config.json", [1]), "tokenizer_config.json holds list"),
    "settings that are deep": (written("tokenizer_config.json", DEEP), "tokenizer_config.json cannot be read"),
    "special tokens that are a list": (written("special_tokens_map.json", [1]), "special_tokens_map.json holds list"),
    "added tokens that are a list": (written("added_tokens.json", [1]), "added_tokens.json holds list"),
    "a model of no kind": (
        vocabulary(lambda said: said.update(model={"type": "Evil"})),
        "tokenizer in m cannot be read",
    ),
    "a vocabulary that is a number": (
        vocabulary(lambda said: said["model"].update(vocab=3)),
        "tokenizer in m cannot be read",
    ),
    "a processor that is a list": (
        vocabulary(lambda said: said.update(post_processor=[1])),
        "tokenizer in m cannot be read",
    ),
    "added tokens with numbers as names": (tokenizer(added_tokens_decoder={"0": 7}), "tokenizer in m cannot be read"),
    "a padding token that is a list": (tokenizer(pad_token=[1, 2]), "tokenizer in m cannot be read"),
    "a file of bytes": (written("tokenizer.json", b"\xff\xfe\0"), "tokenizer.json cannot be read"),
}
HARMLESS = {
    "code of its own, beside one that transformers has": both(
        tokenizer(auto_map={"AutoTokenizer": ["own.Own", "own.Own"]}), written("own.py", CODE)
    ),
    "a chat template that calls a shell": both(
        tokenizer(chat_template=f"{{{{ cycler.__init__.__globals__.os.system('touch {RAN}') }}}}"),
        written("chat_template.jinja", f"{{{{ lipsum.__globals__['os'].popen('touch {RAN}').read() }}}}".encode()),
    ),
    "names of files outside": tokenizer(tokenizer_file="/dev/zero", vocab_file="/etc/passwd"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_cannot_be_one(attempts, models, tmp_path, name):
    """The model is used without it: its file is named in the log, and tasks on texts are refused"""
    change, words = TOKENIZERS[name]
    work, ended = attempted(attempts, models, tmp_path, "bert", change)
    ended.check_passed(f"warning: .*{words}.* Tasks on texts are refused")
    assert json.loads((work / "out/manifest.json").read_text())["tokenizer"] is None


@pytest.mark.parametrize("name", HARMLESS)
def test_a_tokenizer_that_brings_what_is_never_used(attempts, models, tmp_path, name):
    """Read without it: no code runs, no template is rendered, no file outside of the folder is opened"""
    work, ended = attempted(attempts, models, tmp_path, "bert", HARMLESS[name])
    ended.check_passed("tokenizer: ")
    assert json.loads((work / "out/manifest.json").read_text())["tokenizer"]["tokens"] == 16


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_tokenizer_of_code_alone(attempts, models, tmp_path, kind):
    """Nobody is asked whether the code may run: the model is used without its tokenizer"""

    def change(folder):
        (folder / "tokenizer.json").unlink()
        (folder / "own.py").write_bytes(CODE)
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}})
        )

    _, ended = attempted(attempts, models, tmp_path, kind, change)
    ended.check_passed("Tasks on texts are refused")
    assert "[y/N]" not in ended.said


PROCESSORS = {
    "a list": [1],
    "a text for a mean": {"image_processor_type": "ViTImageProcessor", "image_mean": "grey", "image_std": [1]},
    "code of its own": {"auto_map": {"AutoImageProcessor": "own.Own"}, "image_processor_type": "Own"},
    "an object for a size": {
        "image_processor_type": "ViTImageProcessor",
        "size": {"a": {"b": []}},
        "rescale_factor": {},
    },
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_an_image_processor_that_cannot_be_followed(attempts, tmp_path, name):
    """Refused by the name of its file, in the job at the latest; its code does not run"""
    (tmp_path / "m").mkdir()
    written("preprocessor_config.json", PROCESSORS[name])(tmp_path / "m")
    written("own.py", CODE)(tmp_path / "m")
    ended = attempts.call("essential_sparsity.tasks.image_classification:normalisation", "m", folder=tmp_path)
    assert not (tmp_path / RAN).exists()
    ended.check_refused("preprocessor_config.json")


# ---- other formats ---------------------------------------------------------------------------------------------------


def replaced(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1, (old, content.count(old))
    path.write_bytes(content.replace(old, new))


def field(name, kind, value):
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def gguf_of(fields=b"", n_fields=1, tensors=b"", n_tensors=0):
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_fields) + fields + tensors


def number(name, before, after):
    """Another value of a number of the tiny model."""
    old, new = (field(name, 4, struct.pack("<I", value)) for value in (before, after))
    return lambda path: replaced(path, old, new)


def array(kind, count, content=b""):
    return struct.pack("<IQ", kind, count) + content


def tensor(name=b"t", shape=(4,), kind=0, offset=0):
    return struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def raw(content):
    return lambda path: path.write_bytes(content)


GGUF = {
    "a thousand million blocks": (number(b"llama.block_count", 1, 10**9), "llama.block_count is 1,000,000,000"),
    "one block more than are stored": (number(b"llama.block_count", 1, 2), "lacks .* tensors"),
    "nine thousand blocks": (number(b"llama.block_count", 1, 9_000), "x.gguf"),
    "a vocabulary of four thousand million": (number(b"llama.vocab_size", 34, 4 * 10**9), "describes a model of 128,0"),
    "vectors of four thousand million": (number(b"llama.embedding_length", 32, 4 * 10**9), "x.gguf"),
    "no heads": (number(b"llama.attention.head_count", 2, 0), "x.gguf"),
    "an array of 2^31 numbers": (raw(gguf_of(field(b"a", 9, array(4, 1 << 31)))), "x.gguf is no whole GGUF file"),
    "an array of 2^31 texts": (raw(gguf_of(field(b"a", 9, array(8, 1 << 31)))), "x.gguf is no whole GGUF file"),
    "arrays fifty thousand deep": (raw(gguf_of(field(b"a", 9, array(9, 1) * 50_000))), "x.gguf is no whole GGUF file"),
    "a text of 2^63 bytes": (raw(gguf_of(field(b"a", 8, struct.pack("<Q", 1 << 63)))), "x.gguf is no whole GGUF file"),
    "2^62 fields": (raw(gguf_of(n_fields=1 << 62)), "x.gguf is no whole GGUF file"),
    "2^62 tensors": (raw(gguf_of(n_fields=0, n_tensors=1 << 62)), "x.gguf is no whole GGUF file"),
    "a tensor outside of the file": (
        raw(gguf_of(n_fields=0, n_tensors=1, tensors=tensor(offset=1 << 40))), "x.gguf is no whole GGUF file",
    ),
    "a tensor of more than the file": (
        raw(gguf_of(n_fields=0, n_tensors=1, tensors=tensor(shape=(1 << 20, 1 << 20)))), "x.gguf is no whole GGUF file",
    ),
    "a shape whose product overflows": (
        raw(gguf_of(n_fields=0, n_tensors=1, tensors=tensor(shape=(1 << 33, 1 << 33)))), "x.gguf",
    ),
    "a tensor of 2^32 dimensions": (
        raw(gguf_of(n_fields=0, n_tensors=1, tensors=struct.pack("<Q", 1) + b"t" + struct.pack("<I", 0xFFFFFFFF))),
        "x.gguf is no whole GGUF file",
    ),
    "an alignment of nothing": (
        raw(gguf_of(field(b"general.alignment", 4, struct.pack("<I", 0)))), "x.gguf is no whole GGUF file",
    ),
    "no tensor": (raw(gguf_of(n_fields=0)), "x.gguf is no whole GGUF file"),
    "its first half": (lambda path: os.truncate(path, path.stat().st_size // 2), "x.gguf is no whole GGUF file"),
    "a file without a byte": (raw(b""), "x.gguf"),
}  # fmt: skip


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    tiny_gguf(path)
    return path


def converted(attempts, tmp_path, path, change, format_name):
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(path, work / path.name)
    change(work / path.name)
    row = {"source": "path", "id": path.name, "revision": None, "format": format_name}
    ended = attempts.program(
        "fetch_model", "--model", "x", "--settings", json.dumps(row), "--manifest", "out/manifest.json", folder=work
    )
    assert not (work / "out/manifest.json").exists()
    return ended


@pytest.mark.parametrize("name", GGUF)
def test_a_gguf_file_that_lies(attempts, tmp_path, gguf_file, name):
    """Refused by the name of the file, before anything of the size that it says is made or counted"""
    change, words = GGUF[name]
    converted(attempts, tmp_path, gguf_file, change, "gguf").check_refused(words)


def graph(**changes):
    """A graph of one matrix, with other dimensions, type or place than its bytes."""
    import onnx

    said = onnx.TensorProto(
        name="backbone.embeddings.patch_embeddings.projection.weight", data_type=1, dims=[2, 3, 1, 1]
    )
    said.raw_data = np.ones(6, np.float32).tobytes()
    for key, value in changes.items():
        if key == "dims":
            del said.dims[:]
            said.dims.extend(value)
        else:
            setattr(said, key, value)
    others = [
        onnx.numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "backbone.embeddings.cls_token"),
        onnx.numpy_helper.from_array(np.ones(2, np.float32), "backbone.encoder.layer.0.mlp.fc1.bias"),
        onnx.numpy_helper.from_array(np.ones((1, 1, 2), np.float32), "a"),
        onnx.numpy_helper.from_array(np.ones((1, 4, 2), np.float32), "b"),
    ]
    return onnx.helper.make_model(onnx.GraphProto(name="g", initializer=[said, *others]))


def outside(place):
    def build(path):
        import onnx

        model = graph()
        said = model.graph.initializer[0]
        said.ClearField("raw_data")
        said.data_location = onnx.TensorProto.EXTERNAL
        said.external_data.add(key="location", value=place)
        path.write_bytes(model.SerializeToString())

    return build


ONNX = {
    "bytes of another kind": (raw(b"\xff" * 1000), "x.onnx"),
    "a shape that is not its bytes": (lambda p: p.write_bytes(graph(dims=[1 << 40, 3, 1, 1]).SerializeToString()), "x.onnx"),
    "a shape whose product overflows": (lambda p: p.write_bytes(graph(dims=[1 << 62, 1 << 62]).SerializeToString()), "x.onnx"),
    "a shape below zero": (lambda p: p.write_bytes(graph(dims=[-6, 1, 1, 1]).SerializeToString()), "x.onnx"),
    "a type that there is not": (lambda p: p.write_bytes(graph(data_type=999).SerializeToString()), "x.onnx"),
    "a backbone without heads": (lambda p: p.write_bytes(graph().SerializeToString()), "x.onnx"),
    "a size of nothing by a thousand million": (
        lambda p: p.write_bytes(graph(dims=[10**9, 0, 0, 0], raw_data=b"").SerializeToString()), "x.onnx",
    ),
    "tensors in a file above its folder": (outside("../secret.bin"), "x.onnx keeps .* in other files"),
    "tensors in a file by its absolute path": (outside("/etc/passwd"), "x.onnx keeps .* in other files"),
    "messages a hundred thousand deep": (raw(b"\x3a\xff\xff\xff\x7f" * 100_000), "x.onnx"),
    "a file without a byte": (raw(b""), "x.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("name", ONNX)
def test_an_onnx_graph_that_lies_or_points_outside(attempts, tmp_path, name):
    """Refused by the name of the file; no other file is opened for it"""
    change, words = ONNX[name]
    (tmp_path / "x.onnx").touch()
    (tmp_path / "secret.bin").write_bytes(np.ones(6, np.float32).tobytes())
    converted(attempts, tmp_path, tmp_path / "x.onnx", change, "dinov2-onnx").check_refused(words)
