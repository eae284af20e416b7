"""Spend a budget on the ranks that a strategy requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rankselect.plan.allocation import allocate, gains_of_wishes
from rankselect.plan.budget import parameter_range
from rankselect.strategies.planning import check_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from rankselect.plan.budget import Budget
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.plan.targets import Target

__all__ = ["spent", "within_memory"]


def spent(strategy: str, targets: Sequence[Target], requested: Mapping[str, float], parameters: int) -> dict[str, int]:
    """Ranks in proportion to requested ones, within a number of parameters.

    Args:
        strategy: The `repr` of the strategy, for errors.
        targets: The modules, with the bounds of the plan.
        requested: The ranks from the strategy.
        parameters: The budget.

    Raises:
        ArgumentError: If a requested rank is not finite.
        TargetError: If a target has no rank, or a rank no target.
    """
    check_requested(strategy, targets, requested)
    gains = gains_of_wishes(targets, [requested[target.name] for target in targets])
    return allocate(targets, gains, parameters)


def within_memory(
    plan_of: Callable[[int], RankPlan], model: nn.Module, targets: Sequence[Target], budget: Budget
) -> RankPlan:
    """The largest plan whose training step fits into the memory of a budget.

    Args:
        plan_of: Creates the plan with a number of parameters.
        model: The base model.
        targets: The modules, with the bounds of the plan.
        budget: The budget, with `memory` and perhaps the settings of the step.

    Raises:
        ArgumentError: If the memory is not a size, or a setting is out of range.
        OutOfMemoryError: If the smallest plan does not fit.
    """
    from rankselect.memory.largest_fit import largest_plan  # torch's dispatch, not needed for other budgets

    least, largest = parameter_range(targets)
    cheapest = min(target.parameters(1) for target in targets)

    def plan_with(steps: int) -> RankPlan:
        return plan_of(min(least + (steps - 1) * cheapest, largest))

    n_steps = 1 + -(-(largest - least) // cheapest)
    return largest_plan(model, plan_with, n_steps, budget.memory or 0, **dict(budget.step or {}))
