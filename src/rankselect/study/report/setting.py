"""The sections of a report on how to read it, and on the settings of the study."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rankselect.study.report.content import Section, Table
from rankselect.study.report.wording import NOTHING, count, plural
from rankselect.study.rows import TEST_SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankselect.study.arm import Arm
    from rankselect.study.config import StudyConfig
    from rankselect.study.folder import StudyFiles

__all__ = ["about_the_judge", "how_to_read", "setting"]


def setting(files: StudyFiles) -> Section:
    """The config, the versions and the machine."""
    config = files.config
    rows = tuple(
        (
            arm.name,
            _strategy(arm),
            _value(config.rates_of(arm)) if arm.strategy else NOTHING,
            _alphas(config, arm),
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
        ("config hash", f"{files.hash} (two studies with the same hash have the same setup)"),
    )
    return Section(
        "setting", "Setup of the study", tables=(Table("The arms", columns, rows, columns[1:]),), items=items
    )


def _strategy(arm: Arm) -> str:
    if arm.strategy is None:
        return "the base model, without an adapter"
    budget = f", budget {arm.budget}" if arm.budget else ""
    cut = f", cut to {arm.cut} after training" if arm.cut else ""
    recovery = f" and trained for {plural(arm.recover_steps, 'step')} more" if arm.recover_steps else ""
    return f"{arm.strategy!r}{budget}{cut}{recovery}"


def _alphas(config: StudyConfig, arm: Arm) -> str:
    if arm.strategy is None:
        return NOTHING
    return f"by rule: {arm.alpha}" if arm.alpha else _value(config.ratios_of(arm))


def how_to_read() -> Section:
    """The meaning of the terms in a report."""
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
        "The difference between the scores of two arms is small enough to be explained by chance. This does not mean "
        "that the arms are equal: there may be a difference below the smallest detectable one. More test questions and "
        "more seeds make the smallest detectable difference smaller."
    ),
    "Smallest detectable difference": (
        "With this number of seeds and questions, four out of five studies would show a true difference of this size. "
        "If smaller differences matter to you, this study is too small."
    ),
    "Interval": (
        "The range in brackets is a 95 % interval: it covers the variation between training seeds and between "
        "questions of the same kind. Differences are computed question by question, which removes the difficulty of "
        "the questions. Their intervals are widened for the number of comparisons, so that all of them hold "
        "simultaneously with 95 %."
    ),
    "Rank, alpha": (
        "An adapter adds the product of two thin matrices to a weight matrix. The rank is their shorter side. The "
        "product is multiplied by alpha divided by rank, the alpha ratio."
    ),
    "Intrinsic dimension (ID)": (
        "The number of independent directions in which a layer's hidden states vary from text to text. It is estimated "
        "from the distances between the states. Its value depends on the estimator and on the pooling of tokens, so "
        "compare only profiles that were measured in the same way."
    ),
    "Trainable %": (
        "The adapter's parameters as a share of all parameters. “As stored” counts the stored elements of a 4-bit "
        "base, where two weights share one element. This share is about twice as high; some tools print it."
    ),
    "Learning rate": (
        "Chosen separately for each arm, on validation rows that are not in the test. A comparison at one common "
        "learning rate would mostly show which rank that rate suits. If a choice is at the edge of its grid, a better "
        "one may be outside."
    ),
    "Dropout": (
        "Dropout is for training. Answers are generated with dropout off. A table of scores with dropout on shows the "
        "cost of forgetting to turn it off."
    ),
}


def about_the_judge(judge: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A paragraph on how reliable the judge's verdicts are, or why they give no ranking; none without a judge.

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
        f"The judge: {judge['judge']}; {plural(n, 'comparison')} of two answers, judged in both orders. "
        f"{count(changed)} changed with the order and {'counts as a tie' if changed == 1 else 'count as ties'}; "
        f"{count(judge['n_abstentions'])} of {plural(judge['n_verdicts'], 'verdict')} abstained; "
        f"{count(judge['n_first_preferred'])} of {plural(judge['n_preferences'], 'preference')} were for the answer "
        "shown first."
    )
    return (text,)
