"""The numbers in the figures, collected from the final runs of a study."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from rankselect.study.run import RunResult

    Line = tuple[NDArray[np.float64], NDArray[np.float64]]
    Band = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

__all__ = ["answer_seconds", "by_arm", "loss_bands", "profiles_after", "ranks_of_layers", "smoothing_window"]

_LAYER = re.compile(r"(.*?\.)??(\d+)(\.|$)")  # the layer is the name up to its first number, for every model
_POINTS = 25  # the minimum length of a loss curve after smoothing


def by_arm(results: Iterable[RunResult]) -> dict[str, list[RunResult]]:
    """Group the results that did not fail by arm."""
    arms: dict[str, list[RunResult]] = {}
    for result in results:
        if result.status == "done":
            arms.setdefault(result.run.arm, []).append(result)
    return arms


def ranks_of_layers(arms: Mapping[str, Sequence[RunResult]]) -> tuple[list[str], dict[str, NDArray[np.float64]]]:
    """The layers in order, and the mean rank of each arm in each layer over modules and seeds; NaN without an adapter.

    Modules outside the layers are left out.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for arm, results in arms.items():
        for result in results:
            for module, rank in result.ranks.items():
                match = _LAYER.match(module)
                if match:
                    layer = f"{match[1] or ''}{match[2]}"
                    found.setdefault(layer, {}).setdefault(arm, []).append(rank)
    layers = sorted(found, key=_natural)
    trained = [arm for arm, results in arms.items() if any(result.ranks for result in results)]
    ranks = {
        arm: np.array([float(np.mean(found[layer][arm])) if arm in found[layer] else np.nan for layer in layers])
        for arm in trained
    }
    return layers, {arm: values for arm, values in ranks.items() if not np.isnan(values).all()}


def profiles_after(arms: Mapping[str, Sequence[RunResult]], layers: Sequence[str]) -> dict[str, Line]:
    """IDs after training with their standard errors, averaged over seeds, for arms with a profile of these layers.

    Every seed is profiled on the same texts, so averaging over seeds does not reduce the error over texts.
    """
    after = {}
    for arm, results in arms.items():
        measured = [each.profile_after for each in results if each.profile_after]
        profiles = [each for each in measured if each["layers"] == list(layers)]
        if profiles:
            values = np.mean([each["values"] for each in profiles], axis=0)
            errors = np.mean([each["stderr"] or [0.0] * len(layers) for each in profiles], axis=0)
            after[arm] = (values, errors)
    return after


def loss_bands(arms: Mapping[str, Sequence[RunResult]]) -> dict[str, Band]:
    """The training loss of each arm: steps, and the mean, minimum and maximum over seeds, each a running mean."""
    bands = {}
    for arm, results in arms.items():
        curves = [dict(each.training["losses"]) for each in results if each.training and each.training["losses"]]
        steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
        if steps:
            window = smoothing_window(len(steps))
            smooth = np.array([_running_mean([curve[step] for step in steps], window) for curve in curves])
            kept = np.array(steps, dtype=np.float64)[window - 1 :]
            bands[arm] = (kept, smooth.mean(axis=0), smooth.min(axis=0), smooth.max(axis=0))
    return bands


def smoothing_window(n_steps: int) -> int:
    """The number of logged losses in a running mean: 1 for short curves, so that a curve keeps at least 25 points.

    Example:
        >>> smoothing_window(10), smoothing_window(1000)
        (1, 40)
    """
    return max(1, n_steps // _POINTS)


def answer_seconds(results: Sequence[RunResult], condition: str) -> float | None:
    """The mean seconds per answer; None if there are no answers."""
    seconds = [answer["seconds"] for result in results for answer in result.answers.get(condition, [])]
    return float(np.mean(seconds)) if seconds else None


def _running_mean(values: Sequence[float], window: int) -> NDArray[np.float64]:
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``layers.10`` after ``layers.9``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]
