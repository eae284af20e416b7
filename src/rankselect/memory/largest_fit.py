"""The largest batch, or the largest ranks, whose training step fits into given bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, final

from rankselect.errors import ArgumentError, OutOfMemoryError, UnknownNameError
from rankselect.memory.predict import savings_at
from rankselect.memory.run import run, trainable_copy
from rankselect.memory.sizes import as_text, in_bytes
from rankselect.memory.step import TrainingStep
from rankselect.plan.rank_plan import require_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from rankselect.memory.estimate import MemoryEstimate
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["Fit", "largest_fit", "largest_plan"]

_LARGEST_BATCH = 2**20
_TOO_SMALL = 4096
_STRAIGHT = 3  # estimates along a straight line between two halvings


@final
@dataclass(frozen=True)
class Fit:
    """The largest training step that fits.

    Attributes:
        batch_size: Rows in a micro-batch.
        plan: The ranks.
        scale: By what the ranks of the given plan were multiplied.
        estimate: The memory that it takes.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> found = largest_fit(model, rs.Fixed(4).plan(model), 16 * 2**20, length=64)
        >>> found.batch_size > 40, found.estimate.peak <= 16 * 2**20
        (True, True)
    """

    batch_size: int
    plan: RankPlan
    scale: float
    estimate: MemoryEstimate


def largest_fit(
    model: nn.Module,
    plan: RankPlan,
    budget_bytes: float | str,
    *,
    by: Literal["batch_size", "ranks"] = "batch_size",
    **settings: Any,
) -> Fit:
    """Find the largest batch, or the largest ranks, with which a training step fits.

    Args:
        model: The base model, on any device, also the meta device.
        plan: The ranks.
        budget_bytes: The memory that the step may take, in bytes or as a text like ``"24GB"`` (10⁹ bytes) or
            ``"24GiB"`` (2³⁰ bytes). Leave some of the device's memory for what is not counted: the CUDA context, and
            gaps between blocks.
        by: ``"batch_size"``: the plan as it is, and as many rows as fit. ``"ranks"``: the batch as it is, and all
            ranks multiplied by the greatest number that fits, which can be below or above 1.
        **settings: The other settings of the step, as `rankselect.memory.step.TrainingStep` takes them.

    Raises:
        ArgumentError: If the budget is not a positive size, or so small that its unit seems to be missing; or if a
            setting is out of range.
        OutOfMemoryError: If the smallest step does not fit; it says how much is needed, and what would save most.
        UnknownNameError: If `by`, or a setting, is none of those known.
        PlanMismatchError: If the plan is for another model.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> plan = rs.Fixed(8).plan(model)
        >>> found = largest_fit(model, plan, 700_000, by="ranks", batch_size=2, length=64)
        >>> found.plan.trainable_parameters < plan.trainable_parameters, found.estimate.peak <= 700_000
        (True, True)
    """
    require_plan(plan)
    budget_bytes = _budget(budget_bytes)
    if by == "ranks":
        return _largest_ranks(model, plan, budget_bytes, TrainingStep.of(**settings))
    if by != "batch_size":
        raise UnknownNameError("quantity to fit", str(by), ("batch_size", "ranks"))
    if "batch_size" in settings:
        raise ArgumentError(
            "no batch_size where the batch is what is sought",
            repr(settings["batch_size"]),
            'Leave it out, or fit by="ranks".',
        )
    return _largest_batch(model, plan, budget_bytes, TrainingStep.of(**settings))


def largest_plan(
    model: nn.Module, plan_of: Callable[[int], RankPlan], n_plans: int, budget_bytes: float | str, **settings: Any
) -> RankPlan:
    """Find the largest of several plans with which a training step fits.

    Args:
        model: The base model, on any device, also the meta device.
        plan_of: Creates the plans from 1 to `n_plans`, each at least as large as the one before.
        n_plans: The number of plans.
        budget_bytes: The memory that the step may take, as in `largest_fit`.
        **settings: The settings of the step, as `rankselect.memory.step.TrainingStep` takes them.

    Raises:
        ArgumentError: If the budget is not a size, or a setting is out of range.
        OutOfMemoryError: If the smallest plan does not fit.
        UnknownNameError: If a setting is unknown.
    """
    budget, step = _budget(budget_bytes), TrainingStep.of(**settings)
    device = step.device_of(model)

    def estimate(number: int) -> MemoryEstimate:
        return run(trainable_copy(model, plan_of(number), step), step, device)

    found = _largest(estimate, budget, second=max(2, n_plans // 2), limit=n_plans)
    if found is None:
        raise _too_little(model, plan_of(1), budget, step, "the smallest plan")
    return plan_of(found[0])


def _budget(size: float | str) -> float:
    """A budget in bytes, of which the unit is not missing."""
    budget = in_bytes(size, "budget")
    if budget < _TOO_SMALL:
        raise ArgumentError(
            "a budget in bytes", repr(size), f"Did you mean '{size}GB'? No training step fits in {size} bytes."
        )
    return budget


def _largest_batch(model: nn.Module, plan: RankPlan, budget: float, step: TrainingStep) -> Fit:
    copy, device = trainable_copy(model, plan, step), step.device_of(model)

    def estimate(size: int) -> MemoryEstimate:
        return run(copy, replace(step, batch_size=size), device)

    found = _largest(estimate, budget, second=2, limit=_LARGEST_BATCH)
    if found is None:
        raise _too_little(model, plan, budget, step, "a batch of one row")
    size, memory = found
    return Fit(size, plan, 1.0, memory)


def _largest_ranks(model: nn.Module, plan: RankPlan, budget: float, step: TrainingStep) -> Fit:
    """Search over what the plan's greatest rank becomes: between two such numbers no rank changes by more than one."""
    device, greatest = step.device_of(model), max(plan.ranks.values())
    limit = max(math.ceil(module.target.max_rank / module.rank * greatest) for module in plan.modules)

    def estimate(rank: int) -> MemoryEstimate:
        return run(trainable_copy(model, plan.scaled(rank / greatest), step), step, device)

    found = _largest(estimate, budget, second=max(2, greatest), limit=limit)
    if found is None:
        raise _too_little(model, plan.scaled(1 / greatest), budget, step, "ranks of one")
    rank, memory = found
    return Fit(step.batch_size, plan.scaled(rank / greatest), rank / greatest, memory)


