"""A killed training goes on from its last checkpoint, and ends with the bits of one that was left alone."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tiny_models as tiny
import torch

from essential_sparsity import markers, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation
from essential_sparsity.training import finetuning, resume

SETTINGS = tiny.FINETUNE | {"n_train": 22, "epochs": 3}  # batches of 8, 8 and 6, with dropout
STEPS = 9
IMAGES = SETTINGS | {"kind": "image-classification", "image_size": 16}
CASES = {"texts": (tiny.save_bert, tiny.reviews, SETTINGS), "images": (tiny.save_vit, tiny.images, IMAGES)}


class Stopped(Exception):
    """A job that ends as if it was killed."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {case: saver(tmp_path_factory.mktemp(case)) for case, (saver, _, _) in CASES.items()}


@pytest.fixture(scope="module")
def undisturbed(folders):
    """Case -> weights and items of a training that was left alone."""
    return {case: run(folders[case], case) for case in CASES}


@pytest.fixture
def often(monkeypatch):
    """A checkpoint after every step."""
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    monkeypatch.setattr(resume, "SHARE", 1e9)


@pytest.fixture
def steps(monkeypatch):
    """Steps done so far; `stop` in it: the step at which the job ends."""
    done = {"steps": [], "stop": None}

    def count(self, args, state, control, **kwargs):
        done["steps"].append(state.global_step)
        if state.global_step == done["stop"]:
            raise Stopped

    monkeypatch.setattr(finetuning.Watch, "on_step_end", count, raising=False)
    return done


def work(folder: Path, **changed) -> resume.Work:
    return resume.Work(folder / "work", {"manifests": ["a", "b"], "code": "c"} | changed)


def run(folder, case="texts", place=None, seed=0, pattern="global", sparsity=0.5, tickets=None, **changed):
    """(weights, items) after training."""
    _, data, settings = CASES[case]
    kept, run_ = {}, tasks.load(settings["kind"]).run

    def keep(model, *args):
        kept.update({name: value.clone() for name, value in model.state_dict().items()})
        return run_(model, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.load(settings["kind"]), "run", keep)
        levels = evaluation.evaluate(
            folder, data(), settings | changed, pattern, [sparsity], seed, tickets=tickets, work=place
        )  # fmt: skip
        ((_, outcome),) = levels
    return kept, outcome.items


def stop_at(step, steps, *args, **options):
    steps["stop"] = step
    with pytest.raises(Stopped):
        run(*args, **options)
    steps |= {"stop": None, "steps": []}


def same(found, expected):
    assert found[0].keys() == expected[0].keys()
    return all(torch.equal(found[0][name], value) for name, value in expected[0].items()) and found[1].equals(
        expected[1]
    )


DRIVER = """
import os, signal, sys
from pathlib import Path
import test_resume as here
import torch
from essential_sparsity.training import finetuning, resume

def die(self, args, state, control, **kwargs):
    if state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

finetuning.Watch.on_step_end = die
resume.SECONDS, resume.SHARE = 0.0, 1e9
torch.set_num_threads(int(sys.argv[3]))
here.run(Path(sys.argv[1]), place=here.work(Path(sys.argv[2])))
"""


