"""The figures of a report, drawn from plain numbers."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rankselect.errors import MissingExtraError
from rankselect.study.report.labels import finish_layout, label_lines, label_points
from rankselect.study.report.palette import INKS
from rankselect.study.report.wording import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rankselect.study.report.content import Interval
    from rankselect.study.report.palette import ArmStyle

    Line = tuple[NDArray[np.float64], NDArray[np.float64]]
    Band = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    from collections.abc import Iterator

__all__ = ["differences", "drawn", "id_profile", "loss_curves", "new_figure", "rank_per_layer", "scores"]

_INK, _MUTED, _LINE = (light for light, _ in INKS.values())
_Z = 1.96  # of a 95 % interval


def id_profile(before: Line, after: Mapping[str, Line], styles: Mapping[str, ArmStyle]) -> Figure:
    """ID against layer with 95 % intervals, before training and, in a panel for each arm, after training.

    Args:
        before: IDs and standard errors of the base model, (n_layers,) each.
        after: The same after training, for each arm; may be empty.
        styles: The arms' styles.
    """
    layers = np.arange(len(before[0]))
    columns = 2 if len(after) > 1 else 1
    rows = max(1, math.ceil(len(after) / columns))
    with drawn():
        figure = new_figure(3.1 if rows == 1 else 0.5 + 1.75 * rows)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for ax, name in zip(grid.flat, after or [""], strict=False):
            half = _Z * before[1]
            if name:
                ax.fill_between(layers, before[0] - half, before[0] + half, color=_LINE, linewidth=0)
                ax.plot(layers, before[0], color=_MUTED, label="before training")
                _with_errors(ax, layers, after[name], styles[name].light, styles[name].marker)
                ax.set_title(f"after {name}", color=styles[name].light)
            else:
                _with_errors(ax, layers, before, _INK, "o")
            _whole_numbers(ax)
        for ax in grid.flat[max(1, len(after)) :]:
            ax.remove()
        if after:
            grid[0, 0].legend(frameon=False, labelcolor=_MUTED, loc="best", handlelength=1.2)
        figure.supxlabel("layer, from input to output", color=_MUTED, fontsize=11)
        figure.supylabel("intrinsic dimension", color=_MUTED, fontsize=11)
    return figure


def rank_per_layer(ranks: Mapping[str, NDArray[np.float64]], styles: Mapping[str, ArmStyle]) -> Figure:
    """Rank against layer, a line for each arm; a layer without an adapter has the rank NaN and is left out."""
    with drawn():
        figure = new_figure(3.2)
        ax = figure.subplots()
        for name, values in ranks.items():
            look: dict[str, Any] = {
                "color": styles[name].light,
                "marker": styles[name].marker,
                "markevery": 1 + len(values) // 12,
            }
            ax.plot(values, drawstyle="steps-mid", **look)
        _powers_of_two(ax, np.concatenate(list(ranks.values())))
        ax.set_xlabel("layer, from input to output")
        ax.set_ylabel("rank")
        _whole_numbers(ax)
        _label_ends(ax, {name: float(values[~np.isnan(values)][-1]) for name, values in ranks.items()}, styles)
    return figure


def scores(
    points: Sequence[Interval], reference: Interval | None, styles: Mapping[str, ArmStyle], x: str, y: str
) -> Figure:
    """Scores with intervals against a cost, one point for each arm.

    Args:
        points: The arms.
        reference: An arm without an x coordinate: a horizontal line, with a band for its interval.
        styles: The arms' styles.
        x: The label of the x axis.
        y: The label of the y axis.
    """
    with drawn():
        figure = new_figure(3.3)
        ax = figure.subplots()
        if reference is not None:
            ax.axhspan(*reference.ends, color=_LINE, linewidth=0, alpha=0.6)
            ax.axhline(reference.value, color=styles[reference.arm].light, linewidth=1.2)
        for point in points:
            style = styles[point.arm]
            ax.errorbar(point.x, point.value, yerr=point.error, color=style.light, marker=style.marker, capsize=3, ms=7)
        if _spread([point.x for point in points]):
            ax.set_xscale("log")
            _few_ticks(ax.xaxis, [point.x for point in points])
        ax.xaxis.set_major_formatter(lambda spot, _: short(spot))
        ends = [end for each in (*points, *([reference] if reference else [])) for end in each.ends]
        if _spread(ends):
            ax.set_yscale("log")
            _few_ticks(ax.yaxis, ends)
            ax.yaxis.set_major_formatter(lambda spot, _: short(spot))
        ax.margins(x=0.12)
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        finish_layout(ax)
        if reference is not None:
            label_lines(ax, [(reference.value, reference.arm, styles[reference.arm].light)])
        label_points(ax, points, [styles[point.arm].light for point in points])
    return figure


def _spread(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale shows the values better."""
    return min(values, default=0) > 0 and max(values) > 8 * min(values)


