"""The base class of metrics that ask questions: settings, scoring, the result, and the signature of scores."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.errors import ArgumentError, UnknownNameError
from rankselect.metrics._base import Metric
from rankselect.metrics.questeval.questions import QuestionPipeline, checked_examples
from rankselect.metrics.questeval.result_cache import open_cache
from rankselect.metrics.questeval.scoring import REDUCTIONS, SCORES, ExampleScore, example_score

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from rankselect.metrics.metric_input import GeneratedText, MetricInput
    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        Part,
        QuestionAnswerer,
        QuestionGenerator,
    )

__all__ = ["QuestEvalResult", "QuestionMetric"]


@final
@dataclass(frozen=True)
class QuestEvalResult:
    """The scores of a set of hypotheses.

    Attributes:
        metric: The name of the metric: scores of metrics with different names cannot be compared.
        examples: One entry for each hypothesis.
        scored_by: The metric object; its `signature()` names all settings and parts.

    Example:
        >>> from rankselect.metrics.questeval import QuestEvalCloze
        >>> result = QuestEvalCloze().score(["Insulin lowers blood sugar."], references=[["Insulin lowers sugar."]])
        >>> result.metric, len(result.examples), result.examples[0].comparisons[0].against
        ('questeval-cloze', 1, 'reference 1')
    """

    metric: str
    examples: tuple[ExampleScore, ...]
    scored_by: QuestionMetric

    @property
    def score(self) -> float:
        """The mean of the examples' scores."""
        return float(np.average(self.values))

    @property
    def recall(self) -> float:
        """The mean of the examples' recalls."""
        return float(np.average([example.recall for example in self.examples]))

    @property
    def precision(self) -> float:
        """The mean of the examples' precisions."""
        return float(np.average([example.precision for example in self.examples]))

    @property
    def values(self) -> NDArray[np.float64]:
        """(n,) the examples' scores."""
        return np.array([example.score for example in self.examples], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class QuestionMetric(Metric):
    """The base class of metrics that score a text by questions and answers.

    Attributes:
        scores: The scores of a question that are pooled, out of ``"answerability"``, ``"bertscore"`` and ``"f1"``.
        consistency: Whether a question is weighted by the token F1 of the answer from its own text.
        reduction: The reduction over the comparisons of an example: ``"max"``, ``"mean"`` or ``"min"``.
        cache: A folder in which the parts' results are stored between runs; None for no cache.
        progress: Whether to show progress bars for long computations.
    """

    scores: tuple[str, ...] = SCORES
    consistency: bool = False
    reduction: str = "max"
    cache: str | os.PathLike[str] | None = field(default=None, repr=False, compare=False)
    progress: bool = field(default=True, repr=False, compare=False)
    known_scores: ClassVar[tuple[str, ...]] = SCORES

    def __post_init__(self) -> None:
        if isinstance(self.scores, str) or not self.scores:
            raise ArgumentError("a tuple of scores", repr(self.scores), f"Choose from {', '.join(self.known_scores)}.")
        for score in self.scores:
            if score not in self.known_scores:
                raise UnknownNameError("score of a question", str(score), self.known_scores)
        if self.reduction not in REDUCTIONS:
            raise UnknownNameError("reduction", str(self.reduction), REDUCTIONS)
        object.__setattr__(self, "scores", tuple(self.scores))

    @abstractmethod
    def parts(self) -> tuple[AnswerSelector, QuestionGenerator, QuestionAnswerer, AnswerSimilarity | None]:
        """Return the parts that select answers, generate questions, answer them, and compare answers.

        The last one is None if no score needs it.
        """

    @final
    def signature(self) -> str:
        """Return everything that the scores depend on, as text; scores with different signatures cannot be compared.

        Raises:
            ArgumentError: If a part has no identity.
            ModelError: If a model whose weights identify a part is missing.
        """
        settings = f"scores={self.scores} consistency={self.consistency} reduction={self.reduction}"
        parts: list[Part] = [part for part in self.parts() if part is not None]
        return " | ".join([self.name, settings, *(part.identity() for part in parts)])

    @final
    def score(
        self,
        hypotheses: Iterable[str | GeneratedText],
        *,
        sources: Iterable[str] | None = None,
        references: Iterable[Iterable[str]] | None = None,
    ) -> QuestEvalResult:
        """Score texts against their sources, their references, or both.

        Args:
            hypotheses: n texts to score, or answers of `generate_answers`; an empty text scores 0.
            sources: n texts that the hypotheses were created from.
            references: n rows of reference texts, all rows of the same length.

        Raises:
            MetricError: If there are no hypotheses, nothing to compare them with, lengths differ, something is not
                text, or a part returns an invalid result.
            ModelError: If a part needs a model that cannot be loaded.
            MissingExtraError: If a part needs a package that is not installed.
            SaveError: If the cache cannot be written.
        """
        examples = checked_examples(hypotheses, sources, references)
        with open_cache(self.cache) as cache:
            asked = QuestionPipeline(*self.parts(), self.consistency, cache, self.progress).run(examples)
        rows = [example_score(example, asked, self.scores, self.reduction) for example in examples]
        return QuestEvalResult(self.name, tuple(rows), self)

    @final
    def values(self, answers: MetricInput) -> NDArray[np.float64]:
        """Return the score of each answer against its reference, from 0 to 1."""
        return self.score(answers.predictions, references=[[each] for each in answers.references]).values
