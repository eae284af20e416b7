"""Turns a model and a way to choose ranks into a PEFT model that is exactly the plan."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from peft import PeftModel, get_peft_model

from rankselect.calibration.evidence import Calibration
from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import ArgumentError, ModelError
from rankselect.models._transformers import old_names_allowed
from rankselect.plan.rank_plan import RankPlan
from rankselect.strategies._base import strategy as named_strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from rankselect.calibration.evidence import Evidence
    from rankselect.strategies._base import RankStrategy

__all__ = ["Choice", "adapt", "choose_ranks", "strategy_or_plan"]


@final
@dataclass(frozen=True)
class Choice:
    """Ranks that were chosen, and what they were chosen from.

    Attributes:
        plan: The ranks.
        profile: The profile they rest on, or None if they rest on something else or nothing.
        seconds: Wall-clock time of measuring and choosing.
    """

    plan: RankPlan
    profile: IDProfile | None
    seconds: float


def choose_ranks(
    model: PreTrainedModel,
    strategy: RankStrategy | str,
    evidence: Evidence | Calibration | None = None,
    **plan_arguments: Any,
) -> Choice:
    """Measure what a strategy needs, and plan.

    Args:
        model: The model without an adapter.
        strategy: What chooses the ranks, or its name with arguments, as `rankselect.registry.create` takes it.
        evidence: Evidence measured before, or the calibration to measure it from.
        **plan_arguments: `target_modules`, `alpha_ratio`, … as `RankStrategy.plan` takes them.

    Raises:
        ArgumentError: If it is no strategy.
        UnknownNameError: If no strategy of the name given is installed.
        EvidenceError: If the strategy needs evidence and there is none.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> model = tiny_model()
        >>> calibration = rs.Calibration(model, tiny_tokenizer(), tiny_texts(40), progress=False)
        >>> choose_ranks(model, rs.IntrinsicMin(), calibration).profile.layers
        ('model.layers.0', 'model.layers.1')
    """
    began = time.perf_counter()
    strategy = named_strategy(strategy)
    if isinstance(evidence, Calibration):
        evidence = strategy.evidence.measure(evidence) if strategy.evidence is not None else None
    plan = strategy.plan(model, evidence, **plan_arguments)
    profile = evidence if isinstance(evidence, IDProfile) else None
    return Choice(plan, profile, time.perf_counter() - began)


def strategy_or_plan(
    model: PreTrainedModel,
    strategy: RankStrategy | str | None,
    plan: RankPlan | None,
    evidence: Evidence | Calibration | None,
    plan_arguments: Mapping[str, Any],
    *,
    profiled: bool,
) -> Choice:
    """The ranks of exactly one of strategy and plan; with a profile of the model as it is now, if that is wanted.

    Raises:
        ArgumentError: If both or none are given, or one that is neither.
    """
    if plan is not None and not isinstance(plan, RankPlan):
        raise ArgumentError("a RankPlan", repr(plan)[:80], "Load a saved one with RankPlan.load.")
    if plan is not None and plan_arguments:
        raise ArgumentError(
            "a finished plan alone", f"plan_arguments {sorted(plan_arguments)} beside it", "Leave one of them out."
        )
    if strategy is not None and plan is None:
        choice = choose_ranks(model, strategy, evidence, **plan_arguments)
    elif plan is not None and strategy is None:
        choice = Choice(plan, evidence if isinstance(evidence, IDProfile) else None, 0.0)
    else:
        got = "neither" if plan is None else "both"
        raise ArgumentError("a strategy or a plan", got, "Give strategy= or plan=, one of them.")
    if profiled and choice.profile is None and isinstance(evidence, Calibration):
        return replace(choice, profile=IDProfile.measure(evidence))
    return choice


def adapt(model: PreTrainedModel, plan: RankPlan, *, seed: int, **lora_arguments: Any) -> PeftModel:
    """Build the plan's adapter into a model, and verify it.

    Args:
        model: The model without an adapter; it is changed in place, as `peft.get_peft_model` does.
        plan: The ranks.
        seed: Decides the adapter's initial weights.
        **lora_arguments: What `RankPlan.to_lora_config` takes. ``task_type`` is that of the model if left out.

    Raises:
        ModelError: If the model has an adapter already.
        PlanMismatchError: If PEFT built something else.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> adapt(model, rs.Fixed(4).plan(model), seed=0).peft_config["default"].r
        4
    """
    if isinstance(model, PeftModel):
        raise ModelError("a model without an adapter", "a PeftModel", "Pass its base model.")
    lora_arguments.setdefault("task_type", _task_type(model))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with old_names_allowed():
            peft_model = get_peft_model(model, plan.to_lora_config(**lora_arguments))
    plan.verify(peft_model)
    return peft_model


def _task_type(model: PreTrainedModel) -> str | None:
    if not (hasattr(model, "can_generate") and model.can_generate()):
        return None
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
