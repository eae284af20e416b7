"""The base of metrics that ask questions: settings, the full call, and the identity of a score."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.errors import ArgumentError, UnknownNameError
from rankselect.metrics._base import Metric
from rankselect.metrics.questeval.asking import Interviewers
from rankselect.metrics.questeval.cache import opened
from rankselect.metrics.questeval.examples import checked_examples
from rankselect.metrics.questeval.results import QuestEvalResult
from rankselect.metrics.questeval.scoring import REDUCTIONS, SCORES, example_score

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

    from rankselect.metrics._base import Answers
    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        Part,
        QuestionAnswerer,
        QuestionGenerator,
    )

__all__ = ["QuestionMetric"]


@dataclass(frozen=True, kw_only=True)
class QuestionMetric(Metric):
    """The base of metrics that score a text by questions and answers.

    Attributes:
        scores: Which scores of a question are pooled: of ``"answerability"``, ``"bertscore"`` and ``"f1"``.
        consistency: Whether a question counts only as far as its own text answers it rightly (token F1).
        reduction: Over the comparisons of an example: ``"max"``, ``"mean"`` or ``"min"``.
        cache: A folder in which the parts' results are kept between runs; None for none.
        progress: Whether long work shows progress bars.
    """

    scores: tuple[str, ...] = SCORES
    consistency: bool = False
    reduction: str = "max"
    cache: str | os.PathLike[str] | None = field(default=None, repr=False, compare=False)
    progress: bool = field(default=True, repr=False, compare=False)
    known_scores: ClassVar[tuple[str, ...]] = SCORES

    def __post_init__(self) -> None:
        if isinstance(self.scores, str) or not self.scores:
            raise ArgumentError("a tuple of scores", repr(self.scores), f"Choose of {', '.join(self.known_scores)}.")
        for score in self.scores:
            if score not in self.known_scores:
                raise UnknownNameError("score of a question", str(score), self.known_scores)
        if self.reduction not in REDUCTIONS:
            raise UnknownNameError("reduction", str(self.reduction), REDUCTIONS)
        object.__setattr__(self, "scores", tuple(self.scores))

    @abstractmethod
    def parts(self) -> tuple[AnswerSelector, QuestionGenerator, QuestionAnswerer, AnswerSimilarity | None]:
        """Who selects answers, who asks, who answers, and who compares answers (None: no score needs it)."""

    @final
    def signature(self) -> str:
        """Everything that the scores depend on, as text; scores of different signatures cannot be compared.

        Raises:
            ArgumentError: If a part has nothing that identifies it.
            ModelError: If a model is missing whose weights identify a part.
        """
        settings = f"scores={self.scores} consistency={self.consistency} reduction={self.reduction}"
        parts: list[Part] = [part for part in self.parts() if part is not None]
        return " | ".join([self.name, settings, *(part.identity() for part in parts)])

    @final
    def score(
        self,
        hypotheses: Iterable[str],
        *,
        sources: Iterable[str] | None = None,
        references: Iterable[Iterable[str]] | None = None,
    ) -> QuestEvalResult:
        """Score texts against their sources, their references, or both.

        Args:
            hypotheses: n texts to score; an empty text scores 0.
            sources: n texts they were made from.
            references: n rows of right texts, all rows of the same length.

        Raises:
            MetricError: If there are no hypotheses, nothing to compare them with, lengths differ, something is not
                text, or a part returns something else than it should.
            ModelError: If a part needs a model that cannot be loaded.
            MissingExtraError: If a part needs a package that is not installed.
            SaveError: If the cache cannot be written.
        """
        examples = checked_examples(hypotheses, sources, references)
        with opened(self.cache) as cache:
            interviewers = Interviewers(*self.parts(), self.consistency, cache, self.progress)
            interview = interviewers.interview(examples)
        rows = [example_score(example, interview, self.scores, self.reduction) for example in examples]
        return QuestEvalResult(self.name, tuple(rows), self)

    @final
    def values(self, answers: Answers) -> NDArray[np.float64]:
        """The score of each answer against its reference, from 0 to 1."""
        return self.score(answers.predictions, references=[[each] for each in answers.references]).values
