"""Calls that brought no reply: which may be repeated, which concern one prompt, which end the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.errors import EndpointError
from rankselect.metrics.judge.retries import retry_after

if TYPE_CHECKING:
    from openai import APIStatusError

__all__ = ["Failure", "NoReplyError", "of_status"]

_PASSING = frozenset({408, 409, 425, 429})
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
    """An endpoint that works but gives no reply to one prompt: too long, filtered, an empty list of choices.

    A callable of your own may raise it too: the judge then abstains, where any other error ends the run.

    Example:
        >>> raise NoReplyError("a reply", "a content filter", "Leave the question out.")
        Traceback (most recent call last):
            ...
        rankselect.metrics.judge.failures.NoReplyError: expected a reply, got a content filter. Leave the question out.
    """


@final
@dataclass(frozen=True)
class Failure:
    """A call that brought no reply.

    Attributes:
        expected: What was needed of the endpoint, up to its address.
        kind: What came instead.
        remedy: What to do about it.
        said: What the endpoint or the client said, in full; it may hold the key.
        passing: Whether the same call may succeed later.
        this_prompt: Whether another prompt may succeed now.
        retry_after: How many seconds the endpoint asks to wait, if it does.

    Example:
        >>> Failure("a connection to", "none", "Check base_url=.").passing
        True
    """

    expected: str
    kind: str
    remedy: str
    said: str = ""
    passing: bool = True
    this_prompt: bool = False
    retry_after: float | None = None


def of_status(error: APIStatusError) -> Failure:
    """The failure behind an HTTP status of 400 or above."""
    status, code = error.status_code, str(error.code or error.type or "")
    kind, said = f"status {status}", _said(error)
    if status in {401, 403}:
        remedy = "Set OPENAI_API_KEY or pass api_key=."
        return Failure("a key that is accepted by", kind, remedy, said, passing=False)
    if status == 404:
        remedy = "Check the model's name, and base_url=: it often ends in /v1."
        return Failure("the model to be there at", kind, remedy, said, passing=False)
    if code == "insufficient_quota":
        return Failure("credit at", kind, "Add credit there.", said, passing=False)
    if status in _PASSING or status >= 500:
        asked = retry_after(error.response.headers)
        return Failure("an answer from", kind, "Try again later.", said, retry_after=asked)
    if status == 413 or code in _ABOUT_THE_PROMPT or "context length" in str(error):
        return Failure("a reply from", kind, "Leave this question out.", said, passing=False, this_prompt=True)
    remedy = "If it is a setting that the model does not take, leave it out: temperature=None, max_tokens=None."
    return Failure("a request that is accepted by", kind, remedy, said, passing=False)


def _said(error: APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else body
    return str(message or "no message")
