"""Plug-ins by name: entry points of installed packages, ours and third parties' alike."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rankselect.errors import ArgumentError, UnknownNameError

__all__ = ["available", "create"]


def available(kind: str) -> dict[str, EntryPoint]:
    """The plug-ins of one kind that are installed.

    Args:
        kind: ``"strategy"``, ``"estimator"`` or ``"metric"``: a package declares them as entry points in the group
            ``rankselect.strategies``, ``rankselect.estimators`` or ``rankselect.metrics``.

    Returns:
        ``{name: entry point}``, sorted by name; nothing is imported yet.

    Raises:
        ArgumentError: If two packages declare the same name for different things.

    Example:
        >>> "per-layer-id" in available("strategy")
        True
    """
    group = "rankselect." + {"strategy": "strategies"}.get(kind, f"{kind}s")
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ArgumentError(
                f"one {kind} of the name {point.name}", f"{other.value} and {point.value}", "Uninstall one of the two."
            )
    return found


def create(kind: str, specification: str) -> Any:
    """Make a plug-in from what a person types: a name, and arguments after a colon.

    Args:
        kind: ``"strategy"``, ``"estimator"`` or ``"metric"``.
        specification: For example ``per-layer-id``, ``fixed:rank=16`` or ``twonn:method=ml``. A value is a JSON
            value, or else a string.

    Raises:
        UnknownNameError: If nothing of this name is installed.
        ArgumentError: If the arguments are malformed or not those of the plug-in.

    Example:
        >>> create("strategy", "fixed:rank=16")
        Fixed(rank=16)
    """
    name, _, arguments = specification.partition(":")
    known = available(kind)
    if name not in known:
        raise UnknownNameError(kind, name, known)
    factory = known[name].load()
    try:
        return factory(**_parsed(arguments))
    except TypeError as error:
        raise ArgumentError(
            f"arguments that {name} takes", repr(arguments), f"{_sentence(error)} Write {name}:name=value,name=value."
        ) from error


def _parsed(arguments: str) -> dict[str, Any]:
    found = {}
    for part in filter(None, arguments.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ArgumentError("arguments as name=value,name=value", repr(arguments), "For example fixed:rank=16.")
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value.strip()
    return found


def _sentence(error: Exception) -> str:
    text = str(error).split("__init__() ")[-1]
    return f"It {text}." if text else ""
