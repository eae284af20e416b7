"""A profile as a picture: dots with intervals against the layers, in a figure or in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankselect.errors import EvidenceError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from rankselect.calibration.id_profile import IDProfile

__all__ = ["as_text", "plot"]

_LINE, _NARROWEST, _WIDEST = 80, 24, 44  # columns of a line, and of the part that is drawn


def plot(profile: IDProfile, other: IDProfile | None, ax: Axes | None) -> Axes:
    """Draw one profile or two; see `IDProfile.plot`."""
    try:
        from matplotlib.figure import Figure  # optional
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    if other is not None:
        _require_comparable(profile, other)
    if ax is None:
        ax = Figure(figsize=(max(6.4, 2.5 + 0.25 * len(profile.layers)), 3.8), layout="constrained").subplots()
    for each, label, shift in ((profile, "before", -0.08), (other, "after", 0.08)):
        if each is not None:
            positions = np.arange(len(each.layers)) + (shift if other is not None else 0.0)
            errors = None if each.stderr is None else 1.96 * each.stderr
            text = label if other is not None else None
            ax.errorbar(positions, each.values, yerr=errors, fmt="o-", markersize=4, capsize=3, lw=1, label=text)
    _label(ax, profile)
    if other is not None:
        ax.legend()
    return ax


def as_text(profile: IDProfile) -> str:
    """The profile as lines of text: name, value ± 95 % half-width, and a dot on its interval.

    Example:
        >>> import rankselect as rs
        >>> values, stderr = {"layers.0": 4.0, "layers.1": 9.0}, {"layers.0": 0.5, "layers.1": 1.0}
        >>> print(rs.IDProfile.from_values(values, stderr=stderr))
        layers.0  4.0 ± 1.0  ├────●─────┤
        layers.1  9.0 ± 2.0                        ├─────────●──────────┤
    """
    half = np.zeros(len(profile.layers)) if profile.stderr is None else 1.96 * profile.stderr
    digits = max(len(f"{value:.1f}") for value in profile.values)
    labels = [
        f"{name:<{max(map(len, profile.layers))}}  {value:>{digits}.1f}" + (f" ± {error:.1f}" if error else "")
        for name, value, error in zip(profile.layers, profile.values, half, strict=True)
    ]
    width = max(map(len, labels))
    columns = max(_NARROWEST, min(_WIDEST, _LINE - width - 2))
    left, right = (profile.values - half).min(), (profile.values + half).max()
    scale = (columns - 1) / max(right - left, 1e-9)
    lines = []
    for label, value, error in zip(labels, profile.values, half, strict=True):
        start, dot, end = (round((x - left) * scale) for x in (value - error, value, value + error))
        bar = [" "] * columns
        if end > start:
            bar[start : end + 1] = ["├", *"─" * (end - start - 1), "┤"]
        bar[dot] = "●"
        lines.append(f"{label:<{width}}  {''.join(bar).rstrip()}")
    return "\n".join(lines + _caption(profile))


def _caption(profile: IDProfile) -> list[str]:
    how = profile.measurement
    if how is None:
        return []
    dropped = f"{how.n_duplicates} duplicates dropped, {how.n_truncated} cut at {how.max_length} tokens"
    order = f"two halves of them agree on the order of the layers to {how.order_agreement:.2f}"
    return [f"{how.estimator}, {how.pooling} pooling, {how.n_texts} texts ({dropped}); {order} (1: settled)"]


def _label(ax: Axes, profile: IDProfile) -> None:
    ax.set_xlabel("layer")
    ax.set_ylabel("intrinsic dimension")
    step = max(1, len(profile.layers) // 16)
    ax.set_xticks(range(0, len(profile.layers), step))
    ax.grid(visible=True, axis="y", alpha=0.3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    how = profile.measurement
    if how is not None:
        setup = f"{how.estimator}, {how.pooling} pooling, {how.n_texts} texts, 95 % intervals over texts"
        ax.set_title(f"{how.model_name}\n{setup}", fontsize=8)


def _require_comparable(profile: IDProfile, other: IDProfile) -> None:
    if profile.layers != other.layers:
        raise EvidenceError(
            f"two profiles of the same {len(profile.layers)} layers",
            f"one of {len(other.layers)} ({other.layers[0]} …)",
            "Compare a model with itself, before and after.",
        )
    mine, theirs = profile.measurement, other.measurement
    if mine is None or theirs is None:
        return
    for name in ("estimator", "pooling", "max_length"):
        if getattr(mine, name) != getattr(theirs, name):
            raise EvidenceError(
                f"two profiles with the same {name}",
                f"{getattr(mine, name)} and {getattr(theirs, name)}",
                "Measure both in the same way: estimator and pooling decide the ID more than the model does.",
            )
