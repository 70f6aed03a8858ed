"""A study of tiny models that is computed by the workflow's own programs, in this process, in a few seconds."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import tiny_models as tiny
import torch
import transformers
import yaml

import fetch_dataset
import fetch_model
import find_ticket
import prune_eval
from essential_sparsity import files, tables
from essential_sparsity.curves import knees
from essential_sparsity.study import configuration, grid, iterations, opening, study
from essential_sparsity.tables import runs

ROOT = Path(__file__).parents[2]
CONFIG = "config/small.yaml"
TEXTS = {"source": "path", "format": "parquet", "levels_per_job": 1, "minutes_per_level": 1}
TASKS = [
    TEXTS | tiny.SIMILARITY | {"task": "pairs", "dataset": "pairs", "id": "data/pairs.parquet"},
    TEXTS
    | tiny.FINETUNE
    | {"task": "moods", "dataset": "reviews", "id": "data/reviews.parquet", "epochs": 1}
    | {"learning_rate": 0.01},
    TEXTS | tiny.PERPLEXITY | {"task": "ppl", "dataset": "reviews", "id": "data/reviews.parquet"},
    TEXTS | tiny.IMAGES | {"task": "shapes", "dataset": "shapes", "id": "data/shapes.parquet", "n_train": 100},
]
CALIBRATION = {
    "source": "path",
    "id": "data/texts.parquet",
    "format": "parquet",
    "sequences": 8,
    "length": 8,
    "seed": 0,
}


def _mixtral(folder: Path) -> None:
    config = transformers.MixtralConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_local_experts=4,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    transformers.MixtralForCausalLM(config).to(torch.float16).save_pretrained(folder)
    tiny.save_tokenizer(folder, special=False)


def _llama_in_shards(folder: Path) -> None:
    tiny.save_llama(folder, torch.float16)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="8KB")
    settings = files.read_json(folder / "config.json") | {"dtype": "float32"}  # which is not what is stored
    files.write_json(folder / "config.json", settings)


def _gpt2_pickled(folder: Path) -> None:
    """With its tied head stored twice, as torch.save leaves it."""
    tiny.save_decoder(folder, "GPT2")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


MODELS = {  # name -> type, how it is made
    "bert": ("encoder", lambda folder: tiny.save_bert(folder, torch.bfloat16)),
    "llama": ("decoder", _llama_in_shards),
    "gpt2": ("decoder", _gpt2_pickled),
    "mixtral": ("decoder", _mixtral),
    "vit": ("vision", tiny.save_vit),
}
GRID = [
    {"models": ["bert"], "tasks": ["pairs"], "patterns": ["global", "nm4"], "sparsities": [0.25, 0.5, 0.75], "seeds": [0, 1]},
    {"models": ["bert"], "tasks": ["moods"], "patterns": ["global", "lth", "deletion"], "sparsities": [0.5], "seeds": [0]},
    {"models": ["llama"], "tasks": ["ppl"], "patterns": ["wanda", "sparsegpt", "sparsegpt-nm4"], "sparsities": [0.5], "seeds": [0]},
    {"models": ["gpt2"], "tasks": ["ppl"], "patterns": ["nm4", "global"], "sparsities": [0.5], "seeds": [0]},
    {"models": ["mixtral"], "tasks": ["ppl"], "patterns": ["global", "wanda"], "sparsities": [0.5], "seeds": [0]},
    {"models": ["vit"], "tasks": ["shapes"], "patterns": ["global"], "sparsities": [0.3, 0.5], "seeds": [0]},
]  # fmt: skip


def make(place: Path) -> None:
    """Write the study's models, data, rows and configuration into the folder, which is the one that programs run in, and run it."""
    shutil.copytree(ROOT / "config", place / "config")
    _data(place / "data")
    for name, (_, save) in MODELS.items():
        (place / "mine" / name).mkdir(parents=True)
        torch.manual_seed(7)
        save(place / "mine" / name)
    rows = [
        {"model": name, "label": f"small {name}", "type": kind, "source": "path", "id": f"mine/{name}", "format": "transformers"}
        | {"parameters": 1e4, "allow_pickle": "true" if name == "gpt2" else "false"}
        for name, (kind, _) in MODELS.items()
    ]  # fmt: skip
    _append(place / "config/models.tsv", rows)
    _append(place / "config/tasks.tsv", [row | {"label": row["task"]} for row in TASKS])
    row = CALIBRATION | {"calibration": "texts", "dataset": "texts", "sampling": "joined"}
    _append(place / "config/calibrations.tsv", [row])
    written = {"study": "small", "grid": GRID, "calibration": {"decoder": "texts"}, "lottery": {"share": 0.5}}
    written |= {"references": None, "claims": None, "refine": None}
    (place / CONFIG).write_text(yaml.safe_dump(written))
    compute(configuration.read_config(configuration.BASE, CONFIG))


