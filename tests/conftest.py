"""Fixtures shared by all tests: small models that are built once, and the folder of real weights and data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and data; without it the test is skipped."""
    folder = os.environ.get("RANKSELECT_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RANKSELECT_ASSETS names no folder")
    return Path(folder)


@pytest.fixture
def tiny():
    """A random Llama of two layers, its tokenizer and 80 texts."""
    from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

    return tiny_model(), tiny_tokenizer(), tiny_texts(80)
