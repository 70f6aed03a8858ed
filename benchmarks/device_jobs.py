"""Whole jobs on a card: the numbers of every kind of task beside the processor's, and what jobs take beside what is expected.

Parts of device.py. As a program, one job of `JOBS` in a process of its own, whose memory is then its own:

    python benchmarks/device_jobs.py JOB --folder MODEL [--quick]
"""

import argparse
import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as in a job
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests/unit"))

import numpy as np
import pandas as pd
import psutil
import tiny_models as tiny
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

from essential_sparsity import patterns
from essential_sparsity.emergence import pretraining
from essential_sparsity.runs import evaluation, lottery
from essential_sparsity.study import needs, resources, tsv
from essential_sparsity.training import exactness

ROOT = Path(__file__).parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ALIKE, NEARLY = 1e-3, 0.05  # scores in float32; after steps whose rounding differs: training, a solve
APART = 0.2  # of the weights that a small model's training ranks: AdamW may make as large a step of rounding as of a gradient
SHARE = "share that differs"
MASKED = ["global", "layerwise", "nm4", "random"]
CALIBRATED = ["wanda", "wanda-onepass", "owl-wanda", "sparsegpt", "sparsegpt-nm4"]
CALIBRATION = {
    "calibration": "tiny", "dataset": "texts", "split": None, "sequences": 64, "length": 8, "sampling": "joined", "seed": 0,
}  # fmt: skip
QUESTIONS = tiny.FINETUNE | {"kind": "question-answering", "n_train": 24, "n_eval": 20, "max_length": 24}
PRETRAINED = {
    "data_fraction": 1.0, "seed": 0, "steps": 8, "checkpoint_every": 2, "batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2,
    "layers": 2, "width": 16, "heads": 2, "vocabulary": 120, "max_length": 12, "mask_rate": 0.15, "image_size": 8, "patch_size": 4,
}  # fmt: skip


STARTED = time.time() - psutil.Process().create_time()  # seconds that imports took


class Killed(Exception):
    """A job that ends as if it was killed."""


# --- the same numbers


def kinds_alike(quick, rates):
    """Every kind of task, dense and pruned: items' scores on the card and on the processor."""
    questions = tiny.reviews().assign(question="good film", context=lambda frame: frame["text"] + " film")
    questions["answers"] = questions["text"].map(lambda text: {"text": [text.split()[0]], "answer_start": [0]})
    cases = {
        "probe": (tiny.save_bert, tiny.reviews(), tiny.PROBE),
        "text-similarity": (tiny.save_bert, tiny.pairs(), tiny.SIMILARITY),
        "masked-lm": (lambda to: tiny.save_bert(to, auto_class="AutoModelForMaskedLM"), tiny.reviews(), tiny.MASKED),
        "perplexity": (tiny.save_llama, tiny.reviews(400), tiny.PERPLEXITY),
        "perplexity, bfloat16": (lambda to: tiny.save_llama(to, torch.bfloat16), tiny.reviews(400), tiny.PERPLEXITY),
        "images, probe": (tiny.save_vit, tiny.images(), tiny.IMAGES),
        "images, nearest neighbours": (tiny.save_vit, tiny.images(), tiny.IMAGES | {"protocol": "knn", "neighbours": 5}),
        "fine-tuned texts": (tiny.save_bert, tiny.reviews(), tiny.FINETUNE),
        "fine-tuned images": (
            tiny.save_vit, tiny.images(),
            tiny.FINETUNE | {"kind": "image-classification", "n_train": 64, "n_eval": 40, "image_size": 16, "learning_rate": 1e-3},
        ),
        "fine-tuned questions": (tiny.save_bert, questions, QUESTIONS),
    }  # fmt: skip
    if importlib.util.find_spec("lm_eval"):
        cases["lm-eval"] = (lambda to: tiny.save_decoder(to, "GPT2"), suite(), SUITE)
    with tempfile.TemporaryDirectory() as place:
        for at, (name, (save, data, settings)) in enumerate(cases.items()):
            folder = save(Path(place, str(at)))
            trained = settings["protocol"] == "finetune"
            without_dropout(folder)
            for pattern in ["dense", *(["global"] if trained else MASKED)]:
                level = 0.0 if pattern == "dense" else 0.5
                found = [evaluated(folder, data, settings, pattern, level, device) for device in ("cpu", DEVICE)]
                yield compared(f"{name}, {pattern}", found, NEARLY if trained or "bfloat16" in name else ALIKE)
    yield from tickets_alike()


