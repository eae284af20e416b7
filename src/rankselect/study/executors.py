"""Where the units of a study are done: here, one after the other; a Ray cluster is in its own file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rankselect.study.run import Unit, UnitResult

__all__ = ["Executor", "Sequential"]


class Executor(ABC):
    """The base of everything that does units.

    Example:
        >>> class Reversed(Executor):
        ...     def run(self, work, units):
        ...         return map(work, reversed(units))
    """

    @abstractmethod
    def run(self, work: Callable[[Unit], UnitResult], units: Sequence[Unit]) -> Iterator[UnitResult]:
        """Do all units, in any order.

        Args:
            work: Does a unit, saves its result, and returns it; it can be pickled.
            units: What to do.

        Yields:
            The results as they come.
        """


@final
class Sequential(Executor):
    """One unit after the other, in this process.

    Example:
        >>> list(Sequential().run(str, [1, 2]))
        ['1', '2']
    """

    def run(self, work: Callable[[Unit], UnitResult], units: Sequence[Unit]) -> Iterator[UnitResult]:
        """Do all units in their order."""
        return map(work, units)
