"""Another workflow uses this one as a module, from a clone beside it or from a git host, and reads its tables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import git
import pytest
import yaml
from workspace import ROOT, TINY, Workspace

USING = """
configfile: "config/config.yaml"


module essential_sparsity:
    snakefile:
        {snakefile}
    config:
        config


use rule * from essential_sparsity


rule said:
    default_target: True
    input:
        "results/mine/tables/knees.parquet",
    output:
        "said.txt",
    shell:
        "python -c 'import sys, pandas; print(*pandas.read_parquet(sys.argv[1]).pattern)' {{input}} > {{output}}"
"""


@pytest.fixture
def using(tmp_path):
    """A folder as `snakedeploy deploy-workflow` leaves it: the configuration, and a Snakefile that names the workflow."""
    workspace = Workspace(tmp_path / "using")
    for path in workspace.folder.iterdir():
        if path.name != "config":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (workspace.folder / "workflow").mkdir()
    workspace.configure(
        study="mine", references=None, grid=[TINY | {"patterns": ["global"], "sparsities": [0.3], "seeds": [0]}]
    )
    return workspace


def uses(workspace, snakefile: str) -> None:
    (workspace.folder / "workflow/Snakefile").write_text(USING.format(snakefile=snakefile))


def test_from_a_clone_it_runs_once_and_its_tables_are_read(using):
    clone = Workspace(using.folder.with_name("my clone"))
    uses(using, '"../../my clone/Snakefile"')
    planned = using.planned()
    assert (planned["said"], planned["prune_eval"], planned["fetch_model"]) == (1, 2, 1)
    using.snakemake("--quiet", "all")
    assert (using.folder / "said.txt").read_text() == "global\n"
    assert not (clone.folder / "results").exists()
    assert using.planned() == {}
    assert "rule all:" in using.snakemake("--dry-run", "--", "all"), "its own target is there beside"
    path = using.folder / "workflow/Snakefile"
    path.write_text(path.read_text().replace("config:", 'prefix: "there"\n    config:'))
    assert "cannot have a prefix" in using.snakemake("--dry-run", check=False)


def test_its_configuration_may_be_a_part_of_that_of_the_workflow(using):
    Workspace(using.folder.with_name("my clone"))
    uses(using, '"../../my clone/Snakefile"')
    snakefile, config = using.folder / "workflow/Snakefile", using.folder / "config/config.yaml"
    snakefile.write_text(snakefile.read_text().replace("        config\n", '        config["pruning"]\n'))
    config.write_text(yaml.safe_dump({"pruning": yaml.safe_load(config.read_text()), "mine": {"off": {}}}))
    assert using.planned()["prune_eval"] == 2


@pytest.fixture
def hosted(tmp_path, monkeypatch):
    """This working tree as a repository that Snakemake takes for one of a git host."""
    copy, bare = Workspace(tmp_path / "copy").folder, tmp_path / "hosted.git"
    for name, value in {"AUTHOR": "a", "COMMITTER": "a"}.items():
        monkeypatch.setenv(f"GIT_{name}_NAME", value)
        monkeypatch.setenv(f"GIT_{name}_EMAIL", f"{value}@example.org")
    for command in ("init -q", "add .", "commit -q -m one", "tag v1", f"clone -q --bare . {bare}"):
        subprocess.run(["git", *command.split()], cwd=copy, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{bare}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/someone/essential-sparsity")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return copy


def test_from_a_git_host_all_of_it_is_unpacked_because_rules_call_its_programs(using, hosted):
    uses(using, 'github("someone/essential-sparsity", path="Snakefile", tag="v1")')
    using.snakemake("--quiet", "all", "--", "results/mine/grid.parquet")
    unpacked = using.folder / ".snakemake/modules/essential-sparsity"
    commit = subprocess.run(["git", "rev-parse", "v1"], cwd=hosted, check=True, capture_output=True, text=True).stdout
    assert (unpacked / ".commit").read_text() == commit.strip()
    assert (unpacked / "workflow/scripts/prune_eval.py").is_file()
    planned = using.planned()
    assert planned["prune_eval"] == 2
    assert "tabulate_grid" not in planned
    (unpacked / ".commit").write_text("another one")
    assert using.planned() == planned, "unpacked anew, at the same place"
    assert (unpacked / ".commit").read_text() == commit.strip()


@pytest.fixture
def repository(hosted, tmp_path, monkeypatch):
    """The function of the rules that finds this repository, for a folder of a git host; what it is called in."""
    text = (ROOT / "rules/repository.smk").read_text()
    said = {"workflow": SimpleNamespace(is_main_process=True)}
    exec(text.partition("\nROOT = ")[0], said)
    monkeypatch.chdir(tmp_path)
    hosting = SimpleNamespace(is_local=False, ref="v1", hosted_repo=SimpleNamespace(repo=git.Repo(hosted)))
    return lambda: said["repository"](hosting), said, hosting


def test_two_that_unpack_at_once_leave_one_whole_tree_and_nothing_beside(repository, monkeypatch):
    find, said, hosting = repository
    (said["UNPACKED"]).mkdir(parents=True)
    (said["UNPACKED"] / "of_another_commit.py").touch()
    rename, second = Path.rename, [find]

    def meanwhile(path, target):
        done = rename(path, target)
        if second:
            second.pop()()
        return done

    monkeypatch.setattr(Path, "rename", meanwhile)
    folder = find()
    assert not second
    assert (folder / ".commit").read_text() == hosting.hosted_repo.repo.commit("v1").hexsha
    assert (folder / "workflow/scripts/prune_eval.py").is_file()
    assert not (folder / "of_another_commit.py").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_job_uses_what_was_unpacked_when_it_was_started(repository):
    find, said, hosting = repository
    folder = find()
    (folder / ".commit").write_text("before the branch moved")
    said["workflow"].is_main_process = False
    hosting.hosted_repo = None  # a node that has no network
    assert find() == folder
    assert (folder / ".commit").read_text() == "before the branch moved"


def test_provenance_names_the_commit_that_was_unpacked_not_the_repository_around_it(using, hosted, tmp_path):
    asked = [
        sys.executable,
        "-c",
        "from essential_sparsity.tables import crate; print(crate.commit_of(crate.Path('.')))",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow/scripts")}

    def said(folder):
        return eval(
            subprocess.run(asked, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout
        )

    inside = hosted / "workflow"
    assert said(hosted)["changed"] == []
    assert said(inside) == {"commit": None, "changed": None}, "a folder of another repository"
    (inside / ".commit").write_text("0123")
    assert said(inside) == {"commit": "0123", "changed": None}
