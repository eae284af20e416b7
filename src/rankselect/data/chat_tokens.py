"""Conversations as token ids: those of the tokenizer's chat template, with the assistant's turns marked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from rankselect.data.conversation import Conversation, Message
from rankselect.data.prompt_tokens import PromptTokens, RowTokens, end_token_id, longest_beginning, without_beginning
from rankselect.data.prompts import ChatTemplate
from rankselect.errors import DataError
from rankselect.models.suitability import require_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rankselect.data.prompts import PromptTemplate

__all__ = ["ChatTokens", "prompt_tokens"]


def prompt_tokens(tokenizer: Any, template: PromptTemplate) -> PromptTokens:
    """What turns rows into token ids under this template."""
    kind = ChatTokens if isinstance(template, ChatTemplate) else PromptTokens
    return kind(tokenizer, template)


@final
class ChatTokens(PromptTokens):
    """Turns conversations into token ids.

    A conversation is tokenised as a whole, as `apply_chat_template` does it. An answer begins with the first token that
    the text before it would not have, and ends with the control token that ends the turn.

    Attributes:
        tokenizer: A transformers tokenizer.
        template: The chat template.
    """

    template: ChatTemplate

    def __init__(self, tokenizer: Any, template: PromptTemplate) -> None:
        self.tokenizer = tokenizer = require_tokenizer(tokenizer)
        self.template = template if isinstance(template, ChatTemplate) else template.chat(tokenizer)
        self.control = self.template.rendering.control
        ends = [self.control.id_at_start(text) for text in self.template.stop]
        self._ends = {token for token in ends if token is not None}

    @property
    def ends(self) -> set[int]:
        """The token ids of the template that end an answer."""
        return self._ends

    def prompts(self, asked: Sequence[Any]) -> list[list[int]]:
        """The ids of the prompts, up to where the assistant's next turn begins.

        Args:
            asked: Questions as texts, or rows, whose last answer is left out.
        """
        rendering = self.template.rendering
        texts = []
        for each in asked:
            messages = self._messages(each)
            if messages[-1]["role"] == "assistant":
                del messages[-1]
            texts.append(rendering.text(messages, generate=True))
        return self.control.ids(texts)

    def rows(self, rows: Sequence[Any]) -> list[RowTokens]:
        """The ids of rows; those of all answers are learned, with the token that ends each turn.

        Raises:
            DataError: If a conversation ends with a question, or the template does not take one.
        """
        for index, row in enumerate(rows):
            if isinstance(row, Conversation) and row.messages[-1].role != "assistant":
                raise DataError(
                    "conversations that end with an answer",
                    f"one without (row {index})",
                    "Drop its last message.",
                )
        return [self._row(row) for row in rows]

    def cut_row(self, row: Any, tokens: RowTokens, room: int) -> RowTokens:
        """A row whose prompt is cut to a number of tokens: first its oldest turns, then the end of its last question.

        Args:
            row: The row.
            tokens: Its token ids.
            room: The greatest number of tokens of the prompt; at least those of the template's own words.
        """
        return self._row(_cut(row, lambda shorter: self._row(shorter).n_prompt, room))

    def cut_prompt(self, asked: Any, budget: int) -> list[int]:
        """The prompt without its oldest turns and the end of its last question, as far as needed.

        Args:
            asked: The question, as text or as a row.
            budget: The greatest number of tokens; at least those of the template's own words.
        """
        return self.prompts([_cut(asked, lambda shorter: len(self.prompts([shorter])[0]), budget)])[0]

    def texts(self, rows: Sequence[Any]) -> list[str]:
        """Rows as texts to profile a model on: without a beginning that the tokenizer puts before every text."""
        rendering = self.template.rendering
        return [without_beginning(rendering.text(rendering.messages(row)), self.tokenizer) for row in rows]

    def _messages(self, row: Any) -> list[dict[str, str]]:
        messages = self.template.rendering.messages(row)
        return [{**each, "content": self.control.guard(each["content"])} for each in messages]

    def _row(self, row: Any) -> RowTokens:
        messages = self._messages(row)
        rendering = self.template.rendering
        text = rendering.text(messages)
        [ids] = self.control.ids([text])
        answers = [message["content"].strip() for message in messages if message["role"] == "assistant"]
        starts = rendering.starts(messages)
        borders = [self._n_common(ids, text[:start]) for start in starts]
        learned = [False] * len(ids)
        for answer, start, border, following in zip(answers, starts, borders, [*borders[1:], len(ids)], strict=True):
            end = next((at + 1 for at in range(border, following) if ids[at] in self._ends), None)
            if end is None and following < len(ids):
                end = self._n_common(ids, text[: text.find(answer, start) + len(answer)])
            elif end is None:  # the template ends a turn without a control token
                ids.append(end_token_id(self.tokenizer))
                learned.append(True)
                end = len(ids)
            learned[border:end] = [True] * (end - border)
        return RowTokens(ids, learned, borders[-1], sum(learned[borders[-1] :]))

    def _n_common(self, ids: Sequence[int], beginning: str) -> int:
        """How many of the ids a beginning of their text has, too."""
        [own] = self.control.ids([beginning])
        return next((at for at, (one, other) in enumerate(zip(ids, own, strict=False)) if one != other), len(own))


def _cut(asked: Any, length: Callable[[Any], int], room: int) -> Any:
    """A row or question without its oldest turns and the end of its last question, as far as its prompt is too long."""
    while length(asked) > room and isinstance(asked, Conversation) and asked.has_several_turns:
        asked = _without_oldest(asked)
    if length(asked) <= room:
        return asked
    question = asked if isinstance(asked, str) else asked.question
    kept = longest_beginning(question, lambda shorter: length(_with_question(asked, shorter)), room)
    return _with_question(asked, kept)


def _without_oldest(row: Conversation) -> Conversation:
    first = int(row.messages[0].role == "system")
    return Conversation((*row.messages[:first], *row.messages[first + 2 :]))


def _with_question(row: Any, question: str) -> Any:
    """The row with another last question."""
    if isinstance(row, str):
        return question
    if not isinstance(row, Conversation):
        return replace(row, question=question)
    last = max(index for index, message in enumerate(row.messages) if message.role == "user")
    return Conversation((*row.messages[:last], Message("user", question), *row.messages[last + 1 :]))
