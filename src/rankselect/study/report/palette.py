"""One colour and one marker for each arm, the same in every figure and table, in light and in dark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["INKS", "ArmStyle", "arm_styles"]

_TRAINED = (
    ("#0067a8", "#5bb8f0"),  # blue
    ("#c8500a", "#ff9a57"),  # orange
    ("#007a5a", "#3ecfa3"),  # green
    ("#a33378", "#f08cc0"),  # pink
    ("#7d6200", "#e3c04a"),  # yellow
    ("#6a4fc4", "#b5a1ff"),  # violet
)
_UNTRAINED = ("#5f6672", "#a3abb8")  # grey
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")

INKS = {"ink": ("#16191d", "#eceef1"), "muted": ("#59606b", "#a9b0bb"), "line": ("#d9dde3", "#353b45")}
"""Colours that are no arm's, for light and dark: of text, of text that matters less, and of lines."""


@final
@dataclass(frozen=True)
class ArmStyle:
    """How an arm looks.

    Colours follow the hues of Okabe and Ito, which people of any colour vision tell apart, darker on white and
    lighter on black: as thin lines and as text they have a contrast of at least 4.5 to 1. Nothing rests on colour
    alone: markers and labels say the same.

    Attributes:
        name: The arm's name.
        light: Its colour on white.
        dark: Its colour on black.
        marker: Its marker, as matplotlib names it.
        variable: The name of its colour in the page's style sheet.

    References:
        Okabe and Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/.
    """

    name: str
    light: str
    dark: str
    marker: str
    variable: str


def arm_styles(names: Sequence[str], untrained: Collection[str] = ()) -> dict[str, ArmStyle]:
    """The style of each arm, in the order given; past six trained ones colours come again, with other markers.

    Args:
        names: All arms.
        untrained: Those without an adapter, which are grey.

    Example:
        >>> styles = arm_styles(["base", "rank-8", "rank-64"], untrained=["base"])
        >>> [(style.light, style.marker, style.variable) for style in styles.values()]
        [('#5f6672', 'o', 'arm-0'), ('#0067a8', 's', 'arm-1'), ('#c8500a', '^', 'arm-2')]
    """
    styles, trained = {}, 0
    for index, name in enumerate(names):
        light, dark = _UNTRAINED if name in untrained else _TRAINED[trained % len(_TRAINED)]
        trained += name not in untrained
        styles[name] = ArmStyle(name, light, dark, _MARKERS[index % len(_MARKERS)], f"arm-{index}")
    return styles
