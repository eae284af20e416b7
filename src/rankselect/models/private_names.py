"""Names that another library does not promise to keep, and one precise error where such a name is gone.

Each library has one file that uses its private names, a door: `models/_transformers.py`, `memory/_torch.py`,
`plan/_peft.py`. A door gets its names through a `Library`, so that an error names the release that removed one.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any, final

from rankselect.errors import IncompatibleVersionError

__all__ = ["Library"]

_MISSING = object()


@final
@dataclass(frozen=True)
class Library:
    """A library whose private names are used.

    Attributes:
        package: Its name in the package index.
        known: The newest release in which every name was seen. Raise it after the tests of the door have passed with a
            newer one.
        door: The file that uses the names.

    Example:
        >>> torch = Library("torch", "2.13.0", "memory/_torch.py")
        >>> torch.get("torch.nn:Linear", "in_features", "out_features").__name__
        'Linear'
        >>> torch.get("torch.nn:Bilinear", "in_features")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        rankselect.errors.IncompatibleVersionError: expected torch with Bilinear(in_features, …) as in release 2.13.0, \
got release ..., where it is missing or means something else. Run: pip install "torch==2.13.0", or install a newer \
rankselect (see memory/_torch.py).
    """

    package: str
    known: str
    door: str

    def get(self, path: str, *parameters: str) -> Any:
        """Find a name in a module.

        Args:
            path: ``"module:name"``.
            *parameters: The names with which its parameters begin, ``"old|new"`` where releases differ.

        Raises:
            IncompatibleVersionError: If there is no such module or name, or its parameters begin with others.
        """
        module, _, name = path.partition(":")
        try:
            owner = import_module(module)
        except ImportError as error:
            raise self.error(path) from error
        return self.attribute(owner, name, *parameters)

    def attribute(self, owner: Any, name: str, *parameters: str) -> Any:
        """The same for an attribute of a class, an instance or a module."""
        found: Any = getattr(owner, name, _MISSING)
        if found is _MISSING:
            raise self.error(f"{getattr(owner, '__name__', type(owner).__name__)}.{name}")
        if parameters:
            there = [each for each in inspect.signature(found).parameters if each != "self"][: len(parameters)]
            wanted = [each.split("|") for each in parameters]
            if len(there) < len(wanted) or any(a not in b for a, b in zip(there, wanted, strict=True)):
                raise self.error(f"{name}({', '.join(parameters)}, …)")
        return found

    @property
    def installed(self) -> str:
        """The release that is installed."""
        return version(self.package)

    def error(self, name: str) -> IncompatibleVersionError:
        """The error for a name that is gone or has changed its meaning."""
        return IncompatibleVersionError(self.package, name, self.known, self.installed, self.door)
