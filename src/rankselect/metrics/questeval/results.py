"""What QuestEval answers: the score, and where it comes from, comparison by comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rankselect.metrics.questeval.question_metric import QuestionMetric

__all__ = ["ExampleScore", "QuestEvalResult", "TextComparison"]


@final
@dataclass(frozen=True)
class TextComparison:
    """One hypothesis against its source or one of its references.

    Attributes:
        against: ``"source"``, or ``"reference 1"``, ``"reference 2"``, …
        recall: How well the hypothesis answers the questions of the other text, from 0 to 1.
        precision: How well the other text answers the questions of the hypothesis.
        score: The arithmetic mean of both; 0 if either text is empty.
        n_recall_questions: How many questions `recall` rests on; without any it is 0.
        n_precision_questions: How many `precision` rests on.
    """

    against: str
    recall: float
    precision: float
    score: float
    n_recall_questions: int
    n_precision_questions: int


@final
@dataclass(frozen=True)
class ExampleScore:
    """One hypothesis against all that it was compared with.

    Attributes:
        score: The comparisons' scores, reduced (by default, the best of them).
        recall: The recall that goes with it: that of the chosen comparison, or the mean.
        precision: The precision that goes with it.
        comparisons: The source first, if there is one, then the references in their order.
    """

    score: float
    recall: float
    precision: float
    comparisons: tuple[TextComparison, ...]


@final
@dataclass(frozen=True)
class QuestEvalResult:
    """The scores of a set of hypotheses.

    Attributes:
        metric: The name of the metric: scores of different names cannot be compared.
        examples: One entry for each hypothesis.
        scored_by: The metric itself; its `signature()` names all settings and parts.

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
