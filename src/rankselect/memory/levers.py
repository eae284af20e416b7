"""What would save memory, and how much: the same training step with one thing changed at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

from rankselect.memory.quantized import QuantizedLinear
from rankselect.memory.run import run, trainable_copy
from rankselect.models.layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from rankselect.memory.step import TrainingStep
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["Lever", "levers"]


@final
@dataclass(frozen=True)
class Lever:
    """A change that makes a training step smaller.

    Attributes:
        name: What is changed: ``"gradient checkpointing"``, ``"4-bit weights"``, ``"half the length"``,
            ``"half the ranks"`` or ``"half the batch"``.
        saved_bytes: By how much the peak falls.
        how: What to do, as the subject of a sentence: ``"halving rows to 256 tokens"``.

    Example:
        >>> lever = Lever("half the length", 2**30, "halving rows to 256 tokens")
        >>> f"{lever.how} saves {lever.saved_bytes / 2**30:.0f} GiB"
        'halving rows to 256 tokens saves 1 GiB'
    """

    name: str
    saved_bytes: int
    how: str


def levers(model: nn.Module, plan: RankPlan, step: TrainingStep) -> list[Lever]:
    """The changes that save anything, the greatest first; see `rankselect.memory.savings`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.memory.step import TrainingStep
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> levers(model, rs.Fixed(4).plan(model), TrainingStep(batch_size=2, length=64))[0].name
        'half the length'
    """
    device = step.device_of(model)
    copy = trainable_copy(model, plan, step)
    peak = run(copy, step, device).peak
    quantised = any(isinstance(module, QuantizedLinear) for module in copy.modules())
    found = []
    for name, how, smaller in _shorter(step):
        found.append(Lever(name, peak - run(copy, smaller, device).peak, how))
    for name, how, other, ranks in _rebuilt(model, plan, step, quantised=quantised):
        found.append(Lever(name, peak - run(trainable_copy(model, ranks, other), other, device).peak, how))
    return sorted((lever for lever in found if lever.saved_bytes > 0), key=lambda lever: -lever.saved_bytes)


def _shorter(step: TrainingStep) -> Iterator[tuple[str, str, TrainingStep]]:
    """Changes of the batch: the same model takes them."""
    if step.length > 1:
        half = step.length // 2
        yield "half the length", f"halving rows to {half} tokens", replace(step, length=half)
    if step.batch_size > 1:
        half = step.batch_size // 2
        yield "half the batch", f"halving the micro-batch to {half}", replace(step, batch_size=half)


def _rebuilt(
    model: nn.Module, plan: RankPlan, step: TrainingStep, *, quantised: bool
) -> Iterator[tuple[str, str, TrainingStep, RankPlan]]:
    """Changes of the model: it has to be built anew."""
    if not step.gradient_checkpointing and getattr(unwrapped(model), "supports_gradient_checkpointing", False):
        how = "gradient checkpointing (gradient_checkpointing=True)"
        yield "gradient checkpointing", how, replace(step, gradient_checkpointing=True), plan
    if not quantised:
        yield "4-bit weights", 'loading in 4 bits (quantization="nf4")', replace(step, quantization="nf4"), plan
    if max(plan.ranks.values()) > 1:
        yield "half the ranks", "halving every rank", step, plan.scaled(0.5)
