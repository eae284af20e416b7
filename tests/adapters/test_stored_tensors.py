"""Tensors read one by one, against what safetensors itself reads."""

from __future__ import annotations

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from rankselect.adapters import stored_tensors
from rankselect.adapters.stored_tensors import NAMES_OF_DTYPES, StoredTensors
from rankselect.adapters.tensor_file import TensorFile
from rankselect.errors import FileFormatError


def test_tensors_of_every_dtype_and_shape(tmp_path):
    tensors = {
        str(dtype): torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).mul(9).to(dtype)
        for dtype in NAMES_OF_DTYPES
    }
    tensors |= {"scalar": torch.tensor(7), "empty": torch.empty(0, 4), "long": torch.arange(1000.0)}
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    stored = StoredTensors(path)
    assert list(stored.shapes) == sorted(tensors)
    for key, tensor in load_file(path).items():
        found = stored.read(key)
        assert found.dtype == stored.dtype(key) == tensor.dtype
        assert stored.shape(key) == stored.shapes[key] == tuple(tensor.shape)
        assert torch.equal(found, tensor)
    layout = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    with TensorFile(tmp_path / "b.safetensors", layout) as file:
        for key in reversed(layout):
            file.write(key, stored.read(key))
    written = load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(written[key], tensor) for key, tensor in tensors.items())


def test_the_header_is_read_once(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, path)
    stored = StoredTensors(path)
    for name in ("safe_open", "json"):
        monkeypatch.delattr(stored_tensors, name)
    assert (stored.read("a").tolist(), stored.read("b").tolist()) == ([1, 1], [0, 0, 0])
    assert (stored.shape("a"), stored.dtype("b")) == ((2,), torch.float32)


def test_what_is_read_does_not_hold_the_file(tmp_path):
    """`resize_adapter` replaces a file from which it has read."""
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(5000)}, path)
    tensor = StoredTensors(path).read("a")
    path.write_bytes(b"")
    assert tensor.sum() == 5000


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(5).to(torch.float8_e5m2)}, path)
    with pytest.raises(FileFormatError, match="a dtype of F64, .*, got F8_E5M2 for a in .* bfloat16"):
        StoredTensors(path)
    save_file({"a": torch.ones(50)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SafetensorError):
        StoredTensors(path)
