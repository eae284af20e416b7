"""How far a judge's ranking can be trusted, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rankselect.study.report.wording import count, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["about_the_judge"]


def about_the_judge(judge: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A paragraph on what the judge's verdicts are worth, or why they rank nothing; none without a judge.

    Example:
        >>> from rankselect.metrics.judge import LLMJudge
        >>> judge = LLMJudge("first", complete=lambda messages: "[[A]]")
        >>> result = judge.rank(["Why?"], {"x": ["So."], "y": ["Thus."]}, progress=False)
        >>> about_the_judge(result.to_dict())[0].split("; ")[-1]
        '2 of 2 preferences were for the answer shown first.'
    """
    if judge is None:
        return ()
    if judge["unranked"]:
        return (f"The judge, {judge['judge']}, did not rank the arms: {judge['unranked']}",)
    n, changed = len(judge["comparisons"]), judge["n_disagreements"]
    text = (
        f"The judge: {judge['judge']}; {plural(n, 'comparison')} of two answers, asked in both orders. "
        f"{count(changed)} changed with the order and {'counts as a tie' if changed == 1 else 'count as ties'}; "
        f"{count(judge['n_abstentions'])} of {plural(judge['n_verdicts'], 'verdict')} abstained; "
        f"{count(judge['n_first_preferred'])} of {plural(judge['n_preferences'], 'preference')} were for the answer "
        "shown first."
    )
    return (text,)
