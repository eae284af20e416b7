"""Parse the options of `rankselect study`; mistakes are reported before anything is loaded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rankselect.errors import ArgumentError
from rankselect.registry import check

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rankselect.metrics.judge import LLMJudge
    from rankselect.study.arm import Arm
    from rankselect.study.executors import Executor

__all__ = ["DEFAULT_METRICS", "arms_of", "executor_of", "judge_of", "numbers_of"]

DEFAULT_METRICS = ("token-f1", "questeval-cloze", "perplexity")
"""The metrics of a study if none is named."""

_BASE = "base"
_SETTINGS = {"budget": "budget", "alpha": "alpha", "cut": "cut", "recover": "recover_steps"}
_DEFAULT_ARMS = (
    "base",
    "rank-8=fixed:rank=8",
    "intrinsic-mean=intrinsic-mean",
    "per-layer-id=per-layer-id",
    "per-layer-id-control=same-parameters:strategy=per-layer-id",
)


def arms_of(typed: Sequence[str]) -> tuple[Arm, ...]:
    """Parse arms of the form NAME=STRATEGY[@SETTING=VALUE]…, or base alone; the default arms if none is given.

    Raises:
        ArgumentError: If an arm has another form.
        UnknownNameError: If there is no such strategy.
    """
    parsed = [_arm(text) for text in typed or _DEFAULT_ARMS]
    from rankselect.study.arm import Arm

    return tuple(Arm(name, strategy, **settings) for name, strategy, settings in parsed)


def _arm(text: str) -> tuple[str, str | None, dict[str, Any]]:
    """Return the name, the strategy and the settings of an arm."""
    head, *parts = text.split("@")
    name, equals, strategy = head.partition("=")
    if head != _BASE and not (equals and strategy):
        raise ArgumentError(
            f"an arm as NAME=STRATEGY, or {_BASE} alone for the model without an adapter",
            repr(text),
            "For example --arm rank-16=fixed:rank=16.",
        )
    if strategy:
        check("strategy", strategy)
    return name, strategy or None, dict(_setting(part, text) for part in parts)


def _setting(part: str, arm: str) -> tuple[str, Any]:
    name, _, value = part.partition("=")
    if name not in _SETTINGS or not value or (name == "recover" and not value.isdecimal()):
        raise ArgumentError(
            "settings of an arm as @budget=SIZE, @alpha=RULE, @cut=SIZE or @recover=STEPS",
            f"@{part} in {arm!r}",
            "For example --arm gora=gora@budget=rank:8@alpha=fixed:32.",
        )
    return _SETTINGS[name], int(value) if name == "recover" else value


def numbers_of(option: str, typed: str) -> tuple[float, ...]:
    """Parse positive numbers separated by commas.

    Raises:
        ArgumentError: If the text has another form; the message names the option.
    """
    try:
        numbers = tuple(float(number) for number in typed.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < math.inf for number in numbers):
        raise ArgumentError(f"positive numbers separated by commas for {option}", repr(typed), "For example 1e-4,3e-4.")
    return numbers


def executor_of(name: str, address: str | None) -> Executor | None:
    """Return the executor of the runs; None to run one after the other.

    Raises:
        ArgumentError: If an address is given without --executor ray.
    """
    if name == "sequential":
        if address is not None:
            raise ArgumentError("--address with --executor ray", "--address alone", "Add --executor ray.")
        return None
    from rankselect.study.ray_executor import RayExecutor  # optional

    return RayExecutor(address)


def judge_of(model: str | None, url: str | None, out: Path, *, max_questions: int, max_retries: int) -> LLMJudge | None:
    """Create the judge, which stores its replies in the study's folder; None if no model is named.

    Raises:
        ArgumentError: If there is a URL without a name, or no key.
        MissingExtraError: If openai is not installed.
    """
    if model is None:
        if url is not None:
            raise ArgumentError("--judge-url with --judge NAME", "--judge-url alone", "Name the model with --judge.")
        return None
    import rankselect as rs

    out.mkdir(parents=True, exist_ok=True)
    return rs.LLMJudge(model, base_url=url, max_questions=max_questions, max_retries=max_retries, cache=out / "replies")
