"""Near-copies among points: pairs that are much closer to each other than the points around them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from rankselect.errors import ArgumentError
from rankselect.neighbors.nearest import Neighbors, nearest_neighbors
from rankselect.neighbors.points import indexable

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray

__all__ = ["NearDuplicates", "PointsWithoutCopies", "find_near_duplicates", "without_near_duplicates"]

NearDuplicates = Literal["drop", "keep"]

_NEIGHBORS = 4
_LEVEL = 0.01
_ROUNDS = 10  # a point with several near-copies loses one in each


@final
@dataclass(frozen=True, eq=False)
class PointsWithoutCopies:
    """The nearest neighbours of points, without those that are near-copies of another point.

    Attributes:
        neighbors: The neighbours among the rows that were used.
        rows: Which rows of the input were used, ascending, shape (m,).
        pairs: Pairs of rows that are near-copies: the first is used, the second was left out (or kept, if that
            was requested).
        n_duplicates: How many rows of the input equal an earlier row.
    """

    neighbors: Neighbors
    rows: NDArray[np.int64]
    pairs: tuple[tuple[int, int], ...]
    n_duplicates: int


def find_near_duplicates(neighbors: Neighbors) -> NDArray[np.int64]:
    r"""Find pairs of points that are closer to each other than the intrinsic dimension around them allows.

    Where the density is constant up to a point's fourth neighbour, :math:`(r_1 / r_4)^d` is the smallest of three
    uniform variables, so that

    .. math:: p = 1 - \bigl(1 - (r_1 / r_4)^d\bigr)^3

    is uniform. A near-copy has a p near 0. The dimension d comes from the median of :math:`\log(r_4 / r_2)`, which
    near-copies hardly change: where half of the points have one, r_2 and r_4 are the distances to the next pair and to
    the pair after it. The p of all points are compared with the threshold of Benjamini and Hochberg at 1 %, so a sample
    without near-copies is left alone 99 times of 100 where the law holds. It does not hold where clusters of different
    dimension meet.

    Copies in groups of more than four are not found: their fourth neighbours are copies too.

    Args:
        neighbors: At least four neighbours of each point; with fewer, nothing is found.

    Returns:
        Shape (pairs, 2): numbers of distinct points. A point is in one pair at most.

    References:
        Benjamini and Hochberg, Controlling the false discovery rate, 1995, doi:10.1111/j.2517-6161.1995.tb02031.x;
        Facco et al., 2017, doi:10.1038/s41598-017-11873-y, for the law of the ratios.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(200, 8))
        >>> copies = points[:3] + 0.01
        >>> find_near_duplicates(nearest_neighbors(np.vstack([points, copies]), 4))
        array([[  0, 200],
               [  1, 201],
               [  2, 202]])
    """
    distances = neighbors.distances
    if distances.shape[1] < _NEIGHBORS:
        return np.empty((0, 2), dtype=np.int64)
    first, second, last = distances[:, 0], distances[:, 1], distances[:, _NEIGHBORS - 1]
    spread = float(np.median(np.log(last / second)))
    if spread <= 0:  # a lattice, whose neighbours are all at one distance
        return np.empty((0, 2), dtype=np.int64)
    dimension = np.log(2) / spread  # r_4^d is twice r_2^d in the median, nearly
    p = 1 - (1 - (first / last) ** dimension) ** (_NEIGHBORS - 1)
    ordered = np.sort(p)
    below = np.flatnonzero(ordered <= _LEVEL * np.arange(1, len(p) + 1) / len(p))
    flagged = np.flatnonzero(p <= ordered[below[-1]]) if len(below) else below
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for point in flagged.tolist():
        nearest = int(neighbors.indices[point, 0])
        if taken.isdisjoint((point, nearest)):
            pairs.append((min(point, nearest), max(point, nearest)))
            taken.update(pairs[-1])
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def without_near_duplicates(
    points: ArrayLike | torch.Tensor,
    k: int,
    *,
    near_duplicates: NearDuplicates = "drop",
    extra: int = 0,
    block_size: int = 1024,
) -> PointsWithoutCopies:
    """Find nearest neighbours after leaving out one point of each pair of near-copies.

    Args:
        points: Shape (n, d), as for `nearest_neighbors`.
        k: How many neighbours.
        near_duplicates: ``"drop"`` leaves the later point of each pair out, ``"keep"`` only finds the pairs.
        extra: As for `nearest_neighbors`.
        block_size: As for `nearest_neighbors`.

    Raises:
        ArgumentError: If near_duplicates is neither.
        PointsError: From `nearest_neighbors`.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(200, 8))
        >>> found = without_near_duplicates(np.vstack([points, points[:3] + 0.01]), 2)
        >>> found.neighbors.n_points, found.pairs
        (200, ((0, 200), (1, 201), (2, 202)))
    """
    if near_duplicates not in ("drop", "keep"):
        raise ArgumentError("near_duplicates 'drop' or 'keep'", repr(near_duplicates), "The default is 'drop'.")
    extra = max(extra, _NEIGHBORS - k, 0)
    neighbors = nearest_neighbors(points, k, extra=extra, block_size=block_size)
    rows, n_duplicates = np.arange(len(neighbors.point_of_row)), neighbors.n_duplicates
    pairs: list[tuple[int, int]] = []
    for _ in range(_ROUNDS):
        found = find_near_duplicates(neighbors)
        pairs += [(int(kept), int(copy)) for kept, copy in rows[neighbors.kept[found]]]
        if not len(found) or near_duplicates == "keep":
            break
        rows = rows[~np.isin(neighbors.point_of_row, found[:, 1])]
        neighbors = nearest_neighbors(indexable(points)[rows], k, extra=extra, block_size=block_size)
    return PointsWithoutCopies(neighbors, rows, tuple(sorted(pairs)), n_duplicates)
