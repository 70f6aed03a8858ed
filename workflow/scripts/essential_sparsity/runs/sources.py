"""Where checkpoints and data are from and under which licence, as the cards of what goes out say it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def source(manifest: Mapping[str, Any]) -> str:
    """Where a checkpoint or data set is from; of a local one its name alone."""
    if package := manifest.get("package"):
        return f"package {package['name']} {package['version']} ({package['registry']}), SHA-256 {package['sha256']}"
    return f"{manifest['id']} of the Hugging Face hub" if manifest["source"] == "hub" else Path(manifest["id"]).name


def licence(packages: Mapping[str, Sequence[Mapping[str, Any]]], manifest: Mapping[str, Any]) -> str | None:
    """What the packages table says of the licence of a checkpoint or data set; None of what is from elsewhere."""
    package = manifest.get("package") or {}
    rows = packages.get(manifest["id"], []) if package else []
    return next((row["licence"] for row in rows if row["name"] == package["name"] and row["licence"]), None)
