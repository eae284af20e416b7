"""Replies: requested in parallel, and each stored on disk when it arrives, so that no reply is paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from tqdm.auto import tqdm

from rankselect.errors import EndpointError, FileFormatError, MetricError, SaveError, first_sentence
from rankselect.files import field, read_document, write_document
from rankselect.metrics.judge.endpoint import Endpoint
from rankselect.metrics.judge.failures import NoReplyError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

__all__ = ["ReplyCache", "ask_all"]

logger = logging.getLogger(__name__)

_FORMAT, _VERSION = "rankselect.judge_reply", 1


@final
class ReplyCache:
    """Stored replies by request: the endpoint, the model, its settings and the complete prompt.

    Each reply is written atomically when it arrives, so an interrupted run leaves no partial files and loses no reply.
    A damaged file is reported, and its request is sent again. Neither requests nor files contain the key.

    Args:
        folder: The folder for the replies; None keeps them in memory only.

    Raises:
        SaveError: If the folder cannot be created.

    Example:
        >>> cache = ReplyCache(None)
        >>> request = {"model": "judge", "prompt": "Which is better?"}
        >>> cache.put(request, "[[A]]")
        >>> cache.get(request), cache.get({**request, "model": "another"})
        ('[[A]]', None)
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._memory: dict[str, str] = {}
        self._lock = threading.Lock()  # one file is written at a time: the umask is process-wide
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._cannot_write(error) from error

    @staticmethod
    def key(request: dict[str, Any]) -> str:
        """The SHA-256 of a request."""
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()

    def get(self, request: dict[str, Any]) -> str | None:
        """Return the stored reply to a request, or None."""
        key = self.key(request)
        if key not in self._memory and self.folder is not None and (path := _path(self.folder, key)).exists():
            try:
                self._memory[key] = _read(path, request)
            except (FileFormatError, OSError) as error:
                logger.warning("A stored reply cannot be used and is requested again: %s", error)
        return self._memory.get(key)

    def put(self, request: dict[str, Any], reply: str) -> None:
        """Store a reply.

        Raises:
            SaveError: If it cannot be written: no permission, a full disk.
        """
        key = self.key(request)
        with self._lock:
            self._memory[key] = reply
            if self.folder is None:
                return
            try:
                path = _path(self.folder, key)
                path.parent.mkdir(exist_ok=True)
                write_document(path, {"format": _FORMAT, "version": _VERSION, "request": request, "reply": reply})
            except OSError as error:
                raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> SaveError:
        return SaveError(
            "a cache folder that can be written",
            f"{self.folder} ({first_sentence(error)})",
            "Free disk space or choose another folder for cache=.",
        )


def _path(folder: Path, key: str) -> Path:
    return folder / key[:2] / f"{key}.json"


def _read(path: Path, request: dict[str, Any]) -> str:
    document = read_document(path, _FORMAT, _VERSION)
    if document.get("request") != request:
        raise FileFormatError("the reply to this request", f"the reply to another one in {path}", "Remove the file.")
    reply: str = field(document, "reply", str, path)
    return reply


def ask_all(
    requests: Mapping[str, dict[str, Any]],
    complete: Callable[[list[dict[str, str]]], str],
    cache: ReplyCache,
    *,
    concurrency: int,
    progress: bool,
) -> dict[str, str]:
    """Make the calls whose replies are not in the cache.

    When a call fails or the run is interrupted, calls that have not started are cancelled, and running calls are
    waited for, so that their replies are stored too; a second interrupt abandons them.

    Args:
        requests: ``{prompt: request}``.
        complete: Makes a call. After it has raised an exception, no further call starts.
        cache: The stored replies; new replies are added.
        concurrency: The maximum number of simultaneous calls.
        progress: Whether to show a progress bar.

    Returns:
        ``{prompt: reply}``; for a prompt without a reply from the endpoint, the reason, which is not stored.

    Raises:
        EndpointError: If the endpoint cannot be reached, refuses the key, or keeps failing.
        MetricError: If `complete` returns something that is not text.

    Example:
        >>> from rankselect.metrics.judge.replies import ReplyCache
        >>> request = {"messages": [{"role": "user", "content": "A or B?"}]}
        >>> ask_all({"A or B?": request}, lambda chat: "B", ReplyCache(None), concurrency=1, progress=False)
        {'A or B?': 'B'}
    """
    found = {prompt: reply for prompt, request in requests.items() if (reply := cache.get(request)) is not None}
    missing = {prompt: request for prompt, request in requests.items() if prompt not in found}
    logger.info("Judging: %d calls to make, %d replies stored.", len(missing), len(found))
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
        place = cache.folder or "memory, as long as this judge exists; cache= keeps them on disk"
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
        return ""  # not used: the run ends with the error that stopped it
    try:
        return _kept_reply(call, request, cache)
    except NoReplyError as error:
        return f"No reply: {error.got}"
    except BaseException:
        stopped.set()  # here, before this thread starts the next call
        raise


def _kept_reply(call: Callable[[list[dict[str, str]]], str], request: dict[str, Any], cache: ReplyCache) -> str:
    reply = call(request["messages"])
    if not isinstance(reply, str):
        raise MetricError("text from complete()", type(reply).__name__, "Return the model's reply.")
    reply = reply.encode("utf-8", "replace").decode()  # unpaired surrogates cannot be written
    cache.put(request, reply)
    return reply
