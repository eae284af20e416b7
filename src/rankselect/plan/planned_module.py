"""One module of a plan: the target, its rank and its alpha; and how a rank is rounded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, final

from rankselect.errors import ArgumentError, FileFormatError
from rankselect.files import field
from rankselect.plan.targets import Target

__all__ = ["PlannedModule", "nearest_rank"]


def nearest_rank(value: float) -> int:
    """The nearest integer, half up.

    Example:
        >>> nearest_rank(2.5), nearest_rank(2.4999), nearest_rank(-0.5)
        (3, 2, 0)
    """
    return math.floor(value + 0.5)


@final
@dataclass(frozen=True)
class PlannedModule:
    """One module with its rank.

    Attributes:
        target: The module.
        rank: The rank of its adapter, from 1 to ``target.max_rank``.
        alpha: PEFT's ``lora_alpha`` for it; the update is scaled by ``alpha / rank``, or by ``alpha / sqrt(rank)`` in a
            plan with rank-stabilized scales.

    Raises:
        ArgumentError: If the rank is not possible for the module, or alpha is not positive.

    Example:
        >>> from rankselect.plan.targets import Target
        >>> PlannedModule(Target("layers.0.fc1", "layers.0", d_in=64, d_out=256), rank=65, alpha=8.0)
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected an integer rank from 1 to 64 for layers.0.fc1, got 65. Clip the rank.
    """

    target: Target
    rank: int
    alpha: float

    def __post_init__(self) -> None:
        whole = isinstance(self.rank, int) and not isinstance(self.rank, bool)
        if not whole or not 1 <= self.rank <= self.target.max_rank:
            raise ArgumentError(
                f"an integer rank from 1 to {self.target.max_rank} for {self.target.name}",
                repr(self.rank),
                "Clip the rank.",
            )
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ArgumentError(f"a positive alpha for {self.target.name}", repr(self.alpha), "Use an alpha above 0.")
        object.__setattr__(self, "alpha", float(self.alpha))

    def scaled(self, scale: float, *, keep_alpha: bool = False) -> PlannedModule:
        """The rank multiplied by a number, rounded, and clipped to the range of the module; alpha too, or kept."""
        rank = min(max(nearest_rank(self.rank * scale), 1), self.target.max_rank)
        return replace(self, rank=rank, alpha=self.alpha if keep_alpha else self.alpha / self.rank * rank)

    def to_dict(self) -> dict[str, Any]:
        """The module in JSON values."""
        target = self.target
        where = {"name": target.name, "layer": target.layer, "d_in": target.d_in, "d_out": target.d_out}
        return {**where, "rank": self.rank, "alpha": self.alpha}

    @classmethod
    def from_dict(cls, entry: Any, path: object) -> PlannedModule:
        """The module that `to_dict` wrote.

        Raises:
            FileFormatError: If a field is missing or of another type; it names the file by its path.
            ArgumentError: If rank or alpha is not possible.
        """
        if not isinstance(entry, dict):
            raise FileFormatError("modules that are JSON objects", f"{entry!r} in {path}", "Create the file again.")
        target = Target(
            name=field(entry, "name", str, path),
            layer=field(entry, "layer", (str, type(None)), path),
            d_in=field(entry, "d_in", int, path),
            d_out=field(entry, "d_out", int, path),
        )
        return cls(target, field(entry, "rank", int, path), float(field(entry, "alpha", (int, float), path)))
