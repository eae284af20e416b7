"""A cache of results on disk, keyed by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import zlib
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, final

from rankselect.errors import SaveError, first_sentence

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["ResultCache", "open_cache"]

logger = logging.getLogger(__name__)

_VERSION = 1  # of the layout: a new version ignores old entries
_WAIT_S = 60.0  # seconds to wait while another process is writing

Input = TypeVar("Input", str, tuple[str, str])
Output = TypeVar("Output")


@final
class ResultCache:
    """Results keyed by the SHA-256 of the stage, the part's identity and the input; values are JSON.

    Args:
        path: An SQLite database, created if needed. Several processes may share it. A damaged file is removed, with a
            warning, and created again.

    Raises:
        SaveError: If the file or its folder cannot be written; `read` and `write` raise it too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reporting():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _opened(path)

    def read(
        self, stage: str, identity: str, inputs: Sequence[Input], checked: Callable[[Any], Output]
    ) -> dict[Input, Output]:
        """Return the stored results for these inputs; a damaged entry counts as missing."""
        found: dict[Input, Output] = {}
        for each in inputs:
            with self._reporting():
                query = "SELECT value, checksum FROM results WHERE key = ?"
                row = self._connection.execute(query, (_key(stage, identity, each),)).fetchone()
            if row is None:
                continue
            try:
                found[each] = checked(_intact(*row))
            except (ValueError, TypeError):
                logger.warning("An entry of the cache %s is damaged; it is computed again.", self._path)
        return found

    def write(self, stage: str, identity: str, results: Mapping[Input, Any]) -> None:
        """Store results: all of them or, if this is interrupted, none."""
        values = [json.dumps(result).encode("ascii") for result in results.values()]
        keys = [_key(stage, identity, each) for each in results]
        rows = [(key, value, zlib.crc32(value)) for key, value in zip(keys, values, strict=True)]
        with self._reporting(), self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise SaveError(
                "a cache that can be written",
                f"{self._path} ({first_sentence(error)})",
                "Free disk space, choose another folder, or score without cache=.",
            ) from error


@contextmanager
def open_cache(folder: str | os.PathLike[str] | None) -> Iterator[ResultCache | None]:
    """Open the cache in a folder for a block; None without a folder."""
    if folder is None:
        yield None
        return
    with closing(ResultCache(Path(folder) / "questeval.sqlite")) as cache:
        yield cache


def _opened(path: Path) -> sqlite3.Connection:
    try:
        return _connected(path)
    except sqlite3.OperationalError:  # locked, disk full, or cannot be opened: the file is not damaged
        raise
    except sqlite3.DatabaseError as error:
        logger.warning("%s is damaged (%s); it is created again.", path, error)
        path.unlink()
        return _connected(path)


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_WAIT_S)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS results (key BLOB PRIMARY KEY, value BLOB, checksum INT)")
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _key(stage: str, identity: str, each: str | tuple[str, str]) -> bytes:
    everything = json.dumps([_VERSION, stage, identity, each])
    return hashlib.sha256(everything.encode("utf-8")).digest()


def _intact(value: Any, checksum: Any) -> Any:
    if not isinstance(value, bytes) or zlib.crc32(value) != checksum:
        raise ValueError("the checksum does not match")
    return json.loads(value)
