"""The loss of an adapter before and after a change, paired on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LossChange"]


@final
@dataclass(frozen=True)
class LossChange:
    """The mean loss of an adapter on rows, against that of the adapter before the change on the same rows.

    Attributes:
        loss: The mean over rows of the loss of the answer, in nats per token.
        difference: It minus that before.
        low: The lower end of the 95 % interval of the difference, paired by row (Student's t).
        high: Its upper end.
        n: The number of rows.

    Example:
        >>> print(LossChange.between([1.0, 2.0, 3.0], [1.1, 2.2, 3.3]))
        2.2000 (+0.2000, 95% interval -0.0484 to +0.4484, 3 rows)
    """

    loss: float
    difference: float
    low: float
    high: float
    n: int

    @classmethod
    def between(cls, before: Sequence[float], after: Sequence[float]) -> LossChange:
        """Compare the losses of the same rows."""
        differences = np.subtract(after, before)
        mean = float(differences.mean())
        if np.ptp(differences) == 0:
            low = high = mean
        else:
            interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
            low, high = float(interval.low), float(interval.high)
        return cls(float(np.mean(after)), mean, low, high, len(differences))

    def __str__(self) -> str:
        interval = f"95% interval {self.low:+.4f} to {self.high:+.4f}, {self.n} rows"
        return f"{self.loss:.4f} ({self.difference:+.4f}, {interval})"
