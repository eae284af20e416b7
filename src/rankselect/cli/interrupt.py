"""Ctrl-C while training: finish the step, save a checkpoint, stop."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from rankselect.cli.console import show, stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StopOnInterrupt"]


class StopOnInterrupt(TrainerCallback):
    """A trainer callback that turns the first Ctrl-C into a checkpoint; the second stops at once.

    Attributes:
        interrupted: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.interrupted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C while the block runs."""
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, signum: int, frame: Any) -> None:
        if self.interrupted:
            signal.default_int_handler(signum, frame)
        self.interrupted = True
        show(stderr(), "Stopping after this step, with a checkpoint. Ctrl-C again stops at once.")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Save and stop, if asked to."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
        return control
