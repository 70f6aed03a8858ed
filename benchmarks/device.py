"""What this workflow does on an NVIDIA card: is it right there, and how fast, against what the card itself can do.

    bash benchmarks/device.sh [--out FOLDER] [--only PART …] [--within SECONDS] [--quick]

Writes device.json and device.md (the tables of docs/gpu.md) into the folder, after each part, and exits with 1 where
something is wrong. No network is used; weights are random but for their shapes. Parts, each with its peer:

card      memory, the rate of a device-to-device copy (bytes read and written), of a bf16 matrix product of 8,192³
masks     every pattern, dtype and level: the card's masks against the processor's, bit for bit, with and without ties
training  a model of MiniLM's shape fine-tuned with a held mask and bf16 autocast, killed half-way and resumed: the same
          bits as one that was left alone; its logits against the processor's
sweep     spectrum, thresholds and ten masks, 85 M and 6.5 B weights, against copies of the same bytes
passes    evaluation of a BERT-base-shaped model (texts of 8 to 128 tokens; float32 and bf16) and of a 7B-shaped one
          (windows of 2,048) against the plain loop, and against the measured rate of bf16 products
2:4       linear layers of 4,096 × 11,008 with 2:4 masks, as semi-structured and as dense, at 1, 16 and 256 rows
jobs      whole jobs of BERT-base's, ViT-Base's and a 1.3B shape, each in a process of its own, against what is expected of them
data      patterns that are calibrated: levels and scores against the processor's
pretrain  four objectives: the loss against the processor's, and the same bits after a kill
kinds     every kind of task, dense and pruned, and a ticket: scores of items against the processor's

--within SECONDS: a part that has not begun by then is left out and named; `--only` runs it (480 s).
--quick: small shapes, on a processor too: does it run at all.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as in a job

import device_jobs
import masks as mask_speed
import numpy as np
import pandas as pd
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from essential_sparsity import patterns, tasks
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import masks
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import perplexity, text_classification
from essential_sparsity.training import exactness, finetuning, resume

DEVICE = mask_speed.DEVICE
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
ONE_SHOT = [
    name
    for name, entry in patterns.PATTERNS.items()
    if name != "dense" and entry.score != "given" and entry.needs != "calibration"
]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
WORDS = ["good", "bad", *(f"word{i}" for i in range(96))]


def seconds(function, repeat=5):
    """Median of the times of a call, after one that warms up."""
    found = []
    for _ in range(repeat + 1):
        mask_speed.synchronise()
        started = time.perf_counter()
        function()
        mask_speed.synchronise()
        found.append(time.perf_counter() - started)
    return float(np.median(found[1:]))


def card(quick, rates):
    size = 1 << (24 if quick else 31)
    source = torch.zeros(size, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    rates["copy"] = 2 * size / seconds(lambda: target.copy_(source))
    side = 512 if quick else 8192
    one, two = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    rates["bf16"] = 2 * side**3 / seconds(lambda: one @ two)
    yield "copy, read and written", rates["copy"] / 1e9, "GB/s", None, True
    yield f"bf16 product of {side:,}³", rates["bf16"] / 1e12, "TFLOP/s", None, True
    if DEVICE == "cuda":
        yield "memory", torch.cuda.get_device_properties(0).total_memory / 1e9, "GB", None, True


def masks_alike(quick, rates):
    generator = torch.Generator().manual_seed(0)
    side = 64 if quick else 1024
    shapes = [(side, side), (side, 4 * side), (4 * side, side + 2), (1, 8), (side, side)]
    for dtype in DTYPES:
        for tied in (False, True):
            weights = []
            for i, shape in enumerate(shapes):
                values = torch.randn(shape, generator=generator) * 0.04
                values = (values * 200).round() / 200 if tied else values
                description = PrunableWeight(f"layer.{i}", i, "mlp", "mlp", shape, int(i < 4))  # the last: as Conv1D
                weights.append((description, values.to(dtype)))
            there = [(description, values.to(DEVICE)) for description, values in weights]
            for pattern in [*ONE_SHOT, "nm2", "nm4", "nm8"]:
                levels = [0.0, 0.5, 0.75] if pattern in ("nm4", "nm8") else [0.0, 0.5]
                levels = levels if patterns.find(pattern).group else [0.0, 0.1, 0.5, 0.9, 1.0]
                found = [masks.plan(pattern, given, levels, seed=1) for given in (weights, there)]
                differing = sum(
                    int((one != other.cpu()).sum())
                    for level in levels
                    for (_, one), (_, other) in zip(*(plan.masks(level) for plan in found), strict=True)
                )
                name = f"{pattern}, {str(dtype)[6:]}{', tied' if tied else ''}"
                yield name, differing, "weights that differ", 0, differing == 0


def small_bert(folder, quick):
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=128
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    if quick:
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.BertModel(transformers.BertConfig(vocab_size=len(vocabulary), **shape)).save_pretrained(folder)


def reviews(count):
    draw = np.random.default_rng(0)
    texts = [" ".join([WORDS[i % 2], *draw.choice(WORDS[2:], size=draw.integers(4, 60))]) for i in range(count)]
    labels = [WORDS[i % 2] for i in range(count)]
    return pd.DataFrame({"item": [f"r{i:05d}" for i in range(count)], "text": texts, "label": labels})


def bits(model):
    """SHA-256 of all weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def training(quick, rates):
    settings = {
        "task": "reviews", "dataset": "reviews", "kind": "text-classification", "protocol": "finetune", "epochs": 2,
        "n_train": 64 if quick else 1280, "n_eval": 64 if quick else 640, "max_length": 64, "batch_size": 32,
        "learning_rate": 1e-4, "autocast": "bf16",
    }  # fmt: skip
    steps = settings["epochs"] * settings["n_train"] // settings["batch_size"]
    data, kept, original = reviews(settings["n_train"] + settings["n_eval"]), {}, text_classification.run

    def keep(model, *rest):
        outcome = original(model, *rest)
        kept.update(model=model, digest=bits(model), prepared=rest[0])
        return outcome

    def run(folder, work=None, stop=None):
        def count(self, args, state, control, **_):
            if state.global_step == stop:
                raise device_jobs.Killed

        with (
            mock.patch.object(text_classification, "run", keep),
            mock.patch.object(finetuning.Watch, "on_step_end", count, create=True),
            mock.patch.multiple(resume, SECONDS=0.0, SHARE=1e9),
        ):
            ((_, outcome),) = evaluation.evaluate(folder, data, settings, "global", [0.5], 0, DEVICE, work=work)
        return outcome

    with tempfile.TemporaryDirectory() as place:
        folder, work = Path(place, "model"), resume.Work(Path(place, "work"), {"manifests": ["a", "b"]})
        small_bert(folder, quick)
        outcome = run(folder)
        alone = kept["digest"]
        try:
            run(folder, work, stop=steps // 2)
            yield "killed half-way", 0, "a training that was to be killed went on", 1, False
        except device_jobs.Killed:
            pass
        again = run(folder, work)
        resumed = alone == kept["digest"] and outcome.items.equals(again.items)
        started = time.perf_counter()
        run(folder)  # the first one also read the libraries
        elapsed, repeated = time.perf_counter() - started, alone == kept["digest"]
    yield "accuracy at 50 %", outcome.metrics["accuracy"], "", None, quick or outcome.collapsed is None
    yield f"job of {steps} steps", elapsed, "s", None, True
    yield "trained again: same bits", int(repeated), "", 1, repeated
    yield "killed and resumed: same bits", int(resumed), "", 1, resumed
    model, prepared = kept["model"], kept["prepared"]
    here = tasks.forward(model, prepared.inputs, prepared.collate, 32, DEVICE, tasks.logits)
    reference = tasks.forward(model.cpu(), prepared.inputs, prepared.collate, 32, "cpu", tasks.logits)
    apart = float(np.abs(here - reference).max())
    yield "logits, largest difference from the processor's", apart, "", 1e-3, apart < 1e-3


def sweep(quick, rates):
    shape, of_7b = mask_speed.BERT_BLOCK, (mask_speed.LLAMA_BLOCK, 32, torch.bfloat16)
    cases = [(shape, 1 if quick else 12, dtype) for dtype in (torch.float32, torch.bfloat16)]
    for block, blocks, dtype in cases if quick or DEVICE == "cpu" else [*cases, of_7b]:
        weights = mask_speed.make_weights(blocks, dtype, block)
        count = sum(values.numel() for _, values in weights)
        size = sum(values.nbytes for _, values in weights)
        large = count > 1e9
        mask_speed.synchronise()
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        before = mask_speed.peak()
        ours = seconds(lambda given=weights: mask_speed.sweep(given), repeat=1 if large else 3)
        extra = mask_speed.peak() - before
        copies = 2 * size / rates["copy"]
        name = f"ten levels, {count / 1e6:,.0f} M weights, {str(dtype)[6:]}"
        yield name, ours, "s; peer: one copy of the weights", copies, True
        yield f"{name}: extra memory", extra / 1e6, "MB", None, True
        del weights


def passes(quick, rates):
    yield from encoder_passes(quick, rates)
    yield from decoder_pass(quick, rates)


def encoder_passes(quick, rates):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=1000, num_labels=2, **(shape if quick else {}))
    draw = np.random.default_rng(0)
    items = 64 if quick else 4096
    inputs = [{"input_ids": draw.integers(5, 1000, length).tolist()} for length in draw.integers(8, 129, items)]

    def collate(rows, longest=None):
        longest = longest or max(len(row["input_ids"]) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        for row, target in zip(rows, ids, strict=True):
            target[: len(row["input_ids"])] = torch.tensor(row["input_ids"])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config).to(DEVICE, dtype).eval()
        weights = sum(p.numel() for p in model.bert.encoder.parameters())
        lengths = np.array([len(row["input_ids"]) for row in inputs])
        attention = 4 * config.num_hidden_layers * config.hidden_size * float((lengths.astype(float) ** 2).sum())
        operations = 2 * weights * int(lengths.sum()) + attention

        def plain(model=model):
            found = []
            with torch.inference_mode():
                for start in range(0, items, 32):
                    batch = {key: value.to(DEVICE) for key, value in collate(inputs[start : start + 32], 128).items()}
                    found.append(model(**batch).logits.float().cpu())
            return torch.cat(found).numpy()

        def ours(model=model):
            return tasks.forward(model, inputs, collate, 32, DEVICE, tasks.logits)

        apart = float(np.abs(ours() - plain()).max())
        mine, theirs = seconds(ours, 2), seconds(plain, 2)
        name = f"BERT-base shape, {str(dtype)[6:]}"
        yield f"{name}: texts a second", items / mine, "; peer: the plain loop, padded to 128", items / theirs, True
        yield f"{name}: share of the bf16 rate", operations / mine / rates["bf16"], "", None, True
        yield f"{name}: logits, largest difference from the plain loop", apart, "", 0.1, apart < 0.1