def _few_ticks(axis: Axis, values: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator  # optional

    axis.set_major_locator(LogLocator(subs=[1.0] if max(values) > 100 * min(values) else [1.0, 2.0, 5.0]))
    axis.set_minor_locator(NullLocator())


def loss_curves(curves: Mapping[str, Band], styles: Mapping[str, ArmStyle]) -> Figure:
    """Training loss against step, a line for each arm.

    Args:
        curves: For each arm: steps, and the mean, minimum and maximum loss over seeds.
        styles: The arms' styles.
    """
    with drawn():
        figure = new_figure(3.3)
        ax = figure.subplots()
        for name, (steps, mean, low, high) in curves.items():
            ax.fill_between(steps, low, high, color=styles[name].light, alpha=0.14, linewidth=0)
            ax.plot(steps, mean, color=styles[name].light, label=name)
        ax.set_xlabel("step")
        ax.set_ylabel("training loss (nats per token)")
        _whole_numbers(ax)
        _label_ends(ax, {name: float(mean[-1]) for name, (_, mean, _, _) in curves.items()}, styles)
    return figure


def differences(rows: Sequence[Interval], styles: Mapping[str, ArmStyle], metric: str, baseline: str) -> Figure:
    """The difference of each arm from the baseline, with its interval."""
    with drawn():
        figure = new_figure(0.85 + 0.36 * len(rows))
        ax = figure.subplots()
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        ax.axvline(0, color=_MUTED, linewidth=1.2)
        for place, row in enumerate(rows):
            style = styles[row.arm]
            ax.errorbar(row.value, place, xerr=row.error, color=style.light, marker=style.marker, capsize=3, ms=7)
        ax.set_yticks(range(len(rows)), [row.arm for row in rows])
        for label, row in zip(ax.get_yticklabels(), rows, strict=True):
            label.set_color(styles[row.arm].light)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlabel(f"{metric}, difference from {baseline}")
    return figure


def _with_errors(ax: Axes, layers: NDArray[np.int64], line: Line, color: str, marker: str) -> None:
    few = len(layers) <= 12
    size, cap, every = (5, 3, 1) if few else (4, 0, 1 + len(layers) // 12)
    ax.errorbar(
        layers, line[0], yerr=_Z * line[1], color=color, marker=marker, ms=size, capsize=cap, lw=1.2, markevery=every
    )


def _whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator  # optional

    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _label_ends(ax: Axes, ends: Mapping[str, float], styles: Mapping[str, ArmStyle]) -> None:
    """Label the lines at their right ends."""
    finish_layout(ax)
    label_lines(ax, [(y, name, styles[name].light) for name, y in ends.items()])


def _powers_of_two(ax: Axes, values: NDArray[np.float64]) -> None:
    ax.set_yscale("log", base=2)
    least, most = np.floor(np.log2(np.nanmin(values))), np.ceil(np.log2(np.nanmax(values)))
    ticks = 2.0 ** np.arange(least, most + 1)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(ticks[0] / 1.2, ticks[-1] * 1.2)


_WIDTH = 5.8  # inches; text of 11 points is then readable on a phone


@contextmanager
def drawn() -> Iterator[None]:
    """Use the report's matplotlib style.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # optional
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    ink, muted, line = (light for light, _ in INKS.values())
    style: dict[Any, Any] = {
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.labelcolor": muted,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "axes.edgecolor": line,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": line,
        "grid.linewidth": 0.8,
        "text.color": ink,
        "xtick.color": line,
        "ytick.color": line,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "xtick.minor.visible": False,
        "ytick.minor.visible": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "axes.unicode_minus": True,
        "axes.formatter.useoffset": False,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        yield


def new_figure(height: float) -> Figure:
    """Create an empty figure of the common width; use it inside `drawn`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # optional
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)  # sets figure.canvas, which measures text
    return figure
