"""Write a file of tensors one tensor at a time, so that memory holds one and not all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, final

import torch

from rankselect.adapters.stored_tensors import NAMES_OF_DTYPES
from rankselect.errors import SaveError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["TensorFile"]


@final
class TensorFile:
    """A file in the format of safetensors whose shapes are known before its tensors.

    Args:
        path: The file to write.
        layout: ``{key: (shape, dtype)}`` of all tensors.

    References:
        https://github.com/huggingface/safetensors#format

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from safetensors.torch import load_file
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> with TensorFile(path, {"a": ((2,), torch.float32)}) as file:
        ...     file.write("a", torch.ones(2))
        >>> load_file(path)
        {'a': tensor([1., 1.])}
    """

    def __init__(self, path: Path, layout: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
        self._layout = dict(layout)
        self._missing = set(layout)
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self._starts: dict[str, int] = {}
        end = 0
        for key, (shape, dtype) in layout.items():
            start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
            header[key] = {"dtype": NAMES_OF_DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
            self._starts[key] = start
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._first = self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None and self._missing:
            raise SaveError("every tensor of the layout", f"none for {min(self._missing)}", "Write it.")

    def write(self, key: str, tensor: torch.Tensor) -> None:
        """Write one tensor, in any order."""
        shape, dtype = self._layout[key]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            got = f"{tuple(tensor.shape)} in {tensor.dtype}"
            raise SaveError(f"{key} of {shape} in {dtype}", got, "Convert it first.")
        self._missing.discard(key)
        self._file.seek(self._first + self._starts[key])
        self._file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
