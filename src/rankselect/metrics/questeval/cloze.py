"""Rule-based questions and answers: a gap in one text is filled with the span in the most similar context."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.metrics.questeval.content_spans import FUNCTION_WORDS, ContentSpans, Span, content_spans
from rankselect.metrics.questeval.parts import FoundAnswer, QuestionAnswerer, QuestionGenerator
from rankselect.metrics.questeval.question_metric import QuestionMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.metrics.questeval.parts import AnswerSelector, AnswerSimilarity

__all__ = ["ClozeAnswerer", "ClozeGenerator", "QuestEvalCloze"]

_GAP = "_____"
_REACH = 12  # words of context on each side of a gap
_WINDOW = 240  # characters in which these words are searched
_DECAY = 0.8  # factor of a word's weight for each content word between it and the gap
_BEYOND = 0.3  # factor of its weight for each end of a sentence in between
_TOKEN = re.compile(r"\w+|[.!?](?=\s|$)")
_ENDS = frozenset(".!?")
_SUFFIX = re.compile(r"(?<=\w{3})(?:ies|ing|ed|es|s|y|e)$")


@final
@dataclass(frozen=True)
class ClozeGenerator(QuestionGenerator):
    """Removes the answer from the text: the question is the gap with twelve words on each side.

    References:
        Taylor, "Cloze Procedure: A New Tool for Measuring Readability", Journalism Quarterly 30(4), 1953,
        doi:10.1177/107769905303000401.

    Example:
        >>> ClozeGenerator().generate([("Paris", "Marie Curie moved to Paris in 1891.")])
        ['Marie Curie moved to _____ in 1891.']
    """

    def generate(self, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """Put a gap in place of the first span with the answer; only a gap if the text does not contain the answer."""
        places: dict[str, dict[str, Span]] = {}
        questions = []
        for answer, text in pairs:
            if text not in places:
                places[text] = {text[start:end]: Span(start, end) for start, end in reversed(content_spans(text))}
            start = text.find(answer)
            found = Span(start, start + len(answer)) if start >= 0 else None
            place = places[text].get(answer, found)
            questions.append(_GAP if place is None else _question(text, place))
        return questions


@final
@dataclass(frozen=True)
class ClozeAnswerer(QuestionAnswerer):
    """Fills a gap with the span whose context in the text is most similar to the context of the gap.

    Contexts are compared by the cosine similarity of their content words. Near words count more than distant words and
    words in other sentences; words on the same side of both gaps count more than words on different sides. The highest
    cosine is the answerability. Without a common word there is no answer.

    Example:
        >>> ClozeAnswerer().answer([("Curie moved to _____ in 1891.", "She left Warsaw. In 1891 she moved to Paris.")])
        [FoundAnswer(text='Paris', answerability=0.66...)]
    """

    def answer(self, pairs: Sequence[tuple[str, str]]) -> list[FoundAnswer]:
        """The best span of each text for its question."""
        fillers: dict[str, _Fillers] = {}
        for _, text in pairs:
            if text not in fillers:
                fillers[text] = _Fillers(text)
        return [fillers[text].best(question) for question, text in pairs]


@final
class _Fillers:
    """The spans of a text, indexed by the words around them."""

    def __init__(self, text: str) -> None:
        spans = content_spans(text)
        self._texts = [text[start:end] for start, end in spans]
        self._index: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, span in enumerate(spans):
            for feature, weight in _context(_question(text, span)).items():
                self._index[feature].append((number, weight))

    def best(self, question: str) -> FoundAnswer:
        context = _context(question)
        if not context and self._texts:  # the text consists of the answer only
            return FoundAnswer(self._texts[0], 0.0)
        cosines: dict[int, float] = defaultdict(float)
        for feature, weight in context.items():
            for number, other in self._index.get(feature, ()):
                cosines[number] += weight * other
        if not cosines:
            return FoundAnswer("", 0.0)
        number = max(sorted(cosines), key=lambda each: round(cosines[each], 12))
        return FoundAnswer(self._texts[number], min(cosines[number], 1.0))


def _question(text: str, place: Span) -> str:
    left = text[max(0, place.start - _WINDOW) : place.start].replace("_", " ")
    right = text[place.end : place.end + _WINDOW].replace("_", " ")
    words_left, words_right = left.split()[-_REACH:], right.split()[:_REACH]
    before = " ".join(words_left) + (" " if words_left and left[-1].isspace() else "")
    after = (" " if words_right and right[0].isspace() else "") + " ".join(words_right)
    return f"{before}{_GAP}{after}"


def _context(question: str) -> dict[str, float]:
    """Return the content words around the gap (all words if there are none); the weights have Euclidean length 1."""
    left, _, right = question.lower().partition(_GAP)
    sides = {"<": _TOKEN.findall(left)[::-1], ">": _TOKEN.findall(right)}
    if all(token in FUNCTION_WORDS or token in _ENDS for tokens in sides.values() for token in tokens):
        ignored: frozenset[str] = frozenset()
    else:
        ignored = FUNCTION_WORDS
    weights: dict[str, float] = defaultdict(float)
    for side, tokens in sides.items():
        weight = 1.0
        for token in tokens:
            if token in _ENDS:
                weight *= _BEYOND
            elif token not in ignored:
                stem = _SUFFIX.sub("", token)
                weights[stem] += weight
                weights[side + stem] += weight
                weight *= _DECAY
    length = math.hypot(*weights.values())
    return {feature: weight / length for feature, weight in weights.items()}


@final
@dataclass(frozen=True, kw_only=True)
class QuestEvalCloze(QuestionMetric):
    """QuestEval with cloze questions: content words are removed from one text and searched in the other.

    It rewards the same words in the same context. It does not recognise synonyms or meaning, and its scores cannot be
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
