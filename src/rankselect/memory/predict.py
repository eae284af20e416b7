"""Memory, before it runs out: the peak of a training step from the model, the plan and the settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

from rankselect.memory.quantized import QuantizedLinear
from rankselect.memory.run import predict, run, trainable_copy
from rankselect.memory.step import TrainingStep
from rankselect.models.layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from rankselect.memory.estimate import MemoryEstimate
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["Saving", "estimate_memory", "savings", "savings_at"]


def estimate_memory(model: nn.Module, plan: RankPlan, **settings: Any) -> MemoryEstimate:
    """Predict how much memory a training step takes at most.

    A copy of the model without weights is quantised, adapted and run through a complete step (forward pass, loss,
    backward pass, optimizer) on PyTorch's meta device, where tensors have a shape and no data, and every storage is
    counted from its first use to its last. No formula for an architecture is involved, so it holds for any model of
    transformers that reads token ids, and takes seconds for billions of parameters.

    Args:
        model: The base model, also quantised or with an adapter (which is left out), on any device. The meta device
            will do: ``with torch.device("meta"): model = AutoModelForCausalLM.from_config(config)``.
        plan: The ranks.
        **settings: The arguments of `rankselect.memory.step.TrainingStep`: ``batch_size``, ``length``,
            ``quantization``, ``dtype``, ``adapter_dtype``, ``optimizer``, ``gradient_checkpointing``, ….

    Raises:
        ArgumentError: If a setting is out of range, or the length is beyond the model's positions.
        UnknownNameError: If a setting is unknown, or an optimizer, a quantisation, a type or a device.
        PlanMismatchError: If the plan is for another model.
        ModelError: If the model's step cannot be run without data, as in some mixtures of experts.

    References:
        Dettmers et al. (2023), "QLoRA: Efficient Finetuning of Quantized LLMs", https://arxiv.org/abs/2305.14314;
        Chen et al. (2016), "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> estimate = estimate_memory(model, rs.Fixed(8).plan(model), batch_size=4, length=128, device="cpu")
        >>> print(str(estimate).splitlines()[0])
        batch 4 x 128 tokens, adapters float32, adamw, on cpu
        >>> round(estimate.peak / 2**20, 1)  # MiB, nearly all of it activations
        2.7
    """
    return predict(model, plan, TrainingStep.of(**settings))


def savings(model: nn.Module, plan: RankPlan, **settings: Any) -> list[Saving]:
    """List changes that would make a training step smaller, and by how much, each change alone.

    Args:
        model: The base model, as `estimate_memory` takes it.
        plan: The ranks.
        **settings: The present settings.

    Returns:
        The changes that save anything, the greatest first.

    Raises:
        RankSelectError: As `estimate_memory`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> for saving in savings(model, rs.Fixed(8).plan(model), batch_size=4, length=128, device="cpu"):
        ...     print(f"{saving.how} saves {saving.saved_bytes / 2**20:.1f} MiB")
        halving rows to 64 tokens saves 1.4 MiB
        halving the micro-batch to 2 saves 1.3 MiB
        gradient checkpointing (gradient_checkpointing=True) saves 0.9 MiB
        loading in 4 bits (quantization="nf4") saves 0.1 MiB
        halving every rank saves 0.0 MiB
    """
    return savings_at(model, plan, TrainingStep.of(**settings))


@final
@dataclass(frozen=True)
class Saving:
    """A change that makes a training step smaller.

    Attributes:
        name: The change: ``"gradient checkpointing"``, ``"4-bit weights"``, ``"half the length"``,
            ``"half the ranks"`` or ``"half the batch"``.
        saved_bytes: By how much the peak falls.
        how: The action, as the subject of a sentence: ``"halving rows to 256 tokens"``.

    Example:
        >>> saving = Saving("half the length", 2**30, "halving rows to 256 tokens")
        >>> f"{saving.how} saves {saving.saved_bytes / 2**30:.0f} GiB"
        'halving rows to 256 tokens saves 1 GiB'
    """

    name: str
    saved_bytes: int
    how: str


def savings_at(model: nn.Module, plan: RankPlan, step: TrainingStep) -> list[Saving]:
    """The changes that save anything, the greatest first; see `rankselect.memory.savings`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.memory.step import TrainingStep
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> savings_at(model, rs.Fixed(4).plan(model), TrainingStep(batch_size=2, length=64))[0].name
        'half the length'
    """
    device = step.device_of(model)
    copy = trainable_copy(model, plan, step)
    peak = run(copy, step, device).peak
    quantised = any(isinstance(module, QuantizedLinear) for module in copy.modules())
    found = []
    for name, how, smaller in _shorter(step):
        found.append(Saving(name, peak - run(copy, smaller, device).peak, how))
    for name, how, other, ranks in _rebuilt(model, plan, step, quantised=quantised):
        found.append(Saving(name, peak - run(trainable_copy(model, ranks, other), other, device).peak, how))
    return sorted((saving for saving in found if saving.saved_bytes > 0), key=lambda saving: -saving.saved_bytes)


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
    """Changes of the model: it has to be built again."""
    if not step.gradient_checkpointing and getattr(unwrapped(model), "supports_gradient_checkpointing", False):
        how = "gradient checkpointing (gradient_checkpointing=True)"
        yield "gradient checkpointing", how, replace(step, gradient_checkpointing=True), plan
    if not quantised:
        yield "4-bit weights", 'loading in 4 bits (quantization="nf4")', replace(step, quantization="nf4"), plan
    if max(plan.ranks.values()) > 1:
        yield "half the ranks", "halving every rank", step, plan.scaled(0.5)
