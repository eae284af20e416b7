"""The answer: what a training step takes at its worst moment, part by part."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

import torch

from rankselect.memory.sizes import as_text
from rankselect.memory.step import name_of

if TYPE_CHECKING:
    from rankselect.memory.step import TrainingStep

__all__ = ["MemoryEstimate"]


_NOT_PARTS = {"moment", "device", "step"}


@final
@dataclass(frozen=True)
class MemoryEstimate:
    """The bytes of a training step at the moment when it takes the most.

    The parts add up to the peak. Parts that are not there at that moment are 0: where the loss takes the most, no
    gradient exists yet.

    Attributes:
        base_weights: The base model's parameters and buffers, as stored.
        quantization_constants: The scales of quantised weights.
        adapters: The adapters' weights.
        optimizer_states: What the optimizer keeps between steps.
        gradients: The adapters' gradients that exist then.
        activations: What the layers keep for the backward pass, and the batch itself.
        logits_and_loss: The output head's logits, their float32 copy, the log-probabilities and their gradients.
        temporaries: What the backward pass or the optimizer holds for a moment: gradients of activations, layers that
            are computed again, weights that are unpacked to be multiplied.
        moment: Where in the step the peak is, for example ``"the backward pass"``.
        device: The kind of device whose kernels were counted.
        step: The settings.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> model = tiny_model()
        >>> estimate = rs.estimate_memory(model, rs.Fixed(4).plan(model), batch_size=2, length=64)
        >>> estimate.adapters, estimate.optimizer_states, sum(estimate.parts.values()) == estimate.peak
        (3584, 7200, True)
    """

    base_weights: int
    quantization_constants: int
    adapters: int
    optimizer_states: int
    gradients: int
    activations: int
    logits_and_loss: int
    temporaries: int
    moment: str
    device: str
    step: TrainingStep

    @property
    def parts(self) -> dict[str, int]:
        """``{part: bytes}``, in the order of the attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NOT_PARTS}

    @property
    def peak(self) -> int:
        """The most bytes in use at once, the sum of the parts."""
        return sum(self.parts.values())

    def to_dict(self) -> dict[str, Any]:
        """The estimate in JSON values: the parts, ``peak``, ``moment``, ``device`` and the settings."""
        settings = vars(self.step).items()
        step = {name: name_of(value) if isinstance(value, torch.dtype) else value for name, value in settings}
        return {**self.parts, "peak": self.peak, "moment": self.moment, "device": self.device, "step": step}

    def __str__(self) -> str:
        rows = [(name.replace("_", " "), n_bytes) for name, n_bytes in self.parts.items()]
        rows.append((f"peak, in {self.moment}", self.peak))
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {as_text(n_bytes):>10}  {n_bytes / self.peak:>6.1%}" for name, n_bytes in rows]
        return "\n".join([f"{self.step}, on {self.device}", *lines])
