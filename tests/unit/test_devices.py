"""A job that needs a GPU and finds none ends at once; one that may do without computes on the processor."""

import platform

import pytest
import tiny_models as tiny
import torch

import find_ticket
import pretrain
import prune_eval
from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import masks
from essential_sparsity.training import devices

NOTHING = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}  # a job on a processor


@pytest.fixture
def gpu(monkeypatch):
    """Whether torch finds a GPU."""

    def found(there: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)

    return found


@pytest.mark.parametrize(
    ("cards", "gpus", "said"),
    [
        (["NVIDIA H200"], 1, "NVIDIA H200"),
        (["A", "B", "B"], 1, "A"),
        (["A", "A", "B"], 2, "2 x A"),
        (["B", "A", "B"], 3, "A + 2 x B"),
        (["A"], 4, "A"),
    ],
)
def test_hardware_is_the_names_of_the_cards_in_use(monkeypatch, cards, gpus, said):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: cards[index])
    assert devices.hardware("cuda", gpus) == said
    assert devices.hardware("cpu") == f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


@pytest.mark.parametrize(
    ("asked", "there", "environment", "chosen"),
    [
        ("auto", True, {}, "cuda"),
        ("auto", False, {}, "cpu"),
        ("auto", False, NOTHING, "cpu"),
        ("cuda", True, {}, "cuda"),
        ("cpu", True, {"SLURM_JOB_GPUS": "0"}, "cpu"),
        ("cpu", False, {"SLURM_JOB_GPUS": "0"}, "cpu"),
    ],
)
def test_what_a_job_computes_on(gpu, asked, there, environment, chosen):
    gpu(there)
    assert devices.find(asked, environment) == chosen


@pytest.mark.parametrize(
    ("asked", "environment", "told"),
    [
        ("cuda", {}, "resources.device is cuda"),
        ("auto", {"SLURM_JOB_GPUS": "0"}, r"SLURM gave this job a GPU \(SLURM_JOB_GPUS=0\)"),
        ("auto", {"SLURM_GPUS_ON_NODE": "2"}, r"SLURM gave this job a GPU \(SLURM_GPUS_ON_NODE=2\)"),
        ("auto", NOTHING | {"SLURM_STEP_GPUS": "3,4"}, r"SLURM gave this job a GPU \(SLURM_STEP_GPUS=3,4\)"),
    ],
)
def test_a_gpu_that_should_be_there_is_missed_by_name(gpu, monkeypatch, asked, environment, told):
    def broken():
        raise RuntimeError("Found no NVIDIA driver on your system. Please check\nmore")

    gpu(False)
    monkeypatch.setattr(torch.cuda, "init", broken)
    message = (
        f"{told}, but torch .* finds none on {platform.node()}: Found no NVIDIA driver .* check\\. Try .*`device: cpu`"
    )
    with pytest.raises(devices.DeviceError, match=message):
        devices.find(asked, environment)


@pytest.mark.parametrize("program", [prune_eval, find_ticket, pretrain])
def test_programs_look_for_it_before_they_read_anything(gpu, tmp_path, program):
    gpu(False)
    there = str(tmp_path / "not there")
    common = {"--device": "cuda", "--data": there, "--manifest": there, "--settings": "{}"}
    one = {"--model": "a", "--task": "b", "--seed": "0", "--code": "c"}
    own = {
        prune_eval: one | {"--pattern": "global", "--sparsities": "0.5", "--runs": there, "--items": there},
        find_ticket: one
        | {"--sparsity": "0.5", "--iteration": "1", "--share": "0.5", "--out": there, "--digest": there},
        pretrain: {"--pretraining": "a", "--losses": there, "--code": "c"},
    }
    with pytest.raises(devices.DeviceError, match=r"resources\.device is cuda"):
        program.main([word for pair in (common | own[program]).items() for word in pair])


CARDS = [torch.device("cpu"), torch.device("cpu")]  # two "cards" of this machine: what the hooks do is the same


@pytest.mark.parametrize("saver", [tiny.save_bert, tiny.save_llama, tiny.save_vit])
def test_a_model_spread_over_two_cards_gives_the_numbers_of_one(tmp_path, saver):
    folder = saver(tmp_path)
    whole, spread = (loading.load_model(folder, "AutoModel", allow_new=("pooler.",)) for _ in range(2))
    spread.load_state_dict(whole.state_dict())
    size = sum(parameter.nbytes for parameter in whole.parameters())
    devices.spread(spread, {0: size, 1: size}, CARDS)
    assert set(spread.hf_device_map.values()) == set(CARDS)
    inputs = (
        {"pixel_values": torch.rand(2, 3, 16, 16)} if saver is tiny.save_vit else {"input_ids": torch.arange(8)[None]}
    )
    plans = [masks.plan("global", loading.prunable_parameters(model), [0.5], 0) for model in (whole, spread)]
    assert plans[0].prune_(0.5) == plans[1].prune_(0.5)
    with torch.inference_mode():
        one, two = (model.eval()(**inputs).last_hidden_state for model in (whole, spread))
    assert torch.equal(one, two)


def test_each_block_lies_whole_on_one_card(tmp_path):
    model = loading.load_model(tiny.save_llama(tmp_path), "AutoModel")
    size = sum(parameter.nbytes for parameter in model.parameters())
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices.accelerate, "dispatch_model", lambda model, places, **_: found.append(places))
        devices.spread(model, {0: size, 1: size}, ["first", "second"])
    (places,) = found
    assert set(places.values()) == {"first", "second"}
    assert not [part for part in places if part.count(".") > 2], "a block is not cut"


def test_too_few_or_too_small_cards_are_refused_with_the_figures(gpu, tmp_path, monkeypatch):
    model = loading.load_model(tiny.save_llama(tmp_path), "AutoModel")
    size = sum(parameter.nbytes for parameter in model.parameters())
    with pytest.raises(
        devices.DeviceError, match=r"take 0\.0 GB, and 2 GPUs have 0\.0 GB for them\. Raise gpus_per_job"
    ):
        devices.spread(model, {0: size // 4, 1: size // 4}, CARDS)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(devices.DeviceError, match="gpus_per_job is 2 for this model, but this job sees 1"):
        devices.place(model, "cuda", 2)
    monkeypatch.setattr(type(model), "_no_split_modules", None)
    model._no_split_modules = None
    with pytest.raises(devices.DeviceError, match="does not say which of its parts belong together"):
        devices.spread(model, {0: size, 1: size}, CARDS)
