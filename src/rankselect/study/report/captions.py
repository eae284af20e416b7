"""The figures of a study with their captions, descriptions and notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankselect.study.report import figures
from rankselect.study.report.content import Interval, Picture
from rankselect.study.report.figure_data import (
    answer_seconds,
    loss_bands,
    profiles_after,
    ranks_of_layers,
    smoothing_window,
)
from rankselect.study.report.wording import count, duration, number, plural, signed, with_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.calibration.id_profile import IDProfile
    from rankselect.study.analysis.differences import ArmDifference
    from rankselect.study.report.palette import ArmStyle
    from rankselect.study.run import RunResult

    Arms = Mapping[str, Sequence[RunResult]]
    Styles = Mapping[str, ArmStyle]

__all__ = [
    "difference_picture",
    "loss_picture",
    "parameter_picture",
    "profile_picture",
    "rank_picture",
    "seconds_picture",
]

_LARGEST = 1e15  # larger values would squeeze all others together


def profile_picture(profile: IDProfile | None, arms: Arms, styles: Styles) -> Picture | None:
    """ID against layer before and after training; None without a profile."""
    if profile is None:
        return None
    errors = np.zeros(len(profile.layers)) if profile.stderr is None else profile.stderr
    after = profiles_after(arms, profile.layers)
    least, most = int(profile.values.argmin()), int(profile.values.argmax())
    alt = (
        f"Intrinsic dimension of {plural(len(profile.layers), 'layer')} before training: the smallest is "
        f"{profile.values[least]:.1f} in layer {least}, the largest {profile.values[most]:.1f} in layer {most}."
    )
    for arm, (values, _) in after.items():
        change = float(np.mean(values - profile.values))
        alt += f" After training with {arm} it changed by {signed(change)} on average over the layers."
    bars = "Error bars are 95 % intervals over texts." if profile.stderr is not None else ""
    grey = " Grey: before training, with its interval. Colored: after training, mean over seeds." if after else ""
    caption = "Intrinsic dimension of each layer" + (", before and after training" if after else "")
    figure = figures.id_profile((profile.values, errors), after, styles)
    return Picture("id-profile", caption, alt, figure, f"{bars}{grey}".strip())


def rank_picture(arms: Arms, styles: Styles) -> Picture | None:
    """Rank against layer; None if no arm has an adapter."""
    layers, ranks = ranks_of_layers(arms)
    if not ranks:
        return None
    parts = [f"{arm} {ranks_in_words(values[~np.isnan(values)].tolist())}" for arm, values in ranks.items()]
    alt = f"Rank in each of {plural(len(layers), 'layer')}: {'; '.join(parts)}."
    note = "Mean over the modules of a layer. The axis is logarithmic."
    return Picture("ranks", "Rank of each layer", alt, figures.rank_per_layer(ranks, styles), note)


def ranks_in_words(values: Sequence[float]) -> str:
    """Describe the ranks of an arm in words.

    Example:
        >>> ranks_in_words([8.0, 8.0]), ranks_in_words([4.0, 9.0])
        ('8 everywhere', '4 to 9')
    """
    least, most = min(values), max(values)
    return f"{least:g} everywhere" if least == most else f"{least:.3g} to {most:.3g}"


def parameter_picture(points: Sequence[Interval], arms: Arms, styles: Styles, metric: str) -> Picture | None:
    """Score against trainable parameters, with a horizontal line for an untrained arm; None if no arm has an adapter.

    Args:
        points: The arms' scores under the metric.
        arms: The arms' results.
        styles: The arms' styles.
        metric: The metric's name.
    """
    trainable = {arm: results[0].trainable_parameters for arm, results in arms.items()}
    trained = [_at(point, trainable[point.arm]) for point in points if trainable.get(point.arm)]
    untrained = [point for point in points if not trainable.get(point.arm)]
    if not trained:
        return None
    parts = [f"{point.arm} with {count(point.x)} parameters {_score(point)}" for point in trained]
    parts += [f"{point.arm} without training {_score(point)}" for point in untrained]
    alt = f"{metric} against trainable parameters: {'; '.join(parts)}."
    (trained, left_out), (untrained, _) = _that_fit(trained), _that_fit(untrained)
    figure = figures.scores(trained, untrained[0] if untrained else None, styles, "trainable parameters", metric)
    band = ", with its interval as a band" if untrained and untrained[0].low is not None else ""
    line = f"Horizontal line: {untrained[0].arm}{band}. " if untrained else ""
    note = f"{line}{left_out}".strip()
    return Picture(f"{metric}-parameters", f"{metric} against trainable parameters", alt, figure, note)


def seconds_picture(points: Sequence[Interval], arms: Arms, styles: Styles, metric: str) -> Picture | None:
    """Score against seconds per answer; None if there are no answers."""
    seconds = {arm: answer_seconds(results, "dropout_off") for arm, results in arms.items()}
    placed = [_at(point, time) for point in points if (time := seconds.get(point.arm)) is not None]
    if not placed:
        return None
    parts = [f"{point.arm} in {duration(point.x)} {_score(point)}" for point in placed]
    alt = f"{metric} against seconds per answer: {'; '.join(parts)}."
    placed, left_out = _that_fit(placed)
    figure = figures.scores(placed, None, styles, "seconds per answer", metric)
    batches = "Answers are generated in batches: each counts its share of the batch's time. Longer answers take longer."
    note = f"{batches} {left_out}".strip()
    return Picture(f"{metric}-seconds", f"{metric} against inference time", alt, figure, note)


def loss_picture(arms: Arms, styles: Styles) -> Picture | None:
    """Training loss against step; None if no arm was trained."""
    bands = loss_bands(arms)
    if not bands:
        return None
    ends = [f"{arm} {number(float(mean[-1]))}" for arm, (_, mean, _, _) in bands.items()]
    alt = f"Training loss over the steps; at the end: {', '.join(ends)} nats per token."
    lengths = [len(each.training["losses"]) for group in arms.values() for each in group if each.training]
    window = smoothing_window(max(lengths))
    smooth = f" Each point is the mean of the last {window} logged losses." if window > 1 else ""
    note = f"Lines are means over seeds; bands span all seeds.{smooth}"
    return Picture("losses", "Training loss", alt, figures.loss_curves(bands, styles), note)


def difference_picture(found: Sequence[ArmDifference], styles: Styles) -> Picture | None:
    """Every arm's difference from the baseline; None if there is nothing to compare."""
    if not found:
        return None
    metric, baseline = found[0].metric, found[0].baseline
    rows = [Interval(each.arm, each.difference, each.low, each.high) for each in found]
    parts = [
        f"{each.arm} {with_interval(each.difference, each.low, each.high, sign=True)}, {each.outcome}" for each in found
    ]
    alt = f"Difference in {metric} from {baseline}: {'; '.join(parts)}."
    better = "To the right is better" if found[0].higher_is_better else "To the left is better"
    bars = "A bar that crosses 0 shows no difference. All bars hold simultaneously with 95 %."
    rows, left_out = _that_fit(rows)
    note = f"{better}. {bars if any(each.error for each in rows) else 'There are no intervals.'} {left_out}".strip()
    caption = f"{metric}: difference from {baseline}"
    return Picture("differences-figure", caption, alt, figures.differences(rows, styles, metric, baseline), note)


def _that_fit(points: Sequence[Interval]) -> tuple[list[Interval], str]:
    """The points that fit into a figure, and a note on the others, which can come from a training that diverged."""
    left_out = [point.arm for point in points if max(map(abs, (point.value, *point.ends))) > _LARGEST]
    return (
        [point for point in points if point.arm not in left_out],
        f"Too large for the figure: {', '.join(left_out)}." if left_out else "",
    )


def _at(point: Interval, x: float) -> Interval:
    return Interval(point.arm, point.value, point.low, point.high, x)


def _score(point: Interval) -> str:
    return with_interval(point.value, point.low, point.high)
