"""Sphinx configuration."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx_gallery.sorting import ExplicitOrder

from rankselect import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", category=DeprecationWarning)
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # no messages about missing kernels in the gallery

project = "rankselect"
author = "the rankselect developers"
copyright = "the rankselect developers"  # noqa: A001  (Sphinx requires this name)
release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
html_theme = "furo"
html_title = f"rankselect {__version__}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"
smartquotes_action = "qe"  # no dashes: command-line options begin with two hyphens

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_rtype = False
napoleon_use_ivar = True

# The types of other packages have no pages here. Their inventories are not fetched, so that the build works offline.
nitpick_ignore_regex = [
    (r"py:.*", r"(np|numpy|torch|nn|peft|transformers|matplotlib|collections|typing|typing_extensions)(\..*)?"),
    (r"py:.*", r"(os|abc|pathlib)(\..*)?"),
    (r"py:.*", r"(Path|DataFrame|TrainingArguments|PeftModel|PhiForCausalLM)"),
    (r"py:.*", r"(ArrayLike|NDArray.*|Axes|LoraConfig|PreTrained.*|EntryPoint|importlib\..*|Self|Any|Callable)"),
    (
        r"py:.*",
        r"(Literal|NearDuplicates|Kind|rankselect.data.chat_rendering.ChatRendering|InitVar|tuple\[|dict\[|Mapping\[).*",
    ),
    (r"py:.*", r"(str|int|float|bool|tuple|list|dict|object|None|Mapping|Sequence|Collection|Iterator|ABC)"),
    (r"py:.*", r"(Exception|UserWarning|ValueError|LookupError|ImportError|optional|'.*')"),
]

# The gallery's pages are scripts. A script runs if it is new or changed; all run if docs/gallery does not exist. A
# script that fails makes the build fail.
sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": ExplicitOrder(
        ["plot_profile_to_plan.py", "plot_strategies.py", "plot_estimators.py", "plot_study.py"]
    ),
    "nested_sections": False,
    "plot_gallery": True,
    "abort_on_example_error": True,
    "capture_repr": (),  # pages show only what they print or draw
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 3600,  # running times depend on the machine that builds the pages
}

# Only the examples of the pages run here; pytest --doctest-modules runs those in docstrings.
doctest_test_doctest_blocks = ""
doctest_global_setup = """
import logging, os, warnings
os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
import rankselect as rs
"""


def write_command_line_reference(_: object) -> None:
    """Generate the page of all commands and options from their help texts."""
    command = [sys.executable, "-m", "typer", "rankselect.cli.app", "utils", "docs", "--name", "rankselect"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    page = Path(__file__).with_name("command_line_reference.md")
    title = "# All commands and their options\n"
    page.write_text(title + text.partition("\n")[2], encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Generate the command-line reference before every build."""
    app.connect("builder-inited", write_command_line_reference)
