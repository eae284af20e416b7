"""Versioned JSON files. They are written completely or not at all, and checked when they are read."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from rankselect.errors import ArgumentError, FileFormatError, RankSelectError, SaveError, described, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _typeshed import DataclassInstance

__all__ = [
    "NEWER",
    "field",
    "json_text",
    "new_folder",
    "package_versions",
    "read_document",
    "read_fields",
    "write_document",
    "write_text",
]

T = TypeVar("T", bound="DataclassInstance")

NEWER = {"newer": True}
"""The metadata of a dataclass's field that files of earlier releases do not contain: it then has its default."""


def write_document(path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Write a JSON document.

    Args:
        path: Where to write; an existing file is replaced in one step.
        document: JSON values only, all numbers finite; "format" names its kind (for example
            "rankselect.id_profile") and "version" its layout.
    """
    write_text(path, json_text(document))


def json_text(document: dict[str, Any]) -> str:
    """A document as the text that `write_document` writes."""
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file under a temporary name and rename it, so that no reader sees an incomplete file."""
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
    require_path(path, f"the path of a {kind} file")
    wanted = f"a {kind} file (JSON, version {version} or older)"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileFormatError(
            wanted, f"{path}, which is not JSON ({error})", "It is damaged or truncated: create it again."
        ) from error
    if not isinstance(document, dict) or document.get("format") != kind:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise FileFormatError(wanted, f"{path}, whose format is {found!r}", "Give the path of the right file.")
    found_version = document.get("version")
    if not isinstance(found_version, int) or isinstance(found_version, bool) or not 1 <= found_version <= version:
        raise FileFormatError(
            wanted,
            f"{path} of version {found_version!r}",
            "Upgrade rankselect, or create the file again with this version.",
        )
    return document


def field(document: dict[str, Any], name: str, kind: Any, path: object) -> Any:
    """One field of a document, checked for its presence and type.

    Args:
        document: The document.
        name: The field's name.
        kind: A type as in an annotation (``int``, ``float | None``, ``list[str]``, ``tuple[int, float]``, a
            literal, a dataclass), or a tuple of alternatives.
        path: The document's file, for the error.

    Returns:
        The value. What JSON cannot express is restored: a tuple if `kind` is one, a float that was written as a whole
        number, a dataclass.

    Raises:
        FileFormatError: If the field is missing or of another type, or a number is not finite.

    Example:
        >>> field({"losses": [[1, 2]]}, "losses", tuple[tuple[int, float], ...], "record.json")
        ((1, 2.0),)
    """
    kind = Union[kind] if isinstance(kind, tuple) else kind  # noqa: UP007  (a tuple of any length)
    wanted = f"a field {name!r} of type {_type_name(kind)}"
    if name not in document:
        raise FileFormatError(wanted, f"none in {path}", "The file is damaged: create it again.")
    try:
        return _restored(document[name], kind, path)
    except _OtherTypeError as error:
        got = repr(error.args[0])
        got = got if len(got) <= 120 else f"{got[:119]}…"
        raise FileFormatError(wanted, f"{got} in {path}", "The file is damaged: create it again.") from None


def read_fields(document: dict[str, Any], kind: type[T], path: object) -> T:
    """Create a dataclass from a document that has all of its fields but the `NEWER` ones, each of the annotated type.

    Args:
        document: The document. Other fields in it are ignored.
        kind: The dataclass. Its annotations name types that exist when the program runs.
        path: The document's file, for the error.

    Raises:
        FileFormatError: If a field is missing or of another type, or a number is not finite.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Size:
        ...     bytes: int
        ...     of: tuple[str, ...]
        >>> read_fields({"format": "size", "bytes": 3, "of": ["a", "b"]}, Size, "size.json")
        Size(bytes=3, of=('a', 'b'))
        >>> read_fields({"bytes": "3"}, Size, "size.json")
        Traceback (most recent call last):
            ...
        rankselect.errors.FileFormatError: expected a field 'bytes' of type int, got '3' in size.json. The file is \
damaged: create it again.
    """
    hints = get_type_hints(kind)
    known = [each.name for each in fields(kind) if each.name in document or not each.metadata.get("newer")]
    return kind(**{name: field(document, name, hints[name], path) for name in known})


class _OtherTypeError(Exception):
    """A value that is not of its type; the value is its argument."""


def _restored(value: Any, kind: Any, path: object) -> Any:
    """Convert a value from JSON to the given type."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _first_restored(value, parts, path)
    if origin in (list, tuple, dict):
        return _filled(value, origin, parts, path)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        return read_fields(value, kind, path)
    is_flag = isinstance(value, bool) and kind is not bool  # to Python True is an int
    if origin is Literal:
        fits = value in parts
    elif kind is float:
        fits = isinstance(value, (int, float)) and math.isfinite(value)
    else:
        fits = isinstance(value, kind)
    if is_flag or not fits:
        raise _OtherTypeError(value)
    return float(value) if kind is float else value


def _filled(value: Any, origin: type, parts: Sequence[Any], path: object) -> Any:
    """Restore the items of a dict, list or tuple."""
    if origin is dict and isinstance(value, dict):
        return {key: _restored(item, parts[1], path) for key, item in value.items()}
    if origin is not dict and isinstance(value, list):
        is_fixed = origin is tuple and parts[-1] is not ...
        kinds = parts if is_fixed else [parts[0]] * len(value)
        if len(kinds) == len(value):
            return origin(_restored(item, kind, path) for item, kind in zip(value, kinds, strict=True))
    raise _OtherTypeError(value)


def _first_restored(value: Any, kinds: Sequence[Any], path: object) -> Any:
    for kind in kinds:
        try:
            return _restored(value, kind, path)
        except _OtherTypeError:
            continue
    raise _OtherTypeError(value)


def _type_name(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_type_name(part) for part in get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


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


def require_path(given: object, wanted: str) -> None:
    """Refuse what was passed instead of a path.

    Args:
        given: The path, as text or object.
        wanted: What it is the path of, as a noun phrase.

    Raises:
        ArgumentError: If it is no path.

    Example:
        >>> require_path(None, "the path of a folder")
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected the path of a folder, got None. Pass it as text, or as a pathlib.Path.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise ArgumentError(wanted, described(given), "Pass it as text, or as a pathlib.Path.")


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder under a temporary name and rename it at the end, so that no reader sees an incomplete one.

    Args:
        path: The folder to create. It must not exist, or must be empty.

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

    require_path(path, "the path of a new folder")
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
    """Remove the temporary folders that killed processes have left behind."""
    import psutil  # not needed to read a plan

    pattern = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.partial")
    for path in target.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match[1])):
            shutil.rmtree(path, ignore_errors=True)


def _open_to_readers(file: Path) -> None:
    """Give a file the usual permissions: mkstemp and safetensors create private files."""
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
