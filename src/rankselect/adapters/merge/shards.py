"""The weights of a model folder: safetensors, in one file or in shards with an index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rankselect.adapters.buffer import own_copy
from rankselect.errors import ModelError, first_sentence

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["Checkpoint", "ShardWriter"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@final
@dataclass(frozen=True)
class Checkpoint:
    """The weights of a model folder, read one tensor at a time.

    Attributes:
        folder: The folder.
        files: ``{key: name of the file that holds it}``, file by file.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_file({"a": torch.ones(2)}, folder / "model.safetensors")
        >>> Checkpoint.open(folder).tensor("a")
        tensor([1., 1.])
    """

    folder: Path
    files: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Find the files and the keys in them.

        Raises:
            ModelError: If there are no weights in safetensors, or a file is missing or damaged.
        """
        files: dict[str, str] = {}
        for name in _files(folder):
            try:
                with safe_open(folder / name, framework="pt") as file:
                    files.update(dict.fromkeys(file.keys(), name))
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    "a base model whose weights are complete",
                    f"{folder / name}, which cannot be read ({first_sentence(error)})",
                    "The file is missing, truncated or damaged: copy or download the model again.",
                ) from error
        return cls(folder, files)

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor, mapped from its file: do not write into it."""
        with safe_open(self.folder / self.files[key], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(key)
        return tensor

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header of its file."""
        with safe_open(self.folder / self.files[key], framework="pt") as file:
            return tuple(file.get_slice(key).get_shape())


def _files(folder: Path) -> list[str]:
    if (folder / INDEX).is_file():
        try:
            index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            return sorted(set(index["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(
                "an index of shards", f"{folder / INDEX}, which is damaged", "Copy or download the model again."
            ) from error
    if (folder / SINGLE).is_file():
        return [SINGLE]
    pickled = any(folder.glob("pytorch_model*.bin"))
    raise ModelError(
        f"weights in safetensors ({SINGLE} or {INDEX})",
        f"{folder}, which has pickles only" if pickled else f"none in {folder}",
        "Load the model with transformers and save it with save_pretrained, which writes safetensors.",
    )


@final
class ShardWriter:
    """Collects tensors and writes a shard whenever the next one would make it too large.

    Args:
        folder: Where to write.
        max_bytes: The size of a shard; a larger tensor gets one of its own.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> writer = ShardWriter(folder, max_bytes=16)
        >>> for name in "ab":
        ...     writer.add(name, torch.ones(3))
        >>> writer.close()
        2
        >>> sorted(file.name for file in folder.iterdir())[:2]
        ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._shards: list[list[str]] = []
        self._total = 0

    def add(self, key: str, tensor: torch.Tensor) -> None:
        """Take a copy of a tensor, which is kept until its shard is full."""
        if self._pending and _nbytes(*self._pending.values(), tensor) > self._max_bytes:
            self._flush()
        self._pending[key] = own_copy(tensor)
        self._total += _nbytes(tensor)

    def close(self) -> int:
        """Write what is left and, for several shards, their index; return how many shards there are."""
        if self._pending:
            self._flush()
        count = len(self._shards)
        if count == 1:
            self._part(0).replace(self._folder / SINGLE)
            return 1
        weight_map: dict[str, str] = {}
        for number, keys in enumerate(self._shards):
            name = f"model-{number + 1:05}-of-{count:05}.safetensors"
            self._part(number).replace(self._folder / name)
            weight_map |= dict.fromkeys(keys, name)
        index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(weight_map.items()))}
        (self._folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        return count

    def _flush(self) -> None:
        save_file(self._pending, self._part(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(list(self._pending))
        self._pending = {}

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number + 1:05}.safetensors"


def _nbytes(*tensors: torch.Tensor) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
