"""The sweep of small pre-trainings, in small: a case is the shipped row with other columns, and its series is read as a study's is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
from benchmark_programs import loaded

ROOT = Path(__file__).parents[2]
emergence = loaded("emergence")
SMALL = {"steps": 30, "checkpoint_every": 10, "layers": 1, "width": 16, "heads": 2, "vocabulary": 120, "batch_size": 4}


@pytest.fixture
def row():
    shipped = emergence.tsv.read_table(str(ROOT / "config/pretraining.tsv"), "pretraining", "pretraining")
    return next(row for row in shipped if row["pretraining"] == "wiki-bert-100") | SMALL


@pytest.fixture
def texts(tmp_path):
    draw = np.random.default_rng(0)
    found = [" ".join(draw.choice(tiny.WORDS, 40)) for _ in range(60)]
    pd.DataFrame({"item": [f"t{i}" for i in range(60)], "text": found}).to_parquet(tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def test_decay_leaves_smaller_weights_and_the_line_says_how_much_it_leaves(row, texts):
    lines = {}
    for decay in (None, 30.0):
        case = row | {"weight_decay": decay, "learning_rate": 1e-3, "warmup_steps": 2}
        loss, series = emergence.trained(case, texts)
        assert [each["step"] for each in series] == [0, 10, 20, 30]
        assert 0 < loss < 10
        lines[decay] = series[-1]["below 0.01"], emergence.line("a case", case, loss, series)
    assert lines[30.0][0] > lines[None][0]
    assert lines[30.0][1].split()[2] == "0.638", "exp(-30 * 1e-3 * 30 / 2)"
    assert lines[None][1].split()[2] == "1.000"


def test_cases_change_what_a_row_has(row):
    assert all(case.keys() <= row.keys() for case in emergence.CASES.values())
