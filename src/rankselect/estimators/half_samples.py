"""Half-samples: random halves of the points, and the standard error that their estimates give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Z_95", "check_splits", "half_sample_stderr", "half_samples"]

Z_95 = 1.96
"""Half the width of a 95 % interval, in standard errors."""


def half_samples(n: int, n_splits: int, seed: int) -> NDArray[np.bool_]:
    """Split n rows at random into two halves, several times.

    Args:
        n: The number of rows, at least 2.
        n_splits: How many times, at least once.
        seed: Of the random number generator.

    Returns:
        Shape (2 * n_splits, n): rows 2i and 2i + 1 are the two halves of split i, of n // 2 rows each. Of an odd number
        of rows one is in neither half.

    Raises:
        ArgumentError: If n or n_splits is out of range.

    Example:
        >>> halves = half_samples(5, 3, seed=0)
        >>> halves.sum(axis=1)
        array([2, 2, 2, 2, 2, 2])
        >>> bool((halves[0] & halves[1]).any())
        False
    """
    if n < 2:
        raise ArgumentError("at least 2 rows to halve", str(n), "Give more points.")
    if n_splits < 1:
        raise ArgumentError("n_splits of at least 1", str(n_splits), "50 are enough for most purposes.")
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (n_splits, 1)), axis=1)
    half = n // 2
    return np.stack([order < half, (order >= half) & (order < 2 * half)], axis=1).reshape(2 * n_splits, n)


def half_sample_stderr(values: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Estimate standard errors from the values on half-samples.

    .. math:: \mathrm{stderr} = \tfrac12 \sqrt{\overline{(A - B)^2}}

    with A and B the values on the two halves of a split, and the mean over splits. Two halves of independent points are
    independent of each other, so the variance of A - B is twice that of an estimate from n / 2 points, which is four
    times that of an estimate from n points, for any estimator whose variance falls like 1 / n. The plain spread of the
    values over random halves is a standard error only for averages over points: neighbours change with the half that is
    drawn, and the spread is then too large by a factor of up to :math:`\sqrt{2}`.

    Args:
        values: Values on the halves, in the order of `half_samples`, along the last axis: shape (..., 2 * n_splits).

    Returns:
        Shape (...).

    References:
        Politis and Romano, Large sample confidence regions based on subsamples under minimal assumptions, Annals of
        Statistics 22 (1994), doi:10.1214/aos/1176325770.

    Example:
        >>> import numpy as np
        >>> half_sample_stderr(np.array([[4.0, 5.0, 6.0, 5.0], [3.0, 3.0, 3.0, 3.0]]))
        array([0.5, 0. ])
    """
    difference = values[..., ::2] - values[..., 1::2]
    return np.asarray(np.sqrt(np.mean(difference**2, axis=-1)) / 2)


def check_splits(splits: NDArray[np.bool_], n: int) -> None:
    """Raise unless splits has one row per subset and one column per row of the points.

    Args:
        splits: The array to check.
        n: The number of rows of the points.

    Raises:
        ArgumentError: If splits is not boolean or not of shape (r, n).
    """
    if splits.dtype != np.bool_ or splits.ndim != 2 or splits.shape[1] != n:
        raise ArgumentError(
            f"splits that are booleans of shape (r, {n})",
            f"{splits.dtype} of shape {splits.shape}",
            "Draw them with half_samples.",
        )
