"""Cells of the tables of config/ that another program would take for more than text: options, commands, markup, controls."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_figures import layer_rows

from essential_sparsity import tables
from essential_sparsity.study import tsv
from essential_sparsity.study.configuration import ConfigError

ROOT = Path(__file__).parents[2]
RAN = "ran"
LABELS = {
    "an option": "--out=/tmp/elsewhere",
    "a dash": "-",
    "the end of the options": "--",
    "a command of a shell": f"$(touch {RAN}); `touch {RAN}` | touch {RAN} & touch {RAN}",
    "quotes": "it's \"here\" \\' $'\\n'",
    "markup": "</text><script>alert(1)</script> ]]> --> &lt;",
    "mathematics": "$x^$ \\frac{1}",
    "a template": "{wildcards.model} {{ 7 * 7 }} %(a)s {0.__class__}",
    "a formula of a spreadsheet": "=cmd|'/c calc'!A0",
    "a name that legends leave out": "_nolegend_",
    "letters from right to left": "שלום עולם",
}
UNSEEN = {
    "a zero byte": "a\0b",
    "a command to a terminal": "a\x1b[2Jb",
    "a bell": "a\x07b",
    "a page": "a\x0cb",
    "a mark that turns the text around": "a\u202eb",
    "an isolate": "a\u2066b",
    "a blank without width": "a\u200bb",
    "a byte-order mark inside": "a\ufeffb",
    "a line break of Unicode": "a\u2028b",
}
HEADER = "model\tlabel\ttype\tsource\tid\trevision\tformat\tparameters\tallow_pickle\tnote\n"
OWN = {  # params without quotes: words of this workflow, numbers, digests, and lists of its own paths
    "after", "before", "benchmarks", "calibration", "code", "compare", "curves", "device", "digest", "disagreement", "epsilon", "iteration",
    "launch", "levels", "logs", "made", "missing", "mixed", "pickle", "program", "protocols", "references", "rounds", "share", "sparsity",
    "spectra", "store", "study", "threads", "tokens", "width", "work",
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Tables of one model."""
    folder = tmp_path_factory.mktemp("tables")
    layers = layer_rows(2, {"query": "attention", "dense": "mlp"}).assign(boundary=1, rate=0.5, share=0.5)
    tables.write(layers, "layers", folder / "layers.parquet")
    return folder, layers.iloc[0]


@pytest.mark.parametrize("name", LABELS)
def test_a_label_through_the_table_the_shell_and_a_figure(attempts, drawn, tmp_path, name):
    """Drawn as the text that it is, in the title, the figure's file and the log; no command runs, no option is read"""
    label = LABELS[name]
    (tmp_path / "models.tsv").write_text(f"{HEADER}m\t{label}\tencoder\tpath\tx\t\ttransformers\t1e6\tfalse\t\n")
    row = tsv.read_table(str(tmp_path / "models.tsv"), "models", "model")[0]
    assert row["label"] == label
    option = f"--label={shlex.quote(row['label'])}"  # as the rules write it
    shell = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' {option}"
    done = subprocess.run(["bash", "-euc", shell], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert json.loads(done.stdout) == [f"--label={label}"]
    folder, first = drawn
    work = tmp_path / "work"
    work.mkdir()
    ended = attempts.program(
        "plot_layers", "--layers", folder / "layers.parquet", "--model", first["model"], "--pattern", first["pattern"],
        "--sparsity", first["sparsity"], f"--label={label}", "--out", "figure.svg", folder=work,
    )  # fmt: skip
    ended.check_passed("")
    elements = {element.tag.rpartition("}")[2] for element in ElementTree.parse(work / "figure.svg").iter()}
    assert "script" not in elements
    assert not list(tmp_path.rglob(RAN))


@pytest.mark.parametrize("column", ["label", "id", "note"])
@pytest.mark.parametrize("name", UNSEEN)
def test_a_character_that_nobody_sees(tmp_path, name, column):
    """Refused in every column, with the file, line and column"""
    cells = dict(
        zip(HEADER.split(), ["m", "M", "encoder", "path", "x", "", "transformers", "1e6", "false", ""], strict=True)
    )
    line = "\t".join((cells | {column: UNSEEN[name]}).values())
    (tmp_path / "models.tsv").write_text(f"{HEADER}{line}\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match="no UTF-8 text" if "\0" in UNSEEN[name] else rf"models.tsv, line 2, column {column}: "
    ):
        tsv.read_table(str(tmp_path / "models.tsv"), "models", "model")


@pytest.mark.parametrize("cell", ["../../etc", "-rf", "a b", "a;b", "$(x)", "a\u200cb", "ä"])
def test_an_id_is_a_plain_name(tmp_path, cell):
    """Refused where paths, wildcards and options are made of it"""
    (tmp_path / "models.tsv").write_text(f"{HEADER}{cell}\tM\tencoder\tpath\tx\t\ttransformers\t1e6\tfalse\t\n")
    with pytest.raises(ConfigError, match=r"models.tsv, line 2, column model: .* does not match"):
        tsv.read_table(str(tmp_path / "models.tsv"), "models", "model")


@pytest.mark.parametrize("path", sorted((ROOT / "rules").glob("*.smk")), ids=lambda path: path.stem)
def test_what_users_type_is_quoted_in_the_rules(path):
    """Every param of a rule that is not a word of the workflow is quoted, and a label follows its option's equals sign"""
    text = path.read_text()
    params = re.findall(r"\{params\.(\w+)(:q)?\}", text)
    assert {name for name, quoted in params if not quoted} <= OWN
    assert not re.search(r"--label \{", text)
