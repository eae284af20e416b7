"""Whether the texts settle the order of the layers, or chance does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["order_agreement"]


def order_agreement(replicates: Sequence[NDArray[np.float64]]) -> float:
    """How far two disjoint halves of the texts agree on the order of the layers.

    Args:
        replicates: For each layer its values on the halves, in the order of `half_samples`; the same halves for
            every layer.

    Returns:
        The mean Spearman correlation between the orders that the two halves of a split give: 1 when the order is
        settled, about 0 when it is chance. One layer alone is settled; layers that all have one value are not.

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
