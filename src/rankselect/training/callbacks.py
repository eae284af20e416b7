"""Trainer callbacks: a meter of time, tokens and memory, a check for gradients, and progress as a bar or lines."""

from __future__ import annotations

import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

from rankselect.errors import RankSelectWarning
from rankselect.plan._peft import parameter_name

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GradientCheck", "Meter", "PlainProgress", "StepProgress"]

logger = logging.getLogger(__name__)

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SECONDS_BETWEEN_LINES = 30.0


class Meter(TrainerCallback):
    """A trainer callback that measures time, tokens and peak memory from the start of training to its end.

    Attributes:
        seconds: Wall-clock time from start to end.
        peak_memory_bytes: The peak memory in that time. On GPUs: the memory of tensors, summed over the GPUs. On a CPU:
            the resident memory of the process, including the base model and Python.
        first_step: The step at which training started.

    Example:
        >>> meter = Meter(on_gpu=False)
        >>> meter.count({"attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])})
        >>> meter.tokens
        5
    """

    def __init__(self, *, on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self.seconds = 0.0
        self.peak_memory_bytes = 0
        self.first_step = 0
        self._began = 0.0
        self._tokens: torch.Tensor | int = 0

    @property
    def tokens(self) -> int:
        """The number of input tokens so far, without padding."""
        return int(self._tokens)

    def count(self, inputs: Mapping[str, Any]) -> None:
        """Add the tokens of a batch, without waiting for the device."""
        mask, tokens = inputs.get("attention_mask"), inputs.get("input_ids")
        if mask is not None:
            self._tokens = self._tokens + mask.sum()
        elif tokens is not None:
            self._tokens = self._tokens + tokens.numel()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock, and reset the memory peak."""
        self.first_step = state.global_step
        self._tokens = 0
        _reset_peak(on_gpu=self.on_gpu)
        self._began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock."""
        if self.on_gpu:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._began
        self.peak_memory_bytes = _peak(on_gpu=self.on_gpu)


def _reset_peak(*, on_gpu: bool) -> None:
    if on_gpu:
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR_REFS.write_text("5")  # Linux: resets the peak of the resident memory to its current size
    except OSError:
        return


def _peak(*, on_gpu: bool) -> int:
    if on_gpu:
        return sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count()))
    try:
        status = _STATUS.read_text(encoding="ascii")
    except OSError:
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))  # Windows has the peak; elsewhere the current size
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


class GradientCheck(TrainerCallback):
    """A trainer callback that warns if adapters got no gradient in the first steps: their modules did not run.

    Attributes:
        n_steps: The number of steps to watch.

    Example:
        >>> GradientCheck(n_steps=3).n_steps
        3
    """

    def __init__(self, n_steps: int = 5) -> None:
        self.n_steps = n_steps
        self._left = 0
        self._missing: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin with all matrices B; those of A get no gradient in the first step, because B is 0."""
        self._left = self.n_steps
        named = kwargs["model"].named_parameters()
        self._missing = {name for name, each in named if each.requires_grad and ".lora_" in name and "_B." in name}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Cross out those that have a gradient."""
        if not self._left:
            return
        self._left -= 1
        grads = {n: p.grad for n, p in kwargs["model"].named_parameters() if n in self._missing and p.grad is not None}
        if grads:
            largest = torch.stack([grad.detach().abs().amax().float().cpu() for grad in grads.values()])
            self._missing -= {name for name, size in zip(grads, largest.tolist(), strict=True) if size}
        if not self._left:
            self._report(self.n_steps)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report after a training of fewer steps, too."""
        if self._left and self._left < self.n_steps:
            self._report(self.n_steps - self._left)
        self._left = 0

    def _report(self, n_steps: int) -> None:
        if self._missing:
            first = parameter_name(min(self._missing)).split(".lora_")[0]
            warnings.warn(
                f"{len(self._missing)} adapters got no gradient in the first {n_steps} steps, for example that of "
                f"{first}: their modules do not run on these rows. Leave them out of target_modules.",
                RankSelectWarning,
                stacklevel=2,
            )


class StepProgress(TrainerCallback):
    """A trainer callback with one progress bar: steps, the last loss, the time left.

    `RankSelectTrainer` uses it instead of transformers' own callback, which prints a line for every logged value.

    Args:
        label: The text before the bar.

    Example:
        >>> StepProgress(label="Training rank 8").label
        'Training rank 8'
    """

    def __init__(self, label: str = "Training") -> None:
        self.label = label
        self._bar: tqdm[Any] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step where training starts or resumes."""
        if state.is_world_process_zero:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the newest loss."""
        logs = kwargs.get("logs") or {}
        if self._bar is not None and "loss" in logs:
            self._bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class PlainProgress(TrainerCallback):
    """A trainer callback that logs the step, the last loss and the time left: progress for batch jobs.

    A line is logged after every tenth of the steps, and after 30 seconds without one.

    Args:
        label: The text before the numbers.

    Example:
        >>> PlainProgress(label="Training rank 8").label
        'Training rank 8'
    """

    def __init__(self, label: str = "Training") -> None:
        self.label = label
        self._first = 0
        self._began = self._last = 0.0
        self._loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._first = state.global_step
        self._began = self._last = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember the newest loss."""
        logs = kwargs.get("logs") or {}
        if "loss" in logs:
            self._loss = f", loss {float(logs['loss']):.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log a line if it is time for one."""
        now, step, steps = time.perf_counter(), state.global_step, state.max_steps
        is_tenth = step * 10 // steps > (step - 1) * 10 // steps
        if not state.is_world_process_zero or not (is_tenth or now - self._last > _SECONDS_BETWEEN_LINES):
            return
        self._last = now
        left = (now - self._began) / (step - self._first) * (steps - step)
        logger.info("%s: step %d of %d%s, %s left", self.label, step, steps, self._loss, _duration(left))


def _duration(seconds: float) -> str:
    """A duration in hours, minutes and seconds, without the units that are 0.

    Example:
        >>> _duration(3.2), _duration(75), _duration(7260)
        ('3 s', '1 min 15 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
