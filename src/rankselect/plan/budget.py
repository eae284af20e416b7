"""How many parameters a plan may train."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, with_article

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.plan.rank_plan import RankPlan
    from rankselect.plan.targets import Target

__all__ = ["Budget", "budget_of", "parameter_range"]

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kMB]?)")
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


@final
@dataclass(frozen=True, repr=False)
class Budget:
    """The size of an adapter. Give exactly one of the first five.

    Attributes:
        parameters: A number of trainable parameters.
        like: A plan for the same model: as many parameters as it trains.
        fraction: A share of the base model's parameters, above 0 and below 1.
        rank: A uniform rank: as many parameters as it trains on the same target modules.
        memory: The memory that a training step may take, in bytes or as a text like ``"24GiB"``: as many parameters as
            fit, by `rankselect.estimate_memory`.
        step: The settings of the training step for `memory`, for example ``{"batch_size": 4, "length": 512}``.

    Raises:
        ArgumentError: If not exactly one of the first five is given, or a value is out of range.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 9.0})
        >>> plan = rs.PerLayerID().plan(tiny_model(), profile, budget=Budget(rank=4), target_modules=["q_proj"])
        >>> plan.ranks
        {'model.layers.0.self_attn.q_proj': 2, 'model.layers.1.self_attn.q_proj': 6}
    """

    parameters: int | None = None
    like: RankPlan | None = None
    fraction: float | None = None
    rank: int | None = None
    memory: float | str | None = None
    step: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        given = self._given
        if len(given) != 1:
            got = " and ".join(given) or "none"
            remedy = "For example Budget(rank=8), or Budget(parameters=2_000_000)."
            raise ArgumentError("one of parameters, like, fraction, rank and memory for a Budget", got, remedy)
        if self.step is not None and self.memory is None:
            raise ArgumentError("step only together with memory", given[0], "Leave step out.")
        for name in ("parameters", "rank"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ArgumentError(
                    f"{name} of a Budget as an integer of at least 1", repr(value), "Round it, as an int."
                )
        share = self.fraction
        if share is not None and not (isinstance(share, float) and math.isfinite(share) and 0 < share < 1):
            raise ArgumentError(
                "fraction of a Budget as a number above 0 and below 1", repr(share), "0.01 is 1 % of the base model."
            )
        if self.like is not None and not hasattr(self.like, "trainable_parameters"):
            got = with_article(type(self.like).__name__)
            raise ArgumentError("a RankPlan as like of a Budget", got, "Pass a plan, for example RankPlan.load(path).")

    @property
    def _given(self) -> list[str]:
        names = [each.name for each in fields(self) if each.name != "step"]
        return [name for name in names if getattr(self, name) is not None]

    def __repr__(self) -> str:
        if self.like is not None:
            return f"Budget(like={self.like.strategy})"
        return f"Budget({self._given[0]}={getattr(self, self._given[0])!r})"

    def parameters_for(self, targets: Sequence[Target], base_parameters: int) -> int:
        """The number of parameters for these modules; not for a budget of memory, which depends on the plan.

        Args:
            targets: The modules, with the bounds of the plan.
            base_parameters: The number of parameters of the base model.

        Raises:
            ArgumentError: If it is less than the smallest plan or more than the largest, or from a plan for another
                model.
        """
        if self.like is not None:
            _check_same_model(self.like, base_parameters)
            found = self.like.trainable_parameters
        elif self.fraction is not None:
            found = math.floor(self.fraction * base_parameters)
        elif self.rank is not None:
            found = sum(target.parameters(min(self.rank, target.max_rank)) for target in targets)
        else:
            found = self.parameters or 0
        self._check_range(targets, found)
        return found

    def _check_range(self, targets: Sequence[Target], found: int) -> None:
        least, largest = parameter_range(targets)
        if found < least:
            smallest = f"rank {targets[0].clipped(0)} for each of the {len(targets)} target modules"
            if targets[0].at_least == 0:
                smallest = "one rank in the smallest module"
            remedy = "Raise it, name fewer target_modules, or let modules go without an adapter (min_rank=0)."
            raise ArgumentError(f"a budget of at least {least:,} parameters, {smallest}", f"{found:,} ({self})", remedy)
        if found > largest:
            remedy = "Lower it, name more target_modules, or raise max_rank."
            raise ArgumentError(
                f"a budget of at most {largest:,} parameters, the maximum ranks", f"{found:,} ({self})", remedy
            )


def parameter_range(targets: Sequence[Target]) -> tuple[int, int]:
    """The parameters of the smallest plan for these modules, which has at least one rank, and of the largest.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> parameter_range([Target("a", None, 4, 8, at_least=0), Target("b", None, 4, 4, at_least=0)])
        (8, 80)
    """
    least = sum(target.parameters(target.clipped(0)) for target in targets)
    largest = sum(target.parameters(target.clipped(target.max_rank)) for target in targets)
    return least or min(target.parameters(1) for target in targets), largest


def _check_same_model(plan: RankPlan, base_parameters: int) -> None:
    if plan.base_parameters != base_parameters:
        raise ArgumentError(
            f"a budget like a plan for this model, of {base_parameters:,} parameters",
            f"one for {plan.model_name}, of {plan.base_parameters:,}",
            "Use Budget(parameters=plan.trainable_parameters) if you want its size for another model.",
        )


def budget_of(given: Budget | str) -> Budget:
    """A budget from itself or from a text, as on the command line.

    The texts are ``"2000000"``, ``"2M"`` (parameters), ``"1%"`` (of the base model's), ``"rank:16"`` and ``"24GiB"``
    (memory).

    Raises:
        ArgumentError: If it is neither a budget nor such a text, or out of range.

    Example:
        >>> budget_of("2M"), budget_of("1%"), budget_of("rank:16"), budget_of("24GiB")
        (Budget(parameters=2000000), Budget(fraction=0.01), Budget(rank=16), Budget(memory='24GiB'))
    """
    if isinstance(given, Budget):
        return given
    text = given.strip() if isinstance(given, str) else ""
    number = text.removesuffix("%").removeprefix("rank:").removeprefix("rank=")
    if match := _COUNT.fullmatch(text):
        return Budget(parameters=round(float(match[1]) * _FACTORS[match[2]]))
    if text.endswith("%") and (match := _COUNT.fullmatch(number)) and not match[2]:
        return Budget(fraction=float(number) / 100)
    if text.startswith("rank") and number.isdecimal():
        return Budget(rank=int(number))
    if text.lower().endswith("b") and text[:1].isdecimal():
        return Budget(memory=text)
    remedy = "Write for example 2000000 or 2M (parameters), 1% (of the base model), rank:16, or 24GiB (memory)."
    raise ArgumentError("a Budget, or its text", repr(given), remedy)
