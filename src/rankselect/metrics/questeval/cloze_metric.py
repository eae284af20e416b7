"""QuestEval's procedure with questions and answers by rule: no model, no download, and scores of another name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.metrics.questeval.cloze import ClozeAnswerer, ClozeGenerator
from rankselect.metrics.questeval.content_spans import ContentSpans
from rankselect.metrics.questeval.question_metric import QuestionMetric

if TYPE_CHECKING:
    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        QuestionAnswerer,
        QuestionGenerator,
    )

__all__ = ["QuestEvalCloze"]


@final
@dataclass(frozen=True, kw_only=True)
class QuestEvalCloze(QuestionMetric):
    """QuestEval with gaps for questions: content words are cut out of one text and looked for in the other.

    It rewards the same words among the same words. It knows no synonyms and no meaning, and its scores cannot be
    compared with those of `QuestEval`, published or not.

    Raises:
        ArgumentError: If no score is chosen.
        UnknownNameError: If a score or the reduction is unknown.

    Example:
        >>> metric = QuestEvalCloze()
        >>> print(metric.evaluate(["Insulin lowers blood sugar."], ["Insulin lowers blood sugar."]))
        questeval-cloze 1.0000 (95% interval 1.0000 to 1.0000)
    """

    name: ClassVar[str] = "questeval-cloze"
    known_scores: ClassVar[tuple[str, ...]] = ("answerability", "f1")
    scores: tuple[str, ...] = ("f1",)

    def parts(self) -> tuple[AnswerSelector, QuestionGenerator, QuestionAnswerer, AnswerSimilarity | None]:
        """The rule-based parts."""
        return ContentSpans(), ClozeGenerator(), ClozeAnswerer(), None
