"""Questions with answers, and the prompt templates that join them into one text and split it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, final

from rankselect.data.chat_rendering import ChatRendering, chat_source
from rankselect.errors import ArgumentError, DataError, described

__all__ = ["CHAT", "ChatTemplate", "PromptTemplate", "QuestionAnswer", "template_named", "template_of"]

CHAT = "chat"
"""The name of the tokenizer's own chat template."""


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


@dataclass(frozen=True)
class PromptTemplate:
    r"""How a question and its answer become one text, and back.

    The default is the form of the data set MedQuAD-phi2. Braces other than the two names are text like any other.
    `PromptTemplate.chat` takes the chat template of a tokenizer instead.

    Words of the template that are control tokens of the tokenizer (``<s>``, ``<|im_end|>``) become these tokens; in
    questions and answers they are text. A template with its own beginning or end of text gets no second one.

    Args:
        template: A text with ``{question}`` and, after it, ``{answer}``, each once, with something between them.
        stop: Texts at which a generated answer ends. Left out, they follow from the template: the last line before
            the question (a model that continues writes the next question) and the words after the answer. Those count
            only at the beginning of a line or after white space (the words after the answer, as they stand in the
            template); texts that you give count anywhere.

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

    is_chat: ClassVar[bool] = False
    """Whether conversations keep their turns."""

    @staticmethod
    def chat(tokenizer: Any, system: str | None = None) -> ChatTemplate:
        r"""The chat template of a tokenizer, for rows of one question or of several turns.

        Rows become the tokens that `apply_chat_template` makes of them, the loss is on all of the assistant's turns,
        and generation starts from the template's own generation prompt and stops at the end of the turn. Control tokens
        in messages are text, which `apply_chat_template` makes tokens of.

        Args:
            tokenizer: A tokenizer with a chat template.
            system: The system message of rows without one; None for none (some templates write one of their own).

        Raises:
            ArgumentError: If the tokenizer has no chat template, or the template takes no system message.

        Example:
            >>> from rankselect.testing import tiny_tokenizer
            >>> tokenizer = tiny_tokenizer()
            >>> tokenizer.chat_template = (
            ...     "{% for message in messages %}{{ message.role }}: {{ message.content }}<s>\n{% endfor %}"
            ...     "{% if add_generation_prompt %}assistant:{% endif %}"
            ... )
            >>> template = PromptTemplate.chat(tokenizer)
            >>> template.prompt("What is acne?"), template.stop
            ('user: What is acne?<s>\nassistant:', ('<s>',))
        """
        return ChatTemplate(chat_source(tokenizer), tokenizer=tokenizer, system=system)

    def __post_init__(self) -> None:
        counts = [self.template.count(name) for name in (_QUESTION, _ANSWER)]
        if counts != [1, 1] or not self._parts()[1] or self.template.index(_QUESTION) > self.template.index(_ANSWER):
            raise ArgumentError(
                "a template with {question}, some words, and {answer}, each once and in this order",
                repr(self.template),
                f"For example {_DEFAULT!r}.",
            )
        if self.stop == _OF_TEMPLATE:
            object.__setattr__(self, "stop", self._own_stop())
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

    @property
    def stop_anywhere(self) -> tuple[str, ...]:
        """The stop texts that count anywhere; the others at the beginning of a line or after white space."""
        after = self.ending.strip()
        glued = {after} if after and not self.ending[0].isspace() else set()
        return tuple(text for text in self.stop if text not in self._own_stop() or text in glued)

    @property
    def own_words(self) -> tuple[str, ...]:
        """The template's words at the borders of question and answer, which neither should contain."""
        before, between, after = (part.strip() for part in self._parts())
        words = (before.rpartition("\n")[2], between, after)
        return tuple(text for text in words if any(map(str.isalnum, text)))

    def _own_stop(self) -> tuple[str, ...]:
        if self.template == _DEFAULT:
            return _DEFAULT_STOP
        before, _, after = (part.strip() for part in self._parts())
        return tuple(words for words in (before.rpartition("\n")[2], after) if words)

    def _parts(self) -> tuple[str, str, str]:
        """The text before the question, between question and answer, and after the answer."""
        before, _, rest = self.template.partition(_QUESTION)
        between, _, after = rest.partition(_ANSWER)
        return before, between, after


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


