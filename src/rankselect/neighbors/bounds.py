"""Which points can be neighbours: low-precision matrix products, with bounds on their rounding errors.

Let y_i = s x_i - c be a scaled and shifted point and a_i its rounding to a short format. For *any* s and c,
s |x_i - x_j| = |y_i - y_j|, and by the triangle inequality it differs from A_ij = |a_i - a_j| by at most
rho_i + rho_j with rho_i = |y_i - a_i|, which is computed. A_ij^2 = |a_i|^2 + |a_j|^2 - 2 a_i a_j comes out of one
product of matrices: the squared norms are extra columns, each split into three short numbers, so that the
product's accumulator (float32 for bfloat16) subtracts before its result is rounded. That accumulator errs by at most
gamma (|a_i| + |a_j|)^2, the final rounding by a factor 1 +- u.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankselect.neighbors.points import DistinctPoints

__all__ = ["Frame", "Sketch", "screening_dtype"]

_TILE = 32  # matrix units work on 32 short numbers at a time
_TINY = 2.0**-100  # more than what flushing subnormal numbers can change, in a frame whose largest value is near 1
_TILE_COLUMNS = 8192  # with how many points a block of rows is compared at a time
_ROUNDED = 1 << 19  # how many numbers are rounded at a time where no rounded copy is kept
_KEPT_BYTES = 1 << 26  # the largest rounded copy that is kept; of more points, tiles are rounded when needed


def screening_dtype(device: torch.device) -> torch.dtype:
    """The fastest type in which this device multiplies matrices with a known error.

    bfloat16 on CUDA and on processors with a matrix unit for it; float32 elsewhere, unless the user lets torch
    round float32 products (`torch.set_float32_matmul_precision`), which leaves float64.
    """
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if device.type == "cuda" or capabilities.get("amx_bf16", False):
        return torch.bfloat16
    return torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64


@final
@dataclass(frozen=True, eq=False)
class Frame:
    """The scale and centre in which points are screened. They change the speed, never the answer.

    Attributes:
        points: The points.
        scale: A power of two that brings the largest value near one, so that squares do not over- or underflow.
        centre: Near the mean of the scaled points, shape (d,), float64.
    """

    points: DistinctPoints
    scale: float
    centre: torch.Tensor

    @classmethod
    def of(cls, points: DistinctPoints) -> Frame:
        """Choose the scale from the largest value and the centre from at most 2,048 of the points."""
        limit = 120 if points.exact_dtype == torch.float32 else 1000
        scale = 2.0 ** max(-limit, min(limit, -math.frexp(points.largest)[1]))
        step = max(1, -(-len(points) // 2048))
        sample = points.gather(torch.arange(0, len(points), step, device=points.values.device))
        centre = sample.mul_(scale).mean(dim=0, dtype=torch.float64)
        return cls(points, scale, centre.to(points.exact_dtype).to(torch.float64))

    def __len__(self) -> int:
        return len(self.points)

    def rows(self, rows: slice | torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Some scaled and centred points, computed in `dtype`, which is at least `points.exact_dtype`."""
        return (self.points.rows(rows).to(dtype) * self.scale).sub_(self.centre.to(dtype))