def decoder_pass(quick, rates):
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(max_position_embeddings=2048, **(shape if quick else {}))
    context, windows = (32, 4) if quick else (2048, 16)
    if not quick and (DEVICE == "cpu" or torch.cuda.get_device_properties(0).total_memory < 30e9):
        return
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    weights = sum(p.numel() for p in model.model.layers.parameters()) + model.lm_head.weight.numel()
    ids = np.random.default_rng(0).integers(5, config.vocab_size, (windows, context)).tolist()
    prepared = tasks.Prepared(
        items=[str(i) for i in range(windows)],
        inputs=[{"input_ids": row} for row in ids],
        targets=np.full(windows, context - 1),
        collate=lambda rows: {"input_ids": torch.tensor([row["input_ids"] for row in rows])},
    )
    settings = {"task": "windows", "kind": "perplexity"}

    def plain():
        losses = []
        with torch.inference_mode():
            for row in ids:
                given = torch.tensor([row], device=DEVICE)
                losses.append(float(model(input_ids=given, labels=given).loss))
        return float(np.exp(np.mean(losses)))

    def ours():
        return perplexity.run(model, prepared, settings, 0, DEVICE).metrics["perplexity"]

    apart = abs(np.log(ours()) - np.log(plain()))
    mine, theirs = seconds(ours, 2), seconds(plain, 2)
    attention = 4 * config.num_hidden_layers * config.hidden_size * windows * context**2 / 2  # half of it is masked
    operations = 2 * weights * windows * context + attention
    name = f"{weights / 1e9:.1f}B-shaped decoder, bf16"
    rate = windows * context / mine
    yield f"{name}: tokens a second", rate, "; peer: the plain loop", windows * context / theirs, True
    yield f"{name}: share of the bf16 rate", operations / mine / rates["bf16"], "", None, True
    yield f"{name}: log-perplexity, difference from the plain loop", apart, "", 0.01, apart < 0.01


