"""One model from its source to its manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity.acquire import conversion, sources
from essential_sparsity.checkpoints import loading


def fetch(model: str, settings: Mapping[str, Any], manifest: Path) -> dict[str, Any]:
    """Fetch a model, write its manifest, and its files beside it when they are not used in place; return the manifest.

    `settings`: source, id, revision, format, allow_pickle, packages. Raises SourceError and CheckpointError.
    """
    with sources.workspace(manifest) as work:
        folder, record = conversion.fetch_model(model, dict(settings), work)
        record |= loading.describe(folder, allow_pickle=bool(settings.get("allow_pickle")))
        sources.publish(work, manifest, record)
    return record
