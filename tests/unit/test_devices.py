"""A job that needs a GPU and finds none ends at once; one that may do without computes on the processor."""

import platform

import pytest
import torch

import find_ticket
import pretrain
import prune_eval
from essential_sparsity.training import devices

NOTHING = {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "", "SLURM_GPUS_ON_NODE": "0"}  # a job on a processor


@pytest.fixture
def gpu(monkeypatch):
    """Whether torch finds a GPU."""

    def found(there: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: there)

    return found


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
        pretrain: {"--pretraining": "a", "--losses": there},
    }
    with pytest.raises(devices.DeviceError, match=r"resources\.device is cuda"):
        program.main([word for pair in (common | own[program]).items() for word in pair])
