"""Fixtures shared by all tests: small models that are built once, and the folder of real weights and data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Read when torch and numpy are imported. Two workers with two threads each on two cores slow each other down many
# times over, and sums over another number of threads differ in their last digits.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# "repeatable" draws the same examples each time; HYPOTHESIS_PROFILE=explore draws new ones, for a scheduled job.
# "mutants" is for `make mutants`, which runs the tests thousands of times, several times in one process.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, max_examples=500, print_blob=True)
settings.register_profile(
    "mutants", derandomize=True, deadline=None, max_examples=25, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


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
