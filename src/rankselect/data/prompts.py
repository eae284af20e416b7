"""Questions with answers, and the prompt template that joins them into one text and splits it again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from rankselect.errors import ArgumentError, DataError

__all__ = ["PromptTemplate", "QuestionAnswer"]


@final
@dataclass(frozen=True)
class QuestionAnswer:
    """One question and its answer.

    Attributes:
        question: The question, without any words of a prompt.
        answer: The reference answer.

    Example:
        >>> QuestionAnswer("What is acne?", "A disease of the skin.").answer
        'A disease of the skin.'
    """

    question: str
    answer: str


_QUESTION, _ANSWER = "{question}", "{answer}"
_DEFAULT, _DEFAULT_STOP = "### Instruction: {question} ### Assistant: {answer}", ("### Instruction",)
_OF_TEMPLATE: tuple[str, ...] = ("",)  # means "from the template"; no real stop text is empty


@final
@dataclass(frozen=True)
class PromptTemplate:
    r"""How a question and its answer become one text, and back.

    The default is the form of the data set MedQuAD-phi2. Braces other than the two names are text like any other.

    Args:
        template: A text with ``{question}`` and, after it, ``{answer}``, each once, with something between them.
        stop: Texts at which a generated answer ends. Left out, they follow from the template: the last line before
            the question (a model that continues writes the next question) and the words after the answer.

    Attributes:
        template: As given.
        stop: The texts at which a generated answer ends.

    Raises:
        ArgumentError: If the template lacks a name, repeats one, has them in the wrong order or with nothing between
            them, or if a stop text is empty.

    Example:
        >>> template = PromptTemplate()
        >>> template.prompt("What is acne?")
        '### Instruction: What is acne? ### Assistant:'
        >>> template.parse(template.text("What is acne?", "A disease of the skin.")).answer
        'A disease of the skin.'
        >>> PromptTemplate("Q: {question}\nA: {answer}").stop
        ('Q:',)
    """

    template: str = _DEFAULT
    stop: tuple[str, ...] = _OF_TEMPLATE

    def __post_init__(self) -> None:
        counts = [self.template.count(name) for name in (_QUESTION, _ANSWER)]
        if counts != [1, 1] or not self._parts()[1] or self.template.index(_QUESTION) > self.template.index(_ANSWER):
            raise ArgumentError(
                "a template with {question}, some words, and {answer}, each once and in this order",
                repr(self.template),
                f"For example {_DEFAULT!r}.",
            )
        if self.stop == _OF_TEMPLATE:
            object.__setattr__(self, "stop", _DEFAULT_STOP if self.template == _DEFAULT else self._own_stop())
        elif isinstance(self.stop, str) or not all(isinstance(text, str) and text.strip() for text in self.stop):
            raise ArgumentError(
                "a tuple of stop texts that are not empty", repr(self.stop), 'For example ("### Instruction",).'
            )

    def prompt(self, question: str) -> str:
        """The text that the model reads before it answers: everything up to the answer, without spaces at the end.

        The space before the answer belongs to the answer's first token in most vocabularies; `gap` is that space.
        """
        before, between, _ = self._parts()
        return f"{before}{question}{between.rstrip(' ')}"

    @property
    def gap(self) -> str:
        """The spaces between prompt and answer."""
        between = self._parts()[1]
        return between[len(between.rstrip(" ")) :]

    @property
    def ending(self) -> str:
        """The words after the answer; empty in the default template."""
        return self._parts()[2]

    def text(self, question: str, answer: str) -> str:
        """Question and answer as one text."""
        return f"{self.prompt(question)}{self.gap}{answer}{self.ending}"

    def parse(self, text: str) -> QuestionAnswer:
        """Find question and answer in a text of this form; the inverse of `text`.

        White space around the question, the answer and the template's words does not matter. The question ends where
        the words between question and answer come first, so it must not contain them.

        Args:
            text: For example ``"### Instruction: What is acne? ### Assistant: A disease of the skin."``.

        Raises:
            DataError: If the text has another form.
        """
        before, between, after = self._parts()
        body, start, end = text.strip(), before.strip(), after.strip()
        question, found, answer = body.removeprefix(start).partition(between.strip() or between)
        if not (body.startswith(start) and body.endswith(end) and found):
            raise DataError(
                f"text of the form {self.template!r}",
                repr(_shortened(text)),
                "Pass the template that the text was written with.",
            )
        return QuestionAnswer(question.strip(), answer.removesuffix(end).strip())

    def _own_stop(self) -> tuple[str, ...]:
        before, _, after = (part.strip() for part in self._parts())
        return tuple(words for words in (before.rpartition("\n")[2], after) if words)

    def _parts(self) -> tuple[str, str, str]:
        """The text before the question, between question and answer, and after the answer."""
        before, _, rest = self.template.partition(_QUESTION)
        between, _, after = rest.partition(_ANSWER)
        return before, between, after


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
