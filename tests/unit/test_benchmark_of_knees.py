"""benchmarks/knees.py simulates what it says, and every kind of its cases runs."""

import numpy as np
import pytest
from benchmark_programs import loaded

benchmark = loaded("knees")


@pytest.mark.parametrize("study", benchmark.STUDIES)
def test_many_items_have_the_quality_that_the_shape_says(study, monkeypatch):
    name, dense, _, _, _ = benchmark.STUDIES[study]
    monkeypatch.setitem(benchmark.STUDIES, study, (name, dense, 200_000, 1, 0.0))
    generator, levels = np.random.default_rng(0), np.array([0.0, 0.5, 0.7])
    items = benchmark.population(study, generator)
    _, quality = benchmark.simulate(study, "late", items, levels, generator)
    expected = dense - benchmark.lost(study, "late", levels)
    assert quality[:, 0] == pytest.approx(expected, abs=0.008)


def test_the_truth_of_a_cliff_is_where_a_point_is_lost():
    assert benchmark.truth("accuracy_400x1", "cliff") == pytest.approx(0.605, abs=1e-4)
    assert benchmark.truth("accuracy_400x1", "gentle") == pytest.approx(np.sqrt(0.05), abs=1e-4)


@pytest.mark.parametrize("grid", ["demo", "refined"])
def test_a_case_has_its_coverage_and_widths(grid, capsys):
    found = benchmark.report((grid, "accuracy_2000x3", "cliff"), 3, 100)
    assert found["coverage"] == 1
    assert found["gap"] <= found["width"] <= 0.9
    assert found["excludes_0"] == found["signs"] == 0
    assert (found["levels"] > 10) == (grid == "refined")
    assert "cliff" in capsys.readouterr().out


def test_differences_of_equal_patterns_have_their_share_of_misses():
    found = benchmark.report_differences(3, 0.5, 6, 200)
    assert 0 <= found["level_misses"] <= 0.5
    assert found["range_width"] > 0
