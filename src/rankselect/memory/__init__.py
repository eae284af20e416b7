"""Memory, before it runs out: what a training step will take, what fits, and what each change would save."""

from rankselect.memory.estimate import MemoryEstimate
from rankselect.memory.fit import Fit, fit
from rankselect.memory.levers import Lever
from rankselect.memory.predict import estimate_memory, savings
from rankselect.memory.step import TrainingStep

__all__ = ["Fit", "Lever", "MemoryEstimate", "TrainingStep", "estimate_memory", "fit", "savings"]
