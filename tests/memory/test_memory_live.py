"""Counting storages: how long each is held, and under which name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rankselect.memory.kernels import DeviceKernels
from rankselect.memory.saved_activations import LiveMemory


def empty(*shape, **options):
    return torch.empty(*shape, device="meta", **options)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 1000)), max_size=30))
def test_live_and_peak_are_those_of_a_ledger(events):
    """A list of tensors is filled and emptied; a plain sum keeps the books."""
    held, sizes, peak = [], [], 0
    with LiveMemory() as memory:
        memory.part = "all"
        for release, n in events:
            if release and held:
                held.pop()
                sizes.pop()
            else:
                held.append(empty(n))
                sizes.append(4 * n)
            peak = max(peak, sum(sizes))
            assert memory.live["all"] == sum(sizes)
    assert memory.peak == peak


def test_what_autograd_saves_lives_until_the_backward_pass():
    x = empty(1000, requires_grad=True)
    with LiveMemory([x]) as memory:
        memory.part = "forward"
        loss = x.exp().exp().sum()  # both results are saved
        assert memory.live["forward"] == 2 * 4000 + 4
        memory.part = "backward"
        loss.backward()
        assert memory.live["forward"] == 4  # the loss
        assert memory.live["backward"] == 4000  # the gradient
        memory.move(x.grad, "gradients")
        assert (memory.live["backward"], memory.live["gradients"]) == (0, 4000)


def test_frozen_linear_layers_save_no_input():
    layer = nn.Linear(100, 100, bias=False, device="meta")
    x = empty(10, 100, requires_grad=True)
    for frozen, saved in ((True, 0), (False, 4000)):
        layer.requires_grad_(not frozen)
        with LiveMemory([x, layer.weight]) as memory:
            memory.part = "forward"
            _loss = layer(x + 1).sum()
            assert memory.live["forward"] == saved + 4


def test_views_count_once_and_held_tensors_not_at_all():
    weight = empty(10, 10)
    with LiveMemory([weight]) as memory:
        memory.part = "all"
        _views = (weight.t(), weight.view(-1), weight.detach())
        assert memory.live["all"] == 0
        x = empty(5)
        _more = (x[1:], x.view(5, 1))
        assert memory.live["all"] == 20


def test_blocks_round_up():
    with LiveMemory(block_bytes=512) as memory:
        _first, _second = empty(1), empty(129)
    assert memory.peak == 512 + 1024


def test_the_peak_keeps_its_moment_and_parts():
    with LiveMemory() as memory:
        memory.part = "early"
        kept = empty(100)
        memory.part = "late"
        passing = empty(300)
        del passing
        memory.part = "after"
        _small = empty(10)
        del kept
    assert (memory.peak, memory.peak_part, dict(memory.at_peak)) == (1600, "late", {"early": 400, "late": 1200})


def saved_by_attention(device, length, **options):
    q = empty(2, 4, length, 16, dtype=torch.bfloat16, requires_grad=True)
    with LiveMemory([q]) as memory, DeviceKernels(device):
        memory.part = "forward"
        _out = nn.functional.scaled_dot_product_attention(q, q, q, **options)
        return memory.live["forward"]


def test_attention_keeps_no_matrix_of_length_by_length_where_a_fused_kernel_is_there():
    for device in ("cpu", "cuda"):
        short, long = (saved_by_attention(device, length, is_causal=True) for length in (256, 512))
        assert 1.9 < long / short < 2.1
    dropout = [saved_by_attention("cpu", length, dropout_p=0.1) for length in (256, 512)]
    assert dropout[1] / dropout[0] > 3.5  # a CPU has no fused kernel with dropout


def test_a_mask_costs_its_own_size_in_the_type_of_the_queries():
    mask = empty(2, 1, 256, 256, dtype=torch.bool)
    for device in ("cpu", "cuda"):
        extra = saved_by_attention(device, 256, attn_mask=mask) - saved_by_attention(device, 256, is_causal=True)
        assert extra == pytest.approx(2 * 256 * 256 * 2, rel=1e-3)


def test_dropout_keeps_a_byte_on_cuda_and_an_element_on_a_cpu():
    x = empty(1000, requires_grad=True)
    kept = {}
    for device in ("cpu", "cuda"):
        with LiveMemory([x]) as memory, DeviceKernels(device):
            memory.part = "forward"
            _out = nn.functional.dropout(x, 0.1)
            kept[device] = memory.live["forward"] - 4000
    assert kept == {"cpu": 4000, "cuda": 1000}
