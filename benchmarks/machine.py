"""Description of the machine and the versions, for a benchmark's table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch


def describe(*packages: str) -> str:
    """Return one line with processor, threads, Python, and the versions of some packages."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    fast = " with AMX" if any("amx_bf16" in line for line in lines) else ""
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}{fast}, {cores}, Python {platform.python_version()}, {versions}"
