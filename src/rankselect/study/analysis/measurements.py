"""The measurements of one run: ranks, costs, losses, and scores with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from rankselect.metrics.bootstrap import bootstrap_interval
from rankselect.study.analysis.differences import CONFIDENCE
from rankselect.study.analysis.scores import TEST_LOSS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rankselect.metrics._base import Metric
    from rankselect.study.run import RunResult

__all__ = ["UNITS", "Measured", "measurements"]

UNITS = {
    "rank_least": "",
    "rank_mean": "",
    "rank_greatest": "",
    "alpha_least": "",
    "alpha_mean": "",
    "alpha_greatest": "",
    "trainable_parameters": "",
    "trainable_percent": "%",
    "trainable_percent_as_stored": "%",
    "selection_seconds": "s",
    "training_seconds": "s",
    "tokens_per_second": "1/s",
    "peak_memory_bytes": "B",
    "final_training_loss": "nats",
    "validation_loss": "nats",
    "test_loss": "nats",
    "inference_seconds_per_answer": "s",
    "inference_tokens_per_second": "1/s",
}
"""The measurements besides the metrics, and their units."""

_RESAMPLES = 2000


@final
@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        measurement: Its name: a key of `UNITS` or a metric's name.
        value: Its value.
        condition: How answers were generated; empty if the measurement does not depend on it.
        low: The lower end of the 95 % bootstrap interval over questions; None if the value is not an average over them.
        high: The upper end.

    Example:
        >>> Measured("rank_mean", 8.0)
        Measured(measurement='rank_mean', value=8.0, condition='', low=None, high=None)
    """

    measurement: str
    value: float
    condition: str = ""
    low: float | None = None
    high: float | None = None


def measurements(result: RunResult, metrics: Mapping[str, Metric]) -> Iterator[Measured]:
    """Iterate over the measurements of a final run, leaving out those that are not available.

    `trainable_percent` is the adapter's share of all parameters, 100 t / (base + t). `trainable_percent_as_stored`
    counts the base model's stored elements instead. A 4-bit model packs two weights into one element, so this share is
    too large; it is the number that tools print if they count the elements of a quantized model's tensors.

    Args:
        result: The result of a finished run.
        metrics: The study's metrics by name.
    """
    yield from _of_ranks(result)
    yield from _of_training(result)
    if result.test_losses:
        yield _scored(TEST_LOSS, result.test_losses, "")
    for condition, answers in result.answers.items():
        yield from _of_answers(answers, condition)
    for condition, scores in result.scores.items():
        yield from (_scored(metrics[name], values, condition) for name, values in scores.items() if name in metrics)


def _of_ranks(result: RunResult) -> Iterator[Measured]:
    for name, values in (("rank", result.ranks), ("alpha", result.alphas)):
        numbers = list(values.values())
        if numbers:
            yield Measured(f"{name}_least", min(numbers))
            yield Measured(f"{name}_mean", sum(numbers) / len(numbers))
            yield Measured(f"{name}_greatest", max(numbers))
    trainable = result.trainable_parameters
    yield Measured("trainable_parameters", trainable)
    if result.base_parameters:
        yield Measured("trainable_percent", 100 * trainable / (result.base_parameters + trainable))
    if result.stored_parameters:
        yield Measured("trainable_percent_as_stored", 100 * trainable / (result.stored_parameters + trainable))


def _of_training(result: RunResult) -> Iterator[Measured]:
    record = result.training
    if record is not None:
        yield Measured("selection_seconds", result.selection_seconds)
        yield Measured("training_seconds", record["seconds"])
        yield Measured("tokens_per_second", record["tokens"] / record["seconds"] if record["seconds"] else 0.0)
        yield Measured("peak_memory_bytes", record["peak_memory_bytes"])
        if record["losses"]:
            yield Measured("final_training_loss", record["losses"][-1][1])
    if result.validation_loss is not None:
        yield Measured("validation_loss", result.validation_loss)


def _of_answers(answers: Sequence[Mapping[str, float]], condition: str) -> Iterator[Measured]:
    seconds = sum(answer["seconds"] for answer in answers)
    if answers:
        yield Measured("inference_seconds_per_answer", seconds / len(answers), condition)
    if seconds:
        tokens = sum(answer["n_tokens"] for answer in answers)
        yield Measured("inference_tokens_per_second", tokens / seconds, condition)


def _scored(metric: Metric, scores: Sequence[float], condition: str) -> Measured:
    values = np.array(scores, dtype=np.float64)
    low, high = bootstrap_interval(metric.aggregate, values, confidence=CONFIDENCE, n_resamples=_RESAMPLES, seed=0)
    return Measured(metric.name, float(metric.aggregate(values)), condition, low, high)
