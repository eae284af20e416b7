"""QuestEval: compares two texts by answering questions about each text from the other one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, cast, final

from rankselect.metrics.questeval.model_parts import BertSimilarity, T5QuestionAnswerer, T5QuestionGenerator
from rankselect.metrics.questeval.question_metric import QuestionMetric
from rankselect.metrics.questeval.spacy_selector import SpacySelector

if TYPE_CHECKING:
    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        QuestionAnswerer,
        QuestionGenerator,
    )

__all__ = ["QuestEval"]


@final
@dataclass(frozen=True, kw_only=True)
class QuestEval(QuestionMetric):
    r"""QuestEval 0.2.4 for text: questions generated, answered and compared by models.

    Answers are selected in each text (named entities and noun chunks), and a question is generated for each answer.
    The questions about the hypothesis are answered from the text it is compared with (precision), and the questions
    about that text from the hypothesis (recall). Each question has three scores: its answerability, and the BERTScore
    and token F1 between the found answer and the expected answer; all these scores are averaged. The score of a
    comparison is the arithmetic mean of precision and recall; the score of an example is the best of its comparisons.

    Creating the metric loads nothing: models are loaded at first use.

    Attributes:
        answerer: Answers questions: a part, or a T5 model's hub name or folder.
        generator: Generates questions: a part, or a T5 model's hub name or folder.
        selector: Selects answers.
        similarity: Compares answers, for the score ``"bertscore"``.

    Raises:
        ArgumentError: If no score is chosen.
        UnknownNameError: If a score or the reduction is unknown.

    References:
        Scialom et al., "QuestEval: Summarization Asks for Fact-based Evaluation", arXiv:2103.12693.

    Example:
        >>> from rankselect.metrics.questeval import ClozeAnswerer, ClozeGenerator, ContentSpans
        >>> metric = QuestEval(
        ...     answerer=ClozeAnswerer(), generator=ClozeGenerator(), selector=ContentSpans(), scores=("f1",)
        ... )
        >>> result = metric.score(["Insulin lowers sugar."], sources=["Insulin lowers sugar."])
        >>> result.score, result.precision, result.recall
        (1.0, 1.0, 1.0)
    """

    name: ClassVar[str] = "questeval"
    answerer: QuestionAnswerer | str = field(default_factory=T5QuestionAnswerer)
    generator: QuestionGenerator | str = field(default_factory=T5QuestionGenerator)
    selector: AnswerSelector = field(default_factory=SpacySelector)
    similarity: AnswerSimilarity = field(default_factory=BertSimilarity)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.answerer, str):
            object.__setattr__(self, "answerer", T5QuestionAnswerer(self.answerer))
        if isinstance(self.generator, str):
            object.__setattr__(self, "generator", T5QuestionGenerator(self.generator))

    def parts(self) -> tuple[AnswerSelector, QuestionGenerator, QuestionAnswerer, AnswerSimilarity | None]:
        """Return the parts that were given; the similarity only if a score needs it."""
        generator, answerer = cast("QuestionGenerator", self.generator), cast("QuestionAnswerer", self.answerer)
        return self.selector, generator, answerer, self.similarity if "bertscore" in self.scores else None
