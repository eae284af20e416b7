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

__all__ = ["WIDTH", "drawn", "label_lines", "new_figure", "spread"]

WIDTH = 5.8
"""Of every figure, in inches: with text of 10 points readable on a phone, where it is as wide as the screen."""

_LABEL_GAP = 0.075  # between labels at the ends of lines, as a share of the axes' height


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
    from matplotlib.figure import Figure  # noqa: PLC0415  (optional)

    return Figure(figsize=(WIDTH, height), layout="constrained")


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
            groups[-2] += groups.pop()
            starts.pop()
            middle = sum(places[each] for each in groups[-1]) / len(groups[-1])
            starts[-1] = middle - gap * (len(groups[-1]) - 1) / 2
    moved = [0.0] * len(places)
    for group, start in zip(groups, starts, strict=True):
        for step, index in enumerate(group):
            moved[index] = start + gap * step
    return moved
