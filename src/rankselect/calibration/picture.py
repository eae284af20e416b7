"""A profile as a picture: dots with intervals against the layers, in a figure or in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankselect.errors import MissingExtraError
from rankselect.estimators.half_samples import Z_95

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from rankselect.calibration.profiling import ProfileSettings

    Curve = tuple[NDArray[np.float64], NDArray[np.float64] | None]

__all__ = ["as_text", "plot"]

_LINE, _NARROWEST, _WIDEST = 80, 24, 44  # columns of a line, and of the drawing


def plot(curves: Sequence[Curve], how: ProfileSettings | None, ax: Axes | None) -> Axes:
    """Draw the IDs of one profile, or of one before and one after, with their intervals; see `IDProfile.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    n_layers = len(curves[0][0])
    if ax is None:
        ax = Figure(figsize=(max(6.4, 2.5 + 0.25 * n_layers), 3.8), layout="constrained").subplots()
    places = ((None, 0.0),) if len(curves) == 1 else (("before", -0.08), ("after", 0.08))
    for (values, stderr), (label, shift) in zip(curves, places, strict=True):
        errors = None if stderr is None else Z_95 * stderr
        positions = np.arange(n_layers) + shift
        ax.errorbar(positions, values, yerr=errors, fmt="o-", markersize=4, capsize=3, lw=1, label=label)
    _label(ax, n_layers, how)
    if len(curves) > 1:
        ax.legend()
    return ax


def as_text(
    layers: Sequence[str],
    values: NDArray[np.float64],
    stderr: NDArray[np.float64] | None,
    how: ProfileSettings | None,
) -> str:
    """A profile as lines of text: name, value ± 95 % half-width, and a dot on its interval.

    Example:
        >>> import rankselect as rs
        >>> values, stderr = {"layers.0": 4.0, "layers.1": 9.0}, {"layers.0": 0.5, "layers.1": 1.0}
        >>> print(rs.IDProfile.from_values(values, stderr=stderr))
        layers.0  4.0 ± 1.0  ├────●─────┤
        layers.1  9.0 ± 2.0                        ├─────────●──────────┤
    """
    half = np.zeros(len(layers)) if stderr is None else Z_95 * stderr
    digits = max(len(f"{value:.1f}") for value in values)
    labels = [
        f"{name:<{max(map(len, layers))}}  {value:>{digits}.1f}" + (f" ± {error:.1f}" if error else "")
        for name, value, error in zip(layers, values, half, strict=True)
    ]
    width = max(map(len, labels))
    columns = max(_NARROWEST, min(_WIDEST, _LINE - width - 2))
    left, right = (values - half).min(), (values + half).max()
    scale = (columns - 1) / max(right - left, 1e-9)
    lines = []
    for label, value, error in zip(labels, values, half, strict=True):
        start, dot, end = (round((x - left) * scale) for x in (value - error, value, value + error))
        bar = [" "] * columns
        if end > start:
            bar[start : end + 1] = ["├", *"─" * (end - start - 1), "┤"]
        bar[dot] = "●"
        lines.append(f"{label:<{width}}  {''.join(bar).rstrip()}")
    return "\n".join(lines + _caption(how))


def _caption(how: ProfileSettings | None) -> list[str]:
    if how is None:
        return []
    dropped = f"{how.n_duplicates} duplicates dropped, {how.n_truncated} cut at {how.max_length} tokens"
    order = f"two halves of them agree on the order of the layers to {how.order_agreement:.2f}"
    return [
        f"{how.estimator}, {how.pooling} pooling, {how.n_texts} texts ({dropped}); {order} (1: same order, 0: chance)"
    ]


def _label(ax: Axes, n_layers: int, how: ProfileSettings | None) -> None:
    ax.set_xlabel("layer")
    ax.set_ylabel("intrinsic dimension")
    ax.set_xticks(range(0, n_layers, max(1, n_layers // 16)))
    ax.grid(visible=True, axis="y", alpha=0.3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if how is not None:
        setup = f"{how.estimator}, {how.pooling} pooling, {how.n_texts} texts, 95 % intervals over texts"
        ax.set_title(f"{how.model_name}\n{setup}", fontsize=8)
