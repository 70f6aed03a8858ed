"""What pruning costs the layers, by the script that prints it for a real model."""

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
import transformers
from benchmark_programs import loaded

losses = loaded("losses")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(tiny.WORDS, 40)) for _ in range(60)]
    pd.DataFrame({"text": texts}).to_parquet(folder / "texts.parquet")
    model = tiny.save_llama(folder / "llama")
    uneven = transformers.AutoModelForCausalLM.from_pretrained(model)
    for name, weight in uneven.named_parameters():
        if "layernorm" in name:  # as in trained models, some inputs are much larger than others
            weight.data = torch.linspace(-2, 2, len(weight)).exp()
    uneven.save_pretrained(model)
    return ["--model", str(model), "--texts", str(folder / "texts.parquet"), "--sequences", "64", "--length", "16"]


def test_the_loss_falls_from_magnitude_to_wanda_to_sparsegpt(arguments, capsys):
    losses.main(arguments)
    told = capsys.readouterr().out
    lost = [float(number) for number in told.splitlines()[-1].split()[1:]]
    assert lost[3] < lost[2] < min(lost[:2]) < 1
    assert "self_attn.q_proj" in told


def test_a_loss_that_does_not_fall_fails(arguments, monkeypatch):
    original = losses.losses
    monkeypatch.setattr(losses, "losses", lambda dense, pattern, *rest: original(dense, "rowwise", *rest))
    with pytest.raises(SystemExit, match="It does not fall"):
        losses.main(arguments)
