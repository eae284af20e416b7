"""Shows how far training is: steps, loss, time left."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

__all__ = ["StepProgress"]


class StepProgress(TrainerCallback):
    """A trainer callback with one progress bar: steps, the last loss, the time left.

    `RankSelectTrainer` has it in the place of transformers' own, which prints a line for every logged value.

    Args:
        label: What stands before the bar.

    Example:
        >>> StepProgress(label="Training rank 8").label
        'Training rank 8'
    """

    def __init__(self, label: str = "Training") -> None:
        self.label = label
        self._bar: tqdm[Any] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Open the bar, at the step from which training goes on."""
        if state.is_world_process_zero:
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """One step more."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Show the newest loss."""
        logs = kwargs.get("logs") or {}
        if self._bar is not None and "loss" in logs:
            self._bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
