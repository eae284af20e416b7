"""How the tests of the doors to private names fail: loudly, with the release that was last known to have a name."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from rankselect.errors import IncompatibleVersionError


@contextmanager
def known(library, what):
    """Whatever fails in the block is put down to a release that no longer has a name, or means something else by it."""
    try:
        yield
    except Exception as error:
        raise AssertionError(
            f"{library.package} {library.known} has {what}; the installed {library.installed} does not, or means "
            f"something else by it: see {library.door}"
        ) from error


@contextmanager
def gone(library, name):
    """The block must raise the error that names the library, the release that has the name, and the name."""
    with pytest.raises(IncompatibleVersionError) as caught:
        yield
    error = caught.value
    assert name in error.expected
    assert f"{library.package} with" in error.expected
    assert f"release {library.known}" in error.expected
    assert library.installed in error.got
    assert library.door in error.remedy