def _largest(
    estimate: Callable[[int], MemoryEstimate], budget: float, *, second: int, limit: int
) -> tuple[int, MemoryEstimate] | None:
    """The largest number from 1 to `limit` whose estimate is within the budget; None if 1 is too much.

    Memory grows by nearly the same bytes with every row and every rank, so that a straight line through two
    estimates tells where the budget ends, within a step or two.
    """
    low, best = 1, estimate(1)
    if best.peak > budget:
        return None
    high, above = limit + 1, None  # where it is too much, as far as is known
    guess, tries = second, 0
    while high - low > 1:
        guess, tries = min(max(guess, low + 1), high - 1), tries + 1
        tried = estimate(guess)
        slope = max((tried.peak - best.peak) / (guess - low), 1.0)
        if tried.peak <= budget:
            low, best = guess, tried
        else:
            high, above = guess, tried
        if above is not None:
            slope = (above.peak - best.peak) / (high - low)
        bent = above is not None and tries % _STRAIGHT == 0  # the line misses again and again: halve the range instead
        guess = (low + high) // 2 if bent else low + int((budget - best.peak) / slope)
    return low, best


def _too_little(model: nn.Module, plan: RankPlan, budget: float, step: TrainingStep, smallest: str) -> OutOfMemoryError:
    need = run(trainable_copy(model, plan, step), step, step.device_of(model))
    weights = need.base_weights + need.quantization_constants
    best = savings_at(model, plan, step)
    advice = f"{best[0].how[0].upper()}{best[0].how[1:]} saves {as_text(best[0].saved_bytes)}." if best else ""
    share = "where base weights alone take" if budget < weights else "of which base weights take"
    return OutOfMemoryError(
        f"a budget of at least {as_text(need.peak)} ({need.peak} bytes), which {smallest} takes",
        f"{as_text(budget)}, {share} {as_text(weights)}",
        advice or "Use a smaller model.",
    )
