"""A judge's result as tables in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankselect.metrics.judge.result import JudgeResult

__all__ = ["as_text"]


def as_text(result: JudgeResult) -> str:
    """The ranking, the record of each pair, and what there is to know about the verdicts."""
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