def semi_structured(quick, rates):
    if DEVICE == "cpu":
        return
    torch.manual_seed(0)
    for dtype in (torch.float16, torch.bfloat16):
        dense = torch.randn(11_008, 4_096, device=DEVICE, dtype=dtype) * 0.02
        description = PrunableWeight("layer", 0, "mlp", "mlp", tuple(dense.shape), 1)
        masks.plan("nm4", [(description, dense)], [0.5], seed=0).prune_(0.5)
        packed = torch.sparse.to_sparse_semi_structured(dense)
        for rows in (1, 16, 256):
            batch = torch.randn(rows, 4_096, device=DEVICE, dtype=dtype)
            name = f"{str(dtype)[6:]}, {rows} rows"
            try:
                apart = float((torch.nn.functional.linear(batch, packed) - batch @ dense.t()).abs().max())
                ours = seconds(lambda batch=batch, packed=packed: torch.nn.functional.linear(batch, packed), 20)
            except (RuntimeError, NotImplementedError) as error:
                yield f"{name}: {str(error).splitlines()[0][:80]}", float("nan"), "", None, True
                continue
            theirs = seconds(lambda batch=batch, dense=dense: torch.nn.functional.linear(batch, dense), 20)
            yield name, ours * 1e6, "µs; peer: dense", theirs * 1e6, apart < 0.1


