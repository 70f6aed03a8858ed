"""One model from its source to its manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import files
from essential_sparsity.acquire import conversion, sources, untrusted
from essential_sparsity.acquire.refusal import reading
from essential_sparsity.checkpoints import loading, vocabulary
from essential_sparsity.checkpoints.prunable import CheckpointError
from essential_sparsity.errors import UserError


def fetch(model: str, settings: Mapping[str, Any], manifest: Path, made: Path | None = None) -> dict[str, Any]:
    """Fetch a model, write its manifest, and its files beside it when they are not used in place; return the manifest.

    `settings`: source, id, revision, format, allow_pickle, allow_unused, add_bos_token, packages. `made`: the manifest of the pre-training of which a
    folder is a checkpoint. Raises SourceError and CheckpointError.
    """
    with sources.workspace(manifest) as work:
        if made is not None:
            check_made(Path(settings["id"]).name, made)
        folder, record = conversion.fetch_model(model, dict(settings), work)
        record["allow_unused"] = [name for name in (settings.get("allow_unused") or "").split(",") if name]
        record["add_bos_token"] = bool(settings.get("add_bos_token"))
        try:
            tensors = untrusted.check_model(folder, [entry["path"] for entry in record["files"]])
            with (
                reading(f"{folder / 'config.json'} describes no model that can be built"),
                untrusted.bounded(folder / "config.json", tensors),
            ):
                record |= loading.describe(
                    folder, allow_pickle=bool(settings.get("allow_pickle")), allow_unused=record["allow_unused"]
                )
        except UserError as error:
            if settings["source"] != "package":
                raise
            raise CheckpointError(
                f"{error} The package stays as it is: unpack it, put its folder right, and use the source `path`."
            ) from error
        record["tokenizer"] = tokenizer_of(folder) if record["input"] == "input_ids" else None
        sources.publish(work, manifest, record)
    return record


def check_made(name: str, made: Path) -> None:
    """The folder `name` of a pre-training (manifest `made`) holds the files that were written. CheckpointError."""
    listed = [entry for entry in files.read_json(made)["files"] if entry["path"].startswith(f"{name}/")]
    damaged = [
        entry["path"]
        for entry in listed
        if not (path := made.parent / entry["path"]).is_file() or files.sha256_file(path) != entry["sha256"]
    ]
    if damaged or not listed:
        raise CheckpointError(
            f"{made.parent / (damaged or [name])[0]} is gone, or is not what the pre-training wrote. Delete {made} and run again: it is "
            "trained anew."
        )


def tokenizer_of(folder: Path) -> dict[str, Any] | None:
    """What the manifest says of the tokenizer; None where there is none that tasks on text can use, and why is printed."""
    try:
        untrusted.check_tokenizer(folder)
        with untrusted.unasked(), reading(f"The tokenizer in {folder} cannot be read"):
            return vocabulary.describe(folder)
    except UserError as error:
        print(f"warning: {error} Tasks on texts are refused.", flush=True)
        return None


def report(facts: Mapping[str, Any]) -> list[str]:
    """What a manifest says of a model, as lines for a person."""
    counted = ", ".join(f"{count:,} {name}" for name, count in facts["stored"].items())
    by_role = {
        name: ", ".join(f"{role} {count:,}" for role, count in facts[name].items()) for name in ("prunable", "other")
    }
    lines = [
        f"{facts['model']}: {facts['n_prunable']:,} of {facts['n_total']:,} weights are prunable, {facts['dtype']}",
        f"  {facts['architecture']}, {facts['n_tensors']} tensors are stored ({counted})",
        f"  prunable: {by_role['prunable']}",
        f"  not prunable: {by_role['other']}",
    ]
    if of := facts["tokenizer"]:
        lines.append(
            f"  tokenizer: {of['class']}, {of['tokens']:,} tokens, largest id {of['largest_id']}, for {of['embedding_rows']} rows of "
            f"the embedding; padding {of['padding']!r}, unknown {of['unknown']!r}; at most {of['positions']} tokens a text"
        )
    if facts["unused"]:
        lines.append(f"  stored but not read by the base model: {files.some(facts['unused'])}")
    if facts["new"]:
        lines.append(f"  not stored, random where a task reads them: {files.some(facts['new'])}")
    return lines
