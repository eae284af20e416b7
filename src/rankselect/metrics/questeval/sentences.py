"""QuestEval's pseudo-sentences: text cut after ".", "!" and "?", by tokens and without a parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spacy.tokens import Doc

__all__ = ["first_sentences", "pseudo_sentences"]


def pseudo_sentences(doc: Doc) -> Iterator[str]:
    """The pseudo-sentences of a tokenised text.

    A sentence ends before the first token that is not punctuation after a token ".", "!" or "?". So closing quotes
    stay with the sentence they close (opening brackets too), "..." and line ends do not end one, and white space
    beyond one space begins the next.
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
    """The first pseudo-sentences of a text, joined by one space; the text as it is without a limit."""
    if limit is None:
        return doc.text
    return " ".join(list(pseudo_sentences(doc))[:limit])
