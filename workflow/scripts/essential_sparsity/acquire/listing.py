"""The files of a manifest. A module of its own: what trains a model lists checkpoints, and has nothing else of fetching."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from essential_sparsity import files


def entries(folder: Path, names: list[str], known: Mapping[str, str] = MappingProxyType({})) -> list[dict[str, Any]]:
    """The `files` of a manifest: path, sha256 (taken from `known`, or read) and size (bytes) of each name under `folder`, sorted by path."""
    return [
        {
            "path": name,
            "sha256": known.get(name) or files.sha256_file(folder / name),
            "size": (folder / name).stat().st_size,
        }
        for name in sorted(names)
    ]
