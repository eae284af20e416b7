"""TwoNN: the intrinsic dimension from the ratio of the distances to the first two neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.errors import ArgumentError, PointsError
from rankselect.estimators._base import NeighborEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TwoNN"]


@final
@dataclass(frozen=True)
class TwoNN(NeighborEstimator):
    r"""The two-nearest-neighbours estimator.

    Where the density is constant up to each point's second neighbour, the ratio :math:`\mu = r_2 / r_1` of the
    distances to its first two neighbours follows a Pareto law whose only parameter is the dimension d,

    .. math:: P(\mu \le t) = 1 - t^{-d},

    so :math:`\log\mu` is exponential with rate d.

    * ``method="fit"`` fits the line :math:`-\log(1 - F(\mu)) = d \log\mu` through the origin to the empirical
      distribution :math:`F(\mu_{(i)}) = i / N`. It leaves out the largest ratios, which suffer most from curvature and
      uneven density.
    * ``method="ml"`` is maximum likelihood over all ratios, :math:`d = (N - 1) / \sum_i \log\mu_i`; N - 1 makes it
      unbiased.

    The standard error takes the N ratios as independent draws from the Pareto law. For "ml" it is
    :math:`d / \sqrt{N}`. For "fit", :math:`d_\mathrm{fit} / d` is a function of N ordered standard exponentials
    :math:`E_{(i)}` alone; with Rényi's representation :math:`E_{(i)} = \sum_{j \le i} Z_j / (N - j + 1)`, the
    :math:`Z_j` independent, its variance follows to first order from the gradient at the expected :math:`E_{(i)}`.

    Args:
        discard_fraction: The share of the largest ratios to leave out of the fit, in [0, 1). The largest of all is
            always left out, since F = 1 there. Ignored by "ml".
        method: "fit" or "ml".

    Raises:
        ArgumentError: If an argument is out of its range.

    References:
        Facco, d'Errico, Rodriguez and Laio, Estimating the intrinsic dimension of datasets by a minimal neighborhood
        information, Scientific Reports 7 (2017), doi:10.1038/s41598-017-11873-y.

    Example:
        >>> import numpy as np
        >>> import rankselect as rs
        >>> points = np.random.default_rng(0).normal(size=(500, 3)) @ np.eye(3, 50)
        >>> round(rs.TwoNN().estimate(points).value, 1)
        3.1
    """

    neighbors_needed = 2
    discard_fraction: float = 0.1
    method: Literal["fit", "ml"] = "fit"

    def __post_init__(self) -> None:
        if not 0 <= self.discard_fraction < 1:
            raise ArgumentError("discard_fraction in [0, 1)", str(self.discard_fraction), "The usual fraction is 0.1.")
        if self.method not in {"fit", "ml"}:
            raise ArgumentError('method "fit" or "ml"', repr(self.method), 'The usual method is "fit".')

    def from_distances(self, distances: NDArray[np.float64]) -> tuple[float, float]:
        """Turn the distances to the first two neighbours, shape (m, 2), into the value and its standard error.

        Raises:
            PointsError: If discarding leaves fewer than two ratios.
        """
        log_mu = np.sort(np.log(distances[:, 1] / distances[:, 0]))
        n = len(log_mu)
        if self.method == "ml":
            value = (n - 1) / log_mu.sum()
            return value, value / np.sqrt(n)
        n_used = min(int(n * (1 - self.discard_fraction)), n - 1)
        if n_used < 2:
            raise PointsError(
                "at least two distance ratios to fit",
                f"{n_used} of {n} after discarding {self.discard_fraction:g} of them",
                "Give more points, or discard less.",
            )
        log_mu, y = log_mu[:n_used], -np.log1p(-np.arange(1, n_used + 1) / n)
        value = (log_mu @ y) / (log_mu @ log_mu)
        return value, value * _relative_error_of_fit(n, y)


def _relative_error_of_fit(n: int, y: NDArray[np.float64]) -> float:
    r"""The standard deviation of :math:`E^\top y / E^\top E`, relative to its value at the expected E.

    Args:
        n: The number of exponentials.
        y: The ordinates of the fit, which uses the smallest len(y) of them.
    """
    spacing = 1.0 / (n - np.arange(len(y)))  # E_(i) = sum over j <= i of spacing_j Z_j
    expected = np.cumsum(spacing)
    squares = expected @ expected
    slope = (expected @ y) / squares
    gradient = (y - 2 * slope * expected) / squares
    influence = np.cumsum(gradient[::-1])[::-1] * spacing  # of Z_j, which moves every E_(i) with i >= j
    return float(np.sqrt(influence @ influence) / slope)