def calibrated_alike(quick, rates):
    """Patterns that are calibrated, for decoders and encoders: levels and scores on the card and on the processor."""
    draw = np.random.default_rng(4)
    texts = pd.DataFrame(
        {
            "item": [f"c{i:03d}" for i in range(300)],
            "text": [" ".join(draw.choice(tiny.WORDS[2:], 20)) for _ in range(300)],
        }
    )
    with tempfile.TemporaryDirectory() as place:
        for name, save, data, settings in (
            ("perplexity", tiny.save_llama, tiny.reviews(400), tiny.PERPLEXITY),
            ("text-similarity", tiny.save_bert, tiny.pairs(), tiny.SIMILARITY),
        ):
            folder = save(Path(place, name))
            given = settings | {"calibration": CALIBRATION}
            for pattern in CALIBRATED:
                if patterns.find(pattern).allocation == "owl" and name != "perplexity":
                    continue
                found = [evaluated(folder, data, given, pattern, 0.5, device, texts) for device in ("cpu", DEVICE)]
                yield compared(f"{name}, {pattern}", found, NEARLY)


def without_dropout(folder):
    """Dropout draws from the generator of the device: a training on a card and one on a processor would be two seeds."""
    edit(Path(folder, "config.json"), lambda found: found.update({name: 0.0 for name in found if "dropout" in name}))


def evaluated(folder, data, settings, pattern, level, device, calibration=None):
    """One level of a pattern, without what a job prints."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return next(evaluation.evaluate(folder, data, settings, pattern, [level], 0, device, calibration=calibration))


def compared(name, found, most):
    """A row: the largest difference of an item's score, or infinite where the counts of pruned weights differ."""
    (level, outcome), (other, there) = found
    apart = float(np.abs(outcome.items["score"].to_numpy(float) - there.items["score"].to_numpy(float)).max())
    if (level.k, level.n) != (other.k, other.n) or outcome.items["item"].tolist() != there.items["item"].tolist():
        apart = float("inf")
    return name, apart, "largest difference of a score", most, apart <= most


def tickets_alike():
    """An iteration of a lottery ticket: the share of masked weights that are the same."""
    with tempfile.TemporaryDirectory() as place:
        folder = tiny.save_bert(Path(place))
        without_dropout(folder)
        found = [
            lottery.ticket(folder, tiny.reviews(), tiny.FINETUNE, {}, 0.5, 0, device)[0] for device in ("cpu", DEVICE)
        ]
        count = sum(mask.numel() for mask in found[0].values())
        differ = sum(int((mask != found[1][name].cpu()).sum()) for name, mask in found[0].items())
        yield "a ticket's masks", differ / count, SHARE, APART, differ <= APART * count


def pretrainings(quick, rates):
    """Pre-training: the loss beside the processor's, and the same bits after a kill."""
    draw = np.random.default_rng(0)
    words = ["the", "old", "king", "of", "a", "river", "town", "had", "seven", "ships", "and", "no", "wind"]
    texts = pd.DataFrame(
        {"item": [f"t{i}" for i in range(60)], "text": [" ".join(draw.choice(words, 12)) for _ in range(60)]}
    )
    for objective in ("masked-lm", "supervised", "masked-autoencoding", "self-distillation"):
        settings = PRETRAINED | {"objective": objective}
        with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
            path, tokenizer = Path(place, "data.parquet"), None
            (texts if objective == "masked-lm" else tiny.images(24)).to_parquet(path)
            if objective == "masked-lm":
                pretraining.train_tokenizer(texts["text"].tolist(), settings["vocabulary"], Path(place, "tokenizer"))
                tokenizer = transformers.AutoTokenizer.from_pretrained(Path(place, "tokenizer"))

            def train(name, device, stop=None, path=path, tokenizer=tokenizer, settings=settings, place=place):
                def side(folder):
                    if stop and folder.name.startswith(f".step-{stop}."):
                        raise Killed

                out = Path(place, name)
                objective, samples, collate = pretraining.prepare(path, settings, tokenizer)
                losses = pretraining.train(objective, samples, collate, settings, out, side, device)
                return float(losses["loss"].iloc[-1]), load_file(
                    out / f"step-{settings['steps']}" / "model.safetensors"
                )

            here, _ = train("processor", "cpu")
            there, alone = train("alone", DEVICE)
            with contextlib.suppress(Killed):
                train("killed", DEVICE, stop=4)
            _, resumed = train("killed", DEVICE)
        apart = abs(here - there) / abs(here)
        yield f"{objective}: last loss", there, "; peer: the processor's", here, apart < NEARLY
        same = all(torch.equal(alone[name], resumed[name]) for name in alone)
        yield f"{objective}: killed and resumed, same bits", int(same), "", 1, same


