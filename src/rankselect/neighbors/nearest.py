"""Exact nearest neighbours: found with fast, rounded products of matrices, proved with bounds, measured exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from rankselect.errors import ArgumentError
from rankselect.neighbors.bounds import Frame, Sketch, screening_dtype
from rankselect.neighbors.points import DistinctPoints

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Neighbors", "nearest_neighbors"]


@final
@dataclass(frozen=True, eq=False)
class Neighbors:
    """Every distinct point's nearest neighbours among the others.

    Attributes:
        distances: Euclidean distances, ascending, shape (m, k), float64.
        indices: Which of the m distinct points the neighbours are, shape (m, k), int64.
        kept: The rows of the input that the distinct points are: the first of each group of equal rows, shape (m,).
        point_of_row: Which of the m distinct points each of the n rows of the input is, shape (n,).

    Example:
        >>> neighbors = nearest_neighbors([[0.0], [1.0], [0.0], [3.0]], 1)
        >>> neighbors.distances.ravel(), neighbors.indices.ravel(), neighbors.n_duplicates
        (array([1., 1., 2.]), array([1, 0, 1]), 1)
    """

    distances: NDArray[np.float64]
    indices: NDArray[np.int64]
    kept: NDArray[np.int64]
    point_of_row: NDArray[np.int64]

    @property
    def n_points(self) -> int:
        """The number m of distinct points."""
        return len(self.kept)

    @property
    def n_duplicates(self) -> int:
        """How many rows of the input equal an earlier row."""
        return len(self.point_of_row) - len(self.kept)

    def subset(self, mask: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
        """Distances of a subset's points to their nearest neighbours within the subset.

        A distinct point is in the subset when any of the rows that equal it is.

        Args:
            mask: Which rows of the input form the subset, shape (n,).
            k: How many neighbours.

        Returns:
            Shape (p, k), for the p points of the subset that have at least k neighbours of the subset in their list,
            in the order of `kept`. The others are left out: search for more neighbours if that is too many.

        Example:
            >>> import numpy as np
            >>> import rankselect as rs
            >>> neighbors = nearest_neighbors([[0.0], [1.0], [3.0], [7.0]], 3)
            >>> neighbors.subset(np.array([True, False, True, True]), 1).ravel()
            array([3., 3., 4.])
        """
        member = np.zeros(self.n_points, dtype=np.bool_)
        member[self.point_of_row[mask]] = True
        rows = np.flatnonzero(member)
        hits = np.flatnonzero(member[self.indices[rows]])  # row by row, nearest first
        row_of_hit = hits // self.indices.shape[1]
        counts = np.bincount(row_of_hit, minlength=len(rows))
        starts = np.cumsum(counts) - counts
        enough = counts >= k
        chosen = hits[starts[enough, None] + np.arange(k)]
        distances: NDArray[np.float64] = self.distances[rows].ravel()[chosen]
        return distances


def nearest_neighbors(points: ArrayLike | torch.Tensor, k: int, *, extra: int = 0, block_size: int = 1024) -> Neighbors:
    """Find the k nearest neighbours of every distinct point, exactly.

    Rows that equal an earlier row are dropped and counted: a repeated text is its own neighbour at distance zero,
    which says nothing about dimension. Distances are those of the given values, to 1e-6 or better: candidates come
    from rounded products of matrices, bounds on the rounding prove that no neighbour was missed (rows without such a
    proof are searched again in float64), and the candidates' distances come from differences. Memory beyond the
    input and the result grows by only a few bytes per point: tiles of `block_size` rows against 8,192
    points, and a bfloat16 copy of the points as long as it takes at most 64 MiB.

    Args:
        points: Shape (n, d), floats or integers, array-like or a torch tensor on any device. It is not modified.
        k: How many neighbours.
        extra: How many further neighbours to find, for estimates from subsets; fewer if there are not enough points.
        block_size: How many rows to compare with a tile of points at a time. Fewer take less memory, and much more
            time if no copy is kept, because points are then rounded again for each block.

    Returns:
        The neighbours, nearest first; equal distances in the order of the points.

    Raises:
        ArgumentError: If k or block_size is below one, or extra below zero.
        PointsError: If points is not two-dimensional, not real numbers or not finite, or if it has fewer than k + 1
            distinct rows.

    Example:
        >>> import rankselect as rs
        >>> nearest_neighbors([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 1.0]], 2).distances
        array([[1.        , 5.        ],
               [4.24264069, 5.        ],
               [1.        , 4.24264069]])
    """
    for name, value, least in (("k", k, 1), ("extra", extra, 0), ("block_size", block_size, 1)):
        if value < least:
            raise ArgumentError(f"{name} of at least {least}", str(value), f"Give a larger {name}.")
    distinct = DistinctPoints.of(points)
    distinct.require(k + 1)
    k = min(k + extra, len(distinct) - 1)
    distances = np.empty((len(distinct), k))
    indices = np.empty((len(distinct), k), dtype=np.int64)
    _Search(Frame.of(distinct), k, block_size, distances, indices).run()
    return Neighbors(distances, indices, distinct.kept, distinct.point_of_row)


@final
@dataclass(frozen=True, eq=False)
class _Search:
    """One search, which fills `distances` and `indices` row by row."""

    frame: Frame
    k: int
    block_size: int
    distances: NDArray[np.float64]
    indices: NDArray[np.int64]

    def run(self) -> None:
        device = self.frame.centre.device
        pending = torch.arange(len(self.frame), device=device)
        dtype = screening_dtype(device)
        if dtype != torch.float64:
            sketch = Sketch.of(self.frame, dtype)
            pending = torch.cat([self._try(sketch, rows) for rows in pending.split(self.block_size)])
        if len(pending):
            sketch = Sketch.of(self.frame, torch.float64)
            for rows in pending.split(max(1, self.block_size // 2)):
                self._search_exactly(sketch, rows)

    def _try(self, sketch: Sketch, rows: torch.Tensor) -> torch.Tensor:
        """Search among few candidates a row; return the rows for which nothing proves that these are enough."""
        others = len(self.frame) - 1
        n_candidates = min(others, self.k + max(8, self.k // 2))
        squared, indices = sketch.nearest(rows, n_candidates)
        lower, upper = sketch.bounds(squared, rows, indices)
        possible = lower <= upper.kthvalue(self.k, dim=1, keepdim=True).values
        entry = possible.nonzero()
        farthest = self._measure(rows, entry[:, 0], indices[possible])
        if n_candidates == others:
            return rows[:0]
        elsewhere = sketch.bound_elsewhere(squared.amax(dim=1), rows) / self.frame.scale
        return rows[farthest >= elsewhere]

    def _search_exactly(self, sketch: Sketch, rows: torch.Tensor) -> None:
        """Search among all points that the bounds do not exclude."""
        least = torch.full((len(rows), self.k), torch.inf, dtype=torch.float64, device=rows.device)
        found = []
        for columns, squared in sketch.tiles(rows):
            lower, upper = sketch.bounds(squared, rows, columns)
            least = torch.cat([least, upper], dim=1).topk(self.k, dim=1, largest=False).values
            entry = (lower <= least.amax(dim=1, keepdim=True)).nonzero()  # so far
            found.append((entry[:, 0], columns[entry[:, 1]], lower[entry[:, 0], entry[:, 1]]))
        position, candidates, lower = (torch.cat(parts) for parts in zip(*found, strict=True))
        possible = lower <= least.amax(dim=1)[position]
        self._measure(rows, position[possible], candidates[possible])

    def _measure(self, rows: torch.Tensor, position: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Set each row's neighbours to the nearest of its candidates; return the distance of the k-th.

        Args:
            rows: The b points.
            position: For every pair of a point and a candidate, the point's position in `rows`.
            candidates: The candidate of every pair; at least k to a point.
        """
        distance = self.frame.points.distances(rows[position], candidates).cpu().numpy()
        place, candidate = position.cpu().numpy(), candidates.cpu().numpy()
        order = np.lexsort((candidate, distance, place))
        counts = np.bincount(place, minlength=len(rows))
        chosen = order[(np.cumsum(counts) - counts)[:, None] + np.arange(self.k)]
        target = rows.cpu().numpy()
        self.distances[target] = distance[chosen]
        self.indices[target] = candidate[chosen]
        return torch.from_numpy(distance[chosen[:, -1]]).to(rows.device)
