"""The texts that are compared, and the questions about each text, answered from the texts it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.errors import MetricError
from rankselect.metrics.metric_input import checked_predictions, checked_texts
from rankselect.metrics.questeval.stages import answering, comparing, generating, selecting
from rankselect.metrics.squad import squad_f1

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rankselect.metrics.metric_input import GeneratedText
    from rankselect.metrics.questeval.parts import (
        AnswerSelector,
        AnswerSimilarity,
        FoundAnswer,
        QuestionAnswerer,
        QuestionGenerator,
    )
    from rankselect.metrics.questeval.result_cache import ResultCache

__all__ = ["Example", "QuestionAnswers", "QuestionPipeline", "checked_examples"]


@final
@dataclass(frozen=True)
class Example:
    """One hypothesis and the texts it is compared with.

    Attributes:
        hypothesis: The text to be scored.
        source: The text it was created from, if given.
        references: Reference texts, the same number for every example.
    """

    hypothesis: str
    source: str | None
    references: tuple[str, ...]

    def compared(self) -> list[tuple[str, str]]:
        """Return (name, text) of the source, if there is one, and of each reference."""
        source = [] if self.source is None else [("source", self.source)]
        return source + [(f"reference {number}", text) for number, text in enumerate(self.references, start=1)]


def checked_examples(
    hypotheses: Iterable[str | GeneratedText],
    sources: Iterable[str] | None,
    references: Iterable[Iterable[str]] | None,
) -> list[Example]:
    """Check the input and return it as examples.

    Raises:
        MetricError: If there is no example, nothing to compare with, lengths or numbers of references differ, or
            something is not text.
    """
    found = checked_predictions(hypotheses, "hypotheses")
    if not found:
        raise MetricError("at least one hypothesis", "none", "Pass the texts to score.")
    if sources is None and references is None:
        raise MetricError("sources, references, or both", "neither", "Give something to compare the hypotheses with.")
    origins = [None] * len(found) if sources is None else checked_texts(sources, "sources")
    rows = [()] * len(found) if references is None else _rows(references)
    for name, n in (("sources", len(origins)), ("rows of references", len(rows))):
        if n != len(found):
            raise MetricError(f"{len(found)} {name}, one for each hypothesis", str(n), "Give both in the same order.")
    return [Example(*parts) for parts in zip(found, origins, rows, strict=True)]


def _rows(references: Iterable[Iterable[str]]) -> list[tuple[str, ...]]:
    if isinstance(references, str):
        raise MetricError("a sequence of rows of references", "one string", "Write [[reference], ...].")
    try:
        listed = list(references)
    except TypeError:
        got = type(references).__name__
        raise MetricError("a sequence of rows of references", got, "Write [[reference], ...].") from None
    rows = [checked_texts(row, f"the references at index {index}") for index, row in enumerate(listed)]
    numbers = sorted({len(row) for row in rows})
    if numbers and numbers[0] == 0:
        raise MetricError("at least one reference for each hypothesis", "none", "Leave references out altogether.")
    if len(numbers) > 1:
        raise MetricError(
            "the same number of references for each hypothesis",
            " and ".join(str(number) for number in numbers),
            "Repeat a reference where there are too few.",
        )
    return rows


@final
@dataclass(frozen=True)
class QuestionAnswers:
    """All questions and their answers.

    Attributes:
        questions: For each text, (question, expected answer) in the order in which the answers were selected.
        answers: For each (question, text), the answer from the text.
        similarities: For each (found answer, expected answer), their similarity, if a score needs it.
        consistency: Whether a question is weighted by the token F1 of the answer from its own text.
    """

    questions: Mapping[str, Sequence[tuple[str, str]]]
    answers: Mapping[tuple[str, str], FoundAnswer]
    similarities: Mapping[tuple[str, str], float]
    consistency: bool

    def weights(self, text: str) -> list[float]:
        """Return one weight for each question about a text: 1, or its consistency."""
        if not self.consistency:
            return [1.0] * len(self.questions[text])
        return [squad_f1(self.answers[question, text].text, expected) for question, expected in self.questions[text]]


@final
@dataclass(frozen=True)
class QuestionPipeline:
    """Runs the parts in order: select answers, generate questions, answer them and, if needed, compare the answers.

    Attributes:
        selector: Selects answers.
        generator: Generates questions.
        answerer: Answers questions.
        similarity: Compares answers; None if no score needs it.
        consistency: Whether questions are also answered from their own texts.
        cache: The cache of results between runs, or None.
        progress: Whether to show progress bars for long computations.
    """

    selector: AnswerSelector
    generator: QuestionGenerator
    answerer: QuestionAnswerer
    similarity: AnswerSimilarity | None
    consistency: bool
    cache: ResultCache | None
    progress: bool

    def run(self, examples: Sequence[Example]) -> QuestionAnswers:
        """Answer every question from every text that it is needed for; equal inputs are computed once."""
        directions = _directions(examples)
        questions = self._questions(list(dict.fromkeys(source for source, _ in directions)))
        asked = [(question, target) for source, target in directions for question, _ in questions[source]]
        if self.consistency:
            asked += [(question, text) for text, own in questions.items() for question, _ in own]
        answers = answering(self.answerer).results(asked, self.cache, progress=self.progress)
        similarities = {}
        if self.similarity is not None:
            pairs = [
                (answers[question, target].text, expected)
                for source, target in directions
                for question, expected in questions[source]
            ]
            similarities = comparing(self.similarity).results(pairs, self.cache, progress=self.progress)
        return QuestionAnswers(questions, answers, similarities, self.consistency)

    def _questions(self, texts: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        selected = selecting(self.selector).results(texts, self.cache, progress=self.progress)
        pairs = [(answer, text) for text in texts for answer in selected[text]]
        generated = generating(self.generator).results(pairs, self.cache, progress=self.progress)
        return {text: [(generated[answer, text], answer) for answer in selected[text]] for text in texts}


def _directions(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Return (text of the questions, text of the answers): both directions of each comparison of non-empty texts."""
    found: dict[tuple[str, str], None] = {}
    for example in examples:
        for _, text in example.compared():
            if example.hypothesis and text:
                found[example.hypothesis, text] = None
                found[text, example.hypothesis] = None
    return list(found)
