"""Perplexity: how surprised the model is by the reference answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import MetricError
from rankselect.metrics._base import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rankselect.metrics.metric_input import MetricInput

__all__ = ["Perplexity"]

_MOST = 709.0  # exp of a larger number overflows
_ROUNDING = 1e-6  # rounding of log-probabilities may put a loss below 0 by this much


@final
@dataclass(frozen=True)
class Perplexity(Metric):
    r"""The perplexity of each reference answer under the model, and their geometric mean; lower is better.

    If reference i has the mean loss :math:`\ell_i` in nats per token, its perplexity is :math:`e^{\ell_i}`. The average
    is :math:`e^{\bar\ell}`, with the mean :math:`\bar\ell` over references: every answer has the same weight,
    regardless of its length. Only the losses are needed, no texts. Perplexities can only be compared between models
    with the same tokenizer.

    Example:
        >>> print(Perplexity().evaluate(losses=np.log([2, 8])))
        perplexity 4.0000 (95% interval 2.0000 to 8.0000)
    """

    name: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    needs_texts: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("losses",)

    def values(self, answers: MetricInput) -> NDArray[np.float64]:
        """The perplexity of each reference answer.

        Raises:
            MetricError: If a loss is negative, or so large that the perplexity overflows.
        """
        for index, loss in enumerate(answers.losses):
            got = f"{loss:g} at index {index}"
            if loss < -_ROUNDING:
                raise MetricError("losses of at least 0", got, "A loss is the negative log-probability: flip the sign.")
            if loss > _MOST:
                remedy = "Check the model, and that the loss is a mean over tokens."
                raise MetricError(f"losses of at most {_MOST:g} nats per token", got, remedy)
        return np.exp(answers.losses)

    def aggregate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The geometric mean over the last axis, which is the exponential of the mean loss."""
        return np.asarray(np.exp(np.log(values).mean(axis=-1)))
