"""The configuration that Snakemake merges, with what merging cannot say; and the one that a command names."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from snakemake import cli, utils

from essential_sparsity.study import commands, configuration, opening, tsv

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The shipped configuration in a folder of its own, where a test writes files of its own."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, name, text):
    (folder / name).write_text(text)
    return name


SHIPPED = "config/config.yaml"
PACKAGE = {"package": "a", "registry": "pypi", "name": "a", "version": "1", "sha256": "0" * 64, "kind": "wheel"}
PACKAGE |= {"member": "m", "licence": "MIT", "note": ""}


def test_a_file_that_is_named_must_name_its_study(folder):
    mine = write(folder, "mine.yaml", "dense_check: warn\n")
    message = r"mine\.yaml: the key 'study' is missing.*for instance `study: mine`.*results/mine/"
    with pytest.raises(configuration.ConfigError, match=message):
        configuration.read_config(SHIPPED, mine)
    assert configuration.read_config(SHIPPED, mine, given={"study": "b"})["study"] == "b"
    named = write(folder, "named.yaml", "study: a\ndense_check: warn\n")
    with pytest.raises(configuration.ConfigError, match=r"^mine\.yaml: the key 'study'"):
        configuration.read_config(SHIPPED, named, mine)
    found = configuration.read_config(SHIPPED, mine, named)
    assert (found["study"], found["dense_check"]) == ("a", "warn")


def test_what_a_study_leaves_out_is_no_key_of_its_file(folder):
    """With `missing_runs: skip` in it, no call would compute anything, and each would end well."""
    skipping = write(folder, "mine.yaml", "study: a\nmissing_runs: skip\n")
    with pytest.raises(
        configuration.ConfigError, match=r"^mine\.yaml, key missing_runs: with skip no job.*make tables"
    ):
        configuration.read_config(SHIPPED, skipping)
    stopping = write(folder, "stopping.yaml", "study: a\nmissing_runs: stop\n")
    assert configuration.read_config(SHIPPED, stopping, given={"missing_runs": "skip"})["missing_runs"] == "skip"


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("integer", "two", "key a: 'two' is a text; write a number, such as 3"),
        (["integer", "null"], "two", "key a: 'two' is a text; write a number, such as 3"),
        (["number", "null"], "0,5", "key a: '0,5' is a text; write a number, such as 0.5"),
        (["boolean", "null"], "yes", "key a: 'yes' is not of type"),
        (["string", "null"], 3, "key a: 3 is not of type"),
        ("array", 3, r"key a: 3 is no list; write \[3\]"),
        ("array", "global", r"key a: 'global' is no list; write \[global\]"),
    ],
)
def test_a_value_of_another_type_is_told_by_what_it_is(kind, given, said):
    """Most columns of the tables are numbers or blank."""
    with pytest.raises(configuration.ConfigError, match=said):
        configuration.check({"a": given}, {"properties": {"a": {"type": kind}}}, "here")


def test_the_shipped_file_alone_names_its_own():
    assert configuration.read_config(str(ROOT / SHIPPED))["study"] == "demo"


def test_later_files_replace_keys_of_earlier_ones_and_mappings_are_merged(folder):
    shipped = configuration.read_config(SHIPPED)
    mine = write(folder, "mine.yaml", "study: a\nresources: {threads: 3}\n")
    last = write(folder, "last.yaml", "study: b\n")
    found = configuration.read_config(SHIPPED, mine, last)
    assert found["study"] == "b"
    assert found["resources"] == shipped["resources"] | {"threads": 3}
    assert {**found, "study": 0, "resources": 0} == {**shipped, "study": 0, "resources": 0}


@pytest.mark.parametrize("blank", ["{}", "null", ""])
def test_an_empty_mapping_switches_a_key_off_as_null_does(folder, blank):
    on = write(folder, "on.yaml", "study: a\nrefine: {width: 0.02}\n")
    off = write(folder, "off.yaml", f"study: b\nrefine: {blank}\n")
    assert configuration.read_config(SHIPPED, on)["refine"]["width"] == 0.02
    assert configuration.read_config(SHIPPED, on, off)["refine"] is None


def test_an_empty_mapping_switches_off_inside_a_mapping_and_on_the_command_line_too(folder):
    off = write(folder, "off.yaml", "study: a\nfigures: {panels: {}}\n")
    assert configuration.read_config(SHIPPED, off)["figures"] == {"layers_sparsity": 0.5, "panels": None}
    one = write(folder, "one.yaml", "study: b\nfigures: {panels: {nm: {}}}\n")
    found = configuration.read_config(SHIPPED, one)["figures"]["panels"]
    assert found == configuration.read_config(SHIPPED)["figures"]["panels"] | {"nm": None}
    on = write(folder, "on.yaml", "study: c\nfigures: {panels: {mine: {caption: mine}}}\n")
    assert configuration.read_config(SHIPPED, off, on)["figures"]["panels"]["mine"] == {"caption": "mine"}
    assert configuration.read_config(SHIPPED, given={"refine": {}})["refine"] is None
    each = write(folder, "each.yaml", json.dumps({"study": "d", "figures": {"panels": {name: {} for name in found}}}))
    assert configuration.read_config(SHIPPED, each, off)["figures"]["panels"] is None
    assert configuration.read_config(SHIPPED, off, one)["figures"]["panels"] == found


def test_an_empty_mapping_in_the_base_switches_off_too(folder):
    base = yaml.safe_load(Path(SHIPPED).read_text()) | {"refine": {}}
    assert configuration.read_config(write(folder, SHIPPED, yaml.safe_dump(base)))["refine"] is None


def test_what_a_later_file_or_the_command_line_says_is_on_again(folder):
    on = write(folder, "on.yaml", "study: a\nrefine: {width: 0.02}\n")
    off = write(folder, "off.yaml", "study: b\nrefine: {}\n")
    wanted = yaml.safe_load(Path(SHIPPED).read_text())["refine"] | {"width": 0.02}
    assert configuration.read_config(SHIPPED, off, given={"refine": {"width": 0.02}})["refine"] == wanted
    assert configuration.read_config(SHIPPED, off, on)["refine"] == wanted


def test_settled_leaves_what_it_is_given(folder):
    off = write(folder, "off.yaml", "study: b\nrefine: {}\n")
    merged = {"study": "b", "refine": {"width": 0.02}}
    assert configuration.settled(merged, [off], {}) == {"study": "b", "refine": None}
    assert merged["refine"] == {"width": 0.02}
    assert configuration.settled(merged, [], {}) == merged


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("epsilon", r"it is a column of tasks\.tsv: say it there\."),
        ("add_bos_token", r"it is a column of models\.tsv: say it there\."),
        ("task", "did you mean 'tasks'"),
    ],
)
def test_a_column_of_a_table_that_is_written_as_a_key_is_named(folder, key, told):
    mine = write(folder, "mine.yaml", f"study: a\n{key}: x\n")
    with pytest.raises(configuration.ConfigError, match=f"unknown key '{key}'; {told}"):
        configuration.read_config(SHIPPED, mine)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1, 2]", r"mine\.yaml holds \[1, 2\]; expected keys and values"),
        ("a: [", r"mine\.yaml cannot be read"),
        ("study: a\ndense_chek: warn\n", r"config/config\.yaml and mine\.yaml: unknown key 'dense_chek'; did you mean"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(folder, text, told):
    with pytest.raises(configuration.ConfigError, match=told):
        configuration.read_config(SHIPPED, write(folder, "mine.yaml", text))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(configuration.ConfigError, match=r"absent\.yaml cannot be read"):
        configuration.read_config(str(ROOT / SHIPPED), "absent.yaml")


def test_a_command_names_files_and_keys(folder):
    mine = write(folder, "mine.yaml", "study: a\ndense_check: warn\n")
    for option in ("--configfile", "--configfiles"):
        found = commands.configured(["snakemake", "--cores", "2", option, mine, "--dry-run"])
        assert found == configuration.read_config(SHIPPED, mine)
    found = commands.configured(["--configfile", mine, "--config", "dense_check=stop", "study=b", "--cores", "2"])
    assert (found["dense_check"], found["study"]) == ("stop", "b")
    assert commands.configured(["-C", "study=c"])["study"] == "c"
    assert commands.configured(["-nC", "study=c", "--cores", "1"])["study"] == "c"
    assert commands.configured(["-pnCstudy=c"])["study"] == "c"
    assert commands.configured([]) == configuration.read_config(SHIPPED)
    last = write(folder, "last.yaml", "study: last\n")
    assert commands.configured(["--configfile", mine, last])["study"] == "last"
    for twice in (
        ["--configfile", mine, "--configfile", last],
        ["--config", "study=c", "dense_check=warn", "-Cstudy=d"],
    ):
        with pytest.raises(configuration.ConfigError, match="stands there twice"):
            commands.configured(twice)


def test_values_of_a_command_are_read_as_yaml(folder):
    keys = ["resources={threads: 3}", "study=x=y", "resources={gpu: 0}"]
    found = commands.configured(["--config", *keys])
    assert (found["resources"]["threads"], found["resources"]["gpu"], found["study"]) == (3, 0, "x=y")
    given = cli.parse_config(keys)
    merged = configuration.read_file(SHIPPED)
    utils.update_config(merged, given)
    assert configuration.settled(merged, [SHIPPED], given) == found


def test_a_gpu_that_is_required_has_to_be_asked_for(folder):
    mine = write(folder, "mine.yaml", "study: a\nresources: {gpu: 0, device: cuda}\n")
    with pytest.raises(configuration.ConfigError, match=r"device is cuda, but resources\.gpu = 0 asks for no GPU"):
        configuration.read_config(SHIPPED, mine)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("snakemake --cores 2", "snakemake --cores 2 --config a=1"),
        ("snakemake --quiet rules -- x.json", "snakemake --quiet rules --config a=1 -- x.json"),
        ("snakemake --config b=2 c=3 -n", "snakemake --config a=1 b=2 c=3 -n"),
        ("snakemake -C b=2 -- --config", "snakemake -C a=1 b=2 -- --config"),
        ("snakemake --config=b=2 --cores 1", "snakemake --config b=2 a=1 --cores 1"),
        ("snakemake -Cb=2 --configfile=x", "snakemake -C b=2 a=1 --configfile=x"),
    ],
)
def test_a_key_is_put_beside_those_that_a_command_has(command, expected):
    """Of two `--config` Snakemake reads one, and what stands after `--` are targets."""
    assert commands.with_key(command.split(), "a=1") == expected.split()


@pytest.mark.parametrize("cell", ['a "quoted" word', '"opened', '"a word" and more'])
def test_quotation_marks_are_part_of_a_cell_and_swallow_no_rows(tmp_path, cell):
    row = PACKAGE | {"note": cell}
    path = tmp_path / "packages.tsv"
    path.write_text("\n".join("\t".join(line) for line in (row, row.values(), PACKAGE.values())) + "\n")
    assert [found["note"] for found in tsv.read_table(str(path), "packages", None)] == [cell, None]


def block(model: str) -> dict:
    return {"models": [model], "tasks": ["t"], "patterns": ["global"], "sparsities": [0.5], "seeds": [0]}


PARTS = {
    "one.yaml": {
        "study": "one",
        "grid": [block("a")],
        "emergence": {"series": ["s"]},
        "knees": {"compare": ["model"]},
    }
}


def whole(tmp_path, files: dict, **own) -> dict:
    """The configuration of a study with these parts, as `settled` makes it."""
    for name, found in files.items():
        (tmp_path / name).write_text(json.dumps(found))
    mine = {"study": "mine", "parts": [str(tmp_path / name) for name in files]} | own
    (tmp_path / "mine.yaml").write_text(json.dumps(mine))
    base = configuration.read_file(SHIPPED) | {
        "grid": [block("demo")], "emergence": {"series": [], "mask_sparsities": [0.5]}, "knees": {"compare": ["pattern"]},
        "lottery": {"share": 0.1}, "calibration": None, "refine": {"width": 0.05},
    }  # fmt: skip
    return configuration.settled(base | mine, [tmp_path / "mine.yaml"], {})


def test_a_study_of_parts_asks_for_what_they_ask_for(tmp_path):
    two = {"study": "two", "grid": [block("b")], "calibration": {"decoder": "c4"}, "emergence": {"series": ["s", "t"]}}
    found = whole(tmp_path, PARTS | {"two.yaml": two})
    assert "parts" not in found
    assert found["study"] == "mine"
    assert found["grid"] == [block("a"), block("b")]  # and not that of config.yaml
    assert found["emergence"] == {"series": ["s", "t"], "mask_sparsities": [0.5]}
    assert found["knees"]["compare"] == ["pattern", "model"]
    assert found["calibration"] == {"decoder": "c4"}
    assert whole(tmp_path, PARTS, grid=[block("c")])["grid"] == [block("c"), block("a")]


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"lottery": {"share": 0.05}}, "lottery: {'share': 0.05}, but the study has {'share': 0.1}"),
        ({"refine": None}, "which `refine` it has"),
        ({"calibration": {"decoder": "leads"}}, "another part says 'c4'"),
        ({"parts": ["x.yaml"]}, "no parts of its own"),
        ({"gird": []}, "did you mean 'grid'"),
        ({"grid": [{"models": ["m"]}]}, "the key 'tasks' is missing"),
        ({"knees": {"compare": None}}, "key knees.compare: it is empty"),
        ({"knees": {"compare": ["model"], "epsilon": 1}}, "key knees: unknown key 'epsilon'"),
        ({"emergence": {"series": "wiki-bert"}}, "key emergence.series"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(tmp_path, part, told):
    first = {"study": "two", "grid": [block("b")], "calibration": {"decoder": "c4"}}
    with pytest.raises(configuration.ConfigError) as error:
        whole(tmp_path, {"two.yaml": first, "three.yaml": {"study": "three"} | part})
    assert told in str(error.value)
    assert str(tmp_path / "three.yaml") in str(error.value)


@pytest.mark.parametrize("own", [{"knees": None}, {"emergence": None}, {"grid": None}])
def test_a_study_of_parts_that_switches_off_what_it_needs_is_refused(tmp_path, own):
    with pytest.raises(configuration.ConfigError, match="it is empty"):
        whole(tmp_path, PARTS, **own)


def test_a_part_is_held_against_what_the_study_says_key_by_key(tmp_path):
    (tmp_path / "one.yaml").write_text("study: one\nresources: {gpu: 0, threads: 4}\nrefine: {width: 0.05}\n")
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"study: mine\nparts: [{tmp_path}/one.yaml]\nresources: {{gpu: 0}}\n")
    with pytest.raises(configuration.ConfigError, match=r"one\.yaml, resources: .*which `resources\.threads` it has"):
        configuration.read_config(SHIPPED, str(mine))
    mine.write_text(
        f"study: mine\nparts: [{tmp_path}/one.yaml]\nresources: {{gpu: 0, threads: 2}}\ngrid: [{json.dumps(block('a'))}]\n"
    )
    assert configuration.read_config(SHIPPED, str(mine))["resources"]["threads"] == 2


def test_a_part_may_switch_off_what_the_study_has_not(tmp_path):
    parts = {"one.yaml": {"study": "one", "grid": None, "emergence": {}, "refine": {}}}
    assert whole(tmp_path, parts, refine=None, grid=[block("c")])["grid"] == [block("c")]


@pytest.mark.parametrize("blank", ["{}", "null"])
def test_what_the_study_switches_off_holds_for_its_parts(folder, blank):
    part = {"study": "one", "refine": {"width": 0.05}, "calibration": {"decoder": "c4"}, "grid": [block("a")]}
    write(folder, "one.yaml", json.dumps(part))
    mine = write(folder, "mine.yaml", f"study: mine\nparts: [one.yaml]\nrefine: {blank}\ncalibration: {blank}\n")
    found = configuration.read_config(SHIPPED, mine)
    assert (found["refine"], found["calibration"]) == (None, {})


def test_the_base_configuration_named_once_more_says_nothing_of_parts(monkeypatch):
    monkeypatch.chdir(ROOT)
    paper = "config/paper.yaml"
    assert configuration.read_config(configuration.BASE, configuration.BASE, paper) == configuration.read_config(
        configuration.BASE, paper
    )


def test_calibrations_are_chosen_by_type_of_model(tmp_path):
    """What the study says of one type is not what it says of another."""
    parts = {"one.yaml": {"study": "one", "calibration": {"encoder": "mine", "decoder": "c4"}}}
    found = whole(tmp_path, parts, calibration={"decoder": "leads"})
    assert found["calibration"] == {"encoder": "mine", "decoder": "leads"}
    assert whole(tmp_path, parts, calibration=None)["calibration"] == {}


def test_what_the_study_says_itself_holds_for_its_parts(tmp_path):
    found = whole(
        tmp_path,
        {"two.yaml": {"study": "two", "lottery": {"share": 0.05}, "refine": None}},
        lottery={"share": 0.2},
        refine=None,
    )
    assert found["lottery"] == {"share": 0.2}
    with pytest.raises(configuration.ConfigError, match="cannot be read"):
        whole(tmp_path, {}, parts=["config/nowhere.yaml"])
    with pytest.raises(configuration.ConfigError, match=r"key parts: .*paths of configuration files"):
        whole(tmp_path, {}, parts="config/language.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: a\ngrid: []\nstudy: b\n", r"the key 'study' stands there twice(.|\n)*line 3"),
        ("study: a\nrefine:\n  width: 0.1\n  width: 0.2\n", r"the key 'width' stands there twice(.|\n)*line 4"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(configuration.ConfigError, match=message):
        configuration.read_file(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text("a: &one {x: 1, y: 2}\nb: {<<: *one, x: 3}\n")
    assert configuration.read_file(tmp_path / "s.yaml")["b"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(("text", "value"), [("010", 8), ("-0_17", -15), ("48:00:00", 172800), ("1:30.5", 90.5)])
def test_a_number_that_yaml_reads_otherwise_is_refused(tmp_path, text, value):
    (tmp_path / "s.yaml").write_text(f"study: a\nresources: {{max_minutes: {text}}}\n")
    with pytest.raises(configuration.ConfigError, match=rf"{text} is the number {value} in YAML(.|\n)*line 2"):
        configuration.read_file(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text("a: [0, 07, 10, 1_000, 1.5, 1.0e-3, '010', \"1:30\"]\n")
    assert configuration.read_file(tmp_path / "s.yaml")["a"] == [0, 7, 10, 1000, 1.5, 0.001, "010", "1:30"]


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("lottery: {share: %s}", "lottery.share"),
        ("emergence: {series: [], mask_sparsities: [0.5, %s]}", r"emergence.mask_sparsities\[1\]"),
        ("refine: {width: %s}", "refine.width"),
        ("figures: {layers_sparsity: %s}", "figures.layers_sparsity"),
        (
            "grid: [{models: [a], tasks: [b], patterns: [c], seeds: [0], sparsities: {from: %s, to: 1, step: 1}}]",
            r"grid\[0\].sparsities.from",
        ),
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_key(tmp_path, number, text, place):
    (tmp_path / "s.yaml").write_text("study: s\n" + text % number)
    with pytest.raises(configuration.ConfigError, match=rf"key {place}: -?(nan|inf) is no finite number"):
        configuration.read_config("config/config.yaml", str(tmp_path / "s.yaml"))


def test_a_whole_number_is_written_as_one(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "study: s\ngrid: [{models: [a], tasks: [b], patterns: [c], seeds: [0.0], sparsities: [0.5]}]\n"
    )
    with pytest.raises(configuration.ConfigError, match=r"grid\[0\].seeds\[0\]: 0.0 is not of type 'integer'"):
        configuration.read_config("config/config.yaml", str(tmp_path / "s.yaml"))


def test_a_sampling_of_images_is_refused(folder):
    table = folder / "config/calibrations.tsv"
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    header, digits = rows[0], next(row for row in rows if row[0] == "digits")
    wanted = [
        {"models": ["dinov2-s"], "tasks": ["mnist-probe"], "patterns": ["wanda"], "sparsities": [0.5], "seeds": [0]}
    ]
    opening.unlocked(configuration.read_config(SHIPPED, given={"grid": wanted}))
    digits[header.index("sampling")] = "document"
    table.write_text("\n".join(map("\t".join, rows)) + "\n")
    with pytest.raises(configuration.ConfigError, match="'digits', column sampling: 'document', but images have none"):
        opening.unlocked(configuration.read_config(SHIPPED, given={"grid": wanted}))


def test_messages_name_the_files_that_a_configuration_is_from(folder):
    assert configuration.named() == "the configuration (config/config.yaml)"
    assert configuration.named(str(folder / "mine.yaml"), "--config") == (
        "the configuration (config/config.yaml, mine.yaml, --config)"
    )


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("resources={threads: 3, max_minutes: null}", "resources", {"threads": 3, "max_minutes": None}),
        ("emergence={mask_sparsities: [0.5]}", "emergence", {"mask_sparsities": [0.5]}),
        ("refine=null", "refine", None),
        ("refine=", "refine", None),
        ("refine=None", "refine", None),  # as Snakemake hands the one before on to jobs
        ("refine={}", "refine", None),
        (f"grid=[{json.dumps(block('a'))}]", "grid", [block("a")]),
        ("study=0x", "study", "0x"),
        ("study=007", "study", 7),  # refused: no text
    ],
)
def test_keys_of_a_command_mean_what_they_mean_in_a_file(folder, typed, key, value):
    """Snakemake makes texts of all that stands in brackets."""
    given = cli.parse_config([typed])
    merged = configuration.read_file(SHIPPED)
    utils.update_config(merged, given)
    found = configuration.settled(merged, [SHIPPED], given)[key]
    assert ({name: found[name] for name in value} if isinstance(value, dict) else found) == value
    if isinstance(value, str | dict | list):
        assert commands.configured(["--config", typed])[key] == found


def test_keys_of_a_workflow_that_uses_this_one_are_none_of_its_configuration(folder):
    merged = configuration.read_file(SHIPPED)
    for foreign in ({"a": "1"}, {"off": {}}, "010", ["010", "12:30"]):
        assert configuration.settled(merged, [], {"samples": foreign}) == merged
    path = write(folder, "using.yaml", "samples: {off: {}}\nstudy: a\n")
    assert configuration.settled(merged, [path], {}) == merged
    path = write(folder, "nested.yaml", yaml.safe_dump({"pruning": merged, "samples": {"off": {}}}))
    assert configuration.settled(merged, [path], {}) == merged, "of which this one is given a part"


def test_a_number_of_a_command_that_yaml_reads_otherwise_is_refused(folder):
    for given in ({"resources": {"max_minutes": "24:00:00"}}, {"resources": {"max_minutes": "010"}}):
        merged = configuration.read_file(SHIPPED)
        utils.update_config(merged, given)
        with pytest.raises(configuration.ConfigError, match=r"--config: .* is the number \d+ in YAML"):
            configuration.settled(merged, [SHIPPED], given)
    with pytest.raises(configuration.ConfigError, match=r"--config, key resources: (.|\n)* the number 86400 in YAML"):
        commands.configured(["--config", "resources={max_minutes: 24:00:00}"])


def test_files_are_merged_as_snakemake_merges_them(folder):
    """Among themselves, then over the first: a null of one file is over where a later one says more."""
    files = [
        write(folder, "off.yaml", "study: a\nrefine: null\nfigures: {panels: null}\n"),
        write(folder, "more.yaml", "study: b\nrefine: {width: 0.1}\nfigures: {panels: {nm: null}}\n"),
    ]
    over: dict = {}
    for path in files:
        utils.update_config(over, configuration.read_file(path))
    merged = configuration.read_file(SHIPPED)
    utils.update_config(merged, over)
    found = configuration.read_config(SHIPPED, *files)
    assert found == configuration.settled(merged, [SHIPPED, *files], {})
    assert (found["refine"]["width"], found["refine"]["rounds"]) == (0.1, 4)
    assert configuration.read_config(SHIPPED, files[0])["refine"] is None


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("--configfile a.yaml --configfile b.yaml", "--configfile stands there twice"),
        ("--configfile=a.yaml --cores 1 --configfiles b.yaml", "--configfile stands there twice"),
        ("--config a=1 --config b=2", "--config stands there twice"),
        ("-C a=1 --config=b=2", "--config stands there twice"),
        ("-Ca=1 -Cb=2", "--config stands there twice"),
        ("-nC a=1 -C b=2", "--config stands there twice"),
        ("--configfile a.yaml b.yaml --config a=1 b=2 -- --config --configfile --config", None),
    ],
)
def test_options_of_which_snakemake_would_read_the_last_alone_are_refused(command, told):
    if told is None:
        commands.check(command.split())
        return
    with pytest.raises(configuration.ConfigError, match=rf"{told}.*the last one alone\. Write all behind one"):
        commands.check(command.split())


@pytest.mark.parametrize("name", ["store", "Store", "STORE", ".hidden", "a/b", "", "a\n"])
def test_a_study_lies_in_a_folder_of_its_own(name):
    """Some file systems do not tell `Store` from `store`, which a person may be told to delete."""
    with pytest.raises(configuration.ConfigError, match=r"study: .* names a folder of results/"):
        opening.check_name(name, "here")
    opening.check_name("storehouse", "here")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("sparsities", "did you mean 'grid[0].sparsities'?"),
        ("sparsitys", "did you mean 'grid[0].sparsities'?"),
        ("gpu_class", "did you mean 'resources.gpu_class'?"),
        ("model", "did you mean 'models'?"),
        ("Study", "did you mean 'study'?"),
        ("max_length", "it is a column of tasks.tsv"),
        ("compare", "did you mean 'knees.compare'?"),
    ],
)
def test_an_unknown_key_that_belongs_inside_another_is_told_with_its_place(key, told):
    with pytest.raises(configuration.ConfigError) as error:
        configuration.check_config({"study": "mine", key: 1}, "mine.yaml")
    assert told in str(error.value), str(error.value)


@pytest.mark.parametrize("key", ["store", "cores", "partition"])
def test_an_unknown_key_is_not_told_to_belong_where_it_is_hardly_like_another(key):
    with pytest.raises(configuration.ConfigError) as error:
        configuration.check_config({"study": "mine", key: 1}, "mine.yaml")
    assert "." not in str(error.value).partition("did you mean ")[2].partition("?")[0], str(error.value)
