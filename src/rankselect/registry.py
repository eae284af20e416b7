"""Plug-ins by name: the entry points of rankselect and of other installed packages."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rankselect.errors import ArgumentError, UnknownNameError, described, with_article

__all__ = ["available", "check", "create", "instance"]


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
    """Create a plug-in from its name, with arguments after a colon, as on the command line.

    Args:
        kind: ``"strategy"``, ``"estimator"`` or ``"metric"``.
        specification: For example ``per-layer-id``, ``fixed:rank=16`` or ``twonn:method=ml``. A value is a JSON
            value, or else a string. One argument alone needs no name: ``fixed:16``.

    Raises:
        UnknownNameError: If nothing of this name is installed.
        ArgumentError: If the arguments are malformed or not those of the plug-in.

    Example:
        >>> create("strategy", "fixed:rank=16")
        Fixed(rank=16)
    """
    point, positional, named = _taken_apart(kind, specification)
    factory = point.load()
    try:
        return factory(*positional, **named)
    except TypeError as error:
        name, _, arguments = specification.partition(":")
        raise ArgumentError(
            f"arguments that {name} takes", repr(arguments), f"{_sentence(error)} Write {name}:name=value,name=value."
        ) from error


def check(kind: str, specification: str) -> None:
    """Raise the error that `create` would raise for an unknown name or a bad form, without importing the plug-in.

    Args:
        kind: ``"strategy"``, ``"estimator"`` or ``"metric"``.
        specification: As `create` takes it.

    Raises:
        UnknownNameError: If nothing of this name is installed.
        ArgumentError: If the arguments are malformed.

    Example:
        >>> check("strategy", "fixed:rank=16")
    """
    _taken_apart(kind, specification)


def instance(kind: str, given: object, base: type[Any]) -> Any:
    """Return a plug-in that is given as an instance or by its name.

    Args:
        kind: ``"strategy"``, ``"estimator"`` or ``"metric"``.
        given: The plug-in or its name.
        base: The class of all plug-ins of this kind.

    Raises:
        UnknownNameError: If nothing of this name is installed.
        ArgumentError: If it is a class, or something else that is not a plug-in; or as `create`.

    Example:
        >>> import rankselect as rs
        >>> instance("estimator", "mle:10", rs.Estimator), instance("estimator", rs.TwoNN(), rs.Estimator)
        (MLE(n_neighbors=10, aggregate='mle'), TwoNN(discard_fraction=0.1, method='fit'))
    """
    made = create(kind, given) if isinstance(given, str) else given
    if isinstance(made, base):
        return made
    if isinstance(made, type):
        got, remedy = described(made), f"Create an instance: {made.__name__}(…)."
    else:
        got, remedy = repr(made), f"Known names: {', '.join(available(kind))}."
    raise ArgumentError(f"{with_article(kind)}, or the name of one", got, remedy)


def _taken_apart(kind: str, specification: str) -> tuple[EntryPoint, list[Any], dict[str, Any]]:
    """The entry point, and the arguments by position and by name."""
    name, _, arguments = specification.partition(":")
    known = available(kind)
    if name not in known:
        raise UnknownNameError(kind, name, known)
    alone = arguments.strip() and not set(arguments) & set("=,")
    return known[name], [_value(arguments)] if alone else [], {} if alone else _parsed(arguments)


def _parsed(arguments: str) -> dict[str, Any]:
    found = {}
    for part in filter(None, arguments.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ArgumentError("arguments as name=value,name=value", repr(arguments), "For example fixed:rank=16.")
        found[name.strip()] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.strip()


def _sentence(error: Exception) -> str:
    text = str(error).split("__init__() ")[-1]
    return f"It {text}." if text else ""