SUITE = {
    "task": "quiz", "dataset": "quiz", "kind": "lm-eval", "protocol": "zero-shot", "suite": "quiz", "shots": 0,
    "max_length": 32, "allow_code": True,
}  # fmt: skip
DEFINITION = """
task: quiz
dataset_path: json
dataset_name: quiz
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list:
  - metric: acc
"""


def suite():
    """A suite of one task in the form in which data sets of suites are kept."""
    draw = np.random.default_rng(0)
    rows = [
        {
            "question": " ".join(draw.choice(tiny.WORDS, 4)),
            "choices": [" ".join(draw.choice(tiny.WORDS, size)) for size in (1, 2, 3)],
            "answer": int(draw.integers(3)),
        }
        for _ in range(40)
    ]
    frame = pd.DataFrame(
        {
            "item": [f"q{i}" for i in range(40)],
            "config": "quiz",
            "split": "test",
            "document": [json.dumps(row) for row in rows],
        }
    )
    frame.loc[len(frame)] = ["quiz", None, "yaml", DEFINITION]
    return frame


# --- what jobs take


def bert(folder, quick):
    """BERT-base's shape; texts are of the words of tiny_models."""
    shape = (
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32} if quick else {}
    )
    config = transformers.BertConfig(vocab_size=100 if quick else 30_522, max_position_embeddings=512, **shape)
    return stored(transformers.BertModel, config, folder, torch.float32)


def llama(folder, quick):
    """A decoder of 1.3 billion weights in bfloat16."""
    shape = {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 16}
    if quick:
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=100 if quick else 32_000, max_position_embeddings=2048, **shape)
    return stored(transformers.LlamaForCausalLM, config, folder, torch.bfloat16, special=False)


def vit(folder, quick):
    """ViT-Base's shape."""
    shape = (
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32} if quick else {}
    )
    return stored(transformers.ViTModel, transformers.ViTConfig(**shape), folder, torch.float32, words=False)


def stored(cls, config, folder, dtype, special=True, words=True):
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = cls(config).to(dtype)
    model.to("cpu").save_pretrained(folder)
    if words:
        tiny.save_tokenizer(folder, special)
        edit(
            Path(folder, "tokenizer_config.json"),
            lambda found: found.update(model_max_length=config.max_position_embeddings),
        )
        rest = {f"[{i}]": i for i in range(len(tiny.SPECIAL + tiny.WORDS), config.vocab_size)}
        edit(Path(folder, "tokenizer.json"), lambda found: found["model"]["vocab"].update(rest))
    return sum(p.numel() for p in model.parameters())


