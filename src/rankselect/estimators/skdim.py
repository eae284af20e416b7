"""SkDim: any estimator of the package scikit-dimension."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from rankselect.errors import ArgumentError, MissingExtraError, PointsError, UnknownNameError
from rankselect.estimators._base import Estimator, IDEstimate, require_within_width, warn_of_near_duplicates
from rankselect.estimators.half_samples import check_splits, half_sample_stderr, half_samples
from rankselect.neighbors.near_duplicates import without_near_duplicates
from rankselect.neighbors.points import DistinctPoints, indexable

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    import torch
    from numpy.typing import ArrayLike, NDArray

    from rankselect.neighbors.near_duplicates import NearDuplicates

__all__ = ["SkDim"]

_SEED = 0
_SPLITS = 4


@final
@dataclass(frozen=True, init=False, repr=False)
class SkDim(Estimator):
    """An estimator of scikit-dimension, by the name of its class in `skdim.id`.

    Exact duplicates are dropped before. scikit-dimension draws from numpy's global random numbers; here it gets a
    fixed seed, and the global state is put back afterwards. The standard error comes from 8 half-samples (see
    `half_sample_stderr`), so one estimate runs scikit-dimension nine times.

    Args:
        name: The name of the class, for example "lPCA".
        kwargs: Arguments of its constructor or of its `fit`, which must be hashable.

    Attributes:
        name: The name of the class.
        arguments: The keyword arguments, sorted by name.

    Raises:
        MissingExtraError: If scikit-dimension is not installed.
        UnknownNameError: If it has no estimator of that name.
        ArgumentError: If that estimator does not take these arguments.

    References:
        Bac, Mirkes, Gorban, Tyukin and Zinovyev, Scikit-dimension: a Python package for intrinsic dimension
        estimation, Entropy 23 (2021), doi:10.3390/e23101368.

    Example:
        >>> import numpy as np
        >>> import rankselect as rs
        >>> points = np.random.default_rng(0).normal(size=(100, 3)) @ np.eye(3, 50)
        >>> rs.SkDim("lPCA", ver="FO").estimate(points)
        IDEstimate(value=3.0, stderr=0.0, n_points=100, n_duplicates=0)
    """

    name: str
    arguments: tuple[tuple[str, Hashable], ...]

    def __init__(self, name: str, **kwargs: Hashable) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", tuple(sorted(kwargs.items())))
        constructor, fit = _parameters(_estimator_class(name))
        for key, value in kwargs.items():
            if key not in constructor | fit:
                raise ArgumentError(
                    f"arguments that scikit-dimension's {name} takes",
                    key,
                    f"Known: {', '.join(sorted(constructor | fit))}.",
                )
            try:
                hash(value)
            except TypeError:
                raise ArgumentError(
                    f"a hashable {key} for scikit-dimension's {name}", repr(value), "Give a number, string or tuple."
                ) from None

    def __repr__(self) -> str:
        arguments = [repr(self.name), *(f"{key}={value!r}" for key, value in self.arguments)]
        return f"SkDim({', '.join(arguments)})"

    def estimate(self, points: ArrayLike | torch.Tensor, *, near_duplicates: NearDuplicates = "drop") -> IDEstimate:
        """Estimate the intrinsic dimension of points, after dropping exact duplicates and near-copies.

        Args:
            points: Shape (n, d): array-like, or a torch tensor on any device. It is not modified.
            near_duplicates: As for `NeighborEstimator.estimate`.

        Warns:
            RankSelectWarning: If there are near-copies.

        Raises:
            PointsError: If the points are not finite real numbers of shape (n, d), or if scikit-dimension fails on
                them or on half of them, warns about them, or answers anything but a finite positive number.
        """
        distinct = DistinctPoints.of(points)
        distinct.require(4)
        splits = half_samples(len(distinct), _SPLITS, _SEED)[:, distinct.point_of_row]
        estimate, _ = self.resample(points, splits, near_duplicates=near_duplicates)
        warn_of_near_duplicates(estimate.near_duplicates, len(distinct.values), near_duplicates)
        return estimate

    def resample(
        self, points: ArrayLike | torch.Tensor, splits: NDArray[np.bool_], *, near_duplicates: NearDuplicates = "drop"
    ) -> tuple[IDEstimate, NDArray[np.float64]]:
        """Estimate from all points, and again from each of several half-samples, which also give the standard error.

        Args:
            points: Shape (n, d), as for `estimate`.
            splits: Pairs of disjoint halves, shape (r, n); see `half_samples`.
            near_duplicates: ``"drop"`` leaves one of each pair of near-copies out of all of them; ``"keep"`` does not.

        Returns:
            The estimate from all points, and the value from each half, shape (r,), float64.

        Raises:
            ArgumentError: If splits is not of that kind.
            PointsError: If all points, or those of some half, cannot be estimated.
        """
        distinct = DistinctPoints.of(points)
        check_splits(splits, len(distinct.values))
        if len(splits) < 2 or len(splits) % 2 or (splits[::2] & splits[1::2]).any():
            raise ArgumentError("splits in pairs of disjoint halves", "others", "Draw them with half_samples.")
        found = without_near_duplicates(points, 1, near_duplicates=near_duplicates)
        if len(found.rows) < len(distinct.values):
            distinct, splits = DistinctPoints.of(indexable(points)[found.rows]), splits[:, found.rows]
        estimate, values = self._resample(distinct, splits)
        require_within_width(estimate.value, estimate.stderr, distinct.values.shape[1])
        return replace(estimate, n_duplicates=found.n_duplicates, near_duplicates=found.pairs), values

    def _resample(self, distinct: DistinctPoints, splits: NDArray[np.bool_]) -> tuple[IDEstimate, NDArray[np.float64]]:
        rows = distinct.rows(slice(None)).double().cpu().numpy()
        value = self._value(rows)
        values = np.array([self._value(rows[np.unique(distinct.point_of_row[split])]) for split in splits])
        stderr = float(half_sample_stderr(values))
        return IDEstimate(value, stderr, len(distinct), distinct.n_duplicates), values

    def _value(self, rows: NDArray[np.float64]) -> float:
        """The estimate of scikit-dimension from distinct points."""
        estimator_class = _estimator_class(self.name)
        constructor, _ = _parameters(estimator_class)
        arguments = dict(self.arguments)
        for_constructor = {key: arguments.pop(key) for key in constructor & arguments.keys()}
        with warnings.catch_warnings(record=True) as caught, _seeded():
            warnings.simplefilter("always")
            try:
                estimator = estimator_class(**for_constructor).fit(rows.copy(), **arguments)
                value = float(estimator.dimension_)
            except Exception as error:  # another package may raise anything
                raise self._failure(rows, f"{type(error).__name__}: {error}") from error
        # numpy's RuntimeWarnings come from intermediate steps; if they matter, the value shows it.
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                raise self._failure(rows, f"the warning: {warning.message}")
        if not (math.isfinite(value) and value > 0):
            raise self._failure(rows, f"an intrinsic dimension of {value:g}")
        return value

    def _failure(self, rows: NDArray[np.float64], got: str) -> PointsError:
        n, d = rows.shape
        return PointsError(
            f"a finite positive intrinsic dimension from {self!r}",
            f"{got.strip().rstrip('.')} (on {n} distinct points in {d} dimensions)",
            "Give more points, or use another estimator.",
        )


def _estimator_class(name: str) -> Any:
    try:
        with warnings.catch_warnings():  # importing it turns off every warning of the process
            module = importlib.import_module("skdim.id")
    except ImportError as error:
        raise MissingExtraError("scikit-dimension", "skdim") from error
    known = dict(inspect.getmembers(module, inspect.isclass))
    if name not in known:
        raise UnknownNameError("scikit-dimension estimator", name, known)
    return known[name]


def _parameters(estimator_class: Any) -> tuple[set[str], set[str]]:
    """The arguments of the constructor, and those of `fit` except the points."""
    constructor = set(inspect.signature(estimator_class).parameters)
    fit = set(inspect.signature(estimator_class.fit).parameters)
    return constructor, fit - {"self", "X", "y", "precomputed_knn_arrays"} - constructor


@contextmanager
def _seeded() -> Iterator[None]:
    """A fixed seed for numpy's global random numbers, whose state is restored afterwards."""
    state = np.random.get_state()  # noqa: NPY002 - it is this very state that has to be kept
    np.random.seed(_SEED)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
