"""A plan with all its ranks scaled, to make an adapter smaller or larger without changing where its rank goes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rankselect.plan.rank_plan import PlannedModule, RankPlan

__all__ = ["scaled"]


def scaled(plan: RankPlan, scale: float) -> RankPlan:
    """Multiply every rank by one number.

    Args:
        plan: The plan; it stays as it is.
        scale: The number. Ranks are rounded (half up) and kept from 1 to what their module allows.

    Returns:
        A plan of the same modules. Alpha follows the rank, so that updates are scaled by ``alpha / rank`` as before.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> plan = rs.Fixed(8).plan(tiny_model())
        >>> half = scaled(plan, 0.5)
        >>> set(half.ranks.values()), set(half.alphas.values()), half.strategy
        ({4}, {32.0}, 'Fixed(rank=8), ranks scaled by 0.5')
    """
    if scale == 1:
        return plan
    modules = tuple(_scaled(module, scale) for module in plan.modules)
    return replace(plan, modules=modules, strategy=f"{plan.strategy}, ranks scaled by {scale:.4g}")


def _scaled(module: PlannedModule, scale: float) -> PlannedModule:
    rank = min(max(math.floor(module.rank * scale + 0.5), 1), module.target.max_rank)
    return replace(module, rank=rank, alpha=module.alpha / module.rank * rank)
