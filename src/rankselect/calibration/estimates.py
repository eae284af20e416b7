"""Estimates from every layer's hidden states: IDs, standard errors, and how reliable the order of the layers is."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from scipy import stats

from rankselect.errors import PointsError, RankSelectWarning
from rankselect.estimators.half_samples import Z_95, half_sample_stderr, half_samples
from rankselect.plan.planned_module import nearest_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from rankselect.calibration.hidden_states import HiddenStates
    from rankselect.estimators._base import Estimator
    from rankselect.models.processes import Processes
    from rankselect.neighbors.near_duplicates import NearDuplicates

__all__ = ["Estimates", "estimate_layers", "order_agreement"]

logger = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Estimates:
    """The estimates from the texts read so far.

    Attributes:
        values: ``{layer: ID}`` in model order.
        stderr: ``{layer: standard error}``.
        input_values: ``{first layer of a stack: ID of its input}``.
        width: The different widths of the layers.
        agreement: See `order_agreement`.
        near_duplicates: Pairs of texts that are near-copies of each other, in the layer that has most of them.
    """

    values: dict[str, float]
    stderr: dict[str, float]
    input_values: dict[str, float]
    width: tuple[int, ...]
    agreement: float
    near_duplicates: tuple[tuple[int, int], ...]

    def is_stable(self, previous: Estimates, tolerance: float) -> bool:
        """Whether every layer is within `tolerance` ranks, by the half-width of its interval and its last change."""
        return all(
            Z_95 * self.stderr[name] <= tolerance
            and abs(nearest_rank(value) - nearest_rank(previous.values[name])) <= tolerance
            for name, value in self.values.items()
        )


@final
@dataclass(frozen=True)
class _Layer:
    value: float
    stderr: float
    halves: NDArray[np.float64]
    width: int
    near_duplicates: tuple[tuple[int, int], ...]


def estimate_layers(
    states: HiddenStates,
    rows: NDArray[np.int64],
    estimator: Estimator,
    seed: int,
    processes: Processes,
    *,
    near_duplicates: NearDuplicates,
    release: bool,
) -> Estimates:
    """Estimate layer by layer. Each process estimates the layers whose states it has, and all get the results.

    Args:
        states: The hidden states.
        rows: The texts read so far.
        estimator: How points become a dimension.
        seed: The seed of the half samples.
        processes: Those that share the work.
        near_duplicates: Whether one text of each pair of near-copies is left out.
        release: Free each layer's hidden states as soon as they are used.

    Raises:
        PointsError: If the hidden states of a layer have no intrinsic dimension.
    """
    own = processes.together(lambda: _own_layers(states, rows, estimator, seed, near_duplicates, release=release))
    layers = processes.merged(own[0], states.names)
    return Estimates(
        values={name: layer.value for name, layer in layers.items()},
        stderr={name: layer.stderr for name, layer in layers.items()},
        input_values=processes.merged(own[1], states.names),
        width=tuple(dict.fromkeys(layer.width for layer in layers.values())),
        agreement=order_agreement([layer.halves for layer in layers.values()]),
        near_duplicates=max((layer.near_duplicates for layer in layers.values()), key=len),
    )


def _own_layers(
    states: HiddenStates,
    rows: NDArray[np.int64],
    estimator: Estimator,
    seed: int,
    near_duplicates: NearDuplicates,
    *,
    release: bool,
) -> tuple[dict[str, _Layer], dict[str, float]]:
    members = half_samples(len(rows), estimator.n_splits, seed)
    input_values = _stack_input_values(states, rows, estimator, release=release)
    found = {}
    for name in list(states.layers):
        points = states.layers.pop(name) if release else states.layers[name]
        try:
            estimate, halves = estimator.resample(_chosen(points, rows), members, near_duplicates=near_duplicates)
        except PointsError as error:
            raise PointsError(f"{error.expected} in {name}", error.got, error.remedy) from error
        stderr, pairs = float(half_sample_stderr(halves)), estimate.near_duplicates
        in_rows = tuple((int(rows[kept]), int(rows[copy])) for kept, copy in pairs)
        found[name] = _Layer(estimate.value, stderr, halves, int(points.shape[1]), in_rows)
    return found, input_values


def _stack_input_values(
    states: HiddenStates, rows: NDArray[np.int64], estimator: Estimator, *, release: bool
) -> dict[str, float]:
    """The IDs of the inputs of each stack, if they exist: last-token embeddings, for example, are often all equal."""
    found = {}
    for name in list(states.stack_inputs):
        points = states.stack_inputs.pop(name) if release else states.stack_inputs[name]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RankSelectWarning)  # of near-copies, which the layers show too
                found[name] = estimator.estimate(_chosen(points, rows)).value
        except PointsError as error:
            logger.info("The input of %s has no intrinsic dimension: %s", name, error)
    return found


def _chosen(points: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    return points if len(rows) == len(points) else points[rows]


def order_agreement(replicates: Sequence[NDArray[np.float64]]) -> float:
    """How far two disjoint halves of the texts agree on the order of the layers.

    Args:
        replicates: For each layer its values on the halves, in the order of `half_samples`; the same halves for
            every layer.

    Returns:
        The mean Spearman correlation between the orders that the two halves of a split give: 1 when the order is
        reliable, about 0 when it is chance. A single layer counts as 1, layers that all have one value as 0.

    Example:
        >>> order_agreement([np.array([3.0, 3.1]), np.array([5.0, 5.2]), np.array([7.1, 7.0])])
        1.0
    """
    values = np.asarray(replicates)
    if len(values) < 2:
        return 1.0
    correlations = [_spearman(values[:, i], values[:, i + 1]) for i in range(0, values.shape[1], 2)]
    return float(np.mean(correlations))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(stats.spearmanr(a, b).statistic)
