"""benchmarks/abruptness.py simulates what it says, and every kind of its cases runs."""

import numpy as np
import pytest
from benchmark_programs import loaded

benchmark = loaded("abruptness")


@pytest.mark.parametrize("n", benchmark.LENGTHS)
@pytest.mark.parametrize("case", benchmark.CASES)
def test_series_are_as_long_as_they_should_be_and_ascend(case, n):
    x, y = benchmark.simulate(case, n, np.random.default_rng(0))
    assert len(x) == len(y) == n
    assert (np.diff(x) > 0).all()
    assert np.isfinite(y).all()


@pytest.mark.parametrize("size", benchmark.JUMPS)
def test_a_jump_has_its_size_in_deviations_of_the_noise(size):
    drawn = [benchmark.simulate(f"jump of {size}: flat", 31, np.random.default_rng(i))[1] for i in range(400)]
    differences = np.mean([y[-3:].mean() - y[:3].mean() for y in drawn])
    assert differences == pytest.approx(size, abs=0.2)
    assert np.std([y[0] for y in drawn]) == pytest.approx(1, abs=0.1)


def test_walks_move_by_one_a_step_and_uneven_ones_by_the_root_of_the_gap():
    x = benchmark.uneven(20)
    assert np.diff(x)[[1, 5, -1]].tolist() == [1, 16, 512]
    drawn = np.array([benchmark.walk(np.random.default_rng(i), x) for i in range(800)])
    assert np.std(np.diff(drawn), axis=0) == pytest.approx(np.sqrt(np.diff(x)), rel=0.12)


def test_a_case_has_its_shares(capsys):
    found = benchmark.report("jump of 8: flat", 20, 3)
    assert found["abrupt"] + found["gradual"] + found["nothing"] == pytest.approx(1)
    assert found["abrupt"] > 0.5
    assert "jump of 8: flat" in capsys.readouterr().out
