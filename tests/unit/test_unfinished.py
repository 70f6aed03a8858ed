"""Commands typed while a study is at work or unfinished."""

import os
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest

import print_summary
import run_alone
from essential_sparsity import files
from essential_sparsity.errors import UserError
from essential_sparsity.figures import summary
from essential_sparsity.study import heads


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["-n"], []),
        (["--profile", "slurm", "--dry-run"], []),
        (["-np"], []),
        (["-kn"], []),
        (["--report", "results/demo/report.html", "--quiet", "all"], []),
        (["--cores", "2", "--report-after-run"], [7]),
        (["--cores", "2"], [7]),
        (["-Rpretrain"], [7]),
    ],
)
def test_a_dry_run_or_a_report_beside_a_run_keeps_nobody_waiting(monkeypatch, options, found):
    command = ["python", "/somewhere/bin/snakemake", *options]
    process = SimpleNamespace(pid=7, info={"cmdline": command, "cwd": os.getcwd()})
    monkeypatch.setattr(run_alone.psutil, "process_iter", lambda names: [process])
    assert run_alone.others() == found


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (["python", "workflow/scripts/prune_eval.py", "--model", "m"], True),
        (["python", "-u", "workflow/scripts/find_ticket.py"], True),
        (["python", "workflow/scripts/print_summary.py"], False),
        (["python", "workflow/scripts/run_alone.py", "--cores", "2"], False),
        (["vim", "notes.py"], False),
    ],
)
def test_jobs_that_outlive_a_killed_run_on_this_machine_are_not_computed_beside(monkeypatch, tmp_path, command, left):
    """Snakemake was killed, by the machine for want of memory for instance, and its jobs were not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_alone, "GRACE", 0)
    process = SimpleNamespace(pid=7, info={"cmdline": command, "cwd": os.getcwd()})
    monkeypatch.setattr(run_alone.psutil, "process_iter", lambda names: [process])
    assert run_alone.others() == []
    lock = tmp_path / run_alone.LOCKS / "0.input.lock"
    head = heads.Head(platform.node(), 2**22 + 1, 1.0, os.getuid())
    lock.parent.mkdir(parents=True)
    lock.touch()
    files.write_json(head.path, vars(head))
    if left:
        with pytest.raises(UserError, match=r"Jobs of a killed run are still at work .*\(process 7\).*`kill 7`"):
            run_alone.clear()
    else:
        run_alone.clear()
    assert lock.exists() == head.path.exists() == left


def test_the_summary_of_an_unfinished_study_says_what_to_type(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(Path("config/config.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"results/demo/tables has no knees\.parquet yet: .*make tables"):
        print_summary.main([])


def test_a_report_of_before_the_tables_is_said_to_be_one(tmp_path):
    report, crate = tmp_path / "report.html", tmp_path / "ro-crate-metadata.json"
    crate.touch()
    assert summary.report_line(report, crate, "make it") == "not made yet: make it"
    for path, when in ((crate, 100), (report, 200)):
        path.touch()
        os.utime(path, (when, when))
    assert summary.report_line(report, crate, "make it") == str(report)
    os.utime(crate, (300, 300))
    assert summary.report_line(report, crate, "make it") == f"{report} (of before these tables; anew: make it)"


def test_jobs_that_start_are_marked_and_a_caller_that_is_gone_stops_nothing(tmp_path, monkeypatch):
    heads.starts()
    for place in (tmp_path / "gone/mark", tmp_path / "mark"):
        monkeypatch.setenv(heads.STARTED, str(place))
        heads.starts()
        assert place.exists() == place.parent.exists()
