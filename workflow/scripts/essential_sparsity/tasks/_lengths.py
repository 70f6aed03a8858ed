"""Models that read long texts in another way than short ones, and a batch as its longest: refused where texts are of both lengths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from essential_sparsity import tasks
from essential_sparsity.tasks import TaskError


def check(folder: str | Path, length: int, settings: Mapping[str, Any]) -> None:
    """Refuse texts of up to `length` tokens where the score of one would depend on those beside it, or before it. Raises TaskError."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()
    place = f"Task {settings.get('task')!r}: {config.model_type!r}, the architecture of {folder}, "
    full = _tokens_of_full_attention(config)
    if full is not None and length > full:
        raise TaskError(
            f"{place}reads texts of more than {full} tokens by block-sparse attention, but none after it has met a shorter one, so scores would "
            f"depend on the order of texts. Lower max_length to {full}, or write original_full as attention_type in its config.json."
        )
    short = _tokens_of_short_factors(config)
    if short is not None and length > short and tasks.batch_size(settings) > 1:
        raise TaskError(
            f"{place}rotates positions otherwise where a batch holds a text of more than {short} tokens (longrope), so scores of shorter texts "
            f"would depend on those beside them. Lower max_length to {short}, or write 1 in the column eval_batch_size."
        )


def _tokens_of_full_attention(config: PreTrainedConfig) -> int | None:
    """The longest text to which BigBird attends as a whole, for good from there; None of other models."""
    if config.model_type != "big_bird" or config.attention_type != "block_sparse":
        return None
    return (5 + 2 * config.num_random_blocks) * config.block_size


def _tokens_of_short_factors(config: PreTrainedConfig) -> int | None:
    """The longest text whose positions are rotated by the short factors of longrope; None of other models."""
    said = getattr(config, "rope_parameters", None) or {}
    of_layers = [part for part in (said, *said.values()) if isinstance(part, Mapping)]
    found = [part["original_max_position_embeddings"] for part in of_layers if part.get("rope_type") == "longrope"]
    return min(found, default=None)