def compute(config: dict) -> None:
    """The jobs of a study one after the other, then its tables `runs` and `knees`."""
    asked = opening.read(config)
    store = Path(grid.STORE)
    for name in asked.used_models:
        row = asked.models[name]
        allowed = ["--allow-pickle"] if row["allow_pickle"] else []
        manifest = f"{store}/checkpoints/{name}/manifest.json"
        fetch_model.main(["--model", name, "--settings", asked.source(row), *allowed, "--manifest", manifest])
    for name in asked.used_datasets:
        source = asked.source(asked.datasets[name])
        fetch_dataset.main(
            ["--dataset", name, "--settings", source, "--manifest", f"{store}/datasets/{name}/manifest.json"]
        )
    for model, task, seed, level in asked.tickets:
        place = store / "tickets" / iterations.path((model, task, seed, level))
        words = _common(asked, "find_ticket", model, task, seed)
        words += ["--sparsity", level, "--iteration", "1", "--share", str(asked.share)]
        find_ticket.main([*words, "--out", f"{place}.safetensors", "--digest", f"{place}.sha256"])
    for job in asked.jobs:
        words = _common(asked, "prune_eval", job.model, job.task, job.seed, job.pattern)
        words += ["--pattern", job.pattern, "--sparsities", job.token]
        if iterations.found_by_training(job.pattern):
            paths = [iterations.path((job.model, job.task, job.seed, level)) for level in job.levels]
            words += ["--tickets", *(f"{store}/tickets/{path}.safetensors" for path in paths)]
        if data := asked.calibration_data(job.model, job.pattern):
            words += ["--calibration", data]
        prune_eval.main(
            [*words, "--runs", f"{store}/runs/{job.path}.parquet", "--items", f"{store}/items/{job.path}.parquet"]
        )
    rows = pd.DataFrame(asked.rows())
    found = runs.collect(rows)
    read, _ = knees.table(found, runs.items(rows), replicates=200, asked=rows)
    tables.write(found, "runs", f"{asked.folder}/tables/runs.parquet")
    tables.write(read, "knees", f"{asked.folder}/tables/knees.parquet")


def _common(asked: study.Study, program: str, model: str, task: str, seed: int, pattern: str = "") -> list[str]:
    store = grid.STORE
    settings = asked.settings(task, asked.calibration(model, pattern) if pattern else None)
    words = ["--model", model, "--task", task, "--seed", str(seed), "--settings", settings]
    words += ["--code", asked.code(program, task, pattern), "--manifest", f"{store}/checkpoints/{model}/manifest.json"]
    words += ["--data", f"{store}/datasets/{asked.tasks[task]['dataset']}/manifest.json", "--device", "cpu"]
    words += ["--work", f"{store}/work/{program}/{model}/{task}/{pattern}{seed}"]
    return words + (["--allow-pickle"] if asked.models[model]["allow_pickle"] else [])


def _data(folder: Path) -> None:
    folder.mkdir(parents=True)
    tiny.pairs().to_parquet(folder / "pairs.parquet", index=False)
    tiny.reviews().to_parquet(folder / "reviews.parquet", index=False)
    tiny.images().to_parquet(folder / "shapes.parquet", index=False)
    draw = np.random.default_rng(5)
    texts = [" ".join(draw.choice(tiny.WORDS, size=9)) for _ in range(40)]
    frame = pd.DataFrame({"item": [f"t{i:02d}" for i in range(40)], "text": texts})
    frame.to_parquet(folder / "texts.parquet", index=False)


def _append(path: Path, rows: list[dict]) -> None:
    """Rows at the end of a table of config/."""
    header = path.read_text(encoding="utf-8").splitlines()[0].split("\t")
    lines = ["\t".join("" if row.get(name) is None else str(row[name]) for name in header) for row in rows]
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n") + "\n" + "\n".join(lines) + "\n", encoding="utf-8")
