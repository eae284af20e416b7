"""How the files hang together: no file is cut so small that only one other file needs it.

That imports point one way and that there is no circle of files is checked by import-linter (see pyproject.toml).
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import grimp

import rankselect

FEW_LINES = 60

# Why a small file that only one other file imports is alone.
ALONE: dict[str, str] = {}


@cache
def _graph():
    return grimp.build_graph("rankselect", cache_dir=None)


def _source(module: str) -> Path:
    """The file of a module, or the folder of a package."""
    return Path(rankselect.__file__).parent.joinpath(*module.split(".")[1:])


def _files() -> list[str]:
    """The modules that are one file: no package."""
    return sorted(module for module in _graph().modules if not _source(module).is_dir())


def _doors() -> set[str]:
    """The modules that a user reaches by a public name or by a plug-in's name."""
    groups = ("strategies", "estimators", "metrics")
    plugins = {entry.module for group in groups for entry in entry_points(group=f"rankselect.{group}")}
    return set(rankselect._HOME_OF.values()) | plugins


def _small_and_needed_once() -> dict[str, list[str]]:
    found = {}
    for module in _files():
        importers = sorted(_graph().find_modules_that_directly_import(module))
        lines = len(_source(module).with_suffix(".py").read_text().splitlines())
        if lines < FEW_LINES and len(importers) == 1 and module not in _doors():
            found[module.removeprefix("rankselect.")] = importers
    return found


def test_no_file_is_cut_too_small():
    small = _small_and_needed_once()
    unexplained = {module: importers for module, importers in small.items() if module not in ALONE}
    assert not unexplained, "merge each into the file that imports it, or say in ALONE why it stands alone"
    assert set(ALONE) <= set(small), "ALONE names files that are gone, have grown or have a second importer"


def test_every_file_is_needed():
    unused = [module for module in _files() if not _graph().find_modules_that_directly_import(module)]
    assert set(unused) - _doors() == {"rankselect.testing"}
