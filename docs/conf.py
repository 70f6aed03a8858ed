"""The pages of this repository as a site: `make docs` builds it into `site/`, from README.md, docs/ and config/, without a network."""

project = "Essential sparsity"
author = copyright = "the authors of essential-sparsity"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "config/README.md", "tests/slurm/README.md"]
exclude_patterns = ["results/**", ".venv/**", "site/**"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = project
html_copy_source = False
html_extra_path = ["site"]  # index.html, which leads to the first page
CONTENTS = {
    "Use": [
        "docs/adding",
        "docs/module",
        "docs/cluster",
        "docs/rerunning",
        "docs/exporting",
        "docs/sharing",
        "config/README",
    ],
    "Results": ["docs/studies", "docs/numbers", "docs/reading", "docs/tables", "docs/paper", "docs/emergence"],
    "Machines": ["docs/resources", "docs/gpu", "docs/memory", "docs/engines", "docs/scale", "tests/slurm/README"],
    "Project": ["docs/architecture", "CONTRIBUTING", "SECURITY", "docs/security", "CHANGELOG"],
}


def contents(app, name: str, source: list[str]) -> None:
    """Add the table of contents to the first page: on the site alone, since elsewhere it would stand there as code."""
    if name == root_doc:
        for caption, pages in CONTENTS.items():
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"


def setup(app) -> None:
    """Called by Sphinx."""
    app.connect("source-read", contents)
