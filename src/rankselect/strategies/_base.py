"""The base class of strategies, which turn evidence into a rank for each module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, final

from rankselect.errors import ArgumentError
from rankselect.models.quantized_layers import count_parameters
from rankselect.plan.budget import budget_of
from rankselect.plan.scale import AlphaRatio, alpha_rule
from rankselect.plan.targets import find_targets
from rankselect.registry import instance
from rankselect.strategies.planning import check_bounds, evidence_for, make_plan, planned_ranks
from rankselect.strategies.spending import spent, within_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rankselect.calibration.evidence import Calibration, Evidence
    from rankselect.plan.budget import Budget
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.plan.scale import AlphaRule
    from rankselect.plan.targets import Target

__all__ = ["RankStrategy", "strategy"]


class RankStrategy(ABC):
    """The base of every way to choose ranks.

    Subclass it, name the evidence it needs, and write `ranks`. Everything else (finding the modules, rounding,
    clipping, alpha, PEFT's patterns) is done for it, so that no strategy can do it wrong. A strategy should be a frozen
    dataclass: its repr is recorded in its plans.

    Attributes:
        evidence: The class of evidence that `ranks` receives, or None if it needs none.

    Example:
        >>> from dataclasses import dataclass
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> @dataclass(frozen=True)
        ... class WiderIsMore(rs.RankStrategy):
        ...     share: float = 0.25
        ...     def ranks(self, targets, evidence):
        ...         return {target.name: self.share * target.max_rank for target in targets}
        >>> sorted(set(WiderIsMore().plan(tiny_model(), target_modules=["q_proj", "k_proj"]).ranks.values()))
        [4, 8]
    """

    evidence: ClassVar[type[Evidence] | None] = None

    @abstractmethod
    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """The rank that each module should have, before rounding and clipping.

        Args:
            targets: The modules, in model order.
            evidence: An instance of the class in ``evidence``; None if that is None.

        Returns:
            ``{full module name: unrounded rank}`` for every target; any finite numbers.
        """

    def integer_ranks(self, targets: Sequence[Target], evidence: Any, parameters: int | None = None) -> dict[str, int]:
        """The integer ranks of a plan: within the bounds of the targets and, if there is one, within a budget.

        A budget is spent in proportion to `ranks`. Override it only to spend a budget in another way.

        Args:
            targets: The modules, in model order, with the bounds of the plan.
            evidence: An instance of the class in ``evidence``; None if that is None.
            parameters: The budget, or None.
        """
        requested = self.ranks(targets, evidence)
        if parameters is None:
            return planned_ranks(repr(self), targets, requested)
        return spent(repr(self), targets, requested, parameters)

    @final
    def plan(
        self,
        model: nn.Module,
        evidence: Evidence | Calibration | None = None,
        *,
        target_modules: str | Sequence[str] | None = None,
        budget: Budget | str | None = None,
        alpha: AlphaRule | str | None = None,
        alpha_ratio: float = 8.0,
        min_rank: int = 1,
        max_rank: int | None = None,
    ) -> RankPlan:
        """Choose a rank for every target module of a model.

        Args:
            model: The model that PEFT will adapt; its weights are not read, so the meta device will do.
            evidence: The evidence that the strategy needs, or a `Calibration` to measure it from. Strategies that need
                none ignore it.
            target_modules: As PEFT takes it; see `find_targets`.
            budget: The size of the adapter, or its text (``"2M"``, ``"1%"``, ``"rank:16"``, ``"24GiB"``). The plan
                never exceeds it, and what is left is less than the cheapest further rank. None: the ranks as they are.
            alpha: How alpha follows from the rank, or its text (``"fixed:32"``). None: `alpha_ratio`.
            alpha_ratio: The short form of ``alpha=AlphaRatio(alpha_ratio)``: alpha is this times the rank, module by
                module, so the update's scale is the same at any rank.
            min_rank: No rank is below this. With a budget, 0 lets modules go without an adapter.
            max_rank: The maximum rank. No rank exceeds a module's smaller width in any case.

        Returns:
            The plan.

        Warns:
            RankSelectWarning: If a rank exceeds the maximum of its module.

        Raises:
            ArgumentError: If a rank, ratio or budget is outside its range, or the budget is that of another model.
            OutOfMemoryError: If the smallest plan does not fit into a budget of memory.
            EvidenceError: If evidence is missing, of another kind, or about another model.
            TargetError: If target modules match nothing, or cannot get a rank from this evidence.
        """
        if not isinstance(self, RankStrategy):
            raise ArgumentError(
                "a strategy to plan with",
                f"its class, called with a {type(self).__name__}",
                "Create an instance first, for example PerLayerID().plan(model, profile).",
            )
        limit = None if budget is None else budget_of(budget)
        check_bounds(min_rank, max_rank, least=1 if limit is None else 0)
        if alpha is not None and alpha_ratio != 8.0:
            raise ArgumentError(
                "alpha or alpha_ratio", f"both ({alpha!r} and {alpha_ratio!r})", "Leave one of them out."
            )
        rule = AlphaRatio(alpha_ratio) if alpha is None else alpha_rule(alpha)
        found = find_targets(model, target_modules)
        targets = [replace(target, at_least=min_rank, at_most=max_rank) for target in found]
        known = evidence_for(repr(self), self.evidence, evidence, model, target_modules)

        def plan_of(parameters: int | None) -> RankPlan:
            name = repr(self) if limit is None else f"{self!r} within {limit!r}"
            return make_plan(name, model, found, self.integer_ranks(targets, known, parameters), rule)

        if limit is None:
            return plan_of(None)
        if limit.memory is not None:
            return within_memory(plan_of, model, targets, limit)
        return plan_of(limit.parameters_for(targets, count_parameters(model)))


def strategy(given: RankStrategy | str) -> RankStrategy:
    """A strategy from itself or from its name, with arguments after a colon.

    Raises:
        UnknownNameError: If no strategy of this name is installed.
        ArgumentError: If it is neither a strategy nor a name, or the arguments are not those of the strategy.

    Example:
        >>> strategy("fixed:rank=16"), strategy("fixed:16"), strategy("per-layer-id")
        (Fixed(rank=16), Fixed(rank=16), PerLayerID())
    """
    made: RankStrategy = instance("strategy", given, RankStrategy)
    return made
