"""The result of a judge: the ranking, the wins of each pair of arms, and how consistent the verdicts are."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.metrics.judge.preferences import Comparison, Outcome, Preference
    from rankselect.metrics.judge.ranking import RankedArm

__all__ = ["JudgeResult", "PairRecord"]


@final
@dataclass(frozen=True)
class PairRecord:
    """The record of two arms against each other: numbers of questions.

    Attributes:
        first: One arm.
        second: The other.
        first_wins: The first was preferred in both orders.
        second_wins: The second was preferred in both orders.
        ties: Neither was preferred in either order, or the answers are the same text.
        disagreements: The preference changed with the order: counted as ties.
        abstentions: At least one verdict is an abstention: left out.

    Example:
        >>> PairRecord("x", "y", 3, 1, 0, 2, 0).wins
        (4.0, 2.0)
    """

    first: str
    second: str
    first_wins: int
    second_wins: int
    ties: int
    disagreements: int
    abstentions: int

    @property
    def wins(self) -> tuple[float, float]:
        """The wins of both for the Bradley-Terry model; ties and disagreements are half wins."""
        halves = (self.ties + self.disagreements) / 2
        return self.first_wins + halves, self.second_wins + halves


@final
@dataclass(frozen=True)
class JudgeResult:
    """The result of a judge. It prints as tables.

    Attributes:
        judge: The repr of the judge (without its key).
        arms: The arms, in the order in which they were given.
        ranking: The arms, the best first; empty if the verdicts do not rank them.
        unranked: Why there is no ranking; empty if there is one.
        confidence: The level of the intervals.
        comparisons: Every comparison, in the order of the questions.

    Example:
        >>> from rankselect.metrics.judge import LLMJudge
        >>> judge = LLMJudge("undecided", complete=lambda messages: "[[tie]]")
        >>> result = judge.rank(["Why?"], {"x": ["So."], "y": ["Thus."]}, progress=False)
        >>> result.n_disagreements, result.n_first_preferred, result.ranking[0].probability
        (0, 0, 0.5)
    """

    judge: str
    arms: tuple[str, ...]
    ranking: tuple[RankedArm, ...]
    unranked: str
    confidence: float
    comparisons: tuple[Comparison, ...] = field(repr=False)

    @property
    def verdicts(self) -> tuple[Preference, ...]:
        """Every verdict, two for each comparison of different texts."""
        return tuple(verdict for comparison in self.comparisons for verdict in comparison.verdicts)

    @property
    def n_abstentions(self) -> int:
        """How many verdicts are abstentions."""
        return sum(verdict.choice == "abstained" for verdict in self.verdicts)

    @property
    def n_disagreements(self) -> int:
        """How many comparisons came out differently when the answers were swapped."""
        return sum(comparison.outcome == "disagreement" for comparison in self.comparisons)

    @property
    def n_preferences(self) -> int:
        """How many verdicts preferred one of the answers."""
        return sum(verdict.winner is not None for verdict in self.verdicts)

    @property
    def n_first_preferred(self) -> int:
        """The number of verdicts for the first answer, about half of `n_preferences` without position bias."""
        return sum(verdict.choice == "first" for verdict in self.verdicts)

    @property
    def pairs(self) -> tuple[PairRecord, ...]:
        """The record of every pair of arms, in the order of the arms."""
        counts = Counter((frozenset(each.arms), each.outcome, each.winner) for each in self.comparisons)
        return tuple(_record(counts, first, second) for first, second in combinations(self.arms, 2))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "judge": self.judge,
            "arms": list(self.arms),
            "ranking": [asdict(arm) for arm in self.ranking],
            "unranked": self.unranked,
            "confidence": self.confidence,
            "pairs": [asdict(pair) for pair in self.pairs],
            "n_verdicts": len(self.verdicts),
            "n_abstentions": self.n_abstentions,
            "n_disagreements": self.n_disagreements,
            "n_preferences": self.n_preferences,
            "n_first_preferred": self.n_first_preferred,
            "comparisons": [
                {"question": each.question, "arms": list(each.arms), "outcome": each.outcome, "winner": each.winner}
                for each in self.comparisons
            ],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }

    def __str__(self) -> str:
        return _as_text(self)


def _record(counts: Counter[tuple[frozenset[str], Outcome, str | None]], first: str, second: str) -> PairRecord:
    pair = frozenset((first, second))
    return PairRecord(
        first,
        second,
        first_wins=counts[pair, "won", first],
        second_wins=counts[pair, "won", second],
        ties=counts[pair, "tie", None] + counts[pair, "identical", None],
        disagreements=counts[pair, "disagreement", None],
        abstentions=counts[pair, "abstained", None],
    )


def _as_text(result: JudgeResult) -> str:
    """Format the ranking, the record of each pair, and the counts of the verdicts."""
    parts = [_ranking(result), _pairs(result), _verdicts(result)]
    return "\n\n".join(parts)


def _ranking(result: JudgeResult) -> str:
    if not result.ranking:
        return f"No ranking: {result.unranked}"
    rows = [
        (arm.arm, f"{arm.probability:.2f}", f"{arm.low:.2f} to {arm.high:.2f}", f"{arm.strength:+.2f}")
        for arm in result.ranking
    ]
    return _aligned([("arm", "preferred", f"{result.confidence:.0%} interval", "strength"), *rows], left=1)


def _pairs(result: JudgeResult) -> str:
    header = ("arm", "against", "won", "lost", "tied", "changed with the order", "abstained")
    rows = [
        (
            pair.first,
            pair.second,
            *map(str, (pair.first_wins, pair.second_wins, pair.ties, pair.disagreements, pair.abstentions)),
        )
        for pair in result.pairs
    ]
    return _aligned([header, *rows], left=2)


def _verdicts(result: JudgeResult) -> str:
    said = f"{len(result.verdicts)} verdicts, {result.n_abstentions} of them abstentions."
    if not result.n_preferences:
        return said
    share = result.n_first_preferred / result.n_preferences
    return (
        f"{said} Of {result.n_preferences} preferences {result.n_first_preferred} ({share:.0%}) were for the answer "
        "shown first."
    )


def _aligned(lines: Sequence[tuple[str, ...]], left: int) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
