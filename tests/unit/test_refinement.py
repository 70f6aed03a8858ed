"""Rounds of levels: where the crossing is, on the uniform grid, until the gap is narrow."""

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from essential_sparsity.curves import knees
from essential_sparsity.study import configuration, grid, kinds, refinement

MANY = {"rounds": 99, "levels": 99}


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


def table_of(runs, low=None, high=None):
    """The table `knees`, with the ends of the interval given."""
    frame = knees.table(runs)[0]
    frame["essential_sparsity_low"], frame["essential_sparsity_high"] = pd.Series([low, high], dtype=float)
    return frame


def rounds_of(grid_levels, width, pattern="global", low=None, high=None, **bounds):
    """All rounds until there is none, and the essential sparsity then."""
    rounds = []
    while True:
        runs = runs_at(sorted(grid_levels), pattern)
        added = refinement.next_round(runs, table_of(runs, low, high), width, **(MANY | bounds), before=rounds)
        if not added:
            return rounds, knees.table(runs)[0].iloc[0]["essential_sparsity"]
        rounds.append(added)
        (entry,) = added
        grid_levels = [*grid_levels, *map(float, entry["levels"])]


def levels_of(rounds):
    return [level for added in rounds for level in added[0]["levels"]]


TENTHS = [i / 10 for i in range(10)]


def test_rounds_close_in_on_the_crossing_over_levels_of_the_uniform_grid():
    rounds, found = rounds_of(TENTHS, 0.02)
    assert found == pytest.approx(0.647, abs=1e-3)
    assert len(levels_of(rounds)) <= 3
    assert all(float(level) / 0.02 == pytest.approx(round(float(level) / 0.02)) for level in levels_of(rounds))
    assert all(0.6 < float(level) < 0.7 for level in levels_of(rounds))


def test_every_wide_gap_inside_the_interval_is_split_and_no_other():
    rounds, _ = rounds_of(TENTHS, 0.05, low=0.4, high=0.8)
    assert len(rounds) == 1
    assert levels_of(rounds) == ["0.450", "0.550", "0.650", "0.750"]
    rounds, _ = rounds_of(TENTHS, 0.02, low=0.4, high=0.8)
    seen = sorted({*TENTHS, *map(float, levels_of(rounds))})
    inside = [b - a for a, b in pairwise(seen) if a >= 0.4 - 1e-9 and b <= 0.8 + 1e-9]
    assert max(inside) <= 0.02 + 1e-9
    assert all(0.4 < float(level) < 0.8 for level in levels_of(rounds))


def test_an_open_interval_reaches_to_the_last_level():
    rounds, _ = rounds_of(TENTHS, 0.05, low=0.6)
    assert levels_of(rounds) == ["0.650", "0.750", "0.850"]


def test_rounds_and_levels_are_bounded():
    assert len(rounds_of(TENTHS, 0.001, rounds=2)[0]) == 2
    assert rounds_of(TENTHS, 0.02, rounds=0)[0] == []
    rounds, _ = rounds_of(TENTHS, 0.01, low=0.2, high=0.9, levels=5)
    assert len(levels_of(rounds)) == 5
    assert "0.650" in rounds[0][0]["levels"], "the gap that holds the reading comes first"
    assert rounds_of(TENTHS, 0.01, low=0.2, high=0.9, levels=1)[0][0][0]["levels"] == ["0.650"]


def test_rounds_of_other_curves_are_not_those_of_a_curve():
    """A model that comes into the grid after others were refined is refined too."""
    other = [{"model": "other", "task": "t", "pattern": "global", "levels": ["0.650"]}]
    runs = runs_at(TENTHS)
    bounds = {"width": 0.02, "rounds": 2, "levels": 20}
    alone = refinement.next_round(runs, table_of(runs), **bounds)
    assert alone
    assert refinement.next_round(runs, table_of(runs), **bounds, before=[other] * 4) == alone
    assert refinement.next_round(runs, table_of(runs), **bounds, before=[other + alone, alone]) == []


