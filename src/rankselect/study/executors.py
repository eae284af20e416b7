"""Executors: how a study's runs are executed. The one for Ray is in `ray_executor`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rankselect.study.run import Run, RunResult

__all__ = ["Executor", "Sequential"]


class Executor(ABC):
    """The base class of executors, which execute runs.

    Example:
        >>> class Reversed(Executor):
        ...     def run(self, work, runs):
        ...         return map(work, reversed(runs))
    """

    @abstractmethod
    def run(self, work: Callable[[Run], RunResult], runs: Sequence[Run]) -> Iterator[RunResult]:
        """Execute all runs, in any order.

        Args:
            work: A function that executes a run, saves its result and returns it. It can be pickled.
            runs: The runs to execute.

        Yields:
            The results, in the order in which the runs finish.
        """


@final
class Sequential(Executor):
    """One run after the other, in this process.

    Example:
        >>> list(Sequential().run(str, [1, 2]))
        ['1', '2']
    """

    def run(self, work: Callable[[Run], RunResult], runs: Sequence[Run]) -> Iterator[RunResult]:
        """Execute all runs in the given order."""
        return map(work, runs)
