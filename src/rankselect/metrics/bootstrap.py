"""Bootstrap confidence intervals of averages over answers."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np

from rankselect.errors import ArgumentError, MetricError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Average = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["average_of", "bootstrap_interval", "check_bootstrap"]

_NUMBERS_AT_A_TIME = 1 << 20  # 8 MiB of scores and 8 MiB of indices, for any number of answers


def bootstrap_interval(
    average: Average, values: NDArray[np.float64], *, confidence: float, n_resamples: int, seed: int
) -> tuple[float, float]:
    """Return the percentile interval of an average over answers, which are resampled with replacement.

    An answer is drawn with all its scores, so scores of the same answers are resampled jointly.

    Args:
        average: Maps (..., n) or (..., k, n) scores to (...) averages, as `Metric.aggregate` does.
        values: (n,) scores, or (k, n): k scores of each of n answers.
        confidence: The level of the interval, between 0 and 1.
        n_resamples: The number of resamples, of n answers each.
        seed: The seed of the resampling.

    Returns:
        The interval's ends: the quantiles of the averages at (1 - confidence) / 2 and (1 + confidence) / 2.

    Raises:
        ArgumentError: If `confidence`, `n_resamples` or `seed` is out of range.
        MetricError: If `average` does not return one finite number for each resample.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13, doi:10.1201/9780429246593.

    Example:
        >>> scores = np.arange(11.0)
        >>> bootstrap_interval(lambda drawn: drawn.mean(axis=-1), scores, confidence=0.9, n_resamples=500, seed=0)
        (3.5454545454545454, 6.363636363636363)
    """
    check_bootstrap(confidence, n_resamples, seed)
    generator = np.random.default_rng(seed)
    n = values.shape[-1]
    at_a_time = max(1, _NUMBERS_AT_A_TIME // values.size)
    averages = []
    for start in range(0, n_resamples, at_a_time):
        drawn = generator.integers(n, size=(min(at_a_time, n_resamples - start), n))
        averages.append(average_of(average, np.moveaxis(values[..., drawn], -2, 0), (len(drawn),)))
    low, high = np.quantile(np.concatenate(averages), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def average_of(average: Average, values: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Average scores, and check that the averages are finite and have this shape.

    Raises:
        MetricError: If they are not finite or have another shape.

    Example:
        >>> average_of(lambda scores: scores.mean(axis=-1), np.ones((3, 5)), (3,))
        array([1., 1., 1.])
    """
    averages = np.asarray(average(values), dtype=np.float64)
    if averages.shape != shape or not np.isfinite(averages).all():
        raise MetricError(
            f"finite averages of shape {shape} from scores of shape {values.shape}",
            f"shape {averages.shape} with {int((~np.isfinite(averages)).sum())} that are not finite",
            "This is an error in the metric: its aggregate() must average over the last axis.",
        )
    return averages


def check_bootstrap(confidence: float, n_resamples: int, seed: int) -> None:
    """Raise an error for settings from which no interval can be computed.

    Raises:
        ArgumentError: If `confidence` is not between 0 and 1, `n_resamples` is not an integer of at least 1, or `seed`
            is not an integer of at least 0.

    Example:
        >>> check_bootstrap(95, 2000, 0)
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected a confidence between 0 and 1, got 95. For example 0.95.
    """
    if not 0 < confidence < 1:
        raise ArgumentError("a confidence between 0 and 1", repr(confidence), "For example 0.95.")
    for what, number, least, example in (("n_resamples", n_resamples, 1, 2000), ("seed", seed, 0, 0)):
        try:
            enough = operator.index(number) >= least
        except TypeError:
            enough = False
        if not enough:
            raise ArgumentError(f"an integer {what} of at least {least}", repr(number), f"For example {example}.")
