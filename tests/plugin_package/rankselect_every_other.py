"""Plug-ins for rankselect from another package: a strategy, an estimator and a metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rankselect import Estimator, IDEstimate, Metric, RankStrategy
from rankselect.errors import PointsError


@dataclass(frozen=True)
class EveryOther(RankStrategy):
    """A high and a low rank in turn, layer by layer."""

    high: int = 8
    low: int = 2

    def ranks(self, targets, evidence):
        layers = list(dict.fromkeys(target.layer for target in targets))
        return {target.name: self.low if layers.index(target.layer) % 2 else self.high for target in targets}


@dataclass(frozen=True)
class ParticipationRatio(Estimator):
    """The number of principal directions that share the variance; its standard error is not estimated."""

    def estimate(self, points):
        points = np.asarray(points, dtype=np.float64)
        distinct = np.unique(points, axis=0)
        if len(distinct) < 2 or not np.isfinite(distinct).all():
            raise PointsError("two different, finite points", f"{len(distinct)}", "Give other points.")
        variances = np.linalg.svd(distinct - distinct.mean(axis=0), compute_uv=False) ** 2
        value = variances.sum() ** 2 / (variances**2).sum()
        return IDEstimate(float(value), 0.0, len(distinct), len(points) - len(distinct))


@dataclass(frozen=True)
class SimilarLength(Metric):
    """The number of words in the shorter of answer and reference over that in the longer."""

    name = "similar-length"

    def values(self, answers):
        pairs = zip(answers.predictions, answers.references, strict=True)
        lengths = [[len(text.split()) for text in pair] for pair in pairs]
        return [min(pair) / max(pair) if max(pair) else 1.0 for pair in lengths]
