"""Versioned JSON files: written whole or not at all, read with an error that says what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.errors import FileFormatError, RankSelectError, SaveError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["as_json", "field", "new_folder", "package_versions", "read_document", "write_document", "write_text"]


def write_document(path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Write a JSON document.

    Args:
        path: Where to write; an existing file is replaced in one step.
        document: JSON values only, all numbers finite; "format" says what it holds (for example
            "rankselect.id_profile") and "version" in which layout.
    """
    write_text(path, as_json(document))


def as_json(document: dict[str, Any]) -> str:
    """A document as the text that `write_document` writes."""
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file beside its place and rename it, so that no reader ever meets half of it."""
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        _open_to_readers(Path(temporary))
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_document(path: str | os.PathLike[str], kind: str, version: int) -> dict[str, Any]:
    """Read a document written by `write_document`.

    Raises:
        FileFormatError: If the file is not JSON, is of another kind, or of a version newer than `version`.
    """
    wanted = f"a {kind} file (JSON, version {version} or older)"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileFormatError(
            wanted, f"{path}, which is not JSON ({error})", "It is damaged or truncated: make it again."
        ) from error
    if not isinstance(document, dict) or document.get("format") != kind:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise FileFormatError(wanted, f"{path}, whose format is {found!r}", "Give the path of the right file.")
    found_version = document.get("version")
    if not isinstance(found_version, int) or isinstance(found_version, bool) or not 1 <= found_version <= version:
        raise FileFormatError(
            wanted, f"{path} of version {found_version!r}", "Upgrade rankselect, or make the file again with this one."
        )
    return document


def field(document: dict[str, Any], name: str, kind: type | tuple[type, ...], path: object) -> Any:
    """One field of a document, checked for its presence and type.

    Raises:
        FileFormatError: If the field is missing or of another type.
    """
    value = document.get(name)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    is_flag = isinstance(value, bool) and bool not in kinds  # to Python True is an int
    if name not in document or is_flag or not isinstance(value, kinds):
        raise FileFormatError(
            f"a field {name!r} of type {' or '.join(each.__name__ for each in kinds)}",
            f"{value!r} in {path}" if name in document else f"none in {path}",
            "The file is damaged: make it again.",
        )
    return value


def package_versions(*packages: str) -> dict[str, str]:
    """The versions of these packages, as files record them; those that are not installed are left out.

    Example:
        >>> sorted(package_versions("rankselect", "torch", "no-such-package"))
        ['rankselect', 'torch']
    """
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder beside its place and rename it at the end, so that no reader ever meets half of it.

    Args:
        path: The folder to make. It must not exist, or be empty.

    Yields:
        An empty temporary folder in the same place, to write into. It becomes `path` when the block ends, and is
        removed if the block raises.

    Raises:
        SaveError: If `path` holds something already, or cannot be written: no permission, a full disk.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "adapter"
        >>> with new_folder(target) as folder:
        ...     _ = (folder / "config.json").write_text("{}")
        >>> [file.name for file in target.iterdir()]
        ['config.json']
    """
    from safetensors import SafetensorError  # numpy and more, not needed to read a plan

    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SaveError("a new or empty folder", f"{target}, which exists", "Choose another, or remove it first.")
    temporary = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _open_to_readers(file)
        temporary.replace(target)
    except SafetensorError as error:
        if "IoError" not in str(error) and "I/O" not in str(error):
            raise
        raise _cannot_write(target, error) from error
    except OSError as error:
        if isinstance(error, RankSelectError):
            raise
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """Remove what processes that were killed had begun to write in the place of this folder."""
    import psutil  # not needed to read a plan

    pattern = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.partial")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _open_to_readers(file: Path) -> None:
    """Give a file the permissions of any new one: mkstemp and safetensors make theirs private."""
    file.chmod(0o666 & ~_umask())


def _umask() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1], 8) for line in status.splitlines() if line.startswith("Umask:"))
    except (OSError, StopIteration):  # no Linux: it can only be read by setting it, which other threads may notice
        umask = os.umask(0)
        os.umask(umask)
        return umask


def _cannot_write(target: Path, error: Exception) -> SaveError:
    return SaveError(
        "a folder that can be written",
        f"{target} ({first_sentence(error)})",
        "Free disk space or choose another place; nothing was left behind.",
    )
