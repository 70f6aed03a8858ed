"""Which iterations and comparisons a grid asks for, and which it cannot have."""

import pytest

from essential_sparsity.study import configuration, grid, iterations

TASKS = {"fine": {"protocol": "finetune"}, "also": {"protocol": "finetune"}, "probed": {"protocol": "probe"}}


def config(share=0.1, **changes):
    block = {"models": ["m"], "tasks": ["fine"], "patterns": ["lth"], "sparsities": [0.3], "seeds": [0]} | changes
    return {"grid": [block], "lottery": {"share": share}}


def jobs(**changes):
    return grid.expand(config(**changes)["grid"], {"fine": 1, "also": 2, "probed": 1})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            config(sparsities=[0.25]),
            r"c, grid\[0\]: pattern lth prunes 0\.1 .* no sparsity 0\.250; .* 0\.200 and 0\.300",
        ),
        (config(sparsities=[0.28]), r"no sparsity 0\.280; next to it are 0\.200 and 0\.300"),
        (config(share=0.0628), r"c, lottery\.share: 0\.0628 has more than three decimals; round it to 0\.063"),
        (config(share=0.15, sparsities=[0.4]), r"no sparsity 0\.400; next to it are 0\.300 and 0\.450"),
        (config(share=0.0625, sparsities=[0.5]), r"c, lottery\.share: 0\.0625 has more than three decimals"),
        (config(tasks=["fine", "probed"]), r"pattern lth needs a task that is fine-tuned, but 'probed' has .* probe"),
        (config(patterns=["deletion"], tasks=["probed"]), r"pattern deletion needs a task that is fine-tuned"),
    ],
)
def test_what_a_chain_cannot_make_is_refused(changed, message):
    with pytest.raises(configuration.ConfigError, match=message):
        iterations.check(changed, TASKS, "c")


@pytest.mark.parametrize(("share", "levels"), [(0.1, [0.1, 0.3, 0.7, 0.9]), (0.05, [0.15, 0.95]), (0.025, [0.975])])
def test_multiples_of_the_share_are_taken_whatever_their_floating_point(share, levels):
    iterations.check(config(share, sparsities=levels), TASKS, "c")
    for level in levels:
        assert len(iterations.chain(grid.level(level), share)) == round(level / share)
        assert iterations.chain(grid.level(level), share)[-1] == grid.level(level)


def test_other_patterns_are_free_to_have_any_sparsity():
    iterations.check(config(patterns=["global", "layer-shuffle"], sparsities=[0.25], tasks=["probed"]), TASKS, "c")


def test_a_chain_needs_every_iteration_below_its_highest_level():
    assert iterations.tickets(jobs(sparsities=[0.2, 0.4]), 0.1) == [("m", "fine", 0, f"0.{i}00") for i in (1, 2, 3, 4)]
    assert iterations.previous("0.100", 0.1) is None
    assert iterations.previous("0.400", 0.1) == "0.300"
    assert iterations.tickets(jobs(patterns=["global"]), 0.1) == []
    assert iterations.path(("m", "fine", 0, "0.100")) == "m/fine/seed0/0.100"


def test_pairs_differ_in_one_thing():
    found = iterations.pairs(jobs(tasks=["fine", "also"], seeds=[0, 1]))
    lth = [("lth", task, seed) for task in ("also", "fine") for seed in (0, 1)]
    expected = [("m", "0.300", "pattern", ("global", "", mask[2]), mask) for mask in lth]
    expected += [("m", "0.300", "seed", lth[0], lth[1]), ("m", "0.300", "seed", lth[2], lth[3])]
    expected += [("m", "0.300", "task", lth[0], lth[2]), ("m", "0.300", "task", lth[1], lth[3])]
    assert found == sorted(expected)


def test_no_pairs_without_tickets():
    assert iterations.pairs(jobs(patterns=["global", "random"])) == []


def test_tickets_that_several_models_have():
    blocks = [
        config(models=["a", "b", "c"], sparsities=[0.2, 0.4], seeds=[0, 1])["grid"][0],
        config(models=["b"], sparsities=[0.5])["grid"][0],
    ]
    asked = grid.expand(blocks, {"fine": 1})
    found = iterations.of_several(asked, ["a", "b", "other"])
    expected = [(m, "fine", seed, level) for m in "ab" for seed in (0, 1) for level in ("0.200", "0.400")]
    assert found == expected, "0.500 is of one model only, and c was not asked for"
    assert iterations.of_several(asked, ["a"]) == []


def test_a_figure_of_differences_needs_the_one_shot_mask_of_the_same_level_and_seed():
    def found(*blocks):
        return iterations.beside_one_shot(
            grid.expand([config(**block)["grid"][0] for block in blocks], {"fine": 1, "also": 2})
        )

    assert found({"patterns": ["lth", "global"]}) == [("m", "fine")]
    assert found({"patterns": ["lth"]}, {"patterns": ["global"], "sparsities": [0.4]}) == []
    assert found({"patterns": ["lth"]}, {"patterns": ["global"], "seeds": [1]}) == []
    assert found({"patterns": ["lth"]}, {"patterns": ["global"], "tasks": ["also"]}) == []
    both = {"patterns": ["lth", "global"], "tasks": ["also"], "sparsities": [0.1, 0.2, 0.3]}
    assert found({"patterns": ["lth"]}, both) == [("m", "also")]
