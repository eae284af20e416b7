"""The base classes of estimators of the intrinsic dimension (ID)."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import PointsError, RankSelectWarning
from rankselect.estimators.half_samples import check_splits
from rankselect.neighbors.near_duplicates import without_near_duplicates
from rankselect.neighbors.nearest import nearest_neighbors
from rankselect.neighbors.points import indexable
from rankselect.registry import instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import ArrayLike, NDArray

    from rankselect.neighbors.near_duplicates import NearDuplicates, PointsWithoutCopies

__all__ = [
    "Estimator",
    "IDEstimate",
    "NeighborEstimator",
    "estimator",
    "require_within_width",
    "warn_of_near_duplicates",
]


@final
@dataclass(frozen=True)
class IDEstimate:
    """An intrinsic dimension with its standard error.

    Attributes:
        value: The estimate, finite and positive.
        stderr: Its standard error under the assumptions that the estimator documents.
        n_points: The number of distinct points it rests on.
        n_duplicates: How many exact duplicates were dropped before.
        near_duplicates: Pairs of rows that are near-copies of each other, see `find_near_duplicates`. The second of
            each pair was left out, unless ``near_duplicates="keep"`` was given.

    Example:
        >>> import rankselect as rs
        >>> points = np.random.default_rng(0).normal(size=(400, 3))
        >>> estimate = rs.TwoNN().estimate(np.vstack([points, points[:7]]))
        >>> estimate.n_points, estimate.n_duplicates, abs(estimate.value - 3) < 3 * estimate.stderr
        (400, 7, True)
    """

    value: float
    stderr: float
    n_points: int
    n_duplicates: int
    near_duplicates: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    @property
    def n_near_duplicates(self) -> int:
        """How many pairs of near-copies there are."""
        return len(self.near_duplicates)


class Estimator(ABC):
    """An estimator of the intrinsic dimension: subclass it and write `estimate`.

    Estimators are values: make them frozen dataclasses, so that they can be compared, hashed and printed.

    Attributes:
        n_splits: Into how many pairs of halves a profile should split the points for its intervals; lower it if an
            estimate is slow.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> import rankselect as rs
        >>> @dataclass(frozen=True)
        ... class Columns(rs.Estimator):
        ...     def estimate(self, points):
        ...         return rs.IDEstimate(float(np.shape(points)[1]), 0.0, len(points), 0)
        >>> Columns().estimate(np.eye(4)).value
        4.0
    """

    n_splits: ClassVar[int] = 8

    @abstractmethod
    def estimate(self, points: ArrayLike | torch.Tensor) -> IDEstimate:
        """Estimate the intrinsic dimension of points.

        Args:
            points: Shape (n, d): array-like, or a torch tensor on any device. It must not be modified.

        Raises:
            PointsError: If no finite positive value can be computed from these points.
        """

    def resample(
        self, points: ArrayLike | torch.Tensor, splits: NDArray[np.bool_], *, near_duplicates: NearDuplicates = "drop"
    ) -> tuple[IDEstimate, NDArray[np.float64]]:
        """Estimate from all points, and again from each of several subsets of their rows.

        The subsets are half-samples, drawn *without* replacement. The ordinary bootstrap draws some texts twice,
        and a text drawn twice is its own nearest neighbour at distance zero. `half_sample_stderr` turns the values
        into a standard error.

        Args:
            points: Shape (n, d), as for `estimate`.
            splits: One subset per row, shape (r, n); see `half_samples`.
            near_duplicates: ``"drop"`` leaves one of each pair of near-copies out of all of them; ``"keep"`` does not.

        Returns:
            The estimate from all points, and the value from each subset, shape (r,), float64.

        Raises:
            ArgumentError: If splits is not boolean or not of shape (r, n).
            PointsError: If all points, or those of some subset, cannot be estimated.
        """
        check_splits(splits, len(indexable(points)))
        found = without_near_duplicates(points, 1, near_duplicates=near_duplicates)
        rows, splits = indexable(points)[found.rows], splits[:, found.rows]
        estimate = self.estimate(rows)
        values = [self.estimate(rows[np.flatnonzero(split)]).value for split in splits]
        return replace(estimate, near_duplicates=found.pairs), np.array(values, dtype=np.float64)


class NeighborEstimator(Estimator):
    """An estimator that needs nothing but each point's distances to its nearest neighbours.

    Subclasses define how many neighbours they need and turn distances into a value. Exact neighbours, duplicates,
    checks, and resampling at hardly any cost come with the class.

    Example:
        >>> from dataclasses import dataclass
        >>> import rankselect as rs
        >>> @dataclass(frozen=True)
        ... class MeanRatio(rs.NeighborEstimator):
        ...     neighbors_needed = 2
        ...     def from_distances(self, distances):
        ...         value = 1 / float(np.log(distances[:, 1] / distances[:, 0]).mean())
        ...         return value, value / len(distances) ** 0.5
        >>> round(MeanRatio().estimate(np.random.default_rng(0).normal(size=(500, 4))).value)
        4
    """

    n_splits: ClassVar[int] = 50

    @property
    @abstractmethod
    def neighbors_needed(self) -> int:
        """How many neighbours of each point `from_distances` looks at."""

    @abstractmethod
    def from_distances(self, distances: NDArray[np.float64]) -> tuple[float, float]:
        """Turn distances into an estimate.

        Args:
            distances: Every point's distances to its neighbours, ascending, shape (m, neighbors_needed).

        Returns:
            The value and its standard error; NaN, infinity or zero where the formula has no answer (the caller
            raises).
        """

    def estimate(self, points: ArrayLike | torch.Tensor, *, near_duplicates: NearDuplicates = "drop") -> IDEstimate:
        """Estimate the intrinsic dimension of points, after dropping exact duplicates and near-copies.

        Args:
            points: Shape (n, d): array-like, or a torch tensor on any device. It is not modified.
            near_duplicates: ``"drop"`` leaves out one point of each pair that is much closer than the points around
                it allow, see `find_near_duplicates`; ``"keep"`` uses all. A few such pairs ruin an estimate: one
                point in ten repeated with a little noise halves it.

        Warns:
            RankSelectWarning: If there are near-copies.

        Raises:
            PointsError: If the points are not finite real numbers of shape (n, d), are too few, or admit no estimate.
        """
        found = without_near_duplicates(points, self.neighbors_needed, near_duplicates=near_duplicates)
        given = indexable(points)
        estimate = self._estimated(found, given.shape[1])
        warn_of_near_duplicates(found.pairs, len(given), near_duplicates)
        return estimate

    def resample(
        self, points: ArrayLike | torch.Tensor, splits: NDArray[np.bool_], *, near_duplicates: NearDuplicates = "drop"
    ) -> tuple[IDEstimate, NDArray[np.float64]]:
        """Estimate from all points, and again from each of several subsets, searching for neighbours once.

        The search keeps more neighbours than needed. In a half-sample each of them is present with probability 1/2,
        so among 2k + 6 sqrt(k) + 12 of them at least k are, except for 1 point in a million (k = 2) to 1 in 300,000
        (k = 64). A subset with a point that lacks neighbours is searched again, so the values are always those
        of `estimate` on the subset. See `Estimator.resample` for arguments, errors, and why half-samples.
        """
        k = self.neighbors_needed
        # a profile holds all layers in memory while one is searched: smaller blocks than the fastest
        block = max(128, (1 << 20) // max(1, splits.shape[-1]))
        found = without_near_duplicates(
            points,
            k,
            near_duplicates=near_duplicates,
            extra=k + math.ceil(6 * math.sqrt(k)) + 12,
            block_size=block,
        )
        given = indexable(points)
        check_splits(splits, len(given))
        estimate = self._estimated(found, given.shape[1])
        neighbors = found.neighbors
        values = np.empty(len(splits))
        for number, split in enumerate(splits[:, found.rows]):
            distances = neighbors.subset(split, k)
            if len(distances) < len(np.unique(neighbors.point_of_row[split])):
                distances = nearest_neighbors(given[found.rows[np.flatnonzero(split)]], k).distances
            values[number] = self._checked(distances)[0]
        return estimate, values

    def _estimated(self, found: PointsWithoutCopies, width: int) -> IDEstimate:
        neighbors = found.neighbors
        value, stderr = self._checked(neighbors.distances[:, : self.neighbors_needed])
        require_within_width(value, stderr, width)
        return IDEstimate(value, stderr, neighbors.n_points, found.n_duplicates, found.pairs)

    def require_estimate(self, value: float, stderr: float) -> None:
        """Raise unless a value is finite and positive and its standard error is finite.

        Raises:
            PointsError: If not.
        """
        if math.isfinite(value) and value > 0 and math.isfinite(stderr):
            return
        raise PointsError(
            "neighbours at different distances",
            f"points from which {self!r} computes {value:g} ± {stderr:g}",
            "Points on a lattice, or with many equal distances, have no intrinsic dimension by this estimator: "
            "use more or other points, or another estimator.",
        )

    def _checked(self, distances: NDArray[np.float64]) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            value, stderr = self.from_distances(distances)
        self.require_estimate(value, stderr)
        return float(value), float(stderr)


def estimator(given: Estimator | str) -> Estimator:
    """An estimator from itself or from its name, with arguments after a colon.

    Raises:
        UnknownNameError: If no estimator of this name is installed.
        ArgumentError: If it is neither an estimator nor a name, or the arguments are not those of the estimator.

    Example:
        >>> estimator("twonn:method=ml"), estimator("skdim:lPCA")
        (TwoNN(discard_fraction=0.1, method='ml'), SkDim('lPCA'))
    """
    made: Estimator = instance("estimator", given, Estimator)
    return made


def warn_of_near_duplicates(pairs: Sequence[tuple[int, int]], n: int, near_duplicates: NearDuplicates) -> None:
    """Warn the caller of an estimator's `estimate` of pairs of near-copies among n points, if there are any."""
    if pairs:
        (first, second), dropped = pairs[0], near_duplicates == "drop"
        warnings.warn(
            f"{len(pairs)} of {n} points are near-copies of others, for example row {second} of row {first}: "
            f"they {'were left out' if dropped else 'are kept, and lower the estimate'}.",
            RankSelectWarning,
            stacklevel=3,
        )


def require_within_width(value: float, stderr: float, width: int) -> None:
    """Raise if an estimate is above the number of coordinates by more than four standard errors.

    Raises:
        PointsError: If it is.
    """
    if value > width * (1 + 4 * stderr / value):
        raise PointsError(
            f"an intrinsic dimension of at most {width}, the number of coordinates",
            f"{value:.3g} ± {stderr:.2g}",
            "Nearly all points are at the same distance from their neighbours: use more or other points.",
        )
