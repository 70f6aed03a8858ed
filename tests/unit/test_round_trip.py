"""Prune, save, load: the same zeros and the same sparsity, whatever the checkpoint's dtype and layout."""

import pytest
import tiny_models as tiny
import torch

from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import masks, spectrum


def prunable(model):
    found = loading.parameters(model)
    return [(weight, found[weight.name].data) for weight in loading.find_prunable(model)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("save", [tiny.save_bert, tiny.save_llama], ids=["bert", "llama"])
@pytest.mark.parametrize("pattern", ["global", "nm4", "random"])
def test_zeros_survive_saving_and_loading(tmp_path, pattern, save, dtype):
    folder = save(tmp_path / "dense", dtype=dtype)
    model = loading.load_model(folder, "AutoModel", allow_new=("pooler",))
    plan = masks.plan(pattern, prunable(model), [0.5], seed=0)
    expected = dict(plan.masks(0.5))
    level = plan.prune_(0.5)
    model.save_pretrained(tmp_path / "pruned", max_shard_size="4KB")
    again = loading.load_model(tmp_path / "pruned", "AutoModel", allow_new=("pooler",))
    zeros = {weight.name: tensor == 0 for weight, tensor in prunable(again)}
    assert all(torch.equal(zeros[name], mask) for name, mask in expected.items())
    assert sum(int(mask.sum()) for mask in zeros.values()) == level.k == level.n // 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_spectrum_of_the_files_is_that_of_the_loaded_model(tmp_path, dtype):
    folder = tiny.save_llama(tmp_path / "dense", dtype=dtype)
    streamed = spectrum.build(loading.iter_prunable(folder))
    loaded = spectrum.build(prunable(loading.load_model(folder, "AutoModel")))
    assert streamed.equals(loaded)
