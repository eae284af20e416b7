"""Input points, prepared for neighbour search: checked, and without exact duplicates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from rankselect.errors import PointsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = ["DistinctPoints", "indexable"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)
_LARGEST = 1e300  # beyond it, distances in float64 overflow
_CHUNK = 1 << 18  # elements handled at a time: temporaries that a processor's cache still holds


@final
@dataclass(frozen=True, eq=False)
class DistinctPoints:
    """The distinct rows of a set of points, read in place without copying all of them.

    Attributes:
        values: The points as given, shape (n, d), on the CPU or a CUDA device.
        kept: The rows that are the first of their kind, ascending, shape (m,).
        point_of_row: Which of the m distinct points each of the n rows is, shape (n,).
        largest: The largest absolute value.

    Example:
        >>> DistinctPoints.of([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]]).kept
        array([0, 1])
    """

    values: torch.Tensor
    kept: NDArray[np.int64]
    point_of_row: NDArray[np.int64]
    largest: float

    @classmethod
    def of(cls, points: ArrayLike | torch.Tensor) -> DistinctPoints:
        """Check points and find the exact duplicates among them, in time linear in their number.

        Two rows are duplicates when all their values are equal; -0.0 equals 0.0.

        Args:
            points: Shape (n, d), of any real type of numpy or torch.

        Raises:
            PointsError: If the points are not a two-dimensional array of finite real numbers.
        """
        values = _as_tensor(points)
        largest = _largest_magnitude(values)
        first = _first_equal_row(values)
        kept = np.flatnonzero(first == np.arange(len(first)))
        return cls(values, kept, np.searchsorted(kept, first), largest)

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def n_duplicates(self) -> int:
        """How many rows equal an earlier row."""
        return len(self.values) - len(self.kept)

    def require(self, needed: int) -> None:
        """Raise unless there are enough distinct points.

        Raises:
            PointsError: If there are fewer than `needed`.
        """
        if len(self) >= needed:
            return
        n = len(self.values)
        got = f"{n} points, {self.n_duplicates} of them duplicates"
        if n > 1 and len(self) == 1:
            got = f"{n} points, and all points are equal"
        raise PointsError(
            f"at least {needed} distinct points",
            got,
            "Give more points, or use an estimator that looks at fewer neighbours.",
        )

    @property
    def exact_dtype(self) -> torch.dtype:
        """The type in which the difference of two rows does not overflow or lose digits."""
        if self.values.dtype == torch.float64 or self.largest > 1e38:
            return torch.float64
        return torch.float32

    @cached_property
    def _kept(self) -> torch.Tensor:
        return torch.from_numpy(self.kept).to(self.values.device)

    def rows(self, rows: slice | torch.Tensor) -> torch.Tensor:
        """Some of the distinct points, in the type they were given in."""
        return self.values[self._kept[rows] if self.n_duplicates else rows]

    def gather(self, index: torch.Tensor) -> torch.Tensor:
        """A new tensor of the distinct points of an index, in `exact_dtype`."""
        return self.rows(index).to(self.exact_dtype)

    def distances(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Euclidean distances of pairs, from differences of the given values.

        Args:
            first: Indices into the distinct points, shape (p,).
            second: As many indices.

        Returns:
            Shape (p,), float64, on the device of the values. Every coordinate's difference is rounded once,
            squares are summed in float64.
        """
        result = torch.empty(len(first), dtype=torch.float64, device=self.values.device)
        size = max(1, _CHUNK // max(1, self.values.shape[1]))
        for start in range(0, len(first), size):
            chunk = slice(start, start + size)
            difference = self.gather(first[chunk]).sub_(self.gather(second[chunk]))
            if difference.dtype == torch.float32:  # squares of float32 numbers stay in float64's range
                result[chunk] = torch.linalg.vector_norm(difference, dim=1, dtype=torch.float64)
            else:
                peak = difference.abs().amax(dim=1).clamp_(min=5e-324)
                result[chunk] = torch.linalg.vector_norm(difference.div_(peak[:, None]), dim=1).mul_(peak)
        return result


def _as_tensor(points: ArrayLike | torch.Tensor) -> torch.Tensor:
    """Points as a two-dimensional tensor of a float type on the CPU or a CUDA device."""
    tensor = points.detach() if isinstance(points, torch.Tensor) else _tensor_from_array(points)
    if tensor.layout != torch.strided or tensor.dtype not in _FLOATS + _INTS:
        raise _not_numbers(f"a {tensor.layout} tensor of {tensor.dtype}".replace("torch.", ""))
    if tensor.ndim != 2:
        raise PointsError(
            "points of shape (n, d): one row per point",
            f"shape {tuple(tensor.shape)}",
            "Give a two-dimensional array.",
        )
    if tensor.device.type not in {"cpu", "cuda"}:  # other devices may lack float64
        tensor = tensor.cpu()
    return tensor.to(torch.float64) if tensor.dtype in _INTS else tensor


def _tensor_from_array(points: ArrayLike) -> torch.Tensor:
    try:
        array = np.asarray(points)
    except ValueError as error:  # rows of different lengths
        raise PointsError(
            "points of shape (n, d): one row per point", str(error), "Give rows of equal length."
        ) from error
    if array.dtype.kind not in "fiu":
        raise _not_numbers(f"an array of {array.dtype}")
    wide = array.dtype.kind in "iu" or array.dtype.itemsize > 8
    dtype = np.dtype(np.float64) if wide else array.dtype.newbyteorder("=")
    array = array.astype(dtype, copy=False)
    if any(stride < 0 or stride % dtype.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*")  # nothing is written to it
        return torch.from_numpy(array)


def _not_numbers(got: str) -> PointsError:
    return PointsError("points that are real numbers", got, "Give an array of floats (or integers) of shape (n, d).")


def _blocks(values: torch.Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK // max(1, values.shape[1]))
    return (slice(start, start + size) for start in range(0, len(values), size))


def indexable(points: ArrayLike | torch.Tensor) -> Any:
    """Points whose rows can be chosen by an integer array: torch tensors stay on their device."""
    return points if isinstance(points, torch.Tensor) else np.asarray(points)


def _largest_magnitude(values: torch.Tensor) -> float:
    """The largest absolute value; raises if any value is NaN, infinite or beyond 1e300."""
    if values.numel() == 0:
        return 0.0
    low, high = (float(bound) for bound in torch.aminmax(values))
    largest = max(-low, high)
    if np.isfinite(low) and np.isfinite(high) and largest <= _LARGEST:
        return largest
    bad = np.concatenate(
        [(~(values[block].double().abs() <= _LARGEST)).any(dim=1).cpu().numpy() for block in _blocks(values)]
    )
    rows = np.flatnonzero(bad)
    raise PointsError(
        "points with finite values",
        f"NaN, infinite or larger than {_LARGEST:g} in {len(rows)} of {len(values)} rows, first in row {rows[0]}",
        "Drop those rows, or find their cause (half-precision overflow is a common one).",
    )


def _first_equal_row(values: torch.Tensor) -> NDArray[np.int64]:
    """For every row, the first row that equals it; rows with equal hashes are compared to be sure."""
    hashes = _row_hashes(values)
    first = np.arange(len(values))
    pending = first
    while len(pending):
        _, start, group = np.unique(hashes[pending], return_index=True, return_inverse=True)
        leader = pending[start[group]]
        same = leader == pending
        same[~same] = _rows_equal(values, pending[~same], leader[~same])
        first[pending[same]] = leader[same]
        pending = pending[~same]
    return first


def _row_hashes(values: torch.Tensor) -> NDArray[np.int64]:
    """A 64-bit hash of each row's bits: a sum with random odd weights, modulo 2^64, in any order of summing."""
    n, d = values.shape
    size = values.element_size()
    word = 8 if d * size % 8 == 0 else size
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[word]
    generator = np.random.default_rng(0)
    odd = generator.integers(-(2**62), 2**62, size=d * size // word) * 2 + 1
    weights = torch.from_numpy(odd).to(values.device)
    hashes = torch.empty(n, dtype=torch.int64, device=values.device)
    for block in _blocks(values):
        bits = (values[block] + 0.0).contiguous().view(integers).to(torch.int64)  # adding 0.0 turns -0.0 into 0.0
        # Short numbers in a long format differ in their upper bits alone, which a product would shift out.
        bits ^= (bits >> 32) & 0xFFFFFFFF
        hashes[block] = bits.mul_(weights).sum(dim=1)
    return hashes.cpu().numpy()


def _rows_equal(values: torch.Tensor, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    equal = np.empty(len(first), dtype=np.bool_)
    size = max(1, _CHUNK // max(1, values.shape[1]))
    for start in range(0, len(first), size):
        chunk = slice(start, start + size)
        one, other = (torch.from_numpy(rows[chunk]).to(values.device) for rows in (first, second))
        equal[chunk] = (values[one] == values[other]).all(dim=1).cpu().numpy()
    return equal
