"""How sure a profile is: half-sample intervals, and whether the layers' order is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["halves", "order_agreement", "standard_error"]


def halves(n: int, n_splits: int, seed: int) -> NDArray[np.bool_]:
    """Random splits of n texts into two halves.

    Args:
        n: The number of texts.
        n_splits: How many splits to draw.
        seed: The seed of the draw.

    Returns:
        (2 * n_splits, n) booleans: rows 2i and 2i + 1 are the two halves of split i. With odd n one text, another in
        each split, is in neither.

    Example:
        >>> first, second = halves(6, 1, seed=0)
        >>> int(first.sum()), int(second.sum()), bool((first & second).any())
        (3, 3, False)
    """
    rng = np.random.default_rng(seed)
    members = np.zeros((2 * n_splits, n), dtype=bool)
    for split in range(n_splits):
        order = rng.permutation(n)
        members[2 * split, order[: n // 2]] = True
        members[2 * split + 1, order[n // 2 : 2 * (n // 2)]] = True
    return members


def standard_error(replicates: NDArray[np.float64]) -> float:
    """The standard error of a statistic on n texts, from its values on halves of them.

    The variance of a mean over n/2 of n texts drawn without replacement is s²/(n/2) · (1 - 1/2) = s²/n, that of the
    mean over all n; to first order the same holds for any smooth statistic.

    References:
        Politis and Romano, *Large sample confidence regions based on subsamples*, 1994, doi:10.1214/aos/1176325770.
    """
    return float(np.std(replicates, ddof=1))


def order_agreement(replicates: Sequence[NDArray[np.float64]]) -> float:
    """How far two disjoint halves of the texts agree on the order of the layers.

    Args:
        replicates: For each layer its values on the halves, ordered as by `halves`, the same halves for every layer.

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
