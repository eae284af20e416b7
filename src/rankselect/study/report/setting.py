"""How a study was made, and how its report is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rankselect.study.report.content import Section, Table
from rankselect.study.report.wording import NOTHING, count, plural
from rankselect.study.rows import TEST_SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankselect.study.folder import StudyFiles

__all__ = ["about_the_judge", "how_to_read", "setting"]


def setting(files: StudyFiles) -> Section:
    """The config, the versions and the machine."""
    config = files.config
    rows = tuple(
        (
            arm.name,
            repr(arm.strategy) if arm.strategy else "the base model, without an adapter",
            _value(config.rates_of(arm)) if arm.strategy else NOTHING,
            _value(config.ratios_of(arm)) if arm.strategy else NOTHING,
        )
        for arm in config.arms
    )
    columns = ("arm", "strategy", "learning rates tried", "alpha ratios tried")
    values = {name: value for name, value in config.to_dict().items() if name != "arms"}
    values["test"] = config.test or f"{TEST_SHARE:.0%} of the training questions, held out"
    versions = ", ".join(f"{name} {version}" for name, version in files.versions.items())
    items = (
        *((name.replace("_", " "), _value(value)) for name, value in values.items()),
        ("machine", files.machine or "not recorded"),
        ("versions", versions or "not recorded"),
        ("config hash", f"{files.hash} (two studies with the same one answer the same question)"),
    )
    return Section("setting", "How it was made", tables=(Table("The arms", columns, rows, columns[1:]),), items=items)


def how_to_read() -> Section:
    """What the words and numbers of a report mean."""
    return Section("reading", "How to read this", items=tuple(_TERMS.items()))


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


_TERMS = {
    "No difference shown": (
        "The scores of two arms are closer than chance alone could put them. It does not say that the arms are equal: a"
        " difference below the smallest one that could have been shown may be there. More test questions, and more "
        "seeds, make that number smaller."
    ),
    "Smallest difference that could have been shown": (
        "With this number of seeds and questions, a true difference of this size would have been shown in four studies "
        "of five. If a difference that matters to you is smaller, this study cannot tell."
    ),
    "Interval": (
        "A score in brackets is a 95 % interval: how far the average could move with other training seeds and other "
        "questions of the same kind. Differences are taken question by question, which takes out how hard a question "
        "is; intervals of differences are widened for the number of comparisons, so that they hold together with 95 %."
    ),
    "Rank, alpha": (
        "An adapter changes a weight matrix by the product of two thin ones; rank is how thin. What it adds is "
        "multiplied by alpha divided by rank, the alpha ratio."
    ),
    "Intrinsic dimension (ID)": (
        "Of how many numbers a layer's hidden states are really made, whatever their width: measured from the distances"
        " between the states of different texts. Its value rests on the estimator and on how tokens are pooled, so "
        "compare it only with profiles that were measured in the same way."
    ),
    "Trainable %": (
        "The adapter's parameters as a share of all parameters. “As stored” counts what a 4-bit base keeps in memory, "
        "where two weights share one element: the share comes out about twice as high, as some tools print it."
    ),
    "Learning rate": (
        "Chosen for each arm by itself, on validation rows that are not in the test: ranks compared at one learning "
        "rate would mostly show which of them it suits. A choice at the edge of its grid may not be the best there is."
    ),
    "Dropout": (
        "Dropout belongs to training. Answers are written with it off; where a table shows scores with dropout on, it "
        "shows what is lost by forgetting to turn it off."
    ),
}


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