PARTS = {
    "card": card,
    "masks": masks_alike,
    "training": training,
    "sweep": sweep,
    "passes": passes,
    "2:4": semi_structured,
    "jobs": device_jobs.jobs,
    "data": device_jobs.calibrated_alike,
    "pretrain": device_jobs.pretrainings,
    "kinds": device_jobs.kinds_alike,
}


def markdown(about, rows, took):
    """The tables of docs/gpu.md: one per part, masks that agree as one line; `took`: seconds of each part."""
    parts = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in took.items())
    lines = [f"### {about['card']}", "", f"torch {about['torch']}, transformers {about['transformers']}; {parts}.", ""]
    for part, what, same in (
        ("masks", "Masks of {} patterns, types and ties", "all equal the processor's, bit for bit"),
        (
            "kinds",
            "Kinds of tasks, dense and pruned ({} cases)",
            "scores as the processor's, the largest difference {:.1g}",
        ),
        ("data", "Patterns that are calibrated ({} cases)", "scores as the processor's, the largest difference {:.1g}"),
    ):
        if alike := [row for row in rows if row["part"] == part and row["unit"] != device_jobs.SHARE]:
            wrong = [row["name"] for row in alike if not row["right"]]
            most = max(row["value"] for row in alike)
            told = f"differ in {', '.join(wrong)}" if wrong else same.format(most)
            lines += [f"{what.format(len(alike))}: {told}.", ""]
    lines += ["| part | measured | peer | |", "|---|---|---|---|"]
    for row in rows:
        if row["part"] not in ("masks", "kinds", "data") or row["unit"] == device_jobs.SHARE:
            peer = "" if row["peer"] is None else f"{row['peer']:.4g}"
            lines.append(
                f"| {row['part']}: {row['name']} | {row['value']:.4g} {row['unit'].partition(';')[0]} | {peer}"
                f" {row['unit'].partition('peer:')[2].strip()} | {'' if row['right'] else '**wrong**'} |"
            )
    return "\n".join(lines) + "\n"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results/device")))
    parser.add_argument("--only", choices=PARTS, nargs="+", help="some parts, after `card`")
    parser.add_argument("--within", type=float, default=480, help="seconds after which no further part begins")
    parser.add_argument("--quick", action="store_true", help="small shapes: does it run at all")
    args = parser.parse_args(argv)
    if DEVICE == "cpu" and not args.quick:
        sys.exit("No NVIDIA card is found: run this on a machine with one, or try it with --quick.")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    exactness.ask()
    about = {
        "card": torch.cuda.get_device_name() if DEVICE == "cuda" else f"no card: {platform.machine()}, a processor",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(about, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    rows, rates, failed, took, began = [], {}, [], {}, time.monotonic()
    asked = [part for part in PARTS if part == "card" or not args.only or part in args.only]
    for part in asked:
        started, function = time.monotonic(), PARTS[part]
        if started - began > args.within:
            break
        try:
            for name, value, unit, peer, right in function(args.quick, rates):
                row = {"part": part, "name": name, "value": value, "unit": unit, "peer": peer, "right": bool(right)}
                rows.append(row)
                if part != "masks" or not right:
                    told = "" if peer is None else f"  (peer {peer:.4g})"
                    print(f"{part}: {name}: {value:.4g} {unit}{told}{'' if right else '  WRONG'}", flush=True)
        except Exception as error:  # the other parts are worth their time on a card that is lent
            failed.append(f"{part}: {type(error).__name__}: {error}")
            print(f"{part} FAILED: {type(error).__name__}: {error}", flush=True)
        took[part] = time.monotonic() - started
        print(f"{part}: {took[part]:.0f} s", flush=True)
        found = {**about, "seconds": took, "rows": rows, "failed": failed}
        (args.out / "device.json").write_text(json.dumps(found, indent=2) + "\n")
        (args.out / "device.md").write_text(markdown(about, rows, took), encoding="utf-8")
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    if left := [part for part in asked if part not in took]:
        print(f"Not begun within {args.within:.0f} s; the same with --only {' '.join(left)} runs the rest.", flush=True)
    wrong = [f"{row['part']}: {row['name']}" for row in rows if not row["right"]]
    if wrong or failed:
        sys.exit("\n".join(["Wrong on this card:", *wrong, *failed]))


if __name__ == "__main__":
    main()
