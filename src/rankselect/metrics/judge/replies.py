"""Replies that were paid for, kept on disk: one JSON file for each."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import FileFormatError, SaveError, first_sentence
from rankselect.files import field, read_document, write_document

if TYPE_CHECKING:
    import os

__all__ = ["ReplyCache"]

logger = logging.getLogger(__name__)

_FORMAT, _VERSION = "rankselect.judge_reply", 1


@final
class ReplyCache:
    """Replies by what was asked: the endpoint, the model, its settings and the whole prompt.

    Each reply is written in one step as soon as it is there, so an interrupted run leaves no half files and loses no
    reply. A damaged file is reported, and its question asked again. No key is part of a request or a file.

    Args:
        folder: Where to keep the replies; None keeps them in memory only.

    Raises:
        SaveError: If the folder cannot be made.

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
        self._lock = threading.Lock()  # files are written one at a time: the permissions of a new one are process-wide
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
        """The reply to a request, if it is known."""
        key = self.key(request)
        if key not in self._memory and self.folder is not None and (path := _path(self.folder, key)).exists():
            try:
                self._memory[key] = _read(path, request)
            except (FileFormatError, OSError) as error:
                logger.warning("A kept reply cannot be used and is asked for again: %s", error)
        return self._memory.get(key)

    def put(self, request: dict[str, Any], reply: str) -> None:
        """Keep a reply.

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
        raise FileFormatError("the reply to the request that names the file", f"another in {path}", "Remove the file.")
    reply: str = field(document, "reply", str, path)
    return reply
