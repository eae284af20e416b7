"""What an adapter's training record decides about the prompts of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rankselect as rs
from rankselect.adapters.record import RECORD_FILE
from rankselect.data.prompts import template_named
from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["prompts_of", "record_of"]


def record_of(adapter: Path | None) -> rs.TrainingRecord | None:
    """Return the adapter's training record, if it has one."""
    return None if adapter is None or not (adapter / RECORD_FILE).is_file() else rs.TrainingRecord.load(adapter)


def prompts_of(
    record: rs.TrainingRecord | None, tokenizer: Any, typed: str | None, system: str | None, *, force: bool
) -> rs.PromptTemplate:
    """Return the template of the adapter's record, or the one that was typed.

    Raises:
        ArgumentError: If the two differ, unless forced.
    """
    from rankselect.training.own_template import differs  # loads torch

    recorded = None if record is None else record.prompt_template(tokenizer)
    if recorded is not None and typed is None and system is None:
        return recorded
    chosen = template_named(typed, tokenizer, system)
    if record is not None and recorded is not None and differs(chosen, recorded) and not force:
        raise ArgumentError(
            f"the template that the adapter was trained with ({record.template!r})",
            repr(typed),
            "Leave --template out, or add --force-template.",
        )
    return chosen
