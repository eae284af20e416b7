"""The base class of strategies, which turn evidence into a rank for each module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, final

from rankselect.errors import ArgumentError
from rankselect.plan.targets import find_targets
from rankselect.registry import instance
from rankselect.strategies.planning import check_arguments, evidence_for, make_plan, planned_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rankselect.calibration.evidence import Calibration, Evidence
    from rankselect.plan.rank_plan import RankPlan
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

    @final
    def plan(
        self,
        model: nn.Module,
        evidence: Evidence | Calibration | None = None,
        *,
        target_modules: str | Sequence[str] | None = None,
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
            alpha_ratio: Alpha is this times the rank, module by module, so the update's scale is the same at any rank.
            min_rank: No rank is below this.
            max_rank: The maximum rank. No rank exceeds a module's smaller width in any case.

        Returns:
            The plan.

        Warns:
            RankSelectWarning: If a rank exceeds the maximum of its module.

        Raises:
            ArgumentError: If a rank or ratio is outside its range.
            EvidenceError: If evidence is missing, of another kind, or about another model.
            TargetError: If target modules match nothing, or cannot get a rank from this evidence.
        """
        if not isinstance(self, RankStrategy):
            raise ArgumentError(
                "a strategy to plan with",
                f"its class, called with a {type(self).__name__}",
                "Create an instance first, for example PerLayerID().plan(model, profile).",
            )
        check_arguments(alpha_ratio, min_rank, max_rank)
        found = find_targets(model, target_modules)
        targets = [replace(target, at_least=min_rank, at_most=max_rank) for target in found]
        known = evidence_for(repr(self), self.evidence, evidence, model)
        ranks = planned_ranks(repr(self), targets, self.ranks(targets, known))
        return make_plan(repr(self), model, found, ranks, alpha_ratio)


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
