"""The pages as a site: it builds without a warning, from every page, and asks for nothing elsewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MARKUP = re.compile(r'<(\w+)[^>]*?\s(?:src|href)="([^"]*)"')


def built(source: Path, out: Path) -> subprocess.CompletedProcess:
    """As `make docs` builds it."""
    called = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-c",
        str(source / "docs"),
        str(source),
        str(out),
    ]
    return subprocess.run(called, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "site"
    made = built(ROOT, out)
    assert made.returncode == 0, made.stderr
    return out


def test_every_page_is_on_the_site_and_in_its_contents(site):
    first = (site / "README.html").read_text()
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "config/README.md"]:
        name = page.relative_to(ROOT).with_suffix(".html")
        assert (site / name).is_file()
        assert name.name == "README.html" or f'href="{name}"' in first, f"{name} is not in the contents of docs/conf.py"
    assert "README.html" in (site / "index.html").read_text()
    assert "toctree" not in (ROOT / "README.md").read_text(), "it would stand there as code elsewhere"


def test_its_links_lead_somewhere_and_nothing_is_fetched(site):
    text = {page: page.read_text() for page in site.rglob("*.html")}
    assert len(text) > 20
    for page, markup in text.items():
        for tag, address in MARKUP.findall(markup):
            if "://" in address or address.startswith("//"):
                assert tag == "a", f"{page.name} fetches {address}"
            elif not address.startswith(("mailto:", "data:")):
                name, _, anchor = address.partition("#")
                target = (page.parent / name.split("?")[0]).resolve() if name else page
                assert target.exists(), f"{page.name} links to {address}"
                assert not anchor or target not in text or f'id="{anchor}"' in text[target], f"{page.name}: {address}"


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    for name in ("docs/conf.py", "docs/site/index.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text("# One\n\n[there](docs/two.md#nowhere)\n")
    (tmp_path / "docs/two.md").write_text("# Two\n")
    made = built(tmp_path, tmp_path / "site")
    assert made.returncode == 1
    assert "nowhere" in made.stderr
