"""MLE: the intrinsic dimension by maximum likelihood from the distances to k neighbours (Levina and Bickel)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.errors import ArgumentError
from rankselect.estimators._base import NeighborEstimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MLE"]


@final
@dataclass(frozen=True)
class MLE(NeighborEstimator):
    r"""The maximum-likelihood estimator of Levina and Bickel.

    Around each point i, neighbours in a ball of d dimensions arrive like a Poisson process, for which the distances
    :math:`T_j` to the k nearest give the estimate

    .. math:: d_i = \frac{k - 1}{\sum_{j < k} \log(T_k / T_j)}.

    How the points' estimates become one is the choice of ``aggregate``:

    * ``"mle"``: the harmonic mean, which is maximum likelihood for all points together (MacKay and Ghahramani);
    * ``"mean"``: the arithmetic mean of the original paper, biased upwards for small k;
    * ``"median"``: the median, for data with outlying neighbourhoods.

    The standard error takes the points' estimates as independent: the delta method for "mle", the standard error of
    the mean for "mean", half the distance between the order statistics at ranks :math:`m/2 \pm \sqrt{m}/2` of the m
    points for "median".
    Neighbourhoods overlap, the more so the larger k, so it is too small; the half-sample intervals of a profile do
    not make that assumption.

    Args:
        n_neighbors: The number k of neighbours, at least 2.
        aggregate: "mle", "mean" or "median".

    Raises:
        ArgumentError: If an argument is out of its range.

    References:
        Levina and Bickel, Maximum likelihood estimation of intrinsic dimension, NIPS 2004.
        MacKay and Ghahramani, Comments on "Maximum likelihood estimation of intrinsic dimension" by E. Levina and
        P. Bickel (2005), http://www.inference.org.uk/mackay/dimension/.

    Example:
        >>> import numpy as np
        >>> import rankselect as rs
        >>> points = np.random.default_rng(0).normal(size=(500, 3)) @ np.eye(3, 50)
        >>> round(rs.MLE().estimate(points).value, 1)
        3.1
    """

    n_neighbors: int = 20
    aggregate: Literal["mle", "mean", "median"] = "mle"

    def __post_init__(self) -> None:
        if self.n_neighbors < 2:
            raise ArgumentError("n_neighbors of at least 2", str(self.n_neighbors), "The usual number is 20.")
        if self.aggregate not in {"mle", "mean", "median"}:
            raise ArgumentError('aggregate "mle", "mean" or "median"', repr(self.aggregate), 'The usual one is "mle".')

    @property
    def neighbors_needed(self) -> int:
        """As many as the estimate of a point looks at."""
        return self.n_neighbors

    def from_distances(self, distances: NDArray[np.float64]) -> tuple[float, float]:
        """Turn the distances to k neighbours, shape (m, k), into the value and its standard error."""
        m, k = distances.shape
        inverse = np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1) / (k - 1)
        if self.aggregate == "mle":
            value = 1 / inverse.mean()
            return value, value**2 * inverse.std(ddof=1) / np.sqrt(m)
        local = 1 / inverse
        if self.aggregate == "mean":
            return local.mean(), local.std(ddof=1) / np.sqrt(m)
        return float(np.median(local)), _stderr_of_median(local)


def _stderr_of_median(values: NDArray[np.float64]) -> float:
    """Half the width of the distribution-free interval that covers the median with probability 68 %."""
    m = len(values)
    ranks = (m - 1) / 2 + np.array([-0.5, 0.5]) * np.sqrt(m)
    low, high = np.interp(ranks, np.arange(m), np.sort(values))
    return float(high - low) / 2
