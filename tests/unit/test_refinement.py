"""Rounds of levels: where the crossing is, on the uniform grid, until the gap is narrow."""

import numpy as np
import pandas as pd
import pytest

from essential_sparsity.curves import knees
from essential_sparsity.study import configuration, grid, refinement


def runs_at(levels, pattern="global"):
    quality = 0.9 - np.maximum(np.array(levels) - 0.637, 0)
    return pd.DataFrame(
        {
            "model": "m",
            "task": "t",
            "pattern": ["dense" if level == 0 else pattern for level in levels],
            "sparsity": levels,
            "seed": 0,
            "protocol": "probe",
            "metric": "accuracy",
            "value": quality,
            "n_items": 100,
        }
    )


def rounds_of(levels, width, pattern="global"):
    found = []
    while True:
        runs = runs_at(sorted(levels), pattern)
        added = refinement.next_round(runs, knees.table(runs)[0], width)
        if not added:
            return found, knees.table(runs)[0].iloc[0]["tolerance"]
        (entry,) = added
        found += entry["levels"]
        levels = [*levels, *map(float, entry["levels"])]


def test_rounds_close_in_on_the_crossing_over_levels_of_the_uniform_grid():
    added, tolerance = rounds_of([i / 10 for i in range(10)], 0.02)
    assert tolerance == pytest.approx(0.647, abs=1e-3)
    assert len(added) <= 3
    assert all(float(level) / 0.02 == pytest.approx(round(float(level) / 0.02)) for level in added)
    assert all(0.6 < float(level) < 0.7 for level in added)


def test_a_width_that_divides_nothing_still_ends():
    added, tolerance = rounds_of([0, 0.5, 0.9], 0.03)
    assert tolerance == pytest.approx(0.647, abs=0.02)
    assert len(added) == len(set(added)) <= 6


def test_nothing_is_added_without_a_crossing_or_where_levels_are_given():
    assert rounds_of([0, 0.1, 0.2], 0.02)[0] == []
    assert rounds_of([0, 0.25, 0.5, 0.75], 0.02, pattern="nm4")[0] == []
    assert rounds_of([i / 10 for i in range(10)], 0.02, pattern="lth")[0] == []


def test_a_round_is_jobs_of_its_own_for_all_seeds(tmp_path):
    block = {
        "models": ["m"],
        "tasks": ["t"],
        "patterns": ["global", "random"],
        "sparsities": [0.5, 0.7],
        "seeds": [0, 1],
    }
    path = tmp_path / "rounds.json"
    curve = {"model": "m", "task": "t", "pattern": "global"}
    done = set(grid.expand([block], {"t": 9}))

    def stored(curve):
        return [job.token for job in done if (job.model, job.task, job.pattern, job.seed) == curve]

    for levels, more in ((["0.600"], "0.100"), (["0.600", "0.640", "0.680"], "0.110")):
        refinement.add(path, [curve | {"levels": levels}, curve | {"model": "gone", "levels": [more]}])
        found = set(grid.expand([block], {"t": 9}, refinement.read(path), stored))
        assert done < found
        assert sorted((job.pattern, job.token, job.seed) for job in found - done) == [
            ("global", "+".join(name for name in levels if name not in done_levels(done)), seed) for seed in (0, 1)
        ]
        done = found


def done_levels(jobs):
    return {name for job in jobs for name in job.levels}


@pytest.mark.parametrize("text", ["{", '{"rounds": 3}', '{"rounds": [[{"model": "m", "levels": ["0.5"]}]]}'])
def test_a_damaged_file_of_rounds_is_named(tmp_path, text):
    path = tmp_path / "rounds.json"
    path.write_text(text)
    with pytest.raises(configuration.ConfigError, match=r"rounds\.json.*[dD]elete it"):
        refinement.read(str(path))
