"""What runs ask for: enough for what was measured, more for larger models and longer training, and never absurd."""

import pytest

from essential_sparsity.study import configuration, resources

TASK = dict.fromkeys(configuration.load_schema("tasks")["properties"]) | {
    "kind": "text-classification", "protocol": "finetune", "n_train": 60_000, "n_eval": 2_000, "epochs": 3.0,
    "batch_size": 32, "max_length": 128,
}  # fmt: skip
BERT, SEVEN_B = {"parameters": 110e6}, {"parameters": 7e9}
SIMILARITY = TASK | {"kind": "text-similarity", "protocol": "zero-shot", "n_eval": None}
PERPLEXITY = SIMILARITY | {"kind": "perplexity", "max_length": None, "context": 2048, "windows": 300}


@pytest.mark.parametrize(
    ("model", "task", "measured"),
    [
        ({"parameters": 22.7e6}, TASK | {"batch_size": 16, "max_length": 32}, 1040),
        ({"parameters": 22.7e6}, SIMILARITY | {"max_length": 16}, 665),
        ({"parameters": 134.5e6}, PERPLEXITY | {"context": 256, "windows": 12}, 1235),
        (SEVEN_B, PERPLEXITY, 7e9 * 4 / 1e6),
    ],
)
def test_memory_covers_what_was_measured(model, task, measured):
    assert measured + 2000 < resources.mem_mb(model, task) < 5 * (measured + 3000)


def test_fine_tuning_asks_for_optimiser_and_activations():
    plain = resources.mem_mb(BERT, TASK | {"protocol": "probe"})
    tuned = resources.mem_mb(BERT, TASK)
    assert tuned - plain > 12 * 110, "gradients and two moments"
    assert resources.mem_mb(BERT, TASK | {"batch_size": 256}) > tuned + 1000, "activations"


def test_time_grows_with_levels_items_epochs_and_model():
    def asked(model=BERT, levels=1, gpu=1, **changes):
        return resources.minutes(model, TASK | changes, levels=levels, gpu=gpu, threads=4)

    assert 60 < asked() < 24 * 60, "BERT-base on 60,000 sentences, three epochs, on an old GPU"
    assert asked(epochs=6.0) > 1.8 * asked()
    assert asked(levels=3) > 2.5 * asked()
    assert asked(SEVEN_B) > 30 * asked()
    assert asked(gpu=0) > 10 * asked()


def test_a_task_that_names_its_time_is_believed():
    assert resources.minutes(SEVEN_B, TASK | {"minutes_per_level": 2.5}, levels=4, gpu=1, threads=1) == 20


def test_every_kind_can_be_worked_out():
    for task in (SIMILARITY, PERPLEXITY, TASK | {"max_length": None, "image_size": 224, "protocol": "probe"}):
        assert 10 <= resources.minutes(BERT, task, levels=1, gpu=1, threads=1) < 600


def test_each_masked_token_is_a_pass_of_its_own():
    task = SIMILARITY | {"kind": "masked-lm", "n_eval": 4000, "positions": 4}
    asked = [resources.minutes(BERT, task | {"positions": n}, levels=1, gpu=1, threads=1) for n in (1, 4, None)]
    assert [minutes - resources.START_MINUTES for minutes in asked] == pytest.approx(
        [110e6 * 128 * 2 * 4000 * n / resources.GPU_SPEED / 60 for n in (1, 4, 128)], abs=1
    )
    assert resources.mem_mb(BERT, task) > resources.mem_mb(BERT, SIMILARITY) + 4000  # logits of a whole batch
