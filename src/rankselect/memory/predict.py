"""Memory, before it runs out: the peak of a training step from the model, the plan and the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankselect.memory.levers import Lever, levers
from rankselect.memory.run import predict
from rankselect.memory.step import TrainingStep

if TYPE_CHECKING:
    from torch import nn

    from rankselect.memory.estimate import MemoryEstimate
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["estimate_memory", "savings"]


def estimate_memory(model: nn.Module, plan: RankPlan, **settings: Any) -> MemoryEstimate:
    """Predict how much memory a training step takes at most.

    A copy of the model without weights is quantised, adapted and run through a whole step (forward pass, loss,
    backward pass, optimizer) on PyTorch's meta device, where tensors have a shape and no data, and every storage is
    counted from its first use to its last. No formula for an architecture is involved, so it holds for any model of
    transformers that reads token ids, and takes seconds for billions of parameters.

    Args:
        model: The base model, also quantised or with an adapter (which is left out), on any device. The meta device
            will do: ``with torch.device("meta"): model = AutoModelForCausalLM.from_config(config)``.
        plan: The ranks.
        **settings: What `rankselect.memory.step.TrainingStep` takes: ``batch_size``, ``length``,
            ``quantization``, ``dtype``, ``adapter_dtype``, ``optimizer``, ``gradient_checkpointing``, ….

    Raises:
        ArgumentError: If a setting is out of range, or the length is beyond the model's positions.
        UnknownNameError: If an optimizer, a quantisation, a type or a device is unknown.
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
    return predict(model, plan, TrainingStep(**settings))


def savings(model: nn.Module, plan: RankPlan, **settings: Any) -> list[Lever]:
    """List what would make a training step smaller, and by how much, each change by itself.

    Args:
        model: The base model, as `estimate_memory` takes it.
        plan: The ranks.
        **settings: The settings as they are.

    Returns:
        The changes that save anything, the greatest first.

    Raises:
        RankSelectError: As `estimate_memory`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> for lever in savings(model, rs.Fixed(8).plan(model), batch_size=4, length=128, device="cpu"):
        ...     print(f"{lever.how} saves {lever.saved_bytes / 2**20:.1f} MiB")
        halving rows to 64 tokens saves 1.4 MiB
        halving the micro-batch to 2 saves 1.3 MiB
        gradient checkpointing (gradient_checkpointing=True) saves 0.9 MiB
        loading in 4 bits (quantization="nf4") saves 0.1 MiB
        halving every rank saves 0.0 MiB
    """
    return levers(model, plan, TrainingStep(**settings))
