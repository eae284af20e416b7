"""The plug-in point: a strategy turns evidence into one wish for each module, the base class into a sound plan."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, final

from rankselect.calibration.evidence import Calibration
from rankselect.errors import ArgumentError, EvidenceError, RankSelectWarning, TargetError
from rankselect.plan.patterns import shortest_target_modules
from rankselect.plan.rank_plan import PlannedModule, RankPlan
from rankselect.plan.targets import find_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["RankStrategy", "count_parameters"]


class RankStrategy(ABC):
    """The base of every way to choose ranks.

    Subclass it, name the evidence it needs, and write `ranks`. Everything else (finding the modules, rounding,
    clipping, alpha, PEFT's patterns) is done here, so no strategy can get it wrong. A strategy should be a frozen
    dataclass: its repr is recorded in the plans it makes.

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
            evidence: An instance of the class that ``evidence`` names; None if that is None.

        Returns:
            ``{full module name: wish}`` for every target; any finite numbers.
        """

    def ranks_within(
        self,
        targets: Sequence[Target],
        evidence: Any,
        min_rank: int,  # noqa: ARG002
        max_rank: int | None,  # noqa: ARG002
    ) -> Mapping[str, float]:
        """`ranks`, where they depend on the bounds of the plan: only those of a control do, see `SameParameters`."""
        return self.ranks(targets, evidence)

    @final
    def planned_ranks(
        self, targets: Sequence[Target], evidence: Any, *, min_rank: int = 1, max_rank: int | None = None
    ) -> dict[str, int]:
        """The ranks that a plan has for these targets: checked, rounded and clipped.

        Args:
            targets: The modules, in model order.
            evidence: As `ranks` takes it.
            min_rank: As `plan` takes it.
            max_rank: As `plan` takes it.

        Returns:
            ``{full module name: rank}`` for every target.

        Warns:
            RankSelectWarning: If a wish exceeds what a module can have.

        Raises:
            ArgumentError: If a wish is not finite.
            TargetError: If a target has no wish, or none can be given.
        """
        wishes = self._checked(targets, self.ranks_within(targets, evidence, min_rank, max_rank))
        return _clipped(targets, wishes, min_rank, max_rank)

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
            evidence: What the strategy needs, or a `Calibration` from which to measure it. Strategies that need
                none ignore it.
            target_modules: As PEFT takes it; see `find_targets`.
            alpha_ratio: Alpha is this times the rank, module by module, so the update's scale is the same at any rank.
            min_rank: No rank is below this.
            max_rank: No rank is above this; nor above a module's smaller width, in any case.

        Returns:
            The plan.

        Warns:
            RankSelectWarning: If a wish exceeds what a module can have.

        Raises:
            ArgumentError: If a rank or ratio is outside its range.
            EvidenceError: If evidence is missing, of another kind, or about another model.
            TargetError: If target modules match nothing, or cannot get a rank from this evidence.
        """
        _check_arguments(alpha_ratio, min_rank, max_rank)
        targets = find_targets(model, target_modules)
        known = self._evidence_for(model, evidence)
        ranks = self.planned_ranks(targets, known, min_rank=min_rank, max_rank=max_rank)
        spec = shortest_target_modules([target.name for target in targets], model)
        return RankPlan(
            modules=tuple(PlannedModule(t, ranks[t.name], alpha_ratio * ranks[t.name]) for t in targets),
            target_modules=spec if isinstance(spec, str) else tuple(spec),
            strategy=repr(self),
            model_name=str(getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__),
            base_parameters=count_parameters(model),
        )

    def _evidence_for(self, model: nn.Module, given: Any) -> Evidence | None:
        if self.evidence is None:
            return None
        if isinstance(given, Calibration):
            given = self.evidence.measure(given)
        if not isinstance(given, self.evidence):
            raise EvidenceError(
                f"evidence of the class {self.evidence.__name__} for {self!r}",
                "None" if given is None else f"a {type(given).__name__}",
                "Pass it as the second argument of plan, or a Calibration(model, tokenizer, texts) to measure it.",
            )
        given.check(model)
        return given

    def _checked(self, targets: Sequence[Target], wishes: Mapping[str, float]) -> Mapping[str, float]:
        names = {target.name for target in targets}
        if wishes.keys() != names:
            wrong = sorted(names ^ wishes.keys())
            raise TargetError(
                f"a rank from {self!r} for each of the {len(names)} target modules",
                f"{len(wishes)}; first difference: {wrong[0]}",
                "The strategy must return exactly the names of its targets.",
            )
        for name, wish in wishes.items():
            if not math.isfinite(wish):
                raise ArgumentError(f"a finite rank from {self!r}", f"{wish} for {name}", "Correct the strategy.")
        return wishes


def _clipped(
    targets: Sequence[Target], wishes: Mapping[str, float], min_rank: int, max_rank: int | None
) -> dict[str, int]:
    """Round to the nearest whole rank, half up, and clip; a module's own size has the last word."""
    ranks, too_big = {}, []
    for target in targets:
        rank = max(math.floor(wishes[target.name] + 0.5), min_rank)
        rank = rank if max_rank is None else min(rank, max_rank)
        if rank > target.max_rank:
            too_big.append(target)
        ranks[target.name] = min(rank, target.max_rank)
    if too_big:
        first = too_big[0]
        warnings.warn(
            f"{len(too_big)} modules are smaller than the rank wished for them, and were clipped to their size: "
            f"{first.name} ({first.d_in} x {first.d_out}) gets {first.max_rank}.",
            RankSelectWarning,
            stacklevel=4,  # the caller of plan
        )
    return ranks


def _check_arguments(alpha_ratio: float, min_rank: int, max_rank: int | None) -> None:
    if not (math.isfinite(alpha_ratio) and alpha_ratio > 0):
        raise ArgumentError("an alpha_ratio above 0", repr(alpha_ratio), "Alpha is alpha_ratio x rank: try 2 or 8.")
    for name, rank in (("min_rank", min_rank), ("max_rank", max_rank)):
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int)):
            raise ArgumentError(f"a whole {name}", repr(rank), "Ranks are whole numbers: round it, as an int.")
    if min_rank < 1:
        raise ArgumentError(
            "a min_rank of at least 1", repr(min_rank), "PEFT has no rank 0: leave such modules out of target_modules."
        )
    if max_rank is not None and max_rank < min_rank:
        raise ArgumentError(f"a max_rank of at least min_rank ({min_rank})", repr(max_rank), "Raise it, or use None.")


def count_parameters(model: nn.Module) -> int:
    """All parameters of a model; four-bit weights are stored two to a byte, so they count for what they stand for."""
    total = 0
    for parameter in model.parameters():
        packed = type(parameter).__name__ == "Params4bit" and not parameter.is_floating_point()
        total += parameter.numel() * (2 * parameter.element_size() if packed else 1)
    return total