def test_the_gap_of_the_reading_comes_first_and_then_the_widest():
    """One level halves the first, and none has to be kept back for it."""
    rounds, _ = rounds_of([0, 0.1, 0.5, 0.6, 0.7, 0.9], 0.05, low=0.0, high=0.9, levels=2)
    assert levels_of(rounds) == ["0.300", "0.650"]


def test_levels_of_other_patterns_tasks_and_models_are_not_those_of_a_curve():
    runs = runs_at(TENTHS)
    other = runs_at([0.0, 0.65])
    others = [runs_at([0.65], "layerwise"), other.assign(task="u"), other.assign(model="n")]
    alone = refinement.next_round(runs, table_of(runs), 0.05, **MANY)
    assert [entry["levels"] for entry in alone] == [["0.650"]]
    assert refinement.next_round(pd.concat([runs, *others]), table_of(runs), 0.05, **MANY) == alone


def test_a_width_that_divides_nothing_still_ends():
    rounds, found = rounds_of([0, 0.5, 0.9], 0.03)
    assert found == pytest.approx(0.647, abs=0.02)
    assert len(levels_of(rounds)) == len(set(levels_of(rounds))) <= 6


def test_a_level_that_is_undefined_is_not_asked_for_again():
    runs = runs_at([*TENTHS[:7], 0.65, *TENTHS[7:]])
    runs.loc[runs["sparsity"] == 0.65, "value"] = np.nan
    added = refinement.next_round(runs, table_of(runs), 0.05, **MANY)
    assert added == []


def test_nothing_is_added_without_a_crossing_or_where_levels_are_given():
    assert rounds_of([0, 0.1, 0.2], 0.02)[0] == []
    assert rounds_of([0, 0.25, 0.5, 0.75], 0.02, pattern="nm4")[0] == []
    assert rounds_of(TENTHS, 0.02, pattern="lth")[0] == []


def test_levels_that_are_not_cheap_are_added_where_the_configuration_says_so():
    runs = runs_at(TENTHS).assign(protocol="finetune")
    assert refinement.next_round(runs, table_of(runs), 0.05, **MANY) == []
    (entry,) = refinement.next_round(runs, table_of(runs), 0.05, **MANY, protocols=["finetune"])
    assert entry["levels"] == ["0.650"]


@pytest.mark.parametrize("start", [[0, 0.3, 0.5, 0.9], [0, 0.5, 0.9], [0, 0.2, 0.9]])
def test_few_levels_are_enough_for_the_gap_that_holds_the_reading_however_wide_the_interval_is(start):
    rounds, found = rounds_of(start, 0.05, low=0.0, levels=6)
    levels = sorted([*start, *map(float, levels_of(rounds))])
    below, above = next(gap for gap in pairwise(levels) if gap[0] <= found < gap[1])
    assert above - below <= 0.05 + 1e-9
    assert len(levels_of(rounds)) <= 6


def test_the_headline_of_a_task_alone_is_refined():
    runs = runs_at(TENTHS)
    other = runs.assign(metric="f1", value=0.9 - np.maximum(runs["sparsity"] - 0.2, 0))
    both = pd.concat([runs, other], ignore_index=True)
    added = refinement.next_round(both, table_of(both), 0.05, **MANY)
    assert [entry["levels"] for entry in added] == [["0.650"]]


def test_a_curve_that_lacks_runs_is_left_alone_until_they_are_there():
    runs = runs_at(TENTHS)
    table = table_of(runs)
    assert refinement.next_round(runs, table, 0.05, **MANY)
    assert refinement.next_round(runs, table.assign(n_missing=1), 0.05, **MANY) == []


def test_the_gap_between_dense_and_the_first_level_is_split_too():
    runs = runs_at(TENTHS).assign(value=lambda rows: 0.9 - rows["sparsity"])
    (entry,) = refinement.next_round(runs, table_of(runs), 0.05, **MANY)
    assert entry["levels"] == ["0.050"]


