"""Capacity: the least uniform rank that can hold what the answers tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.calibration.token_count import TokenCount
from rankselect.errors import ArgumentError
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["Capacity"]


@final
@dataclass(frozen=True)
class Capacity(RankStrategy):
    r"""One rank for all modules, with enough parameters for the information in the answers.

    .. math:: r = \left\lceil \frac{n_{\text{tokens}} \, b}{c \sum (d_{in} + d_{out})} \right\rceil

    with b the bits that a token tells and c those that a parameter can hold. LoRA was found to equal full fine-tuning
    until its capacity is used up; supervised data tells about one bit a token, and a parameter holds about two. Use it
    with all linear modules (``target_modules="all-linear"``).

    Cost: the rows are tokenized; the model does not run.

    For it: an order of magnitude from a count, and a reason to raise the rank for large data. Against it: the two
    numbers are rough, and below capacity it says nothing: for a few thousand short answers it gives rank 1.

    Attributes:
        bits_per_token: The bits b.
        bits_per_parameter: The bits c.

    Raises:
        ArgumentError: If a number of bits is not positive.

    References:
        Schulman et al., *LoRA without regret*, 2025, https://thinkingmachines.ai/blog/lora/.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> plan = Capacity().plan(tiny_model(), rs.TokenCount(5_000), target_modules="all-linear")
        >>> set(plan.ranks.values()), plan.trainable_parameters
        ({3}, 3072)
    """

    evidence: ClassVar[type[Evidence] | None] = TokenCount

    bits_per_token: float = 1.0
    bits_per_parameter: float = 2.0

    def __post_init__(self) -> None:
        for name, value in (("bits_per_token", self.bits_per_token), ("bits_per_parameter", self.bits_per_parameter)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                raise ArgumentError(f"{name} above 0", repr(value), "About 1 bit a token, 2 bits a parameter.")

    def ranks(self, targets: Sequence[Target], evidence: TokenCount) -> Mapping[str, float]:
        """The rank that holds the bits of all tokens, for every target."""
        needed = evidence.n_tokens * self.bits_per_token / self.bits_per_parameter
        rank = math.ceil(needed / sum(target.parameters(1) for target in targets))
        return dict.fromkeys((target.name for target in targets), float(rank))
