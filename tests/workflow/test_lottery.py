"""A real chain of iterations on a tiny model: it re-runs what changed, is taken up where it was killed, and refuses damage."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from workspace import CODE, OUT, STORE, Workspace

from essential_sparsity import tables
from essential_sparsity.pruning import tickets

LIBRARY = "workflow/scripts/essential_sparsity"
GRID = {
    "models": ["splade-tiny"],
    "tasks": ["reviews-long"],
    "patterns": ["global", "lth"],
    "sparsities": [0.4],
    "seeds": [0, 1],
}
COLLECTED = {"collect_runs": 1, "collect_costs": 1, "fit_knees": 1, "collect_knees": 1, "plot_curve": 1}
COLLECTED |= {"tabulate_knees": 1}
JUDGED = {"judge_claims": 1, "write_claims": 1, "write_provenance": 1}
COMPARED = {"measure_differences": 1, "plot_difference": 1, "write_explorer": 1} | JUDGED
GRIDDED = {"tabulate_grid": 1, "count_layers": 1, "plot_layers": 1}  # the grid says of what code its runs are
ALIKE = {"compare_tickets": 1, "collect_similarity": 1, "plot_similarity": 1} | JUDGED


def study(folder):
    """A folder with a chain of iterations of a fifth each on 24 training and 40 evaluated reviews."""
    workspace = Workspace(folder)
    tasks = workspace.folder / "config/tasks.tsv"
    row = re.compile(r"^(reviews-long\t.*)\t1500\t1000\t2\t(.*)\t10(?=\t|$)", flags=re.MULTILINE)
    text, found = row.subn(r"\1\t24\t40\t1\t\2\t2", tasks.read_text())
    assert found == 1, "the row of reviews-long has changed: the test is out of date"
    tasks.write_text(text)
    workspace.configure(grid=[GRID], lottery={"share": 0.2})
    return workspace


@pytest.fixture(scope="module")
def chained(tmp_path_factory):
    """The finished study; tests look at it and put back what they change."""
    workspace = study(tmp_path_factory.mktemp("lottery") / "study")
    planned = workspace.planned()
    assert (planned["find_ticket"], planned["prune_eval"]) == (4, 6), (
        "two iterations and three runs for each of two seeds"
    )
    workspace.snakemake("--quiet", "all")
    return workspace


def ticket_files(workspace, *levels):
    folder = workspace.folder / f"{STORE}/tickets/splade-tiny/reviews-long"
    return {
        path.relative_to(folder): path.read_bytes()
        for level in levels
        for path in sorted(folder.glob(f"seed0/{level}.*"))
    }


def test_tables_and_figures_of_tickets_are_there(chained):
    results = chained.folder / OUT
    alike = tables.read(results / "tables/similarity.parquet", "similarity")
    whole = alike[alike["scope"] == "model"].set_index(["between", "seed_b"])
    assert whole.index.tolist() == [("pattern", 0), ("pattern", 1), ("seed", 1)]
    assert set(whole["pruned_a"]) == set(whole["pruned_b"]) == {int(whole["n"].iloc[0] * 0.4 + 0.5)}
    assert (whole["cosine_kept"] > whole["cosine_kept_chance"]).all()
    assert set(tables.read(results / "tables/differences.parquet", "differences")["pattern_a"]) == {"lth"}
    for figure in ("differences/splade-tiny/reviews-long", "similarity/splade-tiny"):
        assert "<svg" in (results / f"figures/{figure}.svg").read_text()[:1000]
    costs = tables.read(results / "tables/costs.parquet", "costs")
    assert costs["rule"].value_counts()["find_ticket"] == 4


def test_runs_hold_as_many_weights_as_their_ticket(chained):
    runs = tables.read(chained.folder / OUT / "tables/runs.parquet", "runs")
    path = chained.folder / f"{STORE}/tickets/splade-tiny/reviews-long/seed0/0.400.safetensors"
    ticket = tickets.read(
        path, {"model": "splade-tiny", "task": "reviews-long", "seed": 0, "iteration": 2, "share": 0.2}
    )
    assert ticket.provenance["settings"]["n_train"] == 24
    assert set(runs.loc[runs["pattern"] == "lth", "k"]) == {ticket.provenance["k"]}
    assert set(runs["weights_sha256"]) == {ticket.provenance["weights_sha256"]}
    digest = path.with_suffix(".sha256")
    check = subprocess.run(["sha256sum", "-c", digest.name], cwd=digest.parent, capture_output=True, check=False)
    assert check.returncode == 0


def test_nothing_changed_and_everything_touched_run_nothing(chained):
    assert chained.planned() == {}
    now = (
        time.time()
    )  # one instant: of large files Snakemake compares times, and the page would be newer than what is made of it
    for file in sorted(chained.folder.rglob("*"), reverse=True):
        if file.is_file() and ".snakemake" not in file.parts:
            os.utime(file, (now, now))
    assert chained.planned() == {}


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("pruning/similarity", ALIKE),
        ("curves/differences", COMPARED),
        ("figures/tickets", {"plot_difference": 1, "plot_similarity": 1}),
        ("pruning/tickets", {"find_ticket": 4, "prune_eval": 2} | GRIDDED | ALIKE | COLLECTED | COMPARED),
    ],
)
def test_iterations_run_again_only_when_their_code_changed(chained, module, expected):
    with chained.edit(f"{LIBRARY}/{module}.py", *CODE):
        assert chained.planned() == expected
    assert chained.planned() == {}


def test_without_tickets_in_the_grid_nothing_of_them_is_asked_for(chained):
    before = (chained.folder / "config/config.yaml").read_text()
    chained.configure(grid=[GRID | {"patterns": ["global"]}])
    try:
        planned = chained.planned()
    finally:
        (chained.folder / "config/config.yaml").write_text(before)
    assert not set(planned) & {
        "find_ticket",
        "prune_eval",
        "compare_tickets",
        "collect_similarity",
        "measure_differences",
    }


def test_tickets_without_the_one_shot_masks_have_no_figure_of_differences(chained):
    before = (chained.folder / "config/config.yaml").read_text()
    chained.configure(grid=[GRID | {"patterns": ["lth"]}, GRID | {"patterns": ["global"], "sparsities": [0.3]}])
    try:
        planned = chained.planned()
    finally:
        (chained.folder / "config/config.yaml").write_text(before)
    assert "plot_difference" not in planned
    assert planned["measure_differences"] == 1


def test_a_damaged_ticket_is_named_and_nothing_is_computed_with_it(chained):
    path = chained.folder / f"{STORE}/tickets/splade-tiny/reviews-long/seed0/0.400.safetensors"
    run = chained.folder / f"{STORE}/runs/splade-tiny/reviews-long/lth/0.400/seed0.parquet"
    kept, row = path.read_bytes(), run.read_bytes()
    path.write_bytes(kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:])
    run.unlink()
    try:
        output = chained.snakemake("--quiet", "rules", "host", check=False)
        assert re.search(r"0\.400\.safetensors: the masks are not the ones that were written .* Delete it", output)
        assert not run.exists()
    finally:
        path.write_bytes(kept)
        run.write_bytes(row)


def test_killed_in_round_three_and_run_again_goes_on_with_round_three(chained, tmp_path):
    """SIGKILL to the whole tree; the finished iterations stay as they are, and the chain ends as an undisturbed one."""
    workspace = study(tmp_path / "study")
    for name in ("checkpoints", "datasets"):
        shutil.copytree(chained.folder / STORE / name, workspace.folder / STORE / name)
    target = f"{STORE}/tickets/splade-tiny/reviews-long/seed0/0.600.sha256"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--rerun-triggers", "mtime", "--quiet", "rules"]
    environment = {**os.environ, "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen([*command, "--", target], cwd=workspace.folder, env=environment, start_new_session=True)
    log = workspace.folder / f"{STORE}/logs/find_ticket/splade-tiny/reviews-long/seed0/0.600.log"
    deadline = time.monotonic() + 300
    while not log.is_file() and time.monotonic() < deadline:
        assert process.poll() is None, "the chain ended before it could be killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = ticket_files(workspace, "0.200", "0.400")
    assert len(done) == 4
    assert done == ticket_files(chained, "0.200", "0.400")
    assert not ticket_files(workspace, "0.600")
    workspace.call(*command[:3], "--unlock", "--cores", "1")
    assert workspace.planned("--rerun-incomplete", "--", target) == {"find_ticket": 1}
    workspace.call(*command, "--rerun-incomplete", "--", target)
    assert ticket_files(workspace, "0.200", "0.400") == done
    assert len(ticket_files(workspace, "0.600")) == 2
