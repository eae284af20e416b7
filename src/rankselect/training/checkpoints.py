"""Finds the checkpoint from which training can go on, past those that a kill left half written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import os

__all__ = ["last_checkpoint"]

_NAME = re.compile(r"checkpoint-(\d+)")


def last_checkpoint(folder: str | os.PathLike[str]) -> Path | None:
    """The newest complete checkpoint in a trainer's output folder.

    The trainer writes ``trainer_state.json`` last, so a checkpoint with a whole one and a whole adapter is complete.

    Args:
        folder: The trainer's ``output_dir``.

    Returns:
        The checkpoint's folder, or None if there is none.

    Example:
        >>> import tempfile
        >>> last_checkpoint(tempfile.mkdtemp()) is None
        True
    """
    if not Path(folder).is_dir():
        return None
    found = {int(match[1]): path for path in Path(folder).iterdir() if (match := _NAME.fullmatch(path.name))}
    return next((found[step] for step in sorted(found, reverse=True) if _is_complete(found[step])), None)


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = sorted(checkpoint.glob("*.safetensors"))
        for file in weights:
            with safe_open(file, framework="pt") as tensors:
                tensors.keys()
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights)
