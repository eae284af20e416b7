"""All calls of a run: several at once, each reply kept as soon as it is there."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from rankselect.errors import EndpointError, MetricError
from rankselect.metrics.judge.endpoint import Endpoint
from rankselect.metrics.judge.failures import NoReplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rankselect.metrics.judge.replies import ReplyCache

__all__ = ["ask_all"]

logger = logging.getLogger(__name__)


def ask_all(
    requests: Mapping[str, dict[str, Any]],
    complete: Callable[[list[dict[str, str]]], str],
    cache: ReplyCache,
    *,
    concurrency: int,
    progress: bool,
) -> dict[str, str]:
    """Ask what the cache does not know.

    When a call fails, or the run is interrupted, calls that have not begun are dropped, and those under way are waited
    for, so that their replies are kept too; a second interrupt leaves them.

    Args:
        requests: ``{prompt: request}``.
        complete: Makes a call. Once it has raised, no further call begins.
        cache: What is known already, and where new replies are kept.
        concurrency: How many calls may be under way at once.
        progress: Whether to show a progress bar.

    Returns:
        ``{prompt: reply}``; for a prompt that the endpoint gives no reply to, the reason, which is not kept.

    Raises:
        EndpointError: If the endpoint cannot be reached, refuses the key, or keeps failing.
        MetricError: If `complete` gives something that is not text.

    Example:
        >>> from rankselect.metrics.judge.replies import ReplyCache
        >>> request = {"messages": [{"role": "user", "content": "A or B?"}]}
        >>> ask_all({"A or B?": request}, lambda chat: "B", ReplyCache(None), concurrency=1, progress=False)
        {'A or B?': 'B'}
    """
    found = {prompt: reply for prompt, request in requests.items() if (reply := cache.get(request)) is not None}
    missing = {prompt: request for prompt, request in requests.items() if prompt not in found}
    logger.info("Judging: %d calls to make, %d replies known.", len(missing), len(found))
    stopped = threading.Event()
    call = replace(complete, wait=stopped.wait) if isinstance(complete, Endpoint) else complete
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="judge")
    futures = {pool.submit(_ask, call, request, cache, stopped): prompt for prompt, request in missing.items()}
    try:
        for future in tqdm(as_completed(futures), total=len(futures), desc="Judging", disable=not progress):
            found[futures[future]] = future.result()
    except EndpointError as error:
        pool.shutdown(cancel_futures=True)
        kept = sum(cache.get(request) is not None for request in requests.values())
        place = cache.folder or "memory, as long as this judge lives; cache= keeps them on disk"
        remedy = f"{error.remedy} {kept} of {len(requests)} replies are kept in {place}."
        raise EndpointError(error.expected, error.got, remedy) from None
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
    return found


def _ask(
    call: Callable[[list[dict[str, str]]], str], request: dict[str, Any], cache: ReplyCache, stopped: threading.Event
) -> str:
    if stopped.is_set():
        return ""  # nobody reads it: the run ends with what stopped it
    try:
        return _kept_reply(call, request, cache)
    except NoReplyError as error:
        return f"No reply: {error.got}"
    except BaseException:
        stopped.set()  # here, before this thread takes up the next call
        raise


def _kept_reply(call: Callable[[list[dict[str, str]]], str], request: dict[str, Any], cache: ReplyCache) -> str:
    reply = call(request["messages"])
    if not isinstance(reply, str):
        raise MetricError("text from complete()", type(reply).__name__, "Return the model's reply.")
    reply = reply.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written
    cache.put(request, reply)
    return reply
