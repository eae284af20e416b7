"""A client for any endpoint with OpenAI's API: one prompt in, one reply out."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final
from urllib.parse import urlsplit

from rankselect.errors import ArgumentError, EndpointError, MissingExtraError, first_sentence
from rankselect.metrics.judge.failures import LONGEST_WAIT, Failure, NoReplyError, of_status, seconds_to_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai import OpenAI

__all__ = ["Endpoint", "open_endpoint"]

logger = logging.getLogger(__name__)

_OPENAI = "https://api.openai.com/v1"


@final
@dataclass(frozen=True, eq=False)
class Endpoint:
    """A model behind OpenAI's API, called as ``endpoint(messages)``.

    Only the client holds the key. It is removed from the endpoint's messages before they become a reply or an error.

    Attributes:
        model: The model's name at the endpoint.
        base_url: The endpoint's address.
        client: The client of the package openai; its own retries are off.
        settings: Further fields of each request, such as the temperature.
        max_retries: How often a call is repeated after a temporary failure: 408, 409, 429, 5xx, a lost connection, a
            timeout, or a response that is not in OpenAI's format.
        wait: Waits for the given seconds; a true return value means that no further attempt is made.

    Example:
        >>> open_endpoint("a-model", "http://127.0.0.1:8000/v1", "a-secret-key").base_url
        'http://127.0.0.1:8000/v1'
    """

    model: str
    base_url: str
    client: OpenAI = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict)
    max_retries: int = 5
    wait: Callable[[float], object] = field(default=time.sleep, repr=False)

    def __call__(self, messages: list[dict[str, str]]) -> str:
        """The model's reply to a chat.

        Raises:
            EndpointError: If the endpoint cannot be reached, refuses the key, or keeps failing.
            NoReplyError: If the endpoint works, but gives no reply to this chat.
        """
        attempt = 0
        while True:
            reply = self._attempt(messages)
            if isinstance(reply, str):
                return self._without_key(reply)
            seconds = seconds_to_wait(attempt, reply.retry_after)
            if not reply.temporary or attempt == self.max_retries or seconds > LONGEST_WAIT:
                break
            attempt += 1
            logger.info(
                "%s: %s; retry %d of %d in %.1f s", self.base_url, reply.kind, attempt, self.max_retries, seconds
            )
            if self.wait(seconds):
                break
        raise self._error(reply, attempt, seconds)

    def _error(self, failure: Failure, retries: int, seconds: float) -> EndpointError:
        # the key is removed before the message is shortened: a cut key would not be found
        said = first_sentence(RuntimeError(self._without_key(failure.said)))
        got = f"{failure.kind}{f' ({said})' if said else ''}{f' after {retries} retries' if retries else ''}"
        asked = f" It asks to wait {seconds:.0f} seconds." if failure.temporary and seconds > LONGEST_WAIT else ""
        kind = NoReplyError if failure.this_prompt else EndpointError
        return kind(f"{failure.expected} {self.base_url}", got, f"{failure.remedy}{asked}")

    def _attempt(self, messages: list[dict[str, str]]) -> str | Failure:
        """Return a reply or a failure. The client's exceptions are not passed on: they contain the key."""
        import openai  # optional

        try:
            completion = self.client.chat.completions.create(
                model=self.model,
                messages=messages,  # type: ignore[arg-type]  # plain dictionaries are sent
                **self.settings,
            )
        except openai.APIStatusError as error:
            return of_status(error)
        except openai.APITimeoutError:
            return Failure("a response in time from", f"none within {self.client.timeout:g} s", "Raise timeout=.")
        except openai.APIConnectionError as error:
            said = str(error.__cause__ or error)
            return Failure("a connection to", "none", "Check base_url=, and that the server is running.", said)
        except (openai.APIError, ValueError, TypeError, AttributeError) as error:  # not JSON, or not an object
            return _malformed(f"{type(error).__name__}: {error}")
        return _reply(completion)

    def _without_key(self, text: str) -> str:
        key = self.client.api_key
        return text.replace(key, "***") if len(key) >= 6 else text  # a short key is a placeholder like "x"


def open_endpoint(
    model: str,
    base_url: str | None = None,
    api_key: str | None = None,
    *,
    timeout: float = 60.0,
    max_retries: int = 5,
    settings: dict[str, Any] | None = None,
) -> Endpoint:
    """Create an endpoint from arguments or the environment; nothing is sent yet.

    Args:
        model: The model's name at the endpoint.
        base_url: For example ``http://127.0.0.1:8000/v1``; by default ``OPENAI_BASE_URL``, or else OpenAI itself.
        api_key: By default ``OPENAI_API_KEY``. Your own endpoint may not need one.
        timeout: Seconds to wait for a response.
        max_retries: How often to repeat a call after a temporary failure.
        settings: Further fields of each request.

    Raises:
        ArgumentError: If the address or the key is not valid.
        EndpointError: If there is neither a key nor the address of your own endpoint.
        MissingExtraError: If the package openai is not installed.

    Example:
        >>> open_endpoint("a-model", "localhost:8000")
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected a base URL that starts with http:// or https://, \
got 'localhost:8000'. For example http://127.0.0.1:8000/v1.
    """
    try:
        from openai import OpenAI  # optional
    except ImportError as error:
        raise MissingExtraError("openai", "judge") from error
    url = _checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI)
    key = _checked_key(api_key or os.environ.get("OPENAI_API_KEY") or "")
    if not key and url == _OPENAI:
        raise EndpointError(
            "an API key", "none", "Set OPENAI_API_KEY or pass api_key=, or base_url= for another server."
        )
    client = OpenAI(base_url=url, api_key=key or "none", timeout=timeout, max_retries=0)
    return Endpoint(model, url, client, settings or {}, max_retries)


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets, or a port out of range
        raise ArgumentError(
            "a base URL", "one that cannot be parsed", "For example http://127.0.0.1:8000/v1."
        ) from None
    if "@" in parts.netloc or parts.query:
        raise ArgumentError(
            "a base URL without user name, password or query",
            f"one with them (host {parts.hostname})",
            "Pass api_key=.",
        )
    if not valid:
        raise ArgumentError(
            "a base URL that starts with http:// or https://", repr(url), "For example http://127.0.0.1:8000/v1."
        )
    return url.rstrip("/")


def _checked_key(key: str) -> str:
    key = key.strip()  # a key read from a file may end with a line break
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ArgumentError("an API key of printable ASCII characters", "another (not shown)", "Check how it was read.")
    return key


def _reply(completion: Any) -> str | Failure:
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list):
        return _malformed("no list of choices")
    if not choices:
        return Failure("a reply from", "an empty list of choices", "Try again.", temporary=False, this_prompt=True)
    message = getattr(choices[0], "message", None)
    text = getattr(message, "content", None) or getattr(message, "refusal", None) or ""
    return text if hasattr(message, "content") and isinstance(text, str) else _malformed("a choice without a message")


def _malformed(what: str) -> Failure:
    remedy = "Check base_url=: it often ends in /v1."
    return Failure("a response in the format of OpenAI's API from", "another format", remedy, what)
