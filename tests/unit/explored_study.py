"""A study of made-up numbers for the explorer: every table that it reads, manifests and items, of as many curves as are asked for."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

from essential_sparsity import codefiles, files, tables
from essential_sparsity.curves import knees

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "workflow/report/explorer"
EMPTY = {"text": "x", "whole number": 1, "number": 0.5, "yes or no": True}
EVIL = "<img src=x onerror=alert(1)>"
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
NOT_ASKED = 0.97  # a level of the files of items that the study does not ask for
METRICS = {"accuracy": ("accuracy", "matthews"), "perplexity": ("perplexity",), "spearman": ("spearman",)}


def filled(table: str, **told) -> dict:
    """A row of a table with what it takes, where nothing else is told."""
    columns = codefiles.described(table)["columns"]
    return {name: None if said.get("nullable") else EMPTY[said["type"]] for name, said in columns.items()} | told


def value(metric: str, pattern: str, sparsity: float, draw: np.random.Generator) -> float:
    harm = sparsity ** (1 if pattern == "random" else 3) + draw.normal(0, 0.004) * (sparsity > 0)
    return float(17 * np.exp(6 * max(0, harm))) if metric == "perplexity" else float(0.91 - 0.7 * harm)


def evaluated(key: dict, levels: tuple[float, ...], metric: str, n_items: int) -> pd.DataFrame:
    """Rows of table `items`: for accuracies right above a bar that rises with the sparsity; one item comes back in at the last level."""
    sparsity, number = (grid.ravel() for grid in np.meshgrid(levels, np.arange(n_items), indexing="ij"))
    right = number >= n_items * (0.05 + 0.9 * sparsity**2)
    right[(number == int(n_items * 0.05) + 1) & (sparsity == LEVELS[-1])] = True
    score = right * 1.0 if metric == "accuracy" else number + 0.5
    rows = filled("items") | {
        "score": score,
        "item": [f"photographs/of-things/r{one:04d}" for one in number],
        "weight": 1.0,
        "sparsity": sparsity,
    }
    return pd.DataFrame(rows | key, index=range(len(number)))


class Made:
    """A study in `results/{name}` of a folder, with its grid and tables; `write(path)` writes its page."""

    def __init__(self, folder: Path, labels: dict, name: str = "made"):
        self.folder, self.labels, self.name = folder, labels, name
        self.home = folder / "results" / name

    def table(self, name: str) -> pd.DataFrame:
        return tables.read(self.home / f"tables/{name}.parquet", name)

    def replace(self, name: str, frame: pd.DataFrame) -> None:
        tables.write(frame, name, self.home / f"tables/{name}.parquet")

    def write(self, out: Path | None = None) -> Path:
        """By the program itself, in the folder of the study, as the rule calls it."""
        import write_explorer

        out = out or self.home / "explorer.html"
        there = sorted(str(path) for path in (self.home / "tables").glob("*.parquet"))
        told = ["--grid", str(self.home / "grid.parquet"), "--tables", *there, "--study", self.name]
        told += ["--labels", json.dumps(self.labels), "--page", str(PAGE)]
        write_explorer.main([*told, "--out", str(out)])
        return out


def make(
    folder: Path,
    models: dict[str, str],
    tasks: dict[str, tuple[str, str]],
    patterns: dict[str, tuple[float, ...]],
    seeds: tuple[int, ...] = (0,),
    n_items: int = 40,
    blocks: int = 3,
    fitted: bool = True,
) -> Made:
    """`models`: id -> label; `tasks`: id -> label, metric; `patterns`: name -> levels; `fitted`: knees are read from the curves, else made up.

    Programs that read it run in the folder.
    """
    made = Made(folder, {"models": models, "tasks": {task: label for task, (label, _) in tasks.items()}})
    draw = np.random.default_rng(4)
    runs, grid = [], []
    for (model, (task, (_, headline))), (pattern, levels), seed in itertools.product(
        itertools.product(models, tasks.items()), {"dense": (0.0,), **patterns}.items(), seeds
    ):
        path = f"results/store/items/{model}/{task}/{pattern}/{seed}.parquet"
        key = {"model": model, "task": task, "pattern": pattern, "seed": seed}
        if seed == seeds[0]:  # of the others none is read
            tables.write(
                evaluated(key, levels if pattern == "dense" else (*levels, NOT_ASKED), headline, n_items),
                "items",
                folder / path,
            )
        digest = files.sha256_file(folder / path) if seed == seeds[0] else "x"
        for level, metric in itertools.product(levels, METRICS[headline]):
            told = key | {"sparsity": level, "metric": metric, "value": value(metric, pattern, level, draw)}
            told |= {
                "protocol": "zero-shot",
                "n_items": n_items,
                "items_sha256": digest,
                "weights_sha256": "0123456789abcdef",
            }
            told |= {"keep": 4 - round(4 * level), "group": 4} if pattern == "nm4" else {}
            runs.append(filled("runs", **told))
        manifests = {
            "checkpoint": f"results/store/checkpoints/{model}/manifest.json",
            "dataset": f"results/store/datasets/{task}/manifest.json",
        }
        grid += [filled("grid", **key, **manifests, sparsity=level, items=path) for level in levels]
    _manifests(folder, models, tasks)
    frame = pd.DataFrame(runs)
    tables.write(pd.DataFrame(grid), "grid", made.home / "grid.parquet")
    made.replace("runs", frame)
    found = knees.table(frame)[0] if fitted else _made_up(frame, draw)
    known = found["essential_sparsity"].notna()
    found["essential_sparsity_low"] = found["bracket_low"].where(known) / 2
    found["essential_sparsity_high"] = found["bracket_high"].where(
        known & (found["pattern"] != "global")
    )  # of global: beyond the levels
    made.replace("knees", found)
    made.replace("missing_runs", tables.empty("missing_runs"))
    made.replace("comparisons", _compared(found, draw))
    made.replace("differences", _different(models, tasks, patterns, draw))
    made.replace("layers", _layers(models, patterns, blocks, draw))
    return made


def _made_up(runs: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """Knees of as many digits as real ones have."""
    curves = runs.loc[runs["pattern"] != "dense", ["model", "task", "pattern", "metric"]].drop_duplicates()
    numbers = (
        "essential_sparsity",
        "dense",
        "metric_at_knee",
        "kneedle",
        "hinge",
        "bracket_low",
        "bracket_high",
        "last_compliant",
        "epsilon",
    )
    rows = [
        filled("knees", **curve, **dict(zip(numbers, draw.random(len(numbers)), strict=True)))
        for curve in curves.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _manifests(folder: Path, models: dict, tasks: dict) -> None:
    for kind, names in (("checkpoints", models), ("datasets", tasks)):
        for name in names:
            said = {
                kind[:-1].replace("checkpoint", "model"): name,
                "source": "hub",
                "id": f"owner/{name}",
                "revision": "abc123",
                "files": [],
            }
            said |= {"dtype": "float32", "n_prunable": 1234567, "n_total": 7654321, "n_rows": {"all": 40}}
            files.write_json(folder / f"results/store/{kind}/{name}/manifest.json", said)


def _compared(found: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    rows = []
    for (task, metric), own in found.groupby(["task", "metric"]):
        curves = own[["model", "pattern"]].itertuples(index=False, name=None)
        for (model, pattern), (other_model, other) in itertools.combinations(sorted(curves), 2):
            if (model == other_model) == (pattern == other):
                continue
            told = {
                "task": task,
                "metric": metric,
                "between": "pattern" if model == other_model else "model",
                "model_a": model,
            }
            told |= {
                "pattern_a": pattern,
                "model_b": other_model,
                "pattern_b": other,
                "difference": 0.123,
                "low": -0.2,
                "high": None,
            }
            rows.append(filled("comparisons", **told))
    return pd.DataFrame(rows) if rows else tables.empty("comparisons")


def _different(models: dict, tasks: dict, patterns: dict, draw: np.random.Generator) -> pd.DataFrame:
    rows = []
    for model, (task, (_, metric)), pattern in itertools.product(models, tasks.items(), patterns):
        shared = [level for level in patterns[pattern] if level in patterns.get("global", ())]
        if pattern == "global" or not shared:
            continue
        told = {
            "model": model,
            "task": task,
            "metric": METRICS[metric][-1],
            "pattern_a": pattern,
            "pattern_b": "global",
        }
        for level in shared:
            numbers = {
                "difference": -0.1234567 * level,
                "low": -0.2 * level - draw.random(),
                "high": draw.random(),
                "n_levels": 1,
            }
            rows.append(filled("differences", **told, sparsity_from=level, sparsity_to=level, **numbers))
        if len(shared) > 1:
            rows.append(
                filled(
                    "differences",
                    **told,
                    sparsity_from=shared[0],
                    sparsity_to=shared[-1],
                    difference=-0.05,
                    low=-0.1,
                    high=0.0,
                    n_levels=len(shared),
                )
            )
    return pd.DataFrame(rows) if rows else tables.empty("differences")


def _layers(models: dict, patterns: dict, blocks: int, draw: np.random.Generator) -> pd.DataFrame:
    roles = {"attention.query": "attention", "mlp.up": "mlp", "mlp.down": "mlp"}
    rows = []
    for model, (pattern, levels) in itertools.product(models, patterns.items()):
        for level, block, (role, sublayer) in itertools.product(levels, range(blocks), roles.items()):
            n = 123456 if sublayer == "mlp" else 65536
            pruned = round(n * min(1, level * (0.8 + 0.1 * block) * draw.uniform(0.99, 1)))
            told = {
                "model": model,
                "pattern": pattern,
                "sparsity": level,
                "tensor": f"{block}.{role}",
                "layer": block,
                "role": role,
                "sublayer": sublayer,
            }
            rows.append(filled("layers", **told, n=n, pruned=pruned, rate=pruned / n, share=0.0))
    return pd.DataFrame(rows) if rows else tables.empty("layers")
