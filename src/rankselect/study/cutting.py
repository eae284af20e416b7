"""Cutting a trained adapter within a run, and training it a little further."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.attach import attach_adapter
from rankselect.adapters.resize import ResizedAdapter
from rankselect.adapters.resized_ranks import ranks_of_budget
from rankselect.adapters.spectra import spectra_of
from rankselect.training.recovery import continued

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import TrainingArguments

    from rankselect.study.arm import Arm

__all__ = ["CutAdapter", "cut_adapter"]

_SUMS = ("seconds", "tokens", "steps")


@final
@dataclass(frozen=True)
class CutAdapter:
    """A model with an adapter that was cut.

    Attributes:
        model: The model.
        ranks: ``{module: rank}``; modules that were left out are not there.
        alphas: ``{module: alpha}``.
        trainable_parameters: The adapter's parameters.
        training: The record of all training, that before the cut included, in JSON values.
    """

    model: Any
    ranks: dict[str, int]
    alphas: dict[str, float]
    trainable_parameters: int
    training: dict[str, Any]


def cut_adapter(
    arm: Arm, model: Any, training: dict[str, Any], arguments: Callable[[str], TrainingArguments], **how: Any
) -> CutAdapter:
    """Cut the adapter of a model to the size of its arm, and train it for the arm's further steps.

    Args:
        arm: The arm, with a cut.
        model: PEFT's model after training. It is used up.
        training: The record of its training.
        arguments: Creates the arguments of the further training from a scratch folder.
        **how: Further arguments of `RankSelectTrainer`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(f"{scratch}/whole")
        adapter = read_adapter(f"{scratch}/whole")
        ranks = ranks_of_budget(spectra_of(adapter), arm.cut or "")
        folder = Path(scratch, "cut")
        folder.mkdir()
        ResizedAdapter(adapter, ranks).write(folder)
        base: Any = model.unload()
        vars(base).pop("peft_config", None)
        cut = read_adapter(folder)
        if arm.recover_steps:
            trainer = continued(base, cut, arguments(scratch), **how)
            trainer.train()
            model, training = trainer.model, _joined(training, trainer.record.to_dict())
        else:
            model = attach_adapter(base, folder)
    return CutAdapter(
        model,
        {module.name: module.rank for module in cut.modules},
        {module.name: module.alpha for module in cut.modules},
        sum(module.rank * (module.d_in + module.d_out) for module in cut.modules),
        training,
    )


def _joined(first: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """One record of two trainings: the sums of what they cost, the greater peak, and the losses one after the other."""
    sums = {name: first[name] + then[name] for name in _SUMS}
    peak = max(first["peak_memory_bytes"], then["peak_memory_bytes"])
    losses = [*first["losses"], *([first["steps"] + step, loss] for step, loss in then["losses"])]
    return {**first, **sums, "peak_memory_bytes": peak, "losses": losses}