@final
@dataclass(frozen=True, eq=False)
class Sketch:
    """Points rounded to a short format, with bounds on the rounding errors.

    Attributes:
        frame: The points.
        dtype: The format: bfloat16, float32 or float64.
        squares: |a_j|^2, shape (m,), float64.
        losses: Upper bounds rho_j of |y_j - a_j|, shape (m,), float64.
        kept: Rows (a_j, three parts of |a_j|^2, 1, 1, 1, zeros), if in bfloat16 they take at most 64 MiB; None
            otherwise, and rows are rounded when needed.
    """

    frame: Frame
    dtype: torch.dtype
    squares: torch.Tensor
    losses: torch.Tensor
    kept: torch.Tensor | None

    @classmethod
    def of(cls, frame: Frame, dtype: torch.dtype) -> Sketch:
        """Round all points of a frame to `dtype`, a few rows at a time."""
        m, d, device = len(frame), len(frame.centre), frame.centre.device
        working = torch.promote_types(frame.points.exact_dtype, dtype)
        squares = torch.empty(m, dtype=torch.float64, device=device)
        losses = torch.empty_like(squares)
        small = dtype == torch.bfloat16 and 2 * m * _width(d) <= _KEPT_BYTES
        kept = torch.empty(m, _width(d), dtype=dtype, device=device) if small else None
        size = max(1, _ROUNDED // _width(d))
        for start in range(0, m, size):
            block = slice(start, start + size)
            exact = frame.rows(block, working)
            short = exact.to(dtype)
            squares[block] = _squared_norms(short)
            losses[block] = torch.linalg.vector_norm(exact.sub_(short), dim=1)
            if kept is not None:
                kept[block] = _with_norms(short, squares[block])
        # The margins: rounding in the sum of squares, in y itself, and of subnormal numbers.
        losses.mul_(1.001).add_(squares.sqrt() * torch.finfo(working).eps).add_(_TINY)
        return cls(frame, dtype, squares, losses, kept)

    @property
    def gamma(self) -> float:
        """Bound of the accumulator's error, in units of (|a_i| + |a_j|)^2; tensor cores truncate, hence the two."""
        unit = 2.0**-53 if self.dtype == torch.float64 else 2.0**-24
        return 2.0 * (_width(len(self.frame.centre)) + 64) * unit

    @property
    def unit(self) -> float:
        """The relative error of one rounding to the short format."""
        return torch.finfo(self.dtype).eps / 2

    @property
    def norms(self) -> torch.Tensor:
        """Upper bounds of |a_j|."""
        return self.squares.sqrt() * 1.001

    def tiles(self, rows: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Approximate A_ij^2 of the points with indices `rows` to all points, a tile of columns at a time.

        Yields:
            The indices j, shape (c,), and A_ij^2, shape (b, c), infinite where j is i.
        """
        left = _transposed_roles(self._matrix(rows), len(self.frame.centre))
        n_columns = _TILE_COLUMNS if self.kept is not None else _rounded_columns(left.shape[1])
        for columns in torch.arange(len(self.frame), device=left.device).split(n_columns):
            start = int(columns[0])
            with _full_precision_sums(left.device):
                squared = left @ self._matrix(slice(start, start + len(columns))).T
            own = ((rows >= start) & (rows < start + len(columns))).nonzero()[:, 0]
            squared[own, rows[own] - start] = torch.inf
            yield columns, squared

    def nearest(self, rows: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The n smallest approximate A_ij^2 of each point to others, ascending, and the indices j, both (b, n)."""
        squared = torch.empty(len(rows), 0, dtype=self.dtype, device=rows.device)
        indices = torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
        for columns, tile in self.tiles(rows):
            top = tile.topk(min(n, len(columns)), dim=1, largest=False)
            squared = torch.cat([squared, top.values], dim=1)
            indices = torch.cat([indices, columns[top.indices]], dim=1)
            if squared.shape[1] > n:
                best = squared.topk(n, dim=1, largest=False)
                squared, indices = best.values, indices.gather(1, best.indices)
        return squared, indices

    def bounds(
        self, squared: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper bounds of scaled distances, from approximate A_ij^2 of shape (b, c).

        Args:
            squared: The approximate A_ij^2.
            rows: The indices i, shape (b,).
            columns: The indices j, shape (b, c) or (c,).
        """
        norms, squared = self.norms, squared.to(torch.float64)
        error = (norms[rows, None] + norms[columns]).square_().mul_(self.gamma).add_(_TINY)
        loss = self.losses[rows, None] + self.losses[columns]
        lower = (squared / (1 + self.unit) - error).clamp_(min=0.0).sqrt_().sub_(loss)
        upper = (squared.clamp(min=0.0) / (1 - self.unit) + error).sqrt_().add_(loss)
        return lower, upper

    def bound_elsewhere(self, largest: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """A lower bound of the scaled distances of points to every point that is not among their candidates.

        With |a_j| <= |a_i| + A_ij, and rho_j <= r |a_j| + rho_0 for all j, it needs nothing of j but A_ij.

        Args:
            largest: The largest approximate A_ij^2 among each point's candidates, shape (b,); all others exceed it.
            rows: The indices i, shape (b,).
        """
        norms = self.norms
        ordinary = norms > 2.0**-60
        ratio = float(torch.where(ordinary, self.losses / norms, 0.0).max())
        offset = float(torch.where(ordinary, 0.0, self.losses).max())
        squared = largest.to(torch.float64) / (1 + self.unit) - 8 * self.gamma * norms[rows].square() - _TINY
        apart = (squared / (1 + 2 * self.gamma)).clamp_(min=0.0).sqrt_()
        return apart * (1 - ratio) - ratio * norms[rows] - offset - self.losses[rows]

    def _matrix(self, rows: slice | torch.Tensor) -> torch.Tensor:
        if self.kept is not None:
            return self.kept[rows]
        working = torch.promote_types(self.frame.points.exact_dtype, self.dtype)
        return _with_norms(self.frame.rows(rows, working).to(self.dtype), self.squares[rows])


def _rounded_columns(width: int) -> int:
    return max(512, min(_TILE_COLUMNS, _ROUNDED // width))


def _width(dimension: int) -> int:
    return -(-(dimension + 6) // _TILE) * _TILE


def _squared_norms(short: torch.Tensor) -> torch.Tensor:
    """|a_j|^2 in float64, with an error far below gamma's."""
    squares = short.to(torch.promote_types(short.dtype, torch.float32)).square()
    padded = torch.nn.functional.pad(squares, (0, -squares.shape[1] % _TILE))
    return padded.view(len(short), -1, _TILE).sum(dim=2).sum(dim=1, dtype=torch.float64)


def _with_norms(short: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Rows (a_j, three parts of |a_j|^2, 1, 1, 1, zeros)."""
    d = short.shape[1]
    matrix = short.new_zeros(len(short), _width(d))
    matrix[:, :d] = short
    rest = squares.clone()
    for column in range(d, d + 3):
        matrix[:, column] = rest
        rest -= matrix[:, column]
    matrix[:, d + 3 : d + 6] = 1.0
    return matrix


def _transposed_roles(matrix: torch.Tensor, d: int) -> torch.Tensor:
    """Rows (-2 a_i, 1, 1, 1, three parts of |a_i|^2, zeros): their product with `_with_norms` rows is A_ij^2."""
    left = matrix.clone()
    left[:, :d] *= -2.0
    left[:, d : d + 3] = matrix[:, d + 3 : d + 6]
    left[:, d + 3 : d + 6] = matrix[:, d : d + 3]
    return left


@contextlib.contextmanager
def _full_precision_sums(device: torch.device) -> Iterator[None]:
    """Keep CUDA from accumulating a bfloat16 product in bfloat16."""
    if device.type != "cuda":
        yield
        return
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before
