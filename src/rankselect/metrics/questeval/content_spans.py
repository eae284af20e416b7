"""Rule-based noun-like spans: runs of content words, with names separated from the words before them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

from rankselect.metrics.questeval.parts import AnswerSelector

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FUNCTION_WORDS", "ContentSpans", "Span", "content_spans"]

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*%?|\w+(?:['\u2019-]\w+)*|\S")
_LONGEST = 3  # words in a span

# Articles, pronouns, determiners; prepositions, conjunctions, particles; auxiliary and very frequent verbs; adjectives
# that make poor answers.
_FUNCTION_WORDS = """
a an the i you he she it we they me him her us them my your his its our their mine yours hers ours theirs myself
yourself himself herself itself ourselves themselves this that these those who whom whose which what each every
either neither some any no none all both few many much more most other others another such same own one about above
across after against along among around as at before behind below beneath beside besides between beyond but by
despite down during except for from in inside into like near of off on onto or out outside over past per since than
through throughout till to toward towards under until up upon via with within without and nor so yet if because
although though while whereas whether when where why how then there here not also only just very too even still
ever never always often usually sometimes however therefore thus again already once etc well less least
rather quite almost instead especially particularly generally typically commonly am is are was were be been being
do does did done doing have has had having can could may might must shall should will would cannot can't don't
doesn't didn't isn't aren't wasn't weren't won't become becomes became cause causes include includes lead leads
make makes made get gets got give gives gave given take takes took taken use uses used help helps need needs occur
occurs happen happens seem seems appear appears show shows know known call called affect affects result results
begin begins develop develops contain contains see say says said go goes went gone come comes came let keep keeps
kept find finds found tell ask try want produce produces provide provides require requires reduce reduces increase
increases involve involves treat treats prevent prevents able likely possible different certain several various
common new first second last next good better best large small long short high low early late due together away
back
"""

FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


class Span(NamedTuple):
    """A part of a text: ``text[start:end]``."""

    start: int
    end: int


@final
@dataclass(frozen=True)
class ContentSpans(AnswerSelector):
    """Selects noun-like spans of a text: up to three content words in a row, each distinct span once.

    A span ends at punctuation, at a function word or frequent verb, before a capitalised word that follows a lower-case
    word, and after three words. If a text has no content words ("Yes, it is."), the complete text is selected.

    Example:
        >>> ContentSpans().select(["The doctor gave Marie Curie 20 mg of insulin."])
        [['doctor', 'Marie Curie 20', 'mg', 'insulin']]
    """

    def select(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the distinct spans of each text, in the order of the text."""
        return [list(dict.fromkeys(text[start:end] for start, end in content_spans(text))) for text in texts]


def content_spans(text: str) -> list[Span]:
    """Return all spans of a text, in the order of the text."""
    tokens = [(match.group(), Span(*match.span())) for match in _TOKEN.finditer(text)]
    words = [place for token, place in tokens if _is_word(token)]
    if not words:
        return []
    runs: list[list[Span]] = [[]]
    before = ""
    for token, place in tokens:
        content = _is_word(token) and token.lower() not in FUNCTION_WORDS
        name_begins = token[:1].isupper() and before[:1].islower()
        if not content or name_begins or len(runs[-1]) == _LONGEST:
            runs.append([])
        if content:
            runs[-1].append(place)
        before = token
    spans = [Span(run[0].start, run[-1].end) for run in runs if run]
    return spans or [Span(words[0].start, words[-1].end)]


def _is_word(token: str) -> bool:
    return any(character.isalnum() for character in token)