def test_no_level_is_kept_back_for_a_gap_that_one_level_makes_narrow():
    assert (0.8 - 0.7) / 0.05 > 2, "by rounding"
    assert refinement._chosen([(0.7, 0.8), (0.1, 0.2)], 0.05, 2) == ["0.750", "0.150"]


def test_a_curve_without_a_reading_is_given_no_levels():
    """Of a dense model that guesses or collapsed nothing is known that more levels would tell."""
    runs = runs_at(TENTHS)
    unread = dict.fromkeys(["essential_sparsity", "bracket_low", "bracket_high"], np.nan)
    assert refinement.next_round(runs, table_of(runs).assign(**unread), 0.05, **MANY) == []


def test_a_round_of_several_levels_is_one_round():
    before = [[{"model": "m", "task": "t", "pattern": "global", "levels": ["0.450", "0.550", "0.750"]}]]
    runs = runs_at(TENTHS)
    assert refinement.next_round(runs, table_of(runs), 0.05, rounds=2, levels=20, before=before)
    assert refinement.next_round(runs, table_of(runs), 0.05, rounds=2, levels=20, before=2 * before) == []


def test_a_round_is_added_to_those_before_it_whatever_their_patterns_are_now(tmp_path):
    path, rounds = tmp_path / "rounds.json", []
    for pattern, level in (("global", "0.600"), ("of-before", "0.650")):  # known no longer
        rounds.append([{"model": "m", "task": "t", "pattern": pattern, "levels": [level]}])
        refinement.add(path, rounds[-1])
        assert refinement.read(path) == rounds


def test_the_module_is_read_while_the_workflow_is_parsed_without_pandas():
    scripts = Path(refinement.__file__).parents[2]
    said = "import sys, essential_sparsity.study.refinement; print('pandas' in sys.modules, 'numpy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", said], cwd=scripts, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


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


@pytest.mark.parametrize(
    ("pattern", "level", "message"),
    [
        ("dense", "0.300", "pattern 'dense' are those that the grid gives"),
        ("lth", "0.150", "pattern 'lth' are those"),
        ("nm4", "0.300", "pattern 'nm4' are those"),
        ("global", "0.000", "'0.000' does not match"),
    ],
)
def test_levels_that_refining_never_adds_are_refused(tmp_path, pattern, level, message):
    """A file that was edited by hand would prune the dense model, or ask for tickets that no iteration finds."""
    path = tmp_path / "rounds.json"
    entry = {"model": "m", "task": "t", "pattern": pattern, "levels": [level]}
    path.write_text(json.dumps({"rounds": [[entry | {"pattern": "global", "levels": ["0.300"]}], [entry]]}))
    with pytest.raises(configuration.ConfigError, match=f"rounds.json.*{message}"):
        refinement.read(str(path))


def test_stopped_by_hand_it_waits_for_what_it_runs_and_says_so_in_one_line(tmp_path):
    """A prompt beneath which a workflow still runs, and a traceback, look like a crash."""
    child = "import time\ntry:\n    print('child', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(1)\n    print('child ended', flush=True)"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'workflow/scripts')!r}); import refine; print('started', flush=True); "
    code += f"refine._ended([sys.executable, '-c', {child!r}])"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", code], **options) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["started\n", "child\n"]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "child ended\nStopped. The same command goes on where it was.\n"
    assert process.returncode == 130


def test_every_protocol_can_be_refined_and_all_but_training_are():
    asked = configuration.load_schema("config")["properties"]["refine"]["properties"]["protocols"]
    assert sorted(asked["items"]["enum"]) == sorted(kinds.PROTOCOLS)
    assert {*refinement.CHEAP} == {*kinds.PROTOCOLS} - {"finetune"}
    shipped = yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text(encoding="utf-8"))
    assert tuple(shipped["refine"]["protocols"]) == refinement.CHEAP
