"""Who is asked what: every question of every text, put to the texts that it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.metrics.questeval.stages import answering, comparing, generating, selecting
from rankselect.metrics.token_f1 import token_f1

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.metrics.questeval.cache import AnswerCache
    from rankselect.metrics.questeval.examples import Example
    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        FoundAnswer,
        QuestionAnswerer,
        QuestionGenerator,
    )

__all__ = ["Interview", "Interviewers"]


@final
@dataclass(frozen=True)
class Interview:
    """All questions and what was answered.

    Attributes:
        questions: For each text, (question, wanted answer) in the order in which the answers were selected.
        answers: For each (question, text asked), what was found.
        similarities: For each (found answer, wanted answer), their similarity, if it is scored.
        consistency: Whether a question counts only as far as its own text answers it rightly.
    """

    questions: Mapping[str, Sequence[tuple[str, str]]]
    answers: Mapping[tuple[str, str], FoundAnswer]
    similarities: Mapping[tuple[str, str], float]
    consistency: bool

    def weights(self, text: str) -> list[float]:
        """One weight for each question of a text: 1, or its consistency."""
        if not self.consistency:
            return [1.0] * len(self.questions[text])
        return [token_f1(self.answers[question, text].text, wanted) for question, wanted in self.questions[text]]


@final
@dataclass(frozen=True)
class Interviewers:
    """The parts at work.

    Attributes:
        selector: Chooses what is asked about.
        generator: Asks.
        answerer: Answers.
        similarity: Compares answers; None if no score needs it.
        consistency: Whether texts are asked their own questions too.
        cache: Where results are kept between runs, if anywhere.
        progress: Whether long work shows progress bars.
    """

    selector: AnswerSelector
    generator: QuestionGenerator
    answerer: QuestionAnswerer
    similarity: AnswerSimilarity | None
    consistency: bool
    cache: AnswerCache | None
    progress: bool

    def interview(self, examples: Sequence[Example]) -> Interview:
        """Ask every question of every text where it has to be answered; the same thing is never asked twice."""
        encounters = _encounters(examples)
        questions = self._questions(list(dict.fromkeys(asking for asking, _ in encounters)))
        asked = [(question, text) for asking, text in encounters for question, _ in questions[asking]]
        if self.consistency:
            asked += [(question, text) for text, own in questions.items() for question, _ in own]
        answers = answering(self.answerer).results(asked, self.cache, progress=self.progress)
        similarities = {}
        if self.similarity is not None:
            pairs = [
                (answers[question, text].text, wanted)
                for asking, text in encounters
                for question, wanted in questions[asking]
            ]
            similarities = comparing(self.similarity).results(pairs, self.cache, progress=self.progress)
        return Interview(questions, answers, similarities, self.consistency)

    def _questions(self, texts: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        selected = selecting(self.selector).results(texts, self.cache, progress=self.progress)
        wanted = [(answer, text) for text in texts for answer in selected[text]]
        generated = generating(self.generator).results(wanted, self.cache, progress=self.progress)
        return {text: [(generated[answer, text], answer) for answer in selected[text]] for text in texts}


def _encounters(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """(text that asks, text that answers): both directions of every comparison of two texts that are not empty."""
    found: dict[tuple[str, str], None] = {}
    for example in examples:
        for _, text in example.compared():
            if example.hypothesis and text:
                found[example.hypothesis, text] = None
                found[text, example.hypothesis] = None
    return list(found)
