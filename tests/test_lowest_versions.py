"""constraints-lowest.txt, which `make test-lowest` installs, is what pyproject.toml promises."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PINNED = dict(
    re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8"), re.MULTILINE)
)
EXTRAS = re.search(r"^SMOKE_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split(
    ","
)


def listed(name):
    """The requirements in one list of pyproject.toml (tomllib is younger than the oldest Python)."""
    body = re.search(rf"^{name} = \[(.*?)\]\n", PROJECT, re.MULTILINE | re.DOTALL)[1]
    found = [Requirement(text) for text in re.findall(r'"(.+?)"', body)]
    return [each for each in found if each.name != "rankselect"]


REQUIREMENTS = [each for name in ("dependencies", *EXTRAS, "plot") for each in listed(name)]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_the_lowest_version_is_the_one_that_is_tested(requirement):
    (specifier,) = requirement.specifier
    assert specifier.operator == ">="
    pinned = PINNED[requirement.name]
    assert pinned == specifier.version or pinned.removesuffix(".0").removesuffix(".0") == specifier.version


def test_nothing_else_is_pinned():
    assert PINNED.keys() <= {requirement.name for requirement in REQUIREMENTS}
