"""EffectiveRank: ranks by how many directions each base weight uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, final

import numpy as np

from rankselect.calibration.weights import WeightSpectra
from rankselect.errors import ArgumentError
from rankselect.plan.allocation import gains_of_wishes
from rankselect.strategies._relative import RelativeStrategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["EffectiveRank"]


@final
@dataclass(frozen=True)
class EffectiveRank(RelativeStrategy):
    r"""Ranks in proportion to the effective rank of each base weight.

    With :math:`\sigma` the singular values of the weight, it is one of

    .. math::
        \exp\Big(-\sum_i p_i \log p_i\Big), \; p_i = \frac{\sigma_i}{\sum_j \sigma_j}
        \qquad \frac{\sum_i \sigma_i^2}{\sigma_1^2}
        \qquad \min\Big\{k : \sum_{i \le k} \sigma_i^2 \ge \tau \sum_i \sigma_i^2\Big\}

    for the kinds ``"entropy"`` (Roy and Vetterli), ``"stable"`` (the stable rank) and ``"energy"``.

    Cost: one decomposition for each module; no texts, no forward pass.

    For it: needs no data. Against it: the rank of a weight says how it was trained before, not what an update of it
    will need; there is no evidence that it helps.

    Attributes:
        kind: ``"entropy"``, ``"stable"`` or ``"energy"``.
        energy: The share :math:`\tau`, for ``"energy"``.

    Raises:
        ArgumentError: If the kind is unknown, or the share is not above 0 and at most 1.
        EvidenceError: From `plan`, if a target was not measured, or all weights are 0.

    References:
        Roy and Vetterli, *The effective rank: A measure of effective dimensionality*, 2007, EUSIPCO.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> spectra = rs.WeightSpectra.measure(rs.Calibration(model, None, [], progress=False))
        >>> len(EffectiveRank("stable", rank=4).plan(model, spectra).ranks)
        4
    """

    evidence: ClassVar[type[Evidence] | None] = WeightSpectra

    kind: Literal["entropy", "stable", "energy"] = "entropy"
    energy: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in {"entropy", "stable", "energy"}:
            raise ArgumentError("a kind of effective rank", repr(self.kind), "Known: entropy, stable, energy.")
        number = isinstance(self.energy, (int, float)) and not isinstance(self.energy, bool)
        if not (number and 0 < self.energy <= 1):
            raise ArgumentError("an energy above 0 and at most 1", repr(self.energy), "Common is 0.9.")

    def gains(self, targets: Sequence[Target], evidence: WeightSpectra) -> list[NDArray[np.float64]]:
        """Gains for ranks in proportion to the effective rank of each target's weight."""
        return gains_of_wishes(targets, [self.of(values) for values in evidence.of(targets)])

    def of(self, values: NDArray[np.float64]) -> float:
        """The effective rank of singular values, the largest first; 0 if all are 0.

        Example:
            >>> EffectiveRank("entropy").of(np.ones(4)), EffectiveRank("energy").of(np.array([3.0, 1.0]))
            (4.0, 1.0)
        """
        if not values[0]:
            return 0.0
        if self.kind == "entropy":
            shares = values[values > 0] / values.sum()
            return float(np.exp(-(shares * np.log(shares)).sum()))
        squares = values**2
        if self.kind == "stable":
            return float(squares.sum() / squares[0])
        return float(np.searchsorted(np.cumsum(squares), self.energy * squares.sum() * (1 - 1e-12)) + 1)
