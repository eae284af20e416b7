"""The folder of one `rankselect train`: its settings, the chosen ranks, checkpoints, and finally the adapter."""

from __future__ import annotations

import signal
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from transformers import TrainerCallback

import rankselect as rs
from rankselect.cli.console import show, stderr
from rankselect.errors import ArgumentError, SaveError
from rankselect.files import field, read_document, write_document
from rankselect.training.resilience import last_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankselect.models.processes import Processes
    from rankselect.training.trainer import RankSelectTrainer

__all__ = ["TrainingRun"]

_FORMAT, _VERSION = "rankselect.train_settings", 1


@final
@dataclass(frozen=True)
class TrainingRun:
    """The folder of a run.

    Attributes:
        folder: It contains ``settings.json``, ``plan.json``, ``profile.json``, ``checkpoints`` and ``adapter``.
        settings: The options of the command.
        chosen: The trainer's arguments that determine the ranks, from the run that is resumed; empty for a new run.
        resumed: Whether an earlier run is resumed.
        processes: The training processes; the first one writes.
    """

    folder: Path
    settings: dict[str, Any]
    chosen: dict[str, Any]
    resumed: bool
    processes: Processes

    @property
    def checkpoints(self) -> Path:
        """The folder for checkpoints."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The folder for the trained adapter."""
        return self.folder / "adapter"

    @classmethod
    def open(cls, folder: Path, settings: dict[str, Any], *, resume: bool, processes: Processes) -> TrainingRun:
        """Start a run in a new folder, or resume a run that was started with the same settings.

        Raises:
            ArgumentError: If the folder contains a run and `resume` is false, contains no run and `resume` is true, or
                the settings of its run differ. A run that has no checkpoint yet begins anew.
        """
        chosen = processes.together(lambda: _checked_folder(folder, settings, resume=resume))
        return cls(folder, settings, chosen, resumed=resume, processes=processes)

    def keep_choice(self, trainer: RankSelectTrainer) -> None:
        """Save settings, plan and profile, so that a resumed run does not have to measure again.

        Raises:
            SaveError: If the folder cannot be written.
        """
        self.processes.together(lambda: self._write_choice(trainer) if self.processes.is_first else None)

    def _write_choice(self, trainer: RankSelectTrainer) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if trainer.profile is not None:
                trainer.profile.save(self.folder / "profile.json")
            trainer.plan.save(self.folder / "plan.json")
            document = {"format": _FORMAT, "version": _VERSION, "settings": self.settings}
            write_document(self.folder / "settings.json", document)
        except OSError as error:
            raise SaveError("a folder that can be written", f"{self.folder} ({error})", "Choose another.") from error

    def train(self, trainer: RankSelectTrainer) -> bool:
        """Train to the end, or until Ctrl-C.

        Under a launcher Ctrl-C stops at once, because it reaches the processes at different steps, and more than once.

        Returns:
            Whether training is complete.
        """
        checkpoint = self.processes.from_first(last_checkpoint(self.checkpoints) if self.resumed else None)
        stop = StopOnInterrupt()
        listening = stop.listening() if self.processes.count == 1 else nullcontext()
        trainer.add_callback(stop)
        with listening:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return not stop.interrupted


@final
class StopOnInterrupt(TrainerCallback):
    """A trainer callback that turns the first Ctrl-C into a checkpoint; the second stops at once.

    Attributes:
        interrupted: Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.interrupted = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C during a block."""
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

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Save a checkpoint and stop, if Ctrl-C was pressed."""
        if self.interrupted:
            control.should_save = True
            control.should_training_stop = True
        return control


def _checked_folder(folder: Path, settings: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """Check the folder, and return the choice of the run that is resumed; nothing for a new run."""
    path = folder / "settings.json"
    if (folder / "adapter").exists():
        raise ArgumentError("an unfinished run", f"{folder}, which is finished", "Choose another folder for --out.")
    if path.is_file() and last_checkpoint(folder / "checkpoints") is None:
        return {}  # nothing was trained: begin anew
    if resume:
        _require_same(path, settings)
    elif path.exists():
        raise ArgumentError(
            "a new folder for --out", f"{folder}, which contains a run", "Add --resume, or choose another folder."
        )
    return _chosen_before(folder)


def _require_same(path: Path, settings: dict[str, Any]) -> None:
    if not path.is_file():
        raise ArgumentError("a run to resume", f"none in {path.parent}", "Leave --resume out to start one.")
    before = field(read_document(path, _FORMAT, _VERSION), "settings", dict, path)
    if "rows" in before and before["rows"] != settings["rows"]:
        raise ArgumentError(
            "the rows that the run was started with",
            f"other rows in {settings['data']}",
            "Resume with the same rows, or start a new run with another --out.",
        )
    different = sorted(
        name
        for name in (before | settings).keys() - {"rows"}
        if (before.get(name) or None) != (settings.get(name) or None)  # an option may be newer than the run
    )
    if different:
        changes = ", ".join(f"{name} {before.get(name)!r} then, {settings.get(name)!r} now" for name in different)
        remedy = "Resume with the same settings, or start a new run."
        raise ArgumentError("the settings that the run was started with", changes, remedy)


def _chosen_before(folder: Path) -> dict[str, Any]:
    plan, profile = folder / "plan.json", folder / "profile.json"
    if not plan.is_file():
        return {}
    return {
        "plan": rs.RankPlan.load(plan),
        "evidence": rs.IDProfile.load(profile) if profile.is_file() else None,
    }
