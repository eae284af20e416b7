"""The two scores of SQuAD: token F1 and exact match."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.metrics._base import Metric

if TYPE_CHECKING:
    from rankselect.metrics.metric_input import MetricInput

__all__ = ["ExactMatch", "TokenF1", "exact_match", "normalized_tokens", "squad_f1", "token_f1"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_SPACES = re.compile(  # the beginnings of the names of characters in scripts without spaces
    "CJK|IDEOGRAPHIC|HIRAGANA|KATAKANA|HALFWIDTH KATAKANA|BOPOMOFO|THAI|LAO |KHMER|MYANMAR|TIBETAN"
)


@final
@dataclass(frozen=True)
class TokenF1(Metric):
    """The F1 of the words that an answer shares with its reference, after SQuAD's normalisation.

    Common words are counted as often as they occur in both texts. Precision p is their share of the answer's words,
    recall r their share of the reference's words, and :math:`F_1 = 2pr / (p + r)`. `normalized_tokens` defines the
    words.

    References:
        Rajpurkar, Jia, Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", arXiv:1806.03822.

    Example:
        >>> print(TokenF1().evaluate(["The heart.", "a rare fever"], ["heart", "fever"]))
        token-f1 0.8333 (95% interval 0.6667 to 1.0000)
    """

    name: ClassVar[str] = "token-f1"

    def values(self, answers: MetricInput) -> list[float]:
        """The F1 of each answer, from 0 to 1."""
        return [token_f1(*pair) for pair in zip(answers.predictions, answers.references, strict=True)]


def token_f1(prediction: str, reference: str) -> float:
    """The F1 of the words that two texts share.

    Args:
        prediction: One text.
        reference: The other; the score is the same when the two are exchanged.

    Returns:
        From 0 (no word in common) to 1 (the same words). If one text has no words, the score is 1 if the other has none
        either, and 0 otherwise.

    Example:
        >>> token_f1("New York", "the City of New York")
        0.6666666666666666
    """
    return _f1(normalized_tokens(prediction), normalized_tokens(reference))


def squad_f1(prediction: str, reference: str) -> float:
    """The F1 of two texts exactly as SQuAD's own evaluation computes it, for metrics that are defined by it.

    Example:
        >>> squad_f1("New York", "the City of New York")
        0.6666666666666666
    """
    return _f1(_squad_tokens(prediction), _squad_tokens(reference))


def _f1(found: list[str], expected: list[str]) -> float:
    if not found or not expected:
        return float(found == expected)
    same = sum((Counter(found) & Counter(expected)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(expected)
    return (2 * precision * recall) / (precision + recall)


def normalized_tokens(text: str) -> list[str]:
    """Split a text into words as the SQuAD v2.0 evaluation does, and beyond ASCII.

    The text is converted to lower case, punctuation is deleted (not replaced: "U.S." is "us", "well-known" is
    "wellknown"), the articles a, an and the are removed, and the rest is split at white space. For ASCII texts this is
    SQuAD's own rule. Beyond it, texts are brought to one Unicode form (NFC), all Unicode punctuation counts, and in
    scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan) each character with its
    marks is a word, as in the evaluation of MLQA.

    References:
        Lewis et al., "MLQA: Evaluating Cross-lingual Extractive Question Answering", arXiv:1910.07475.

    Example:
        >>> normalized_tokens("The U.S. has a well-known Doctor!")
        ['us', 'has', 'wellknown', 'doctor']
        >>> normalized_tokens("\u201cVitamin C\u201d")
        ['vitamin', 'c']
        >>> len(normalized_tokens("\u7cd6\u5c3f\u75c5\u3002"))  # three characters of Chinese, and a full stop
        3
    """
    if text.isascii():
        return _squad_tokens(text)
    lower = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower()).translate(_PUNCTUATION)
    plain = "".join(letter for letter in lower if not unicodedata.category(letter).startswith("P"))
    return [word for run in _ARTICLES.sub(" ", plain).split() for word in _words(run)]


def _squad_tokens(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _words(run: str) -> list[str]:
    """A run of letters without white space: one word, but for characters of scripts that have no spaces."""
    words: list[str] = []
    in_word = False
    for letter in run:
        is_mark = unicodedata.category(letter).startswith("M")
        is_alone = not is_mark and _WITHOUT_SPACES.match(unicodedata.name(letter, "")) is not None
        if words and (is_mark or (in_word and not is_alone)):
            words[-1] += letter
        else:
            words.append(letter)
            in_word = not is_alone
    return words


@final
@dataclass(frozen=True)
class ExactMatch(Metric):
    """1 if an answer has the same words in the same order as its reference, otherwise 0.

    Words are those of `normalized_tokens`, so case, punctuation and the articles a, an, the are ignored.

    References:
        Rajpurkar, Jia, Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD", arXiv:1806.03822.

    Example:
        >>> ExactMatch().evaluate(["The heart.", "a rare fever"], ["heart", "fever"]).values.tolist()
        [1.0, 0.0]
    """

    name: ClassVar[str] = "exact-match"

    def values(self, answers: MetricInput) -> list[float]:
        """1 or 0 for each answer."""
        return [exact_match(*pair) for pair in zip(answers.predictions, answers.references, strict=True)]


def exact_match(prediction: str, reference: str) -> float:
    """1 if two texts have the same words in the same order, otherwise 0.

    Example:
        >>> exact_match("The heart!", "heart"), exact_match("heart and lung", "lung and heart")
        (1.0, 0.0)
    """
    return float(normalized_tokens(prediction) == normalized_tokens(reference))
