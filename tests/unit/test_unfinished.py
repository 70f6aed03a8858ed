"""Commands typed while a study is at work or unfinished."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import print_summary
import run_alone
from essential_sparsity.errors import UserError


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["-n"], []),
        (["--profile", "slurm", "--dry-run"], []),
        (["-np"], []),
        (["-kn"], []),
        (["--cores", "2"], [7]),
        (["-Rpretrain"], [7]),
    ],
)
def test_a_dry_run_beside_a_run_keeps_nobody_waiting(monkeypatch, options, found):
    command = ["python", "/somewhere/bin/snakemake", *options]
    process = SimpleNamespace(pid=7, info={"cmdline": command, "cwd": os.getcwd()})
    monkeypatch.setattr(run_alone.psutil, "process_iter", lambda names: [process])
    assert run_alone.others() == found


def test_the_summary_of_an_unfinished_study_says_what_to_type(tmp_path, monkeypatch):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text(Path("config/config.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"results/demo/tables has no knees\.parquet yet: .*make tables"):
        print_summary.main([])
