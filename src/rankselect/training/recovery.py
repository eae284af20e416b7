"""Train a resized adapter a little, to win back what the cut has lost."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments

from rankselect.errors import AdapterError
from rankselect.models.layers import unwrapped
from rankselect.models.names import model_name
from rankselect.models.quantized_layers import count_parameters
from rankselect.plan._peft import factors, lora_layers
from rankselect.plan.patterns import shortest_target_modules
from rankselect.plan.planned_module import PlannedModule
from rankselect.plan.rank_plan import RankPlan
from rankselect.plan.targets import find_targets
from rankselect.training.trainer import RankSelectTrainer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.training.measured_adapter import MeasuredAdapter

__all__ = ["continued", "recovered_factors", "require_plain"]


def require_plain(adapter: AdapterFolder) -> None:
    """Raise an error for an adapter that holds more than A and B, which would have to be trained too.

    Raises:
        AdapterError: If it does.
    """
    if adapter.full_parameters:
        raise AdapterError(
            "a plain LoRA adapter, to train it further",
            f"one that also contains {min(adapter.full_parameters)}",
            "Leave out recover_steps (--recover-steps), and train it with PEFT.",
        )


def recovered_factors(
    measured: MeasuredAdapter,
    resized: AdapterFolder,
    *,
    steps: int,
    learning_rate: float,
    batch_size: int,
    seed: int,
    progress: bool,
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Train an adapter for some steps from where it is.

    Args:
        measured: An adapter on the base model, with the rows to train on. It is replaced by the trained one.
        resized: The adapter to train.
        steps: Optimizer steps.
        learning_rate: The learning rate at the beginning; it decays linearly to 0.
        batch_size: Rows in a step.
        seed: Of the order of the rows.
        progress: Show progress bars.

    Returns:
        ``{full module name: (A, B)}`` after training.
    """
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch,
            max_steps=steps,
            learning_rate=learning_rate,
            per_device_train_batch_size=batch_size,
            save_strategy="no",
            logging_steps=1,
            seed=seed,
            report_to="none",
            disable_tqdm=not progress,
        )
        trainer = continued(
            measured.release(),
            resized,
            arguments,
            train_dataset=list(measured.training_rows),
            processing_class=measured.tokenizer,
            template=measured.template,
        )
        trainer.train()
    measured.model = trainer.model
    trained = {name: factors(layer) for name, layer in lora_layers(trainer.model).items()}
    return {name: (a.detach().float().cpu(), b.detach().float().cpu()) for name, (a, b) in trained.items()}


def continued(base: Any, adapter: AdapterFolder, arguments: TrainingArguments, **how: Any) -> RankSelectTrainer:
    """A trainer that starts from a saved adapter.

    Args:
        base: The base model without an adapter.
        adapter: The adapter.
        arguments: The arguments of training.
        **how: Further arguments of `RankSelectTrainer`.
    """
    trainer = RankSelectTrainer(base, arguments, plan=_plan_of(adapter, base), **how)
    layers = lora_layers(trainer.model)
    for module in adapter.modules:
        for there, factor in zip(factors(layers[module.name]), adapter.factors(module), strict=True):
            there.data.copy_(factor)
    return trainer


def _plan_of(adapter: AdapterFolder, base: nn.Module) -> RankPlan:
    """The plan with which PEFT builds this adapter."""
    names = [module.name for module in adapter.modules]
    targets = {target.name: target for target in find_targets(base, names)}
    modules = tuple(PlannedModule(targets[each.name], each.rank, each.alpha) for each in adapter.modules)
    chosen = shortest_target_modules(names, unwrapped(base))
    return RankPlan(
        modules,
        chosen if isinstance(chosen, str) else tuple(chosen),
        "resized",
        model_name(base) or type(base).__name__,
        count_parameters(base),
        "rank-stabilized" if adapter.config.use_rslora else "ratio",
    )
