"""The oldest versions that pyproject.toml allows are those that `make test-lowest` tries."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rankselect
import smoke

tomllib = pytest.importorskip("tomllib")  # new in Python 3.11

CHECKOUT = Path(__file__).parents[1]
DEVELOPMENT = {"test", "docs", "mutants"}  # extras that users do not install


def extras() -> dict[str, list[str]]:
    """What each extra that a user installs requires; "" for the library itself."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return {"": project["dependencies"], **{name: optional[name] for name in optional.keys() - DEVELOPMENT}}


def lowest_allowed() -> dict[str, Version]:
    """The floor of each dependency of the library and of its extras."""
    floors = {}
    for requirement in map(Requirement, itertools.chain(*extras().values())):
        if requirement.name != "rankselect":
            (bound,) = requirement.specifier
            assert bound.operator == ">=", str(requirement)
            floors[canonicalize_name(requirement.name)] = Version(bound.version)
    return floors


def lowest_tested() -> dict[str, Version]:
    """The versions above the blank line of constraints-lowest.txt; below it are those that they need."""
    first, _, _ = (CHECKOUT / "constraints-lowest.txt").read_text(encoding="utf-8").partition("\n\n")
    pins = [line.split("==") for line in first.splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_the_lowest_versions_allowed_are_those_that_are_tested():
    assert lowest_allowed() == lowest_tested()


def test_the_smoke_test_knows_every_extra_and_every_data_file():
    assert set(smoke.EXTRAS) == extras().keys() - {"", "all"}
    package = Path(rankselect.__file__).parent
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert set(smoke.DATA_FILES) == {name for name in files if not name.endswith((".py", ".pyc"))}


def test_the_smoke_test_refuses_sources_that_are_not_installed(tmp_path):
    with pytest.raises(AssertionError, match="which is not installed"):
        smoke.installation(tmp_path)
