"""The prompt template that a model was trained with, if it has an adapter with a record."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from rankselect.adapters.merged_from import MergedFrom
from rankselect.adapters.record import TrainingRecord
from rankselect.data.prompts import PromptTemplate, template_of
from rankselect.errors import RankSelectWarning

if TYPE_CHECKING:
    from torch import nn

__all__ = ["differs", "own_template"]


def own_template(model: nn.Module, tokenizer: Any, given: PromptTemplate | None) -> PromptTemplate:
    """The template to use with a model: the given one, else that of its adapter or merged adapter, else the default.

    Args:
        model: The model, perhaps with an adapter that `attach_adapter` has loaded, or merged by `merge_adapter`.
        tokenizer: Its tokenizer.
        given: The template that the caller passed, or None.

    Warns:
        RankSelectWarning: If the given template differs from that of the record.
    """
    record = getattr(model, "training_record", None)
    if record is None and (merged := MergedFrom.of_model(model)):
        record = merged.training_record()
    recorded = record.prompt_template(tokenizer) if isinstance(record, TrainingRecord) else None
    if given is None:
        return recorded or PromptTemplate()
    given = template_of(given)
    if recorded is not None and differs(given, recorded):
        warnings.warn(
            f"The adapter was trained with the template {recorded.template!r}, not {given.template!r}: its answers and "
            "losses will be worse than they could be.",
            RankSelectWarning,
            stacklevel=3,
        )
    return given


def differs(one: PromptTemplate, other: PromptTemplate) -> bool:
    """Whether two templates write different prompts."""
    return (one.template, getattr(one, "system", None)) != (other.template, getattr(other, "system", None))
