"""The verdicts of a judge: strict parsing of a reply, and the outcome of the replies in both orders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, final

__all__ = ["Choice", "Comparison", "Outcome", "Preference", "parse_verdict"]

Choice = Literal["first", "second", "tie", "abstained"]
Outcome = Literal["won", "tie", "disagreement", "identical", "abstained"]

_MARK = re.compile(r"\[\[(A|B|tie)\]\]", re.IGNORECASE)
_MARKDOWN = " \t\r\n*_`.>#"
_CHOICES: dict[str, Choice] = {"a": "first", "b": "second", "tie": "tie"}


def parse_verdict(reply: str) -> Choice:
    """Return the choice in a reply, or ``"abstained"``.

    A verdict is a reply that ends with ``[[A]]``, ``[[B]]`` or ``[[tie]]`` and contains neither of the other two.
    Everything else is an abstention: refusals, nonsense, truncated replies, two verdicts at once. The reasoning of a
    model, up to ``</think>``, is not part of its reply.

    Example:
        >>> parse_verdict("A names the cause, B does not. [[A]]")
        'first'
        >>> parse_verdict("I cannot compare medical advice.")
        'abstained'
    """
    text = reply.rpartition("</think>")[2].partition("<think>")[0].strip(_MARKDOWN)
    marks = {mark.lower() for mark in _MARK.findall(text)}
    if len(marks) != 1 or not re.search(rf"(?:{_MARK.pattern})$", text, re.IGNORECASE):
        return "abstained"
    return _CHOICES[marks.pop()]


@final
@dataclass(frozen=True)
class Preference:
    """The judge's verdict on two answers in one order: the result of one call.

    Attributes:
        question: The index of the question.
        first: The arm whose answer was shown first, as answer A.
        second: The arm whose answer was shown second, as answer B.
        choice: ``"first"``, ``"second"``, ``"tie"`` or ``"abstained"``.
        reply: The judge's reply, verbatim; for a call without a reply, the reason.

    Example:
        >>> Preference(0, "rank 8", "rank 64", "second", "[[B]]").winner
        'rank 64'
    """

    question: int
    first: str
    second: str
    choice: Choice
    reply: str

    @property
    def winner(self) -> str | None:
        """The arm that the judge preferred, if any."""
        return {"first": self.first, "second": self.second}.get(self.choice)


@final
@dataclass(frozen=True)
class Comparison:
    """Two arms' answers to one question, judged in both orders.

    Attributes:
        question: The index of the question.
        arms: The two arms.
        verdicts: The two verdicts; empty if the answers are the same text, which the judge does not need to compare.

    Example:
        >>> both = Preference(0, "x", "y", "first", "[[A]]"), Preference(0, "y", "x", "first", "[[A]]")
        >>> comparison = Comparison(0, ("x", "y"), both)
        >>> comparison.outcome, comparison.winner
        ('disagreement', None)
    """

    question: int
    arms: tuple[str, str]
    verdicts: tuple[Preference, ...]

    @property
    def outcome(self) -> Outcome:
        """The outcome of both verdicts.

        For ``"won"`` and ``"tie"`` both orders must agree. ``"disagreement"``, a verdict that changes with the order,
        counts as a tie, and so does ``"identical"``. A comparison with an abstention is left out.
        """
        if not self.verdicts:
            return "identical"
        if any(verdict.choice == "abstained" for verdict in self.verdicts):
            return "abstained"
        winners = {verdict.winner for verdict in self.verdicts}
        if len(winners) > 1:
            return "disagreement"
        return "tie" if winners == {None} else "won"

    @property
    def winner(self) -> str | None:
        """The arm that won in both orders, if one did."""
        return self.verdicts[0].winner if self.outcome == "won" else None
