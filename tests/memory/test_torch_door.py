"""The names that torch does not promise to keep: there, of the known meaning, and missed with one precise error."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from private_names import gone, known
from rankselect.memory import _torch as door
from rankselect.memory._torch import TORCH
from rankselect.memory.saved_activations import LiveMemory


def heads(rows=2, length=8):
    return [torch.randn(rows, 4, length, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]


def test_the_storage_of_a_tensor_has_a_key():
    with known(TORCH, "UntypedStorage._cdata, the same for views of one storage, also on the meta device"):
        whole, other = torch.empty(4, device="meta"), torch.empty(4, device="meta")
        assert door.storage_key(whole) == door.storage_key(whole[2:]) != door.storage_key(other)


def test_every_operation_is_seen():
    with known(TORCH, "torch.utils._python_dispatch.TorchDispatchMode"), LiveMemory() as memory:
        kept = torch.empty(3, 5, device="meta")
        assert memory.peak >= kept.nbytes == 60


def test_nested_tensors_are_found():
    nested = {"a": [1, (2, 3)], "b": 4}
    with known(TORCH, "torch.utils._pytree.tree_iter and tree_map"):
        assert list(door.tree_iter(nested)) == [1, 2, 3, 4]
        assert door.tree_map(lambda number: -number, nested) == {"a": [-1, (-2, -3)], "b": -4}


def test_the_attention_of_a_processor():
    query, key, value = heads()
    with known(TORCH, "aten._scaled_dot_product_flash_attention_for_cpu"):
        found = door.attention("flash_attention_for_cpu", query, key, value, 0.0, True, attn_mask=None, scale=None)
        torch.testing.assert_close(found, scaled_dot_product_attention(query, key, value, is_causal=True))


@pytest.mark.parametrize(
    ("kernel", "inputs", "settings"),
    [
        ("flash_attention", (0.0, True), {"return_debug_mask": False, "scale": None}),
        (
            "efficient_attention",
            (None,),
            {"compute_log_sumexp": True, "dropout_p": 0.0, "is_causal": True, "scale": None},
        ),
    ],
)
def test_the_attention_of_a_gpu_has_shapes_without_one(kernel, inputs, settings):
    query, key, value = (tensor.to("meta", torch.bfloat16) for tensor in heads())
    with known(TORCH, f"aten._scaled_dot_product_{kernel} on the meta device"):
        assert door.attention(kernel, query, key, value, *inputs, **settings).shape == query.shape


def test_the_kernel_that_is_chosen():
    with known(TORCH, "torch._fused_sdp_choice, which answers 1 (flash) for plain inputs on a processor"):
        assert door.fused_attention_kernel(*heads(), None, 0.0, True, scale=None, enable_gqa=False) == 1


def test_what_is_gone_is_said(monkeypatch):
    monkeypatch.delattr(torch, "_fused_sdp_choice")
    with gone(TORCH, "_fused_sdp_choice"):
        door.fused_attention_kernel(*heads())
    with gone(TORCH, "_scaled_dot_product_no_such_kernel"):
        door.attention("no_such_kernel", *heads())
    with gone(TORCH, "_cdata"):
        door.storage_key(_Unknown())


class _Unknown:
    """A tensor of a release in which a storage has no address."""

    def untyped_storage(self):
        return object()
