"""The color and the marker of each arm, the same in all figures and tables, for light and dark pages."""

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
"""The colors of text, secondary text and lines, for light and dark pages."""


@final
@dataclass(frozen=True)
class ArmStyle:
    """The style of an arm.

    The hues are those of Okabe and Ito, which people with any color vision can distinguish. They are darker on white
    and lighter on black, so that thin lines and text have a contrast of at least 4.5 to 1. Markers and labels carry the
    same information as colors.

    Attributes:
        name: The arm's name.
        light: Its color on white.
        dark: Its color on black.
        marker: Its marker, in matplotlib's notation.
        variable: The name of its color in the page's style sheet.

    References:
        Okabe and Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/.
    """

    name: str
    light: str
    dark: str
    marker: str
    variable: str


def arm_styles(names: Sequence[str], untrained: Collection[str] = ()) -> dict[str, ArmStyle]:
    """Assign a style to each arm; colors repeat after six trained arms, with other markers.

    Args:
        names: The names of all arms.
        untrained: The names of the arms without an adapter, which are grey.

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
