"""The script for a machine with a card runs here in small, and says what is wrong."""

import argparse
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from benchmark_programs import loaded

from essential_sparsity.pruning import groups, masks, thresholds

with pytest.MonkeyPatch.context() as patch:
    for beside in ("masks", "device_jobs"):  # what it finds beside it as a program
        patch.setitem(sys.modules, beside, loaded(beside))
    device = loaded("device")
WEIGHTS = {"bert": 109_482_240, "vit": 86_389_248, "llama": 1_345_423_360}  # of the models of whole jobs


def test_calibrated_pruning_is_timed_at_any_width():
    calibrated = loaded("calibrated")
    for width, heads in ((64, 1), (256, 2)):
        args = argparse.Namespace(layers=1, width=width, inner=32, length=8, dtype="float32")
        assert calibrated.built(args, "cpu").config.num_attention_heads == heads


PARTS = {
    "card",
    "masks",
    "training",
    "kinds",
    "data",
    "pretrain",
    "sweep",
    "passes",
    "jobs",
}  # semi-structured layers are a card's alone


def test_all_parts_run_and_are_right(tmp_path, capsys):
    device.main(["--quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "device.json").read_text())
    assert found["failed"] == []
    assert {row["part"] for row in found["rows"]} == PARTS
    assert all(row["right"] for row in found["rows"])
    told = (tmp_path / "device.md").read_text()
    assert "all equal the processor's, bit for bit" in told
    assert "Kinds of tasks, dense and pruned (46 cases): scores as the processor's, the largest difference 0" in told


def test_whole_jobs_are_expected_as_the_documentation_says_and_within_a_factor_of_two_of_what_a_card_took():
    table = Path("docs/gpu.md").read_text().split("| MB of the machine |")[1].split("\n\n")[0]
    rows = [[cell.strip().replace(",", "") for cell in line.split(" | ")] for line in table.splitlines()[2:]]
    names = {name.replace(",", ""): name for name in device.device_jobs.JOBS}
    assert [row[0].removeprefix("| ") for row in rows] == list(names)
    for name, row in zip(names.values(), rows, strict=True):
        need = device.device_jobs.expected(
            name, False, WEIGHTS[device.device_jobs.JOBS[name][0].__name__], "NVIDIA H200"
        )
        took, seconds, on_card, gpu_mb, on_host, host_mb = (float(cell.removesuffix(" |")) for cell in row[1:])
        assert (seconds, gpu_mb, host_mb) == (round(60 * need.minutes), round(need.gpu_mb), round(need.host_mb))
        assert took / 2 < seconds < 2 * took
        assert 0.85 * on_card < gpu_mb < 2.5 * on_card
        assert on_host < host_mb < 2.5 * on_host


@pytest.mark.parametrize(
    ("card", "row"),
    [
        ("NVIDIA H200", "h200"), ("NVIDIA H100 80GB HBM3", "h100"), ("Tesla T4", "t4"), ("NVIDIA T400 4GB", "any"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"), ("NVIDIA A100-PCIE-40GB", "a100-40"), ("Tesla V100-SXM2-32GB", "v100-32"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"), ("NVIDIA GeForce RTX 2080 Ti", "rtx-2080-ti"),
        ("NVIDIA RTX A6000", "rtx-a6000"), ("NVIDIA GeForce GTX 1080", "any"), (None, "cpu-core"),
    ],
)  # fmt: skip
def test_the_row_of_a_card_is_that_of_its_name(card, row):
    assert device.device_jobs.device_of(card).name == row


def test_what_is_compared_with_the_processor_draws_no_dropout(monkeypatch):
    seen = []

    def look(folder, *_, **__):
        found = json.loads(Path(folder, "config.json").read_text())
        seen.append([value for name, value in found.items() if "dropout" in name])

    def ticket(folder, *_):
        look(folder)
        return {"weight": torch.ones(1)}, None

    jobs = device.device_jobs
    monkeypatch.setattr(jobs, "evaluated", look)
    monkeypatch.setattr(jobs, "compared", lambda *given: given)
    monkeypatch.setattr(jobs.lottery, "ticket", ticket)
    assert len(list(jobs.kinds_alike(True, {}))) == 46 + 1, "and a ticket"
    assert len(seen) == 2 * (46 + 1)
    assert any(seen)
    assert not any(map(sum, seen))


def test_masks_that_differ_are_told_and_fail(tmp_path, monkeypatch):
    on_card = []
    original = masks.mask_of

    def one_off(ranked, threshold, key):  # every second plan is the card's
        mask = original(ranked, threshold, key)
        on_card.append(1)
        if len(on_card) % 2 == 0 and mask.any():
            mask.view(-1)[mask.view(-1).nonzero()[0]] = False
        return mask

    monkeypatch.setattr(masks, "mask_of", one_off)
    with pytest.raises(SystemExit, match=r"masks: global, float32"):
        device.main(["--quick", "--only", "masks", "--out", str(tmp_path)])
    assert "differ in" in (tmp_path / "device.md").read_text()


def test_the_branch_of_a_card_is_right_too(tmp_path, monkeypatch):
    for module in (thresholds, groups, masks):
        monkeypatch.setattr(module, "view", lambda tensor: tensor)
    device.main(["--quick", "--only", "masks", "--out", str(tmp_path)])


def test_a_part_that_breaks_keeps_the_others_figures(tmp_path, monkeypatch, capsys):
    def broken(quick, rates):
        raise RuntimeError("CUDA error: something")
        yield

    for part in PARTS - {"card", "masks", "sweep"}:
        monkeypatch.setitem(device.PARTS, part, broken)
    with pytest.raises(SystemExit, match="training: RuntimeError: CUDA error: something"):
        device.main(["--quick", "--out", str(tmp_path)])
    assert {row["part"] for row in json.loads((tmp_path / "device.json").read_text())["rows"]} == {
        "card", "masks", "sweep",
    }  # fmt: skip


def test_parts_that_do_not_begin_in_time_are_named(tmp_path, capsys):
    device.main(["--quick", "--only", "sweep", "2:4", "--within", "-1", "--out", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Not begun within -1 s; the same with --only card sweep 2:4 runs the rest."
    )
    device.main(["--quick", "--only", "2:4", "--out", str(tmp_path)])
    assert "Not begun" not in capsys.readouterr().out
    assert list(json.loads((tmp_path / "device.json").read_text())["seconds"]) == ["card", "2:4"]
    assert re.search(r"; card \d+ s, 2:4 \d+ s\.", (tmp_path / "device.md").read_text())


def test_without_a_card_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="No NVIDIA card is found"):
        device.main(["--out", str(tmp_path)])