@final
@dataclass(frozen=True)
class ChatTemplate(PromptTemplate):
    """The chat template of a tokenizer, as `PromptTemplate.chat` returns it.

    Attributes:
        template: The template in Jinja.
        stop: The control token that ends the assistant's turn.
        tokenizer: The tokenizer, whose special tokens the template uses.
        system: The system message of rows without one, or None.
        rendering: How conversations become text.
    """

    tokenizer: Any = field(default=None, repr=False, compare=False, kw_only=True)
    system: str | None = field(default=None, kw_only=True)
    rendering: ChatRendering = field(init=False, repr=False, compare=False)

    is_chat: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "rendering", ChatRendering(self.tokenizer, self.template, self.system))
        if self.stop == _OF_TEMPLATE:
            object.__setattr__(self, "stop", self.rendering.stop)

    def prompt(self, question: str) -> str:
        """The text that the model reads before it answers."""
        return self.rendering.text(self.rendering.messages(question), generate=True)

    def text(self, question: str, answer: str) -> str:
        """Question and answer as one text."""
        return self.rendering.text(self.rendering.messages(QuestionAnswer(question, answer)))

    def parse(self, text: str) -> QuestionAnswer:
        """Refuse a text: what a chat template wrote is not taken apart.

        Raises:
            DataError: Always.
        """
        raise DataError(
            "rows with messages, or with question and answer",
            repr(_shortened(text)),
            "Load texts with the PromptTemplate that they were written with, then train with the chat template.",
        )

    @property
    def stop_anywhere(self) -> tuple[str, ...]:
        """The stop texts that count anywhere: all."""
        return self.stop

    def _parts(self) -> tuple[str, str, str]:
        rendering = self.rendering
        before = rendering.head.removesuffix(rendering.before_answer)
        return before, rendering.before_answer, rendering.after_answers[0]


def template_of(given: PromptTemplate | None) -> PromptTemplate:
    """The given template, or the default one.

    Raises:
        ArgumentError: If it is something else, such as its text.

    Example:
        >>> template_of(None) == PromptTemplate()
        True
        >>> template_of("Q: {question} A: {answer}")
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected a PromptTemplate, got 'Q: {question} A: {answer}'. \
Write PromptTemplate('…{question}…{answer}'), or PromptTemplate.chat(tokenizer).
    """
    if given is None:
        return PromptTemplate()
    if not isinstance(given, PromptTemplate):
        remedy = "Write PromptTemplate('…{question}…{answer}'), or PromptTemplate.chat(tokenizer)."
        raise ArgumentError("a PromptTemplate", described(given), remedy)
    return given


def template_named(text: str | None, tokenizer: Any, system: str | None = None) -> PromptTemplate:
    """The template that a user names: a text, ``"chat"``, or None for the default.

    Args:
        text: As typed on the command line.
        tokenizer: The tokenizer whose chat template ``"chat"`` means.
        system: The system message, for ``"chat"``.

    Raises:
        ArgumentError: If the text is no template, or there is a system message and no chat template.

    Example:
        >>> template_named("Q: {question} A: {answer}", None).prompt("Why?")
        'Q: Why? A:'
    """
    if text == CHAT:
        return PromptTemplate.chat(tokenizer, system)
    if system is not None:
        raise ArgumentError(
            "a system message with the chat template",
            f"the template {text!r}" if text else "the default template",
            "Add --template chat, or write the system message into the template.",
        )
    return PromptTemplate() if text is None else PromptTemplate(text)
