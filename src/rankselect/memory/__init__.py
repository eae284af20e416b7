"""Memory, before it runs out: what a training step will take, what fits, and what each change would save."""

from rankselect.memory.estimate import MemoryEstimate
from rankselect.memory.largest_fit import Fit, largest_fit
from rankselect.memory.predict import Saving, estimate_memory, savings
from rankselect.memory.step import TrainingStep

__all__ = ["Fit", "MemoryEstimate", "Saving", "TrainingStep", "estimate_memory", "largest_fit", "savings"]
