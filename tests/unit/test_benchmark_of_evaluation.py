"""benchmarks/evaluate.py runs: on a tiny model, all of its figures, those of MNLI's size at a smaller one."""

import json
import sys
from pathlib import Path

import pandas as pd
import tiny_models as tiny
import torch

from essential_sparsity import files

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


def manifest(folder: Path) -> None:
    """As fetching writes it, of what lies in `folder/files`."""
    listed = [
        {"path": path.name, "sha256": files.sha256_file(path), "size": path.stat().st_size}
        for path in sorted((folder / "files").iterdir())
    ]
    files.write_json(folder / "manifest.json", {"source": "package", "folder": "files", "files": listed})


def test_both_loops_run_and_every_figure_is_written(tmp_path, monkeypatch):
    import evaluate

    model, data = tmp_path / "checkpoints/minilm", tmp_path / "datasets/movie-reviews"
    tiny.save_bert(model / "files", auto_class="AutoModelForSequenceClassification")
    (data / "files").mkdir(parents=True)
    tiny.reviews(300).to_parquet(data / "files/data.parquet", index=False)
    for folder in (model, data):
        manifest(folder)
    monkeypatch.setattr(evaluate, "LENGTH", 16)
    monkeypatch.setattr(evaluate, "PAIRS", 6400)
    monkeypatch.setattr(evaluate, "EVALUATED", 100)
    out = tmp_path / "figures.json"
    arguments = ["--results", tmp_path, "--json", out, "--mnli", "--train", 64, "--eval", 64, "--levels", 2]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    threads = torch.get_num_threads()
    try:
        evaluate.main()
    finally:
        torch.set_num_threads(threads)
    figures = pd.DataFrame(json.loads(out.read_text())).set_index("name")
    assert list(figures.index) == [
        "finetune_items_per_s", "evaluate_items_per_s", "job_items_per_s", "outside_share", "outside_share_mnli",
    ]  # fmt: skip
    assert (figures["ours"] > 0).all()
    assert figures["ours"][["outside_share", "outside_share_mnli"]].lt(1).all()
