"""Files of weights: sizes, indexes, and copies that outlive what they were made of."""

from __future__ import annotations

import json

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from rankselect.adapters.buffer import own_copy
from rankselect.adapters.merge.shards import Checkpoint, ShardWriter


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=12), limit=st.integers(1, 200))
def test_what_is_written_is_what_is_read(tmp_path_factory, sizes, limit):
    folder = tmp_path_factory.mktemp("shards")
    tensors = {f"t{index}": torch.arange(float(size)) for index, size in enumerate(sizes)}
    writer = ShardWriter(folder, limit)
    for key, tensor in tensors.items():
        writer.add(key, tensor)
        tensors[key] = tensor.clone()
        tensor.fill_(-1)  # the writer has its own copy
    count = writer.close()
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.files.keys() == tensors.keys()
    assert all(torch.equal(checkpoint.tensor(key), tensor) for key, tensor in tensors.items())
    files = list(folder.glob("*.safetensors"))
    assert len(files) == count
    for file in files:
        inside = load_file(file)
        assert len(inside) == 1 or sum(tensor.nbytes for tensor in inside.values()) <= limit
    if count > 1:
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())


def test_own_copies_have_any_shape_and_dtype():
    for tensor in (torch.arange(6).reshape(2, 3).T, torch.tensor(3.5), torch.empty(0, 4), torch.ones(2).bool()):
        assert torch.equal(own_copy(tensor), tensor)
        assert own_copy(tensor, torch.float32).dtype == torch.float32
