"""Failed calls: which can be repeated, which concern a single prompt, and which end the run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, final

from rankselect.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import APIStatusError

__all__ = ["LONGEST_WAIT", "Failure", "NoReplyError", "of_status", "retry_after", "seconds_to_wait"]

_TEMPORARY = frozenset({408, 409, 425, 429})
_ABOUT_THE_PROMPT = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "invalid_prompt",
        "string_above_max_length",
    }
)


class NoReplyError(EndpointError):
    """A working endpoint that gives no reply to one prompt: too long, filtered, an empty list of choices.

    Your own callable may raise it too: the judge then abstains, whereas any other error ends the run.

    Example:
        >>> raise NoReplyError("a reply", "a content filter", "Leave the question out.")
        Traceback (most recent call last):
            ...
        rankselect.metrics.judge.failures.NoReplyError: expected a reply, got a content filter. Leave the question out.
    """


@final
@dataclass(frozen=True)
class Failure:
    """A call that returned no reply.

    Attributes:
        expected: What the endpoint should have done, as the beginning of a phrase that ends with its address.
        kind: What happened instead.
        remedy: What to do about it.
        said: The complete message of the endpoint or the client; it may contain the key.
        temporary: Whether the same call may succeed later.
        this_prompt: Whether another prompt may succeed now.
        retry_after: The seconds that the endpoint asks to wait, if any.

    Example:
        >>> Failure("a connection to", "none", "Check base_url=.").temporary
        True
    """

    expected: str
    kind: str
    remedy: str
    said: str = ""
    temporary: bool = True
    this_prompt: bool = False
    retry_after: float | None = None


def of_status(error: APIStatusError) -> Failure:
    """Return the failure for an HTTP status of 400 or above."""
    status, code = error.status_code, str(error.code or error.type or "")
    kind, said = f"status {status}", _said(error)
    if status in {401, 403}:
        remedy = "Set OPENAI_API_KEY or pass api_key=."
        return Failure("a key that is accepted by", kind, remedy, said, temporary=False)
    if status == 404:
        remedy = "Check the model's name, and base_url=: it often ends in /v1."
        return Failure("the model to exist at", kind, remedy, said, temporary=False)
    if code == "insufficient_quota":
        return Failure("credit at", kind, "Add credit there.", said, temporary=False)
    if status in _TEMPORARY or status >= 500:
        asked = retry_after(error.response.headers)
        return Failure("a response from", kind, "Try again later.", said, retry_after=asked)
    if status == 413 or code in _ABOUT_THE_PROMPT or "context length" in str(error):
        return Failure("a reply from", kind, "Leave this question out.", said, temporary=False, this_prompt=True)
    remedy = "If the model does not accept a setting, leave it out: temperature=None, max_tokens=None."
    return Failure("a request that is accepted by", kind, remedy, said, temporary=False)


def _said(error: APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else body
    return str(message or "no message")


LONGEST_WAIT = 300.0
"""Seconds; if an endpoint asks to wait longer, for example until tomorrow, the call fails."""

_FIRST_WAIT, _LONGEST_BACKOFF = 1.0, 60.0


def seconds_to_wait(attempt: int, asked: float | None) -> float:
    """The wait after a failed attempt: 1, 2, 4, … up to 60 seconds, and never less than the endpoint asked for.

    Args:
        attempt: How many attempts failed before this one.
        asked: The seconds that the endpoint asked for, if any.

    Example:
        >>> seconds_to_wait(3, None), seconds_to_wait(0, 20.0), seconds_to_wait(2, 0.0)
        (8.0, 20.0, 4.0)
    """
    return max(asked or 0.0, min(_FIRST_WAIT * 2.0 ** min(attempt, 10), _LONGEST_BACKOFF))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the headers of a response ask to wait, if any: from a number or an HTTP date.

    Example:
        >>> retry_after({"retry-after": "2"}), retry_after({"retry-after-ms": "1500"}), retry_after({})
        (2.0, 1.5, None)
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
