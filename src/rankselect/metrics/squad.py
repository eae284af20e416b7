"""The two scores of SQuAD: token F1 and exact match."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.metrics._base import Metric

if TYPE_CHECKING:
    from rankselect.metrics.metric_input import MetricInput

__all__ = ["ExactMatch", "TokenF1", "exact_match", "normalized_tokens", "token_f1"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


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
    found, expected = normalized_tokens(prediction), normalized_tokens(reference)
    if not found or not expected:
        return float(found == expected)
    same = sum((Counter(found) & Counter(expected)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(expected)
    return (2 * precision * recall) / (precision + recall)


def normalized_tokens(text: str) -> list[str]:
    """Split a text into words as the SQuAD v2.0 evaluation does.

    The text is converted to lower case, ASCII punctuation is deleted (not replaced: "U.S." is "us", "well-known" is
    "wellknown"), the articles a, an and the are removed, and the rest is split at white space.

    Example:
        >>> normalized_tokens("The U.S. has a well-known Doctor!")
        ['us', 'has', 'wellknown', 'doctor']
    """
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


@final
@dataclass(frozen=True)
class ExactMatch(Metric):
    """1 if an answer has the same words in the same order as its reference, otherwise 0.

    Words are those of `normalized_tokens`, so case, ASCII punctuation and the articles a, an, the are ignored.

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
