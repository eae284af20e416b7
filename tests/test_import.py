"""`import rankselect` is cheap, and every public name is where it says."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import rankselect as rs


def test_importing_does_not_load_torch():
    heavy = ("torch", "transformers", "peft", "scipy", "numpy")
    code = f"import sys, rankselect; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_every_public_name_can_be_loaded():
    for name in rs.__all__:
        assert getattr(rs, name) is not None
    assert set(dir(rs)) == set(rs.__all__)


def test_the_names_for_type_checkers_are_those_of_run_time():
    tree = ast.parse(Path(rs.__file__).with_suffix(".pyi").read_text())
    imported = {
        alias.asname: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(imported) == set(rs.__all__)
    for name, module in imported.items():
        if name not in {"__version__", "errors"}:
            assert rs._HOME_OF[name] == module


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        rs.nothing  # noqa: B018


@pytest.mark.parametrize(("old", "new"), sorted(rs._MOVED.items()))
def test_a_name_that_moved_still_works_and_says_where_it_is(old, new):
    home, _, name = f"rankselect.{new}".rpartition(".")
    with pytest.warns(
        DeprecationWarning, match=rf"rankselect\.{old} is {home}\.{name} since 0\.2; the old name goes in 0\.3"
    ):
        found = getattr(rs, old)
    assert found is getattr(importlib.import_module(home), name)
    assert old not in rs.__all__


@pytest.mark.parametrize("name", sorted(set(rs.__all__) - {"__version__", "errors"}))
def test_every_public_object_says_what_it_is_and_shows_it(name):
    thing = getattr(rs, name)
    text = inspect.getdoc(thing)
    assert text
    if not (inspect.isclass(thing) and issubclass(thing, (Exception, Warning))):
        assert ">>>" in text
