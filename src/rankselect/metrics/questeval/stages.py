"""One stage of QuestEval: a part runs on distinct inputs in chunks, with a cache and checked results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from tqdm.auto import tqdm

from rankselect.errors import MetricError
from rankselect.metrics.questeval.parts import FoundAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        Part,
        QuestionAnswerer,
        QuestionGenerator,
    )
    from rankselect.metrics.questeval.result_cache import ResultCache

__all__ = ["Stage", "answering", "comparing", "generating", "selecting"]

_CHUNK = 144  # a multiple of both batch sizes, 36 and 48; results are stored chunk by chunk

Input = TypeVar("Input", str, tuple[str, str])
Output = TypeVar("Output")


@final
@dataclass(frozen=True)
class Stage(Generic[Input, Output]):
    """A part and how its results are checked.

    Attributes:
        name: The name of its results, for progress bars, messages and the cache.
        part: The part.
        run: The part's method.
        checked: Checks one result of the part or the cache and returns it; raises ValueError or TypeError if it is
            invalid.
    """

    name: str
    part: Part
    run: Callable[[Sequence[Input]], Sequence[Any]]
    checked: Callable[[Any], Output]

    def results(self, inputs: Iterable[Input], cache: ResultCache | None, *, progress: bool) -> dict[Input, Output]:
        """Return the part's result for each distinct input."""
        distinct = list(dict.fromkeys(inputs))
        if not distinct:
            return {}
        identity = "" if cache is None else self.part.identity()
        found = {} if cache is None else cache.read(self.name, identity, distinct, self.checked)
        missing = [each for each in distinct if each not in found]
        hidden = not progress or len(missing) <= _CHUNK
        with tqdm(total=len(missing), desc=f"QuestEval {self.name}", disable=hidden) as bar:
            for start in range(0, len(missing), _CHUNK):
                chunk = missing[start : start + _CHUNK]
                new = dict(zip(chunk, self._run(chunk), strict=True))
                if cache is not None:
                    cache.write(self.name, identity, new)
                found.update(new)
                bar.update(len(chunk))
        return found

    def _run(self, chunk: Sequence[Input]) -> list[Output]:
        outputs = list(self.run(chunk))
        if len(outputs) != len(chunk):
            raise self._error(f"{len(chunk)} {self.name}, one for each input", str(len(outputs)))
        results = []
        for each in outputs:
            try:
                results.append(self.checked(each))
            except (ValueError, TypeError) as error:
                raise self._error(str(error), repr(each)) from error
        return results

    def _error(self, expected: str, got: str) -> MetricError:
        name = type(self.part).__name__
        return MetricError(f"{expected} from {name}", got, f"This is an error in that part: check {name}.")


def selecting(part: AnswerSelector) -> Stage[str, tuple[str, ...]]:
    """The stage that selects answers."""
    return Stage("answers to ask for", part, part.select, _texts)


def generating(part: QuestionGenerator) -> Stage[tuple[str, str], str]:
    """The stage that generates questions."""
    return Stage("questions", part, part.generate, _text)


def answering(part: QuestionAnswerer) -> Stage[tuple[str, str], FoundAnswer]:
    """The stage that answers questions."""
    return Stage("answers", part, part.answer, _found_answer)


def comparing(part: AnswerSimilarity) -> Stage[tuple[str, str], float]:
    """The stage that compares found answers with expected answers."""
    return Stage("similarities", part, part.compare, _finite)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (tuple, list)) or not all(isinstance(each, str) for each in value):
        raise TypeError("a list of texts")
    return tuple(value)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _found_answer(value: Any) -> FoundAnswer:
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not isinstance(value[0], str):
        raise TypeError("an answer and its answerability")
    return FoundAnswer(value[0], _finite(value[1]))
