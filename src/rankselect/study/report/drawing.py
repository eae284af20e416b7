"""What the figures of a report share: their size and style, whatever the user's own settings are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rankselect.errors import MissingExtraError
from rankselect.study.report.palette import INKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

__all__ = ["drawn", "new_figure"]

_WIDTH = 5.8  # inches: text of 11 points is readable on a phone, where a figure is as wide as the screen


@contextmanager
def drawn() -> Iterator[None]:
    """Let matplotlib draw in the report's style.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  (optional)
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
    """An empty figure of the common width; draw it inside `drawn`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (optional)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)  # becomes its canvas, which measures text
    return figure
