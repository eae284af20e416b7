"""The tensors of a safetensors file, read one at a time, with its header read only once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, final

import torch
from safetensors import safe_open

from rankselect.errors import FileFormatError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NAMES_OF_DTYPES", "StoredTensors"]

NAMES_OF_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names that the format gives to dtypes."""

_DTYPES = {name: dtype for dtype, name in NAMES_OF_DTYPES.items()}


@final
class StoredTensors:
    """The tensors of one file.

    The header lists every tensor. `safetensors.safe_open` parses it each time that it opens a file, so that reading n
    tensors one by one costs n²; an adapter of separate experts has tens of thousands.

    Args:
        path: A file in the format of safetensors.

    Raises:
        SafetensorError: If it is damaged.
        FileFormatError: If it has a tensor of a dtype that adapters do not use, such as float8.
        OSError: If it cannot be read.

    References:
        https://github.com/huggingface/safetensors#format

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from safetensors.torch import save_file
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> save_file({"a": torch.tensor([1.0, 2.0])}, path)
        >>> stored = StoredTensors(path)
        >>> stored.shapes, stored.read("a")
        ({'a': (2,)}, tensor([1., 2.]))
    """

    def __init__(self, path: Path) -> None:
        with safe_open(path, framework="pt"):
            pass  # it checks that the header is sound and the file complete
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
        self._path, self._first = path, 8 + length
        self._entries = {key: header[key] for key in sorted(header) if key != "__metadata__"}
        for key, entry in self._entries.items():
            if entry["dtype"] not in _DTYPES:
                got = f"{entry['dtype']} for {key} in {path}"
                raise FileFormatError(f"a dtype of {', '.join(_DTYPES)}", got, "Save it in bfloat16.")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """``{key: shape}``, in the order of the keys."""
        return {key: tuple(entry["shape"]) for key, entry in self._entries.items()}

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one tensor."""
        return tuple(self._entries[key]["shape"])

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of one tensor."""
        return _DTYPES[self._entries[key]["dtype"]]

    def read(self, key: str) -> torch.Tensor:
        """One tensor, in memory of its own."""
        start, end = self._entries[key]["data_offsets"]
        if start == end:
            return torch.empty(self.shape(key), dtype=self.dtype(key))
        data = bytearray(end - start)
        with self._path.open("rb") as file:
            file.seek(self._first + start)
            file.readinto(data)
        return torch.frombuffer(data, dtype=self.dtype(key)).reshape(self.shape(key))
