"""Strategies and metrics of a study: given as instances or names, recorded as text, and rebuilt from that text."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, final

from rankselect.errors import ArgumentError, RankSelectError
from rankselect.metrics._base import Metric, metric
from rankselect.registry import available, create
from rankselect.strategies._base import RankStrategy, strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rankselect.plan.targets import Target

__all__ = ["RecordedStrategy", "metric_from", "metric_text", "recorded_strategy", "strategy_from"]

Plugin = TypeVar("Plugin")


@final
@dataclass(frozen=True, repr=False)
class RecordedStrategy(RankStrategy):
    """A placeholder for a recorded strategy whose package is not installed here.

    Attributes:
        text: The repr of the strategy.
    """

    text: str

    def __repr__(self) -> str:
        return self.text

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """Raise an error: the strategy itself is not available.

        Raises:
            ArgumentError: Always.
        """
        raise ArgumentError(
            "a strategy that is installed here",
            self.text,
            "Install the package, or import the module, that defines it.",
        )


def strategy_from(given: RankStrategy | str) -> RankStrategy:
    """Return the strategy for an instance, a name as on the command line, or a record.

    Raises:
        UnknownNameError: If there is no strategy with this name.
        ArgumentError: If `given` is none of these, or an instance that cannot be recorded.

    Example:
        >>> strategy_from("fixed:rank=8"), strategy_from("SameParameters(strategy=Fixed(rank=8))").strategy
        (Fixed(rank=8), Fixed(rank=8))
    """
    recorded: RankStrategy | None = _from_record(given, RankStrategy, "strategy") if isinstance(given, str) else None
    return recorded or _recordable(strategy(given))


def recorded_strategy(text: str) -> RankStrategy:
    """Rebuild a strategy from its record; an unknown class, also of a wrapped strategy, gives a `RecordedStrategy`.

    Example:
        >>> recorded_strategy("Fixed(rank=8)"), type(recorded_strategy("Theirs(x=1)")).__name__
        (Fixed(rank=8), 'RecordedStrategy')
        >>> type(recorded_strategy("SameParameters(strategy=Theirs(x=1))")).__name__
        'SameParameters'
    """
    found: RankStrategy | None = _from_record(text, RankStrategy, "strategy", RecordedStrategy)
    return found or RecordedStrategy(text)


def metric_from(given: Metric | str) -> Metric:
    """Return the metric for an instance, a name as on the command line, or a record.

    Raises:
        UnknownNameError: If there is no metric with this name, or the recorded class is not available here.
        ArgumentError: If `given` is none of these, or an instance that cannot be recorded.

    Example:
        >>> metric_from("token-f1"), metric_from("RougeL(stemming=True)")
        (TokenF1(), RougeL(stemming=True))
    """
    recorded: Metric | None = _from_record(given, Metric, "metric") if isinstance(given, str) else None
    return recorded or _recordable(metric(given))


def metric_text(given: Metric | str) -> str:
    """Return the record of a metric: its name if the name alone creates an equal metric, and its repr otherwise.

    Example:
        >>> from rankselect.metrics.rouge import RougeL
        >>> metric_text(RougeL()), metric_text(RougeL(stemming=True)), metric_text("rouge-l:stemming=true")
        ('rouge-l', 'RougeL(stemming=True)', 'rouge-l:stemming=true')
    """
    if isinstance(given, str):
        return given
    by_name = given.name in available("metric") and create("metric", given.name) == given
    return given.name if by_name else repr(given)


def _recordable(given: Plugin) -> Plugin:
    """Return an instance, after checking that its class defines a repr, which is then the same in every process."""
    if type(given).__repr__ is object.__repr__:
        kind = type(given).__name__
        raise ArgumentError(f"a {kind} that can be recorded", repr(given), f"Make {kind} a frozen dataclass.")
    return given


def _from_record(text: str, base: type[Any], kind: str, unknown: Callable[[str], Any] | None = None) -> Any:
    """Rebuild an instance from its repr; return None if the text is not the repr of a suitable instance.

    Args:
        text: The record.
        base: The base class of the instance.
        kind: The registry's name for this kind of object.
        unknown: Creates a substitute from the record of an unknown class; without it, the result is None.
    """
    known = {each.__name__: each for each in _subclasses(base)}
    try:
        known |= {point.attr: point.load() for point in available(kind).values() if f"{point.attr}(" in text}
        found = _value(ast.parse(text, mode="eval").body, known, unknown)
    except (ImportError, SyntaxError, ValueError, TypeError, LookupError, RankSelectError):
        return None
    return found if isinstance(found, base) and repr(found) == text else None


def _subclasses(base: type) -> Iterator[type]:
    each: type
    for each in base.__subclasses__():
        yield each
        yield from _subclasses(each)


def _value(node: ast.expr, known: Mapping[str, Any], unknown: Callable[[str], Any] | None) -> Any:
    """Evaluate an expression of literals and known classes. Nothing else is called, even if the file is malicious."""
    if isinstance(node, ast.Tuple | ast.List):
        parts = [_value(each, known, unknown) for each in node.elts]
        return tuple(parts) if isinstance(node, ast.Tuple) else parts
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    kind: Any = known.get(node.func.id) if isinstance(node.func, ast.Name) else None
    if not (isinstance(kind, type) and is_dataclass(kind)):
        if unknown is None:
            raise ValueError(ast.unparse(node))
        return unknown(ast.unparse(node))
    inside = {**vars(sys.modules[kind.__module__]), **known}  # arguments may use classes from the plug-in's module
    arguments = [_value(each, inside, unknown) for each in node.args]
    return kind(*arguments, **{str(each.arg): _value(each.value, inside, unknown) for each in node.keywords})
