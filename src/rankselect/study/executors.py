"""Where the runs of a study are done: here, one after the other; a Ray cluster is in its own file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rankselect.study.run import Run, RunResult

__all__ = ["Executor", "Sequential"]


class Executor(ABC):
    """The base of everything that does runs.

    Example:
        >>> class Reversed(Executor):
        ...     def run(self, work, runs):
        ...         return map(work, reversed(runs))
    """

    @abstractmethod
    def run(self, work: Callable[[Run], RunResult], runs: Sequence[Run]) -> Iterator[RunResult]:
        """Do all runs, in any order.

        Args:
            work: Does a run, saves its result, and returns it; it can be pickled.
            runs: What to do.

        Yields:
            The results as they come.
        """


@final
class Sequential(Executor):
    """One run after the other, in this process.

    Example:
        >>> list(Sequential().run(str, [1, 2]))
        ['1', '2']
    """

    def run(self, work: Callable[[Run], RunResult], runs: Sequence[Run]) -> Iterator[RunResult]:
        """Do all runs in their order."""
        return map(work, runs)
