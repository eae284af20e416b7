"""Selection of answers with spaCy: named entities and noun chunks of the first sentences."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, MissingExtraError, ModelError, UnknownNameError, first_sentence
from rankselect.metrics.questeval.parts import AnswerSelector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spacy.language import Language
    from spacy.tokens import Doc

__all__ = ["SpacySelector", "first_sentences", "pseudo_sentences"]


def pseudo_sentences(doc: Doc) -> Iterator[str]:
    """Yield the pseudo-sentences of a tokenised text.

    After a token ".", "!" or "?", the next sentence starts at the first token that is not punctuation. So closing
    quotes (but also opening brackets) belong to the sentence before them, "..." and line breaks do not end a sentence,
    and additional white space starts the next one.
    """
    start, ended = 0, False
    for token in doc:
        if ended and not token.is_punct:
            yield doc[start : token.i].text
            start, ended = token.i, False
        ended = ended or token.text in {".", "!", "?"}
    if start < len(doc):
        yield doc[start:].text


def first_sentences(doc: Doc, limit: int | None) -> str:
    """Return the first pseudo-sentences of a text, joined by one space; without a limit, the unchanged text."""
    if limit is None:
        return doc.text
    return " ".join(list(pseudo_sentences(doc))[:limit])


@final
@dataclass(frozen=True)
class SpacySelector(AnswerSelector):
    """The answer selection of the original QuestEval.

    Args:
        pipeline: A spaCy pipeline with named entities and noun chunks. It is loaded at first use.
        answer_types: ``"NER"`` for named entities, ``"NOUN"`` for noun chunks. A span found by both counts twice.
        limit_sentences: Use only this many sentences at the start of a text; None for all.

    Raises:
        ArgumentError: If the limit is negative or no answer type is given.
        UnknownNameError: If an answer type is unknown.
        MissingExtraError: At first use, if spaCy is not installed.
        ModelError: At first use, if the pipeline is not installed, or has no parser for noun chunks.

    Example:
        >>> SpacySelector(limit_sentences=None)
        SpacySelector(pipeline='en_core_web_sm', answer_types=('NER', 'NOUN'), limit_sentences=None)
    """

    pipeline: str = "en_core_web_sm"
    answer_types: tuple[str, ...] = ("NER", "NOUN")
    limit_sentences: int | None = 5

    def __post_init__(self) -> None:
        if isinstance(self.answer_types, str) or not self.answer_types:
            raise ArgumentError("a tuple of answer types", repr(self.answer_types), 'For example ("NER", "NOUN").')
        for each in self.answer_types:
            if each not in {"NER", "NOUN"}:
                raise UnknownNameError("answer type", str(each), ["NER", "NOUN"])
        if self.limit_sentences is not None and self.limit_sentences < 0:
            raise ArgumentError("at least 0 sentences", repr(self.limit_sentences), "None means all of them.")
        object.__setattr__(self, "answer_types", tuple(self.answer_types))

    def identity(self) -> str:
        """The settings, and the versions of the pipeline and of spaCy."""
        meta = self._nlp.meta
        return (
            f"{self!r} {meta['lang']}_{meta['name']} {meta['version']} {meta['spacy_version']} {_spacy().__version__}"
        )

    def select(self, texts: Sequence[str]) -> list[list[str]]:
        """Entities, then noun chunks (in the order of `answer_types`), each in the order of the text."""
        shortened = [first_sentences(self._nlp.make_doc(text), self.limit_sentences) for text in texts]
        try:
            return [
                [span.text for each in self.answer_types for span in (doc.ents if each == "NER" else doc.noun_chunks)]
                for doc in self._nlp.pipe(shortened)
            ]
        except (ValueError, NotImplementedError) as error:
            raise ModelError(
                "a spaCy pipeline with noun chunks",
                f"{self.pipeline} ({first_sentence(error)})",
                'Use one with a parser, such as en_core_web_sm, or answer_types=("NER",).',
            ) from error

    @cached_property
    def _nlp(self) -> Language:
        try:
            pipeline: Language = _spacy().load(self.pipeline)
        except OSError as error:
            raise ModelError(
                f"the spaCy pipeline {self.pipeline}",
                "none installed",
                f"Run: python -m spacy download {self.pipeline}. "
                "Or use the metric questeval-cloze, which needs none; its scores are on a different scale.",
            ) from error
        return pipeline


def _spacy() -> Any:
    try:
        import spacy  # optional
    except ImportError as error:
        raise MissingExtraError("spacy", "questeval") from error
    return spacy
