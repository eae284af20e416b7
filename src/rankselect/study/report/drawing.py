"""What the figures of a report share: their style, and labels that do not cover each other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rankselect.errors import MissingExtraError
from rankselect.study.report.palette import INKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import BboxBase

__all__ = ["WIDTH", "drawn", "label_lines", "label_points", "new_figure", "spread"]

WIDTH = 5.8
"""Of every figure, in inches: with text of 10 points readable on a phone, where it is as wide as the screen."""

_LABEL_GAP = 0.075  # between labels at the ends of lines, as a share of the axes' height
_POINT = 7.0  # half the size of a point that labels keep clear of, in pixels
_PLACES = [(side, lift) for lift in (0, 12, -12, 24, -24, 36, -36) for side in (1, -1)]  # of a label


@contextmanager
def drawn() -> Iterator[None]:
    """Let matplotlib draw in the report's style, whatever the user's own settings are.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    ink, muted, line = (light for light, _ in INKS.values())
    style = {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.labelcolor": muted,
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
    """An empty figure of the common width; draw it inside `drawn`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (optional)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)  # becomes its canvas, which measures text
    return figure


def label_lines(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each line's name at its right end, moved up or down where two would touch.

    Args:
        ax: Axes whose limits are final.
        ends: For each line: where it ends on the y axis, its name, its colour.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], y))[1]) for y, _, _ in ends]
    for place, height, (_, name, colour) in zip(spread(heights, _LABEL_GAP), heights, ends, strict=True):
        ax.annotate(
            name,
            (1.0, height),
            (1.035, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )


def label_points(ax: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Write each point's name beside it, where it covers least of the other points and names.

    Args:
        ax: Axes whose limits are final.
        points: For each: x, y, its name, its colour.
    """
    from matplotlib.transforms import Bbox  # noqa: PLC0415  (optional)

    figure = ax.get_figure(root=True)
    if figure is None:  # pragma: no cover  (axes of a figure have one)
        return
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    spots = [ax.transData.transform((x, y)) for x, y, _, _ in points]
    taken = [Bbox.from_bounds(x - _POINT, y - _POINT, 2 * _POINT, 2 * _POINT) for x, y in spots]
    inside = ax.get_window_extent(renderer)
    for x, y, name, colour in points:
        label = ax.annotate(name, (x, y), textcoords="offset points", color=colour, va="center")
        costs = []
        for side, lift in _PLACES:
            label.set(position=(9 * side, lift), ha="left" if side > 0 else "right")
            box = label.get_window_extent(renderer)
            covered = sum(_overlap(box, other) for other in taken)
            costs.append(covered + 2 * (box.width * box.height - _overlap(box, inside)) + 0.1 * abs(lift))
        side, lift = _PLACES[costs.index(min(costs))]
        label.set(position=(9 * side, lift), ha="left" if side > 0 else "right")
        taken.append(label.get_window_extent(renderer))


def _overlap(one: BboxBase, other: BboxBase) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move numbers apart to a distance of at least `gap`, in their order, those close together around their middle.

    Example:
        >>> [round(place, 6) for place in spread([0.5, 0.9, 0.52], 0.1)]
        [0.46, 0.9, 0.56]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[int]] = []
    starts: list[float] = []
    for index in order:
        groups.append([index])
        starts.append(places[index])
        while len(groups) > 1 and starts[-2] + gap * len(groups[-2]) > starts[-1]:
            last = groups.pop()
            groups[-1] += last
            starts.pop()
            middle = sum(places[each] for each in groups[-1]) / len(groups[-1])
            starts[-1] = middle - gap * (len(groups[-1]) - 1) / 2
    moved = [0.0] * len(places)
    for group, start in zip(groups, starts, strict=True):
        for step, index in enumerate(group):
            moved[index] = start + gap * step
    return moved
