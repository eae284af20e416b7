"""Choose the ranks for a model, and build a PEFT model with exactly these ranks."""

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
from rankselect.plan.rank_plan import require_plan
from rankselect.strategies._base import strategy as named_strategy
from rankselect.strategies.planning import evidence_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.strategies._base import RankStrategy

__all__ = ["Choice", "adapt", "choose_ranks", "strategy_or_plan", "task_type_of"]


@final
@dataclass(frozen=True)
class Choice:
    """Chosen ranks, and the profile that they are based on.

    Attributes:
        plan: The ranks.
        profile: The profile that the ranks are based on, or None if they are not based on a profile.
        seconds: Wall-clock time for measuring the evidence and choosing the ranks.
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
    """Measure the evidence that a strategy needs, and choose the ranks.

    Args:
        model: The model without an adapter.
        strategy: The strategy, or its name with arguments, as `rankselect.registry.create` takes it.
        evidence: Evidence that was measured before, or the calibration to measure it from.
        **plan_arguments: Arguments of `RankStrategy.plan`: `target_modules`, `alpha_ratio`, ….

    Raises:
        ArgumentError: If `strategy` is not a strategy.
        UnknownNameError: If no strategy of this name is installed.
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
    measured = evidence_for(repr(strategy), strategy.evidence, evidence, model, plan_arguments.get("target_modules"))
    plan = strategy.plan(model, measured, **plan_arguments)
    profile = next((each for each in (evidence, measured) if isinstance(each, IDProfile)), None)
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
    """Return the ranks of a strategy or of a plan; with `profiled`, also measure a profile if there is none.

    Raises:
        ArgumentError: If both or neither are given, or one of them has the wrong type.
    """
    if plan is not None:
        require_plan(plan)
    if plan is not None and plan_arguments:
        raise ArgumentError(
            "a plan without plan_arguments", f"plan_arguments {sorted(plan_arguments)} too", "Pass only one of them."
        )
    if strategy is not None and plan is None:
        choice = choose_ranks(model, strategy, evidence, **plan_arguments)
    elif plan is not None and strategy is None:
        choice = Choice(plan, evidence if isinstance(evidence, IDProfile) else None, 0.0)
    else:
        got = "neither" if plan is None else "both"
        raise ArgumentError("a strategy or a plan", got, "Pass exactly one of strategy= and plan=.")
    if profiled and choice.profile is None and isinstance(evidence, Calibration):
        return replace(choice, profile=IDProfile.measure(evidence))
    return choice


def adapt(model: PreTrainedModel, plan: RankPlan, *, seed: int, **lora_arguments: Any) -> PeftModel:
    """Add the plan's adapter to a model, and verify it.

    Args:
        model: The model without an adapter; it is changed in place, as by `peft.get_peft_model`.
        plan: The ranks.
        seed: The seed of the adapter's initial weights.
        **lora_arguments: Arguments of `RankPlan.to_lora_config`. ``task_type`` defaults to that of the model.

    Raises:
        ModelError: If the model already has an adapter.
        ArgumentError: If the initial weights are those of EVA, which chooses ranks itself.
        PlanMismatchError: If the adapter that PEFT built differs from the plan.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> adapt(model, rs.Fixed(4).plan(model), seed=0).peft_config["default"].r
        4
    """
    if isinstance(model, PeftModel):
        raise ModelError("a model without an adapter", "a PeftModel", "Pass its base model.")
    if str(lora_arguments.get("init_lora_weights")).lower() == "eva":
        raise ArgumentError(
            "initial weights that go with a plan",
            'init_lora_weights="eva", which needs batches of the training rows and chooses ranks itself',
            "Use another initialization, or PEFT's own get_peft_model and initialize_lora_eva_weights.",
        )
    lora_arguments.setdefault("task_type", task_type_of(model))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        with old_names_allowed():
            peft_model = get_peft_model(model, plan.to_lora_config(**lora_arguments))
    plan.verify(peft_model)
    return peft_model


def task_type_of(model: PreTrainedModel) -> str | None:
    """PEFT's task type; None for models whose inputs PEFT's classes for texts do not pass on, such as Whisper's."""
    reads_texts = getattr(model, "main_input_name", "input_ids") == "input_ids"
    if not (reads_texts and hasattr(model, "can_generate") and model.can_generate()):
        return None
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"
