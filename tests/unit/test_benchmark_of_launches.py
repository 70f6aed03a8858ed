"""What a card is asked for is counted on a processor: nothing waits within a pass, a column is four kernels."""

import argparse
import sys

import pytest
from benchmark_programs import loaded

with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, "calibrated", loaded("calibrated"))
    launches = loaded("launches")

WIDTH, INNER, TOKENS = 128, 160, 4096  # of a batch
SHAPE = {"width": WIDTH, "inner": INNER, "length": 16, "dtype": "bfloat16"}
RATES = {"bandwidth": 4000.0, "bf16": 700.0, "float32": 50.0}
COLUMNS = 6 * WIDTH + INNER


@pytest.mark.parametrize("pattern", ["wanda", "sparsegpt-nm4"])
def test_no_batch_waits_for_the_card_and_the_last_product_is_not_made(pattern):
    counts = launches.counted(pattern, argparse.Namespace(**SHAPE, **RATES))
    for part in ("first pass", "statistics", "second pass"):
        for batch in (0, 1):
            assert counts.found[part, batch]["waits"] == 0
    first, later, whole = (counts.found[key] for key in (("first pass", 0), ("first pass", 1), ("second pass", 1)))
    assert first["products"] == whole["products"] > 0
    assert first["products"] - later["products"] == 2 * TOKENS * WIDTH * INNER
    assert counts.copies["there, pinned"] == 2 * TOKENS * WIDTH * 2, "what the first block is given, once"
    assert counts.copies["back"] == TOKENS * WIDTH * 2, "what the first batch gets, once"
    weights = 4 * WIDTH**2 + 3 * WIDTH * INNER + 2 * WIDTH
    assert counts.copies["weights of a block, there and back"] == 2 * 2 * weights


def test_a_column_is_four_kernels_and_each_hessian_has_factors_once():
    counts = launches.counted("sparsegpt", argparse.Namespace(**SHAPE, **RATES))
    assert 4 * COLUMNS < counts.found["masks", 0]["kernels"] < 5 * COLUMNS
    assert counts.found["masks", 0]["views"] < 5 * COLUMNS
    of_one = 4 * (3 * WIDTH**3 + INNER**3) / 3  # two factors and an inverse: of q, k, v; of o; of gate and up; of down
    assert counts.found["factors", 0]["products"] == pytest.approx(of_one)


def test_it_prints_a_table_for_each_pattern(capsys):
    given = ["--width", "64", "--inner", "160", "--length", "16", "--sequences", "1024", "--patterns", "wanda"]
    launches.main(given)
    told = capsys.readouterr().out
    assert told.startswith("wanda: a block, 16,384 tokens in 4 batches")
    assert [line.split("  ")[0] for line in told.splitlines()[2:6]] == [
        "first pass",
        "statistics",
        "masks",
        "second pass",
    ]
    assert "for 32, beside copies" in told


def test_calibrated_pruning_is_timed_on_dense_models(capsys, monkeypatch):
    """Each pattern has a model of its own: of a pruned one half of all scores are equal, which takes other steps."""
    calibrated, zeros = loaded("calibrated"), []
    work = calibrated.work
    monkeypatch.setattr(
        calibrated,
        "work",
        lambda label, model, *rest: (
            zeros.append(float((model.model.layers[0].mlp.up_proj.weight == 0).float().mean())),
            work(label, model, *rest),
        ),
    )
    given = ["--width", "64", "--inner", "96", "--sequences", "8", "--length", "16"]
    calibrated.main([*given, "--patterns", "wanda", "sparsegpt", "passes", "rowwise"])
    assert zeros == [0.0] * 4
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:] if "warning" not in line] == [
        "wanda", "sparsegpt", "passes", "rowwise",
    ]  # fmt: skip
