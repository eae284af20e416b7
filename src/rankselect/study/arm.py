"""An arm of a study: a name, a strategy that chooses ranks, and the grids of its hyperparameters."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError
from rankselect.plan.budget import budget_of
from rankselect.plan.scale import alpha_rule
from rankselect.study.recorded import recorded_strategy, strategy_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankselect.strategies._base import RankStrategy

__all__ = ["LIKE", "SCALES_OF", "Arm", "grid_from"]

LIKE, SCALES_OF = "like:", "scales-of:"
"""How an arm refers to another one, in its budget and in its alpha."""

_ADDED = ("budget", "alpha", "cut", "recover_steps")  # left out unless set: older studies keep their hashes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@final
@dataclass(frozen=True, init=False)
class Arm:
    """An arm of a study.

    Args:
        name: Its name in tables and file names: letters, digits, ``-``, ``_`` and ``+``.
        strategy: The strategy that chooses its ranks: an instance, a name as on the command line
            (``"fixed:rank=16"``), or None for the base model without an adapter.
        learning_rates: The grid its learning rate is chosen from; if empty, the study's grid is used.
        alpha_ratios: The grid its alpha ratio is chosen from; if empty, the study's grid is used.
        budget: The size of its adapter, as on the command line (``"rank:8"``, ``"2M"``), or ``"like:NAME"`` for as many
            parameters as another arm has.
        alpha: How its alphas follow from the ranks, as on the command line (``"fixed:32"``), or ``"scales-of:NAME"``
            for the scale of each module in another arm (at that arm's first alpha ratio). It replaces the ratios.
        cut: After training, cut the adapter to this size (``"rank:8"``, ``"25%"`` of its parameters), over all modules.
        recover_steps: Train the cut adapter for so many steps more. Its cost is part of the arm's.

    Raises:
        UnknownNameError: If there is no strategy with this name.
        ArgumentError: If the arm's name contains other characters, a grid contains a value that is not positive, or a
            size or rule is not one.

    Example:
        >>> Arm("rank-16", "fixed:rank=16", learning_rates=[1e-4, 3e-4]).learning_rates
        (0.0001, 0.0003)
        >>> Arm("gora", "gora", budget="like:rank-16", alpha="fixed:32").budget
        'like:rank-16'
        >>> Arm("base").strategy is None
        True
    """

    name: str
    strategy: RankStrategy | None
    learning_rates: tuple[float, ...]
    alpha_ratios: tuple[float, ...]
    budget: str | None
    alpha: str | None
    cut: str | None
    recover_steps: int

    def __init__(
        self,
        name: str,
        strategy: RankStrategy | str | None = None,
        learning_rates: Iterable[float] = (),
        alpha_ratios: Iterable[float] = (),
        *,
        budget: str | None = None,
        alpha: str | None = None,
        cut: str | None = None,
        recover_steps: int = 0,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ArgumentError("a name of letters, digits, -, _ and +", repr(name), "Rename the arm.")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "strategy", None if strategy is None else strategy_from(strategy))
        object.__setattr__(self, "learning_rates", grid_from(learning_rates, f"learning rates of {name}"))
        object.__setattr__(self, "alpha_ratios", grid_from(alpha_ratios, f"alpha ratios of {name}"))
        for part, value in (("budget", budget), ("alpha", alpha), ("cut", cut), ("recover_steps", recover_steps)):
            object.__setattr__(self, part, value)
        self._check_size_and_scale()

    def _check_size_and_scale(self) -> None:
        settings = {"budget": self.budget, "alpha": self.alpha, "cut": self.cut}
        given = [part for part, value in settings.items() if value is not None]
        for part in given:
            if not isinstance(settings[part], str):
                got = f"{settings[part]!r} for {self.name}"
                raise ArgumentError(f"{part} of an arm as text, as on the command line", got, 'For example "rank:8".')
        if self.strategy is None and given:
            raise ArgumentError(f"a strategy for {self.name}, with its {given[0]}", "none", "Name a strategy.")
        if self.alpha is not None and self.alpha_ratios:
            raise ArgumentError(f"alpha or alpha_ratios for {self.name}", "both", "Leave one of them out.")
        if self.budget is not None and not self.budget.startswith(LIKE):
            budget_of(self.budget)
        if self.alpha is not None and not self.alpha.startswith(SCALES_OF):
            alpha_rule(self.alpha)
        if self.cut is not None and budget_of(self.cut).memory is not None:
            raise ArgumentError(f"a number of parameters as cut of {self.name}", self.cut, 'For example "rank:8".')
        steps = self.recover_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0 or (steps and self.cut is None):
            raise ArgumentError(
                f"recover_steps of {self.name} of at least 0, with a cut", repr(steps), 'For example cut="rank:8".'
            )

    @property
    def other(self) -> str | None:
        """The name of the arm whose size or scales it takes; None if there is none, and for both at most one."""
        named = [self.budget.removeprefix(LIKE)] if self.budget and self.budget.startswith(LIKE) else []
        named += [self.alpha.removeprefix(SCALES_OF)] if self.alpha and self.alpha.startswith(SCALES_OF) else []
        if len(set(named)) > 1:
            raise ArgumentError(f"one other arm for {self.name}", " and ".join(named), "Name the same arm twice.")
        return named[0] if named else None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Arm:
        """Rebuild an arm from `to_dict`. A strategy that is not installed here is kept as its recorded text."""
        text = values["strategy"]
        return cls(**{**values, "strategy": None if text is None else recorded_strategy(text)})

    def to_dict(self) -> dict[str, Any]:
        """The arm in JSON values; the strategy is written as its repr."""
        return {
            "name": self.name,
            "strategy": None if self.strategy is None else repr(self.strategy),
            "learning_rates": list(self.learning_rates),
            "alpha_ratios": list(self.alpha_ratios),
            **{name: getattr(self, name) for name in _ADDED if getattr(self, name)},
        }


def grid_from(given: Iterable[float], what: str) -> tuple[float, ...]:
    """Return a grid of values as a tuple, after checking that each is positive and finite.

    Raises:
        ArgumentError: If a value is not.

    Example:
        >>> grid_from([1e-4, 3e-4], "learning rates")
        (0.0001, 0.0003)
    """
    values = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(map(_is_positive, values)):
        raise ArgumentError(f"a list of positive {what}", repr(given), "Give numbers above 0 in a list.")
    return tuple(value if isinstance(value, int) else float(value) for value in values)


def _is_positive(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf
