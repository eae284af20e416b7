"""A trainer that continues when memory runs out, resumes after a kill, and stops when numbers are not finite."""

from __future__ import annotations

import json
import logging
import re
import shutil
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError, safe_open
from transformers import Trainer

from rankselect.errors import (
    ArgumentError,
    NonFiniteLossError,
    OutOfMemoryError,
    PlanMismatchError,
    SaveError,
    first_sentence,
)
from rankselect.models._transformers import check_trainer
from rankselect.models.processes import Processes
from rankselect.training.out_of_memory import loss_share, micro_batches, n_rows

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

__all__ = ["ResilientTrainer", "last_checkpoint"]

logger = logging.getLogger(__name__)

_RANKS = ("r", "lora_alpha", "rank_pattern", "alpha_pattern")


class ResilientTrainer(Trainer):
    """The part of `RankSelectTrainer` that handles faults.

    Attributes:
        micro_batch_size: Rows per forward pass after memory ran out; None before.
    """

    # transformers declares these as optional
    args: Any
    model: Any
    optimizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_trainer(self)
        self._processes = Processes.current()
        self.micro_batch_size: int | None = None
        self._done: list[dict[str, Any]] = []  # the batches of this optimizer step so far
        self._step = 0
        self._loss_weight = 1.0

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001  (the signature of transformers)
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Train, as `transformers.Trainer.train` does.

        Args:
            resume_from_checkpoint: A checkpoint's folder, or True for the newest complete one in ``output_dir``.
            *args: Further arguments of `transformers.Trainer.train`.
            **kwargs: Further keyword arguments of `transformers.Trainer.train`.

        Raises:
            ArgumentError: If there is no complete checkpoint to resume from.
            PlanMismatchError: If the ranks of the checkpoint's adapter differ from the plan.
            NonFiniteLossError: If the loss or the adapter's weights are not finite.
            OutOfMemoryError: If a single row does not fit into memory.
            SaveError: If a checkpoint cannot be written.
        """
        if resume_from_checkpoint is True:
            found = self._processes.from_first(last_checkpoint(self.args.output_dir))
            if found is None:
                raise ArgumentError(
                    "a complete checkpoint to resume from",
                    f"none in {self.args.output_dir}",
                    "Train without resume_from_checkpoint, or give the folder of a checkpoint.",
                )
            resume_from_checkpoint = str(found)
        if resume_from_checkpoint:
            self._require_same_ranks(Path(resume_from_checkpoint))
        self._done = []
        return super().train(resume_from_checkpoint or None, *args, **kwargs)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run one forward and backward pass, in as many micro-batches as memory requires."""
        if self.state.global_step != self._step:
            self._done, self._step = [], self.state.global_step
        todo: Sequence[dict[str, Any]] = [inputs]
        while True:
            try:
                losses = [self._in_micro_batches(model, batch, num_items_in_batch) for batch in todo]
                break
            except torch.OutOfMemoryError as error:
                self._halve(inputs, error)
            # A failed backward pass may have left some of its gradients: restart this optimizer step.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            model.zero_grad()
            todo = [*self._done, inputs]
        self._done.append(inputs)
        # All processes stop if one does: otherwise the others would wait forever for its next gradients.
        everywhere = self.accelerator.reduce(losses[-1], reduction="sum")
        if not torch.isfinite(everywhere):
            step = self.state.global_step + 1
            raise self._not_finite("a finite training loss", f"{everywhere.item()} at step {step}")
        return losses[-1]

    def _in_micro_batches(
        self, model: torch.nn.Module, inputs: dict[str, Any], n_items: torch.Tensor | int | None
    ) -> torch.Tensor:
        size = self.micro_batch_size or n_rows(inputs)
        if n_rows(inputs) <= size:
            return super().training_step(model, inputs, n_items)
        # A loss that was divided by the number of items adds up over micro-batches; a mean loss must be weighted.
        counted = n_items is not None and (self.model_accepts_loss_kwargs or self.compute_loss_func is not None)
        losses = []
        try:
            for micro_batch in micro_batches(inputs, size):
                self._loss_weight = 1.0 if counted else loss_share(micro_batch, inputs)
                if self._loss_weight:  # without labels there is no mean loss
                    losses.append(super().training_step(model, micro_batch, n_items))
        finally:
            self._loss_weight = 1.0
        return torch.stack(losses).sum()

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as `transformers.Trainer` does, multiplied by the weight of the micro-batch in its batch."""
        loss: Any = super().compute_loss(*args, **kwargs)
        return loss if self._loss_weight == 1.0 else loss * self._loss_weight

    def _halve(self, inputs: Mapping[str, Any], error: torch.OutOfMemoryError) -> None:
        before = min(self.micro_batch_size or n_rows(inputs), n_rows(inputs))
        if before == 1 or self.args.world_size > 1:
            raise self._out_of_memory(inputs, before) from error
        self.micro_batch_size = (before + 1) // 2
        logger.warning(
            "Out of memory at step %d with %d rows at once: continuing with %d and the same effective batch size.",
            self.state.global_step + 1,
            before,
            self.micro_batch_size,
        )

    def _out_of_memory(self, inputs: Mapping[str, Any], n_rows_at_once: int) -> OutOfMemoryError:
        """Return the error for a step that cannot be split any further."""
        longest = max(value.shape[-1] for value in inputs.values())
        return OutOfMemoryError(
            "enough memory for a training step",
            f"too little for {n_rows_at_once} rows of up to {longest} tokens at once",
            "Use gradient checkpointing, 4-bit weights, shorter rows, or lower ranks.",
        )

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        weights = (parameter for parameter in self.model.parameters() if parameter.requires_grad)
        if not all(torch.isfinite(weight).all() for weight in weights):
            raise self._not_finite("finite adapter weights", f"non-finite weights at step {self.state.global_step}")
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not _raised_by_torch_save(error):
                raise
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            raise SaveError(
                "a checkpoint that can be written",
                f"{folder} ({first_sentence(error)})",
                f"Free disk space or choose another output_dir. {self._checkpoint_note()}",
            ) from error

    def _not_finite(self, expected: str, got: str) -> NonFiniteLossError:
        rate = self.optimizer.param_groups[0]["lr"]
        return NonFiniteLossError(
            expected,
            got,
            f"Lower the learning rate ({rate:g}) or alpha, clip gradients, or train in bfloat16 instead of float16. "
            f"{self._checkpoint_note()}",
        )

    def _checkpoint_note(self) -> str:
        checkpoint = last_checkpoint(self.args.output_dir)
        return f"The last good checkpoint is {checkpoint}." if checkpoint else "There is no checkpoint yet."

    def _require_same_ranks(self, checkpoint: Path) -> None:
        if not (checkpoint / "adapter_config.json").is_file():
            raise ArgumentError(
                "a checkpoint with an adapter", f"{checkpoint}, which has no adapter_config.json", "Check the path."
            )
        saved, ours = LoraConfig.from_pretrained(str(checkpoint)), self.model.peft_config["default"]
        different = [name for name in _RANKS if getattr(saved, name) != getattr(ours, name)]
        if different:
            raise PlanMismatchError(
                "a checkpoint of the same plan",
                f"{checkpoint}, which differs in {', '.join(different)}",
                "Resume with the plan it was trained with, or train into another output_dir.",
            )


def _raised_by_torch_save(error: Exception) -> bool:
    """Return whether torch raised the error while writing a file: it raises RuntimeError when the disk is full."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == torch.serialization.__name__ for frame, _ in frames)


_NAME = re.compile(r"checkpoint-(\d+)")


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """Return the newest complete checkpoint in a trainer's output folder.

    The trainer writes ``trainer_state.json`` last, so a checkpoint is complete if this file and the adapter are
    readable.

    Args:
        folder: The trainer's ``output_dir``.

    Returns:
        The checkpoint's folder, or None if there is none.

    Example:
        >>> import tempfile
        >>> last_checkpoint(tempfile.mkdtemp()) is None
        True
    """
    if not Path(folder).is_dir():
        return None
    found = {int(match[1]): path for path in Path(folder).iterdir() if (match := _NAME.fullmatch(path.name))}
    return next((found[step] for step in sorted(found, reverse=True) if _is_complete(found[step])), None)


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = sorted(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights)
