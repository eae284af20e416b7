"""How alpha depends on the rank: the three rules in use, and the scales of another plan."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

from rankselect.errors import ArgumentError, TargetError, with_article

if TYPE_CHECKING:
    from rankselect.plan.rank_plan import RankPlan
    from rankselect.plan.targets import Target

    Kind = Literal["ratio", "fixed", "rank-stabilized"]

__all__ = ["AlphaRatio", "AlphaRule", "FixedAlpha", "RankStabilized", "ScalesOf", "alpha_rule"]


class AlphaRule(ABC):
    """How the alpha of a module follows from its rank.

    Attributes:
        kind: ``"ratio"``: alpha / rank stays the same if a plan is resized; ``"fixed"``: alpha stays the same;
            ``"rank-stabilized"``: alpha stays the same, and the update is scaled by alpha / sqrt(rank).

    Example:
        >>> import rankselect as rs
        >>> isinstance(rs.FixedAlpha(32), AlphaRule), rs.FixedAlpha(32).kind
        (True, 'fixed')
    """

    kind: ClassVar[Kind]

    @abstractmethod
    def alpha(self, target: Target, rank: int) -> float:
        """PEFT's `lora_alpha` for a module with this rank."""


@final
@dataclass(frozen=True)
class AlphaRatio(AlphaRule):
    """Alpha is a multiple of the rank: all modules have the same scale, ``alpha / rank = ratio``.

    At a constant scale, the best learning rate falls as the rank grows (arXiv:2602.06204).

    Attributes:
        ratio: Alpha divided by rank, above 0.

    Raises:
        ArgumentError: If the ratio is not a positive number.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> set(rs.Fixed(4).plan(tiny_model(), alpha=AlphaRatio(2)).alphas.values())
        {8.0}
    """

    ratio: float = 8.0
    kind: ClassVar[Kind] = "ratio"

    def __post_init__(self) -> None:
        _check_positive("alpha_ratio", self.ratio, "Alpha is alpha_ratio x rank: try 2 or 8.")

    def alpha(self, target: Target, rank: int) -> float:
        """The ratio times the rank."""
        return self.ratio * rank


@final
@dataclass(frozen=True)
class FixedAlpha(AlphaRule):
    """The same alpha for every rank: the scale is alpha / rank, smaller for larger ranks.

    With it, the best learning rate hardly depends on the rank.

    Attributes:
        value: The alpha, above 0.

    Raises:
        ArgumentError: If the alpha is not a positive number.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> plan = rs.Fixed(4).plan(tiny_model(), alpha=FixedAlpha(32))
        >>> set(plan.alphas.values()), set(plan.scaled(2).alphas.values())
        ({32.0}, {32.0})
    """

    value: float = 32.0
    kind: ClassVar[Kind] = "fixed"

    def __post_init__(self) -> None:
        _check_positive("alpha", self.value, "Common choices are 16 and 32.")

    def alpha(self, target: Target, rank: int) -> float:
        """The alpha, at any rank."""
        return self.value


@final
@dataclass(frozen=True)
class RankStabilized(AlphaRule):
    """The same alpha for every rank, and the scale alpha / sqrt(rank): PEFT's ``use_rslora``.

    Attributes:
        value: The alpha, above 0.

    Raises:
        ArgumentError: If the alpha is not a positive number.

    References:
        Kalajdzievski, *A rank stabilization scaling factor for fine-tuning with LoRA*, 2023, arXiv:2312.03732.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> plan = rs.Fixed(4).plan(tiny_model(), alpha=RankStabilized(8))
        >>> plan.use_rslora, set(plan.alphas.values()), set(plan.scales.values())
        (True, {8.0}, {4.0})
    """

    value: float = 8.0
    kind: ClassVar[Kind] = "rank-stabilized"

    def __post_init__(self) -> None:
        _check_positive("alpha", self.value, "Common choices are 8 and 16.")

    def alpha(self, target: Target, rank: int) -> float:
        """The alpha, at any rank."""
        return self.value


@final
@dataclass(frozen=True, repr=False)
class ScalesOf(AlphaRule):
    """The scale that each module has in another plan, at any rank: a control.

    A rule for ranks can change the scales as well, and a gain may come from these alone. Uniform ranks with the scales
    of the plan show how much.

    Attributes:
        plan: The other plan. It must contain every module.

    Raises:
        ArgumentError: If it is not a plan.
        TargetError: From `alpha`, if the plan does not contain the module.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> other = rs.Fixed(4).plan(tiny_model(), alpha=FixedAlpha(32))
        >>> set(rs.Fixed(2).plan(tiny_model(), alpha=ScalesOf(other)).alphas.values())
        {16.0}
    """

    plan: RankPlan
    kind: ClassVar[Kind] = "ratio"

    def __post_init__(self) -> None:
        if not hasattr(self.plan, "scales"):
            got = with_article(type(self.plan).__name__)
            raise ArgumentError("a RankPlan whose scales to use", got, "Pass a plan, for example RankPlan.load(path).")

    def __repr__(self) -> str:
        return f"ScalesOf({self.plan.strategy})"

    def alpha(self, target: Target, rank: int) -> float:
        """The scale of the module in the other plan, times the rank."""
        scale = self.plan.scales.get(target.name)
        if scale is None:
            raise TargetError(
                f"a plan with all target modules, for {self!r}",
                f"one without {target.name}",
                "Give both plans the same target_modules, and leave no module of the other plan out (min_rank=0).",
            )
        return scale * rank


_RULES: dict[str, type[AlphaRatio | FixedAlpha | RankStabilized]] = {
    "ratio": AlphaRatio,
    "fixed": FixedAlpha,
    "rank-stabilized": RankStabilized,
}


def alpha_rule(given: AlphaRule | str | float) -> AlphaRule:
    """An alpha rule from itself or from a text: ``"ratio:8"``, ``"fixed:32"``, ``"rank-stabilized:8"``.

    Raises:
        ArgumentError: If it is neither a rule nor such a text.

    Example:
        >>> alpha_rule("fixed:32"), alpha_rule("rank-stabilized")
        (FixedAlpha(value=32.0), RankStabilized(value=8.0))
    """
    if isinstance(given, AlphaRule):
        return given
    if isinstance(given, str):
        name, _, value = given.partition(":")
        if name in _RULES:
            try:
                return _RULES[name](float(value)) if value else _RULES[name]()
            except ValueError:
                pass
    known = " or ".join(f'"{name}:NUMBER"' for name in _RULES)
    remedy = (
        f"For the same alpha everywhere, use FixedAlpha({given})." if _is_number(given) else "For example fixed:32."
    )
    raise ArgumentError(f"an alpha rule, or {known}", repr(given), remedy)


def _is_number(given: object) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool)


def _check_positive(name: str, value: float, remedy: str) -> None:
    if not (_is_number(value) and math.isfinite(value) and value > 0):
        raise ArgumentError(f"{with_article(name)} above 0", repr(value), remedy)