def edit(path, change):
    """Change a JSON file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def documents(count, words):
    """Reviews of so many words."""
    draw = np.random.default_rng(0)
    texts = [" ".join([tiny.WORDS[i % 2], *draw.choice(tiny.WORDS[2:], words - 1)]) for i in range(count)]
    return pd.DataFrame(
        {"item": [f"r{i:05d}" for i in range(count)], "text": texts, "label": [tiny.WORDS[i % 2] for i in range(count)]}
    )


def photographs(count):
    """JPEGs of 256 × 256 pixels."""
    draw, rows = np.random.default_rng(0), []
    for i in range(count):
        pixels = draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((256, 256)).save(stream, "JPEG")
        rows.append((f"i{i:05d}", str(i % 10), stream.getvalue()))
    return pd.DataFrame(rows, columns=["item", "label", "image"])


ROW = dict.fromkeys(
    ("n_train", "n_eval", "epochs", "batch_size", "max_length", "context", "windows", "image_size", "positions", "suite",
     "autocast", "mean_length", "passes", "minutes_per_level")
)  # fmt: skip
TEXTS = {
    "kind": "text-classification", "protocol": "finetune", "n_train": 6400, "n_eval": 1600, "epochs": 1, "batch_size": 32,
    "max_length": 128, "mean_length": 66, "learning_rate": 2e-5,
}  # fmt: skip
WINDOWS = {"kind": "perplexity", "protocol": "zero-shot", "context": 2048, "windows": 64}
PICTURES = {"kind": "image-classification", "protocol": "probe", "n_train": 1000, "n_eval": 1000, "image_size": 224}
SEQUENCES = {"calibration": "texts", "dataset": "texts", "split": None, "sequences": 128, "length": 2048, "sampling": "joined", "seed": 0}  # fmt: skip
JOBS = {
    "BERT-base, fine-tuned, float32": (bert, "language", "float32", TEXTS, "global", [0.5]),
    "BERT-base, fine-tuned, bf16": (bert, "language", "float32", TEXTS | {"autocast": "bf16"}, "global", [0.5]),
    "ViT-Base, probe, 2 levels": (vit, "vision", "float32", PICTURES, "global", [0.3, 0.5]),
    "1.3B, perplexity, 2 levels": (llama, "language", "bfloat16", WINDOWS, "global", [0.3, 0.5]),
    "1.3B, perplexity, Wanda": (llama, "language", "bfloat16", WINDOWS, "wanda", [0.5]),
    "1.3B, perplexity, SparseGPT": (llama, "language", "bfloat16", WINDOWS, "sparsegpt", [0.5]),
}
SMALL = {
    "n_train": 64, "n_eval": 64, "windows": 2, "context": 32, "image_size": 224, "sequences": 4, "length": 16, "max_length": 16,
}  # fmt: skip


def shrunk(row, quick):
    return {key: SMALL.get(key, value) if quick and value else value for key, value in row.items()}


def job(name, quick, folder):
    """What a job took, in this process: seconds from here, MB of this process and of the card at most; weights of its model."""
    _, _, _, task, pattern, levels = JOBS[name]
    task, row = shrunk(task, quick), shrunk(SEQUENCES, quick)
    torch.set_num_threads(4)
    exactness.ask()
    if task["kind"] == "image-classification":
        data = photographs(task["n_train"] + task["n_eval"])
    elif task["kind"] == "perplexity":
        data = documents(64 if quick else 1200, 200)
    else:
        data = documents(task["n_train"] + task["n_eval"], 14 if quick else 64)
    others = documents(64 if quick else 3000, 150).assign(
        item=lambda frame: "o" + frame["item"], text=lambda frame: "slow " + frame["text"]
    )
    settings = ROW | task | {"task": "a", "dataset": "b", "threads": 4, "calibration": row}
    settings = {key: value for key, value in settings.items() if value is not None}
    calibration = others if patterns.find(pattern).needs == "calibration" else None
    started = time.perf_counter()
    for _ in evaluation.evaluate(folder, data, settings, pattern, levels, 0, DEVICE, calibration=calibration):
        pass
    seconds = time.perf_counter() - started
    on_card = torch.cuda.max_memory_reserved() / 1e6 if DEVICE == "cuda" else 0.0
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    host = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    return {
        "seconds": STARTED + seconds,
        "gpu_mb": on_card,
        "host_mb": host,
    }


def name_of_card():
    """The card's name; None: a processor computes."""
    return torch.cuda.get_device_name() if DEVICE == "cuda" else None


def device_of(card):
    """The row of devices.tsv of which each part stands in the card's name; None: a processor."""
    rows = {row["device"]: row for row in tsv.read_table(str(ROOT / "config/devices.tsv"), "devices", "device")}
    named = re.split(r"[ -]|gb", (card or resources.PROCESSOR).lower())
    chosen = next((found for found in rows if set(found.split("-")) <= set(named)), resources.DEFAULT_CLASS)
    return needs.Device.of_row(rows[chosen])


def expected(name, quick, parameters, card):
    """What such a job is expected to take on a card of this name; None: on a processor."""
    _, kind, dtype, task, pattern, levels = JOBS[name]
    task, row = ROW | shrunk(task, quick), shrunk(SEQUENCES, quick)
    device, gpu = device_of(card), card is not None
    model = {"parameters": parameters, "type": kind, "dtype": dtype}
    need = needs.of_run(model, task, len(levels), device, int(gpu), 4)
    if patterns.find(pattern).needs == "calibration":
        need = needs.with_calibration(need, model, task, patterns.find(pattern), row, len(levels), device, gpu, 4)
    return need


def jobs(quick, rates):
    """Whole jobs, each in its own process, beside what is expected of them."""
    folders, parameters = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for name, (save, *_) in JOBS.items():
            if save not in folders:
                folders[save] = Path(place, save.__name__)
                parameters[save] = save(folders[save], quick)
            command = [sys.executable, __file__, name, "--folder", str(folders[save]), *(["--quick"] if quick else [])]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr[-1500:]}")
            took = json.loads(done.stdout.splitlines()[-1])
            need = expected(name, quick, parameters[save], name_of_card())
            yield f"{name}: time", took["seconds"], "s; peer: expected", need.minutes * 60, True
            yield f"{name}: memory of the card", took["gpu_mb"], "MB; peer: expected", need.gpu_mb, True
            yield f"{name}: memory of the machine", took["host_mb"], "MB; peer: expected", need.host_mb, True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--folder", type=Path, required=True, help="of the model")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(json.dumps(job(args.job, args.quick, args.folder)))


if __name__ == "__main__":
    main()
