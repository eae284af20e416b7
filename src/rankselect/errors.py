"""Errors. Each says what was expected, what was found, and what to do about it."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AdapterError",
    "ArgumentError",
    "ContractError",
    "DataError",
    "EndpointError",
    "EvidenceError",
    "FileFormatError",
    "IncompatibleVersionError",
    "MetricError",
    "MissingExtraError",
    "ModelError",
    "NonFiniteLossError",
    "OutOfMemoryError",
    "PlanMismatchError",
    "PointsError",
    "RankSelectError",
    "RankSelectWarning",
    "SaveError",
    "TargetError",
    "TextsError",
    "UnknownNameError",
]


class RankSelectError(Exception):
    """The base of every error that rankselect raises on purpose.

    Args:
        expected: What the library needed, as a noun phrase.
        got: What it found.
        remedy: What to do, in one sentence.

    Example:
        >>> raise RankSelectError("a positive rank", "-1", "Give a rank of at least 1.")
        Traceback (most recent call last):
            ...
        rankselect.errors.RankSelectError: expected a positive rank, got -1. Give a rank of at least 1.
    """

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(expected, got, remedy)
        self.expected = expected
        self.got = got
        self.remedy = remedy

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.got}. {self.remedy}"


class RankSelectWarning(UserWarning):
    """Something that works but deserves a second thought: a clipped rank, too few texts."""


class ArgumentError(RankSelectError, ValueError):
    """An argument outside its range."""


class PointsError(RankSelectError, ValueError):
    """Points from which no intrinsic dimension can be computed."""


class TextsError(RankSelectError, ValueError):
    """Texts (or model inputs) that cannot be profiled."""


class ModelError(RankSelectError, ValueError):
    """A model that cannot be loaded, profiled, planned or used."""


class TargetError(RankSelectError, ValueError):
    """Target modules that match nothing, or that a strategy cannot give a rank."""


class EvidenceError(RankSelectError, ValueError):
    """Evidence that is missing, incomplete, or about another model."""


class PlanMismatchError(RankSelectError):
    """A PEFT model that differs from the plan."""


class FileFormatError(RankSelectError, ValueError):
    """A file that is damaged, truncated, of another kind, or of a newer version."""


class DataError(RankSelectError, ValueError):
    """Questions and answers that cannot be trained on or evaluated."""


class AdapterError(RankSelectError, ValueError):
    """An adapter folder that is incomplete or damaged, or that does not fit its base model."""


class SaveError(RankSelectError, OSError):
    """A folder or file that could not be written; nothing of it is left behind."""


class NonFiniteLossError(RankSelectError, ArithmeticError):
    """Training whose loss or weights are no longer finite numbers."""


class OutOfMemoryError(RankSelectError, MemoryError):
    """A training step that does not fit into memory, however small its micro-batch."""


class MetricError(RankSelectError, ValueError):
    """Predictions, references or scores that a metric cannot work with."""


class EndpointError(RankSelectError, ConnectionError):
    """A model endpoint that cannot be reached or that refuses the key."""


class ContractError(RankSelectError):
    """A plug-in that breaks the contract which `rankselect.testing` checks."""


class MissingExtraError(RankSelectError, ImportError):
    """An optional dependency that is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of rankselect that brings it.

    Example:
        >>> print(MissingExtraError("matplotlib", "plot"))
        expected the package matplotlib, got none installed. Run: pip install "rankselect[plot]"
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"the package {package}", "none installed", f'Run: pip install "rankselect[{extra}]"')
        self.args = (package, extra)


class IncompatibleVersionError(RankSelectError, ImportError):
    """A library that no longer has a name on which rankselect relies, or has it with another meaning.

    Args:
        package: The library.
        name: The name.
        known: A release of the library that has the name.
        installed: The release that is installed.
        door: The file of rankselect that uses the name.

    Example:
        >>> print(IncompatibleVersionError("peft", "get_pattern_key", "0.21.2", "1.0", "plan/_peft.py"))
        expected peft with get_pattern_key as in release 0.21.2, got release 1.0, where it is missing or means \
something else. Run: pip install "peft==0.21.2", or install a newer rankselect (see plan/_peft.py).
    """

    def __init__(self, package: str, name: str, known: str, installed: str, door: str) -> None:
        super().__init__(
            f"{package} with {name} as in release {known}",
            f"release {installed}, where it is missing or means something else",
            f'Run: pip install "{package}=={known}", or install a newer rankselect (see {door}).',
        )
        self.args = (package, name, known, installed, door)


class UnknownNameError(RankSelectError, LookupError):
    """A name that nothing is registered under; the message offers near matches.

    Args:
        kind: What kind of thing the name refers to, for example "strategy".
        name: The unknown name.
        known: The names that exist.

    Example:
        >>> print(UnknownNameError("strategy", "per-layer", ["fixed", "per-layer-id"]))
        expected the name of a strategy, got 'per-layer'. Did you mean per-layer-id? Known: fixed, per-layer-id.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"the name of {with_article(kind)}", repr(name), f"{hint}Known: {', '.join(names) or 'none'}.")
        self.args = (kind, name, names)


def with_article(noun: str) -> str:
    """The noun after "a" or "an".

    Example:
        >>> with_article("metric"), with_article("estimator")
        ('a metric', 'an estimator')
    """
    return f"{'an' if noun[0].lower() in 'aeio' else 'a'} {noun}"


def described(given: object) -> str:
    """What a caller passed instead of the right object, for messages.

    Example:
        >>> described("a-name"), described(dict), described({}), described(None)
        ("'a-name'", 'the class dict', 'a dict', 'None')
    """
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if given is None or isinstance(given, (str, int, float, os.PathLike)):
        text = repr(os.fspath(given) if isinstance(given, os.PathLike) else given)
        return text if len(text) <= 80 else f"{text[:79]}…"
    return with_article(type(given).__name__)


def first_sentence(error: BaseException) -> str:
    """The beginning of another library's message, short enough to be quoted in one of ours.

    Example:
        >>> first_sentence(OSError("No such file. Try another one."))
        'No such file'
    """
    sentence = " ".join(str(error).split()).split(". ")[0].rstrip(".:")
    return sentence if len(sentence) <= 160 else f"{sentence[:159]}…"
