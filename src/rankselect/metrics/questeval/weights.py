"""Which weights a model's name stands for: a commit on the hub, or the contents of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rankselect.errors import ModelError, first_sentence

__all__ = ["missing_model", "weights_identity"]

_SMALL = 1 << 20  # bytes; larger files are identified by size and time of change


def weights_identity(name: str, revision: str = "main") -> str:
    """What identifies the weights of a model, and the library that runs them; no weights are loaded.

    Args:
        name: A hub name or a folder.
        revision: The branch, tag or commit on the hub.

    Raises:
        ModelError: If there is no such model.
    """
    import transformers

    if Path(name).is_dir():
        return f"{_contents(Path(name))} transformers {transformers.__version__}"
    try:
        config = transformers.AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise missing_model(name, error) from error
    return f"{name} {revision} {getattr(config, '_commit_hash', None)} transformers {transformers.__version__}"


def missing_model(name: str, error: Exception) -> ModelError:
    """The error about a model that cannot be loaded."""
    return ModelError(
        f"the model {name}",
        f"none that can be loaded ({first_sentence(error)})",
        "Download it while online, or give a folder that holds it. The metric questeval-cloze needs no model; its "
        "scores are on another scale.",
    )


def _contents(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(each for each in folder.iterdir() if each.is_file()):
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} ".encode())
        digest.update(file.read_bytes() if status.st_size < _SMALL else str(status.st_mtime_ns).encode())
    return digest.hexdigest()
