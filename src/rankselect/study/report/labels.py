"""Labels next to lines and points, placed so that they do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.transforms import BboxBase

    from rankselect.study.report.content import Interval

__all__ = ["finish_layout", "label_lines", "label_points"]

_GAP = 0.075  # between labels at the ends of lines, in heights of the axes
_CLEAR = 7.0  # the distance of labels from the center of a point, in pixels
_BESIDE = [
    (side * 9, lift) for lift in (0, 11, -11, 22, -22, 33, -33) for side in (1, -1)
]  # candidate offsets, in points


def finish_layout(ax: Axes) -> None:
    """Compute the final limits and size of the axes, on which the positions of the labels depend."""
    _root(ax).draw_without_rendering()


def label_lines(ax: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Label each line at its right end, and move labels up or down so that they do not overlap.

    Args:
        ax: Axes whose limits are final.
        ends: For each line: the y coordinate of its end, its name, its color.
    """
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = [float(to_axes.transform((ax.get_xlim()[1], y))[1]) for y, _, _ in ends]
    for place, height, (_, name, color) in zip(spread(heights, _GAP), heights, ends, strict=True):
        ax.annotate(
            name,
            (1.0, height),
            (1.035, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=color,
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0},
        )


def label_points(ax: Axes, points: Sequence[Interval], colors: Sequence[str]) -> None:
    """Label each point where the label overlaps least with the points, their error bars and other labels.

    Args:
        ax: Axes whose limits are final.
        points: The points that were drawn, with vertical error bars.
        colors: The colors of the labels.
    """
    figure = _root(ax)
    renderer = figure.canvas.get_renderer()
    inside = ax.get_window_extent(renderer)
    taken = [box for point in points for box in _boxes(ax, point)]
    for point, color in zip(points, colors, strict=True):
        label = ax.annotate(
            point.arm, (point.x, point.value), (0, 0), textcoords="offset points", color=color, va="center"
        )
        low, middle, high = (
            float(ax.transData.transform((point.x, y))[1]) * 72 / figure.dpi
            for y in (point.ends[0], point.value, point.ends[1])
        )
        places = [*_BESIDE, (0.0, high - middle + 8), (0.0, low - middle - 8)]
        costs = []
        for place in places:
            box = _put(label, place, renderer)
            outside = box.width * box.height - _overlap(box, inside)
            costs.append(sum(_overlap(box, other) for other in taken) + 4 * outside + 0.5 * abs(place[1]))
        taken.append(_put(label, places[costs.index(min(costs))], renderer))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move numbers apart to a distance of at least `gap`; close ones keep their order and their mean.

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


def _root(ax: Axes) -> Any:
    """The figure, with a canvas that measures text."""
    return ax.figure


def _boxes(ax: Axes, point: Interval) -> list[BboxBase]:
    """The boxes that a point and its error bar cover, in pixels."""
    from matplotlib.transforms import Bbox  # optional

    (x, y), (_, low), (_, high) = (ax.transData.transform((point.x, v)) for v in (point.value, *point.ends))
    around = Bbox.from_extents(x - _CLEAR, y - _CLEAR, x + _CLEAR, y + _CLEAR)
    return [around, Bbox.from_extents(x - 2, low, x + 2, high)]


def _put(label: Any, place: tuple[float, float], renderer: Any) -> BboxBase:
    side = place[0]
    label.set(position=place, ha="left" if side > 0 else "right" if side < 0 else "center")
    box: BboxBase = label.get_window_extent(renderer)
    return box


def _overlap(one: BboxBase, other: BboxBase) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))