def test_a_job_that_was_killed_ends_with_the_same_bits_after_fewer_steps(folders, undisturbed, steps, tmp_path, capsys):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    threads = str(torch.get_num_threads())  # bits depend on their number, which jobs set
    command = [sys.executable, "-c", DRIVER, folders["texts"], tmp_path, threads]
    killed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -9
    found = run(folders["texts"], place=work(tmp_path))
    assert steps["steps"] == [5, 6, 7, 8, 9]
    assert "Going on from" in capsys.readouterr().out
    assert same(found, undisturbed["texts"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [4, 6])
def test_wherever_it_was_stopped(folders, undisturbed, steps, often, tmp_path, case, step):
    """After the end of an epoch and in the middle of one; transformers stores a ViT under other names than it loads."""
    stop_at(step, steps, folders[case], case, work(tmp_path))
    assert same(run(folders[case], case, work(tmp_path)), undisturbed[case])
    assert steps["steps"] == list(range(step, len(steps["steps"]) + step))
    assert steps["steps"][-1] == STEPS


@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_wherever_it_was_stopped_where_other_processes_make_the_batches(
    folders, undisturbed, steps, often, tmp_path, monkeypatch, step
):
    """As on a GPU."""
    original = finetuning.training_arguments
    changed = {"dataloader_num_workers": 1}
    monkeypatch.setattr(
        finetuning, "training_arguments", lambda *a, **k: dataclasses.replace(original(*a, **k), **changed)
    )
    stop_at(step, steps, folders["texts"], place=work(tmp_path))
    assert same(run(folders["texts"], place=work(tmp_path)), undisturbed["texts"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("twice", [(3, 8), (4, 6)])
def test_stopped_twice(folders, undisturbed, steps, often, tmp_path, case, twice):
    """Also in the epoch at whose beginning it went on: what orders it is still known then."""
    for step in twice:
        stop_at(step, steps, folders[case], case, work(tmp_path))
    assert same(run(folders[case], case, work(tmp_path)), undisturbed[case])
    assert steps["steps"] == list(range(twice[1], 10))


def test_a_job_killed_while_it_evaluates_does_not_train_again(
    folders, undisturbed, steps, often, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "check_count", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(folders["texts"], place=work(tmp_path))
    steps["steps"].clear()
    assert same(run(folders["texts"], place=work(tmp_path)), undisturbed["texts"])
    assert steps["steps"] == []


def test_saving_does_not_change_the_result_and_keeps_one_checkpoint(folders, undisturbed, often, tmp_path):
    assert same(run(folders["texts"], place=work(tmp_path)), undisturbed["texts"])
    assert [path.name for path in (tmp_path / "work/0.500").iterdir()] == ["checkpoint-9"]


def test_a_short_training_saves_nothing(folders, tmp_path):
    run(folders["texts"], place=work(tmp_path))
    assert list((tmp_path / "work/0.500").iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"learning_rate": 2e-2}, "settings"),
        ({"seed": 1}, "seed"),
        ({"pattern": "layerwise"}, "masks, pattern"),
        ({"place": {"manifests": ["a", "c"]}}, "manifests"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(folders, steps, often, tmp_path, capsys, changed, named):
    stop_at(5, steps, folders["texts"], place=work(tmp_path))
    changed = dict(changed)
    stop_at(1, steps, folders["texts"], place=work(tmp_path, **changed.pop("place", {})), **changed)
    assert f"checkpoint-4 is not used: it is of another training (other {named})" in capsys.readouterr().out
    assert list((tmp_path / "work/0.500").iterdir()) == []


def test_what_another_type_of_device_computed_is_of_another_training():
    assert resume.versions("cuda") == resume.versions("cpu") | {"device": "cuda"}


def test_a_job_of_other_code_or_other_files_is_another(tmp_path):
    names = [tmp_path / name for name in ("model", "data")]
    for path in names:
        path.write_text("one")
    was = resume.Work.of_job(tmp_path, "code", *names).identity
    assert resume.Work.of_job(tmp_path, "edited", *names).identity != was
    for path in names:
        path.write_text("other")
        assert resume.Work.of_job(tmp_path, "code", *names).identity != was
        path.write_text("one")
    assert resume.Work.of_job(tmp_path, "code", *names).identity == was


def test_a_checkpoint_of_older_code_is_refused(folders, steps, often, tmp_path, capsys):
    stop_at(5, steps, folders["texts"], place=work(tmp_path))
    stop_at(1, steps, folders["texts"], place=work(tmp_path, code="edited"))
    assert "(other code)" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["optimizer.pt", "pytorch_model.bin", "order.pt"])
def test_a_damaged_checkpoint_is_refused(folders, steps, often, tmp_path, capsys, file):
    stop_at(5, steps, folders["texts"], place=work(tmp_path))
    damaged = tmp_path / "work/0.500/checkpoint-4" / file
    damaged.write_bytes(damaged.read_bytes()[:-1])
    stop_at(1, steps, folders["texts"], place=work(tmp_path))
    assert f"checkpoint-4 is not used: its file {file} is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["optimizer.pt", "pytorch_model.bin"])
@pytest.mark.parametrize("place", [0.3, 0.6, "zeros"])
def test_a_checkpoint_with_the_right_sizes_and_other_bytes_is_refused(
    folders, steps, often, tmp_path, capsys, file, place
):
    """One bit; and the zeros that a node leaves which loses its power before the bytes are on the disk."""
    stop_at(5, steps, folders["texts"], place=work(tmp_path))
    damaged = tmp_path / "work/0.500/checkpoint-4" / file
    good = bytearray(damaged.read_bytes())
    if place == "zeros":
        good[len(good) // 2 :] = bytes(len(good) - len(good) // 2)
    else:
        with zipfile.ZipFile(damaged) as archive:  # in the bytes of its largest tensor
            part = max(archive.infolist(), key=lambda part: part.file_size)
        good[part.header_offset + 200 + int(place * (part.file_size - 200))] ^= 1
    damaged.write_bytes(good)
    stop_at(1, steps, folders["texts"], place=work(tmp_path))
    assert f"checkpoint-4 is not used: its file {file} is damaged" in capsys.readouterr().out


def test_weights_and_moments_are_not_read_when_a_checkpoint_is_closed(folders, steps, often, tmp_path, monkeypatch):
    read, sha256_file = [], resume.files.sha256_file
    monkeypatch.setattr(resume.files, "sha256_file", lambda path: read.append(Path(path).name) or sha256_file(path))
    run(folders["texts"], place=work(tmp_path))
    assert "trainer_state.json" in read
    assert not {"optimizer.pt", "pytorch_model.bin"} & set(read)


def masks(folder, seed):
    """Half of each prunable weight, drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for weight, _ in loading.iter_prunable(folder):
        order = torch.randperm(weight.shape[0] * weight.shape[1], generator=generator)
        found[weight.name] = (order < len(order) // 2).reshape(weight.shape)
    return {0.5: found}


def test_a_checkpoint_of_another_mask_of_the_same_pattern_is_refused(folders, steps, often, tmp_path, capsys):
    options = {"place": work(tmp_path), "pattern": "lth"}
    stop_at(5, steps, folders["texts"], **options, tickets=masks(folders["texts"], 0))
    stop_at(6, steps, folders["texts"], **options, tickets=masks(folders["texts"], 0))
    assert "Going on from" in capsys.readouterr().out
    stop_at(1, steps, folders["texts"], **options, tickets=masks(folders["texts"], 1))
    assert "is not used: it is of another training (other masks)" in capsys.readouterr().out


def test_a_digest_of_masks_tells_their_names_shapes_and_bits_and_not_their_order():
    one, other = torch.tensor([[True, False, True]] * 2), torch.tensor([[True, True, False]] * 2)
    told = [
        {"a": one, "b": other},
        {"a": other, "b": one},
        {"a": one, "c": other},
        {"a": one.reshape(3, 2), "b": other},
        {"a": one},
    ]
    assert len({resume.digest(masks) for masks in told}) == len(told)
    assert resume.digest({"b": other, "a": one}) == resume.digest(told[0])


def test_what_was_pruned_counts_where_no_mask_is_held(folders, steps, often, tmp_path):
    stop_at(3, steps, folders["texts"], place=work(tmp_path), pattern="deletion")
    marker = json.loads((tmp_path / "work/0.500/checkpoint-2" / markers.MARKER).read_text())
    stop_at(3, steps, folders["texts"], place=work(tmp_path))
    held = json.loads((tmp_path / "work/0.500/checkpoint-2" / markers.MARKER).read_text())
    assert marker["identity"]["masks"] == resume.digest({})
    assert marker["identity"]["pruned"] == held["identity"]["masks"]


def test_a_half_written_checkpoint_is_refused_and_the_one_before_is_used(
    folders, undisturbed, steps, often, tmp_path, capsys, monkeypatch
):
    def killed(path, value):
        if path.parent.name == "checkpoint-4":
            raise Stopped
        written(path, value)

    written = resume.files.write_json
    with monkeypatch.context() as patch:
        patch.setattr(resume.files, "write_json", killed)
        with pytest.raises(Stopped):
            run(folders["texts"], place=work(tmp_path))
    steps["steps"].clear()
    assert same(run(folders["texts"], place=work(tmp_path)), undisturbed["texts"])
    assert "checkpoint-4 is not used: it was not written to its end" in capsys.readouterr().out
    assert steps["steps"][0] == 4


def test_levels_of_a_job_keep_checkpoints_of_their_own(folders, steps, often, tmp_path):
    place = work(tmp_path)
    stop_at(5, steps, folders["texts"], place=place)
    stop_at(2, steps, folders["texts"], place=place, sparsity=0.3)
    assert sorted(path.name for path in place.folder.iterdir()) == ["0.300", "0.500"]
    place.clear()
    assert not place.folder.exists()


def test_large_checkpoints_are_written_less_often(folders, tmp_path, monkeypatch):
    """Saving that takes as long as two steps comes after forty of them, not after each."""
    clock, saved = iter(range(0, 10_000)), []
    monkeypatch.setattr(resume, "SECONDS", 1.0)
    monkeypatch.setattr(resume.time, "monotonic", lambda: next(clock))
    progress = resume.Progress(work(tmp_path))
    checkpoint = tmp_path / "work/checkpoint-1"
    checkpoint.mkdir(parents=True)
    state = type("State", (), {"global_step": 1, "max_steps": 1000, "epoch": 0.5})()
    progress.on_epoch_begin(None, state, None)
    progress.on_train_begin(None, state, None)
    for step in range(100):
        control = type("Control", (), {"should_save": False})()
        progress.on_step_end(None, state, control)
        if control.should_save:
            saved.append(step)
            next(clock)
            progress.on_save(None, state, control)
    assert saved[0] <= 1
    assert all(30 <= later - earlier <= 60 for earlier, later in itertools.pairwise(saved))
    assert len(saved) == 3


def test_the_last_step_is_saved_of_a_training_that_was_saved_before(tmp_path):
    progress = resume.Progress(work(tmp_path))
    progress.on_train_begin(None, None, None)
    state = type("State", (), {"global_step": STEPS, "max_steps": STEPS})()
    for before in (None, tmp_path):
        control, progress.checkpoint = type("Control", (), {"should_save": False})(), before
        progress.on_step_end(None, state, control)
        assert control.should_save is (before is not None)


def test_identity_is_what_was_trained(folders, steps, often, tmp_path):
    stop_at(3, steps, folders["texts"], place=work(tmp_path))
    marker = json.loads((tmp_path / "work/0.500/checkpoint-2" / markers.MARKER).read_text())
    assert marker["identity"]["settings"] == SETTINGS
    assert marker["identity"] | {"pattern": "global", "sparsity": 0.5, "seed": 0, "rows": 22} == marker["identity"]
    assert {"masks", "code", "torch", "transformers", "device", "manifests"} < set(marker["identity"])


def test_a_kill_in_the_first_steps_halves_the_batches_and_a_resumed_training_keeps_them(
    folders, steps, often, tmp_path, capsys, monkeypatch
):
    """The machine's own memory: the process is killed without an error. Elsewhere a kill halves nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(resume.Progress, "__exit__", lambda *args: None)  # killed: nothing is left in order
        stop_at(1, steps, folders["texts"], place=work(tmp_path))
        stop_at(5, steps, folders["texts"], place=work(tmp_path))
    assert "batches go through in 2 parts now" in capsys.readouterr().out
    marker = json.loads((tmp_path / "work/0.500/checkpoint-4" / markers.MARKER).read_text())
    assert marker["parts"] == 2
    found = run(folders["texts"], place=work(tmp_path))
    assert "parts now" not in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(finetuning.Trainer, "parts", 2)
        assert same(found, run(folders["texts"]))


def test_each_kill_in_the_first_steps_of_the_same_training_halves_the_batches_again(tmp_path):
    (tmp_path / "work").mkdir()
    for code, parts in (("c", 1), ("c", 2), ("c", 4), ("edited", 1)):
        assert resume.Progress(work(tmp_path, code=code)).__enter__().parts == parts, "killed: not left in order"


def test_a_kill_counts_as_one_of_the_first_steps_until_the_second_is_done(tmp_path):
    state = type("State", (), {"global_step": 1, "max_steps": 9})()
    with resume.Progress(work(tmp_path)) as progress:
        progress.on_train_begin(None, state, None)
        for there in (True, False):
            progress.on_step_end(None, state, None)
            assert (tmp_path / "work" / resume.TRYING).exists() is there


def test_a_job_says_all_that_its_attempts_ran_on(tmp_path, capsys):
    work = resume.Work(tmp_path / "w", {"code": "a"})
    assert work.hardware("A") == work.hardware("A") == "A"
    assert capsys.readouterr().out == ""
    assert work.hardware("B") == "A; B"
    assert "Attempts before ran on A, this one on B" in capsys.readouterr().out
    assert work.hardware("A") == "B; A"
    assert resume.Work(work.folder, {"code": "b"}).hardware("A") == "A", "of another job"
    (work.folder / resume.HARDWARE).write_text("{")
    assert work.hardware("A") == "A"
    work.clear()
    assert work.hardware("C") == "C"


def test_an_error_in_the_first_steps_halves_nothing(folders, undisturbed, steps, tmp_path, capsys):
    stop_at(1, steps, folders["texts"], place=work(tmp_path))
    assert same(run(folders["texts"], place=work(tmp_path)), undisturbed["texts"])
    assert "parts now" not in capsys.readouterr().out


@pytest.mark.parametrize("said", ["", '{"identity": {"co', "\0" * 8])
def test_a_mark_of_the_first_steps_that_a_lost_node_left_half_written_is_none(tmp_path, said):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / resume.TRYING).write_text(said)
    with resume.Progress(work(tmp_path)) as progress:
        assert progress.parts == 1
