"""From unrounded ranks to a valid plan: the steps that are the same for every strategy, as pure functions."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from rankselect.calibration.evidence import Calibration
from rankselect.errors import ArgumentError, EvidenceError, RankSelectWarning, TargetError
from rankselect.models.names import model_name
from rankselect.models.quantized_layers import count_parameters
from rankselect.plan.patterns import shortest_target_modules
from rankselect.plan.planned_module import PlannedModule, nearest_rank
from rankselect.plan.rank_plan import RankPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.scale import AlphaRule
    from rankselect.plan.targets import Target

__all__ = ["check_bounds", "check_requested", "evidence_for", "make_plan", "planned_ranks"]


def check_bounds(min_rank: int, max_rank: int | None, *, least: int = 1) -> None:
    """Refuse bounds of a plan's ranks that are out of range.

    Args:
        min_rank: The minimum rank.
        max_rank: The maximum rank.
        least: The smallest minimum: 0 with a budget, 1 without.

    Raises:
        ArgumentError: If one is.
    """
    for name, rank in (("min_rank", min_rank), ("max_rank", max_rank)):
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int)):
            raise ArgumentError(f"an integer {name}", repr(rank), "Ranks are integers: round it, as an int.")
    if min_rank < least:
        remedy = (
            "PEFT has no rank 0: leave such modules out of target_modules, or give a budget." if least else "Raise it."
        )
        raise ArgumentError(f"a min_rank of at least {least}", repr(min_rank), remedy)
    if max_rank is not None and max_rank < 1:
        raise ArgumentError("a max_rank of at least 1", repr(max_rank), "Raise it, or use None.")
    if max_rank is not None and max_rank < min_rank:
        raise ArgumentError(f"a max_rank of at least min_rank ({min_rank})", repr(max_rank), "Raise it, or use None.")


def evidence_for(
    strategy: str,
    kind: type[Evidence] | None,
    given: object,
    model: nn.Module,
    target_modules: str | Sequence[str] | None = None,
) -> Evidence | None:
    """The evidence that a strategy needs: the given one, or measured from the given calibration.

    Args:
        strategy: The `repr` of the strategy, for errors.
        kind: The class of evidence it needs, or None if it needs none.
        given: The evidence, or a calibration.
        model: The model that the plan is for.
        target_modules: Those of the plan, for a calibration that names none.

    Raises:
        EvidenceError: If evidence is missing, of another kind, or about another model.
    """
    if kind is None:
        return None
    if isinstance(given, Calibration):
        calibration = given if given.target_modules is not None else replace(given, target_modules=target_modules)
        found: object = kind.measure(calibration)
    else:
        found = given
    if not isinstance(found, kind):
        raise EvidenceError(f"evidence of the class {kind.__name__} for {strategy}", *_instead_of(kind, found))
    found.check(model)
    return found


def _instead_of(kind: type[Evidence], found: object) -> tuple[str, str]:
    """A description of an object that is not evidence, and what to do."""
    if isinstance(found, (str, os.PathLike)) and hasattr(kind, "load"):
        return repr(os.fspath(found)), f"Read the file first: {kind.__name__}.load(path)."
    if isinstance(found, type):
        got = f"the class {found.__name__}"
    else:
        got = "None" if found is None else f"a {type(found).__name__}"
    return got, "Pass it as the second argument of plan, or a Calibration(model, tokenizer, texts) to measure it."


def planned_ranks(strategy: str, targets: Sequence[Target], unrounded: Mapping[str, float]) -> dict[str, int]:
    """Check a strategy's unrounded ranks, round them, and clip them to the bounds of the targets.

    Args:
        strategy: The `repr` of the strategy, for errors.
        targets: The modules, in model order.
        unrounded: The ranks from the strategy.

    Returns:
        ``{full module name: rank}`` for every target.

    Warns:
        RankSelectWarning: If a rank exceeds the maximum of its module.

    Raises:
        ArgumentError: If a rank is not finite.
        TargetError: If a target has no rank, or a rank no target.
    """
    check_requested(strategy, targets, unrounded)
    rounded = {target.name: nearest_rank(unrounded[target.name]) for target in targets}
    too_small = [target for target in targets if target.within_plan(rounded[target.name]) > target.max_rank]
    if too_small:
        first = too_small[0]
        warnings.warn(
            f"{len(too_small)} modules are smaller than the rank for them, which was clipped to their size: "
            f"{first.name} ({first.d_in} x {first.d_out}) gets {first.max_rank}.",
            RankSelectWarning,
            stacklevel=5,  # the caller of plan
        )
    return {target.name: target.clipped(rounded[target.name]) for target in targets}


def check_requested(strategy: str, targets: Sequence[Target], unrounded: Mapping[str, float]) -> None:
    """Check that a strategy gave every target a finite rank.

    Args:
        strategy: The `repr` of the strategy, for errors.
        targets: The modules.
        unrounded: The ranks from the strategy.

    Raises:
        ArgumentError: If a rank is not finite.
        TargetError: If a target has no rank, or a rank no target.
    """
    names = {target.name for target in targets}
    if unrounded.keys() != names:
        raise TargetError(
            f"a rank from {strategy} for each of the {len(names)} target modules",
            f"{len(unrounded)}; first difference: {min(names ^ unrounded.keys())}",
            "The strategy must return exactly the names of its targets.",
        )
    for name, rank in unrounded.items():
        if not math.isfinite(rank):
            raise ArgumentError(f"a finite rank from {strategy}", f"{rank} for {name}", "Correct the strategy.")


def make_plan(
    strategy: str, model: nn.Module, targets: Sequence[Target], ranks: Mapping[str, int], rule: AlphaRule
) -> RankPlan:
    """The plan with these ranks.

    Args:
        strategy: The strategy, as Python would write it.
        model: The model that the plan is for.
        targets: Its modules to adapt, as they were found: without the bounds of this plan.
        ranks: Their ranks; a module of rank 0 is left out.
        rule: How alpha follows from the rank.

    Raises:
        ArgumentError: If all ranks are 0.
    """
    adapted = [target for target in targets if ranks[target.name]]
    if not adapted:
        raise ArgumentError(f"a rank above 0 from {strategy}", "0 for every module", "Raise the budget or min_rank.")
    spec = shortest_target_modules([target.name for target in adapted], model)
    return RankPlan(
        modules=tuple(PlannedModule(t, ranks[t.name], rule.alpha(t, ranks[t.name])) for t in adapted),
        target_modules=spec if isinstance(spec, str) else tuple(spec),
        strategy=strategy,
        model_name=model_name(model) or type(model).__name__,
        base_parameters=count_parameters(model),
        alpha_rule=rule.kind,
    )
