"""What a project says of itself: one version, one list of pins, commands that exist."""

import re
import tomllib
from pathlib import Path

import write_attacks
import yaml

import essential_sparsity

ROOT = Path(__file__).parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_there_is_one_version():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert essential_sparsity.__version__ == version
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[1] == version


def test_the_citation_has_what_the_format_asks_for():
    said = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "title", "message", "authors"} <= said.keys()
    assert said["license"] == tomllib.loads(read("pyproject.toml"))["project"]["license"]


def test_other_machines_call_what_is_there():
    targets = set(re.findall(r"^(\S+):", read("Makefile"), re.MULTILINE)) | {".venv/.installed"}
    steps = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]["test"]["steps"]
    called = [step["run"] for step in steps if "run" in step]
    called += re.findall(r"^RUN (make .*)$", read("Dockerfile"), re.MULTILINE)
    called += re.findall(r"^(make \S+)", read("CONTRIBUTING.md"), re.MULTILINE)
    assert "make test" in called
    assert {word for call in called for word in call.split()[1:]} <= targets
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    pinned = set(re.findall(r"^([A-Za-z0-9_-]+)==", read("envs/requirements.txt"), re.MULTILINE))
    assert {Path(hook["entry"].split()[0]).name for hook in hooks} <= pinned


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("config/*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_the_page_of_attacks_is_that_of_the_tests():
    assert (ROOT / "docs/security.md").read_text() == write_attacks.text(), "run python tests/write_attacks.py"
