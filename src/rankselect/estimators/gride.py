"""Gride: the intrinsic dimension at a range of scales, from ratios of distances to ever farther neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from scipy.optimize import brentq

from rankselect.errors import ArgumentError
from rankselect.estimators._base import NeighborEstimator
from rankselect.neighbors.nearest import nearest_neighbors

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Gride", "GrideScaling"]


@final
@dataclass(frozen=True, eq=False)
class GrideScaling:
    """The intrinsic dimension as a function of scale.

    Attributes:
        values: The estimate for the neighbours :math:`n_1 = 1, 2, 4, …` and :math:`n_2 = 2 n_1`, shape (s,).
        stderr: Its standard error from the observed Fisher information, shape (s,). It takes the points as
            independent, and is too small where their neighbourhoods overlap, the more so the larger the scale.
        scales: The mean distance to the two neighbours, in the units of the points, shape (s,).

    Example:
        >>> import numpy as np
        >>> import rankselect as rs
        >>> scaling = rs.Gride(range_max=8).scaling(np.random.default_rng(0).normal(size=(500, 2)))
        >>> len(scaling.values), bool((np.diff(scaling.scales) > 0).all())
        (3, True)
    """

    values: NDArray[np.float64]
    stderr: NDArray[np.float64]
    scales: NDArray[np.float64]


@final
@dataclass(frozen=True)
class Gride(NeighborEstimator):
    r"""The generalised-ratios estimator.

    Where the density is constant up to each point's :math:`n_2`-th neighbour, the ratio
    :math:`\mu = r_{n_2} / r_{n_1}` of the distances to two neighbours has the density

    .. math:: f(\mu) = \frac{d\,(\mu^d - 1)^{n_2 - n_1 - 1}}{\mu^{(n_2 - 1) d + 1}\,B(n_2 - n_1, n_1)},

    of which d is the maximum-likelihood estimate. Doubling :math:`n_1` and :math:`n_2 = 2 n_1` together looks at the
    same points from farther and farther away, without thinning them out: small scales see noise, large ones see
    curvature and edges, and the dimension is what stays the same in between.

    `estimate` looks for that plateau. It answers with the ID at the scale around which the ID changes least: the
    middle one of the three consecutive scales with the smallest ratio of largest to smallest ID. Three are used
    because two estimates are close by chance wherever the curve turns; a ratio, because IDs of 5 and 6 differ more
    than IDs of 50 and 51. With two scales it is the first of them, with one that one.

    Args:
        range_max: The farthest neighbour to look at: a power of two, at least 2. The points must be more than that.

    Raises:
        ArgumentError: If range_max is not a power of two, or below 2.

    References:
        Denti, Doimo, Laio and Mira, The generalized ratios intrinsic dimension estimator, Scientific Reports 12
        (2022), doi:10.1038/s41598-022-20991-1.

    Example:
        >>> import numpy as np
        >>> import rankselect as rs
        >>> points = np.random.default_rng(0).normal(size=(500, 3)) @ np.eye(3, 50)
        >>> rs.Gride(range_max=16).scaling(points).values.round(1)
        array([2.9, 3. , 3.2, 3.1])
        >>> round(rs.Gride(range_max=16).estimate(points).value, 1)
        3.2
    """

    range_max: int = 64

    def __post_init__(self) -> None:
        if self.range_max < 2 or self.range_max & (self.range_max - 1):
            raise ArgumentError(
                "range_max that is a power of two, at least 2", str(self.range_max), "The usual one is 64."
            )

    @property
    def neighbors_needed(self) -> int:
        """As many as `range_max`."""
        return self.range_max

    def scaling(self, points: ArrayLike | torch.Tensor) -> GrideScaling:
        """Estimate the intrinsic dimension at every scale.

        Args:
            points: Shape (n, d): array-like, or a torch tensor on any device. It is not modified.

        Raises:
            PointsError: If the points are not finite real numbers of shape (n, d), are too few, or admit no estimate.
        """
        scaling = self._scaling(nearest_neighbors(points, self.range_max).distances)
        for value, stderr in zip(scaling.values, scaling.stderr, strict=True):
            self.require_estimate(value, stderr)
        return scaling

    def from_distances(self, distances: NDArray[np.float64]) -> tuple[float, float]:
        """Turn the distances to `range_max` neighbours into the ID at the plateau and its standard error."""
        scaling = self._scaling(distances)
        at = _plateau(scaling.values)
        return float(scaling.values[at]), float(scaling.stderr[at])

    def _scaling(self, distances: NDArray[np.float64]) -> GrideScaling:
        near = 2 ** np.arange(self.range_max.bit_length() - 1)
        inner, outer = distances[:, near - 1], distances[:, 2 * near - 1]
        estimates = [_maximum_likelihood(np.log(outer[:, i] / inner[:, i]), int(n1)) for i, n1 in enumerate(near)]
        values, stderr = np.array(estimates).T
        return GrideScaling(values, stderr, ((inner + outer) / 2).mean(axis=0))


def _maximum_likelihood(log_mu: NDArray[np.float64], n1: int) -> tuple[float, float]:
    r"""The estimate for :math:`n_2 = 2 n_1` and its standard error; infinite if all ratios are one.

    With :math:`L = \log\mu`, the score

    .. math:: \frac{N}{d} + (n_1 - 1) \sum \frac{L}{1 - e^{-d L}} - (2 n_1 - 1) \sum L

    falls from plus infinity to :math:`-n_1 \sum L`. Since :math:`1/d \le L / (1 - e^{-d L}) \le 1/d + L`, its root is
    in a known interval. N is reduced by one, which makes the estimate for :math:`n_1 = 1` unbiased.
    """
    n, total = len(log_mu), log_mu.sum()
    if not total > 0:
        return np.inf, np.inf
    positive = log_mu[log_mu > 0]
    n_ties = n - len(positive)  # where L = 0, L / (1 - exp(-d L)) is 1 / d

    def score(d: float) -> float:
        middle = (positive / -np.expm1(-d * positive)).sum() + n_ties / d
        return float((n - 1) / d + (n1 - 1) * middle - (2 * n1 - 1) * total)

    numerator = n * n1 - 1
    low, high = numerator / ((2 * n1 - 1) * total), numerator / (n1 * total)
    value = brentq(score, low * (1 - 1e-6), high * (1 + 1e-6), xtol=1e-12 * low, rtol=1e-12)
    curvature = (positive / (2 * np.sinh(value * positive / 2))) ** 2
    information = n / value**2 + (n1 - 1) * (curvature.sum() + n_ties / value**2)
    return value, 1 / np.sqrt(information)


def _plateau(values: NDArray[np.float64]) -> int:
    """Where the ID changes least: the middle of the three consecutive scales whose IDs are in the closest ratio."""
    if len(values) < 3:
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(np.log(values), 3)
    return 1 + int(np.argmin(np.ptp(windows, axis=1)))
