"""Memory, before it runs out: what a training step will take, what fits, and what each change would save."""

from rankselect.adapters.memory.estimate import MemoryEstimate
from rankselect.adapters.memory.fit import Fit, fit
from rankselect.adapters.memory.levers import Lever
from rankselect.adapters.memory.predict import estimate_memory, savings
from rankselect.adapters.memory.step import TrainingStep

__all__ = ["Fit", "Lever", "MemoryEstimate", "TrainingStep", "estimate_memory", "fit", "savings"]
