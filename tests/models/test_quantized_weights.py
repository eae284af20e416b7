"""Quantizing one weight: bit for bit what bitsandbytes does, whatever its size."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes import functional

from rankselect.errors import ModelError
from rankselect.models import quantized_weights as weights


@pytest.mark.parametrize("shape", [(64, 64), (172, 64), (48, 100), (7, 9), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("piece", [128, 2**20])
def test_nf4_in_chunks_is_nf4(shape, dtype, piece, monkeypatch):
    monkeypatch.setattr(weights, "_CHUNK", piece)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    expected = {"weight": packed} | {f"weight.{name}": part for name, part in state.as_dict(packed=True).items()}
    found = weights.quantize(weight, "nf4")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], part) for name, part in expected.items())
    unpacked = weights.dequantize(found)
    assert unpacked.dtype == dtype
    assert torch.equal(unpacked, functional.dequantize_4bit(packed, state))


def test_a_weight_without_its_scales():
    packed = weights.quantize(torch.ones(64, 64), "nf4")
    with pytest.raises(ModelError, match="4- or 8-bit weights with their scales, got a weight with absmax"):
        weights.dequantize({name: packed[name] for name in ("weight", "weight.absmax")})
