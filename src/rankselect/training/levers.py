"""The error of a row that does not fit into memory: which change would save how much."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rankselect.errors import OutOfMemoryError
from rankselect.memory import savings

if TYPE_CHECKING:
    from torch import nn

    from rankselect.plan.rank_plan import RankPlan

__all__ = ["out_of_memory"]

logger = logging.getLogger(__name__)

_SHOWN = 4


def out_of_memory(
    model: nn.Module, plan: RankPlan, *, batch_size: int, length: int, **settings: Any
) -> OutOfMemoryError:
    """The error of a training step that does not fit, with what each change would save.

    Args:
        model: The base model.
        plan: The ranks.
        batch_size: Rows in the forward pass that failed.
        length: Its tokens in a row.
        **settings: What `rankselect.memory.savings` takes besides.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> error = out_of_memory(model, rs.Fixed(4).plan(model), batch_size=1, length=64)
        >>> error.got
        'too little for 1 row of 64 tokens'
    """
    try:
        levers = savings(model, plan, batch_size=batch_size, length=length, **settings)
    except Exception:  # a model that cannot be built anew must not hide what went wrong
        logger.warning("What each change would save could not be computed for this model.", exc_info=True)
        levers = []
    advice = "; ".join(f"{lever.how} saves about {lever.saved_bytes / 2**20:,.0f} MiB" for lever in levers[:_SHOWN])
    return OutOfMemoryError(
        "enough memory for a training step",
        f"too little for {batch_size} row{'s' if batch_size > 1 else ''} of {length} tokens",
        f"{advice}." if advice else "Use gradient checkpointing, 4-bit weights, shorter rows, or lower ranks.",
    )
