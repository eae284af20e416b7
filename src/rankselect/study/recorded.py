"""Strategies and metrics of a study: given as instances or by name, recorded as texts, and made from them again."""

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
    """A strategy of which only the record is known: the package that it comes from is not installed here.

    Attributes:
        text: What Python wrote of it.
    """

    text: str

    def __repr__(self) -> str:
        return self.text

    def ranks(self, targets: Sequence[Target], evidence: Any) -> Mapping[str, float]:
        """No ranks.

        Raises:
            ArgumentError: Always.
        """
        raise ArgumentError("a strategy that is installed here", self.text, "Import or install what defines it.")


def strategy_from(given: RankStrategy | str) -> RankStrategy:
    """A strategy from an instance, a name as the command line takes it, or a record.

    Raises:
        UnknownNameError: If there is no strategy of the name.
        ArgumentError: If it is none of these, or an instance of which no record can be written.

    Example:
        >>> strategy_from("fixed:rank=8"), strategy_from("SameParameters(strategy=Fixed(rank=8))").strategy
        (Fixed(rank=8), Fixed(rank=8))
    """
    recorded: RankStrategy | None = _from_record(given, RankStrategy, "strategy") if isinstance(given, str) else None
    return recorded or _recordable(strategy(given))


def recorded_strategy(text: str) -> RankStrategy:
    """The strategy of a record, or the record alone if its class is not known here; likewise of what it wraps.

    Example:
        >>> recorded_strategy("Fixed(rank=8)"), type(recorded_strategy("Theirs(x=1)")).__name__
        (Fixed(rank=8), 'RecordedStrategy')
        >>> type(recorded_strategy("SameParameters(strategy=Theirs(x=1))")).__name__
        'SameParameters'
    """
    found: RankStrategy | None = _from_record(text, RankStrategy, "strategy", RecordedStrategy)
    return found or RecordedStrategy(text)


def metric_from(given: Metric | str) -> Metric:
    """A metric from an instance, a name as the command line takes it, or a record.

    Raises:
        UnknownNameError: If there is no metric of the name, or none here that the record is of.
        ArgumentError: If it is none of these, or an instance of which no record can be written.

    Example:
        >>> metric_from("token-f1"), metric_from("RougeL(stemming=True)")
        (TokenF1(), RougeL(stemming=True))
    """
    recorded: Metric | None = _from_record(given, Metric, "metric") if isinstance(given, str) else None
    return recorded or _recordable(metric(given))


def metric_text(given: Metric | str) -> str:
    """A metric as a config records it: its name if that makes an equal one, or else as Python writes it.

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
    """An instance whose repr says what it is, and is the same in every process."""
    if type(given).__repr__ is object.__repr__:
        kind = type(given).__name__
        raise ArgumentError(f"a {kind} that can be recorded", repr(given), f"Make {kind} a frozen dataclass.")
    return given


def _from_record(text: str, base: type[Any], kind: str, unknown: Callable[[str], Any] | None = None) -> Any:
    """The instance that Python writes like this; None if it is no record.

    Args:
        text: The record.
        base: A class of which the instance is one.
        kind: What the registry calls those.
        unknown: Makes something of the record of a class that is not known here; None to return None.
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
    """What an expression of literals and known classes stands for. Nothing else is called, whatever the file says."""
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
    inside = {**vars(sys.modules[kind.__module__]), **known}  # the parts of a plug-in are classes that its module names
    arguments = [_value(each, inside, unknown) for each in node.args]
    return kind(*arguments, **{str(each.arg): _value(each.value, inside, unknown) for each in node.keywords})
