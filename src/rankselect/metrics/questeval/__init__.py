"""QuestEval: scores from generated questions and their answers, with replaceable parts."""

from rankselect.metrics.questeval.cloze import ClozeAnswerer, ClozeGenerator, QuestEvalCloze
from rankselect.metrics.questeval.content_spans import ContentSpans
from rankselect.metrics.questeval.model_parts import BertSimilarity, T5QuestionAnswerer, T5QuestionGenerator
from rankselect.metrics.questeval.parts import (
    AnswerSelector,
    AnswerSimilarity,
    FoundAnswer,
    QuestionAnswerer,
    QuestionGenerator,
)
from rankselect.metrics.questeval.questeval import QuestEval
from rankselect.metrics.questeval.question_metric import QuestEvalResult
from rankselect.metrics.questeval.scoring import ExampleScore, TextComparison
from rankselect.metrics.questeval.spacy_selector import SpacySelector

__all__ = [
    "AnswerSelector",
    "AnswerSimilarity",
    "BertSimilarity",
    "ClozeAnswerer",
    "ClozeGenerator",
    "ContentSpans",
    "ExampleScore",
    "FoundAnswer",
    "QuestEval",
    "QuestEvalCloze",
    "QuestEvalResult",
    "QuestionAnswerer",
    "QuestionGenerator",
    "SpacySelector",
    "T5QuestionAnswerer",
    "T5QuestionGenerator",
    "TextComparison",
]
