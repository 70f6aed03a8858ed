"""One model from its source to its manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import checkpoints, convert, sources


def fetch(model: str, settings: Mapping[str, Any], manifest: Path) -> dict[str, Any]:
    """Fetch a model, write its manifest, and its files beside it when they are not used in place; return the manifest.

    `settings`: source, id, revision, format, allow_pickle, packages. Raises SourceError and CheckpointError.
    """
    with sources.workspace(manifest) as work:
        folder, record = convert.fetch_model(model, dict(settings), work)
        record |= checkpoints.describe(folder, allow_pickle=bool(settings.get("allow_pickle")))
        sources.publish(work, manifest, record)
    return record
