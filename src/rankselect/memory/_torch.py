"""The one door to names of torch that it does not promise to keep.

Nothing else in rankselect uses such a name. Each function says what it needs in terms of its own and raises an
IncompatibleVersionError where a release has taken the name away.
"""

from __future__ import annotations

from typing import Any

import torch

from rankselect.models.private_names import Library

TORCH = Library("torch", "2.13.0", "memory/_torch.py")

try:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter, tree_map
except ImportError as error:
    raise TORCH.error("TorchDispatchMode, tree_iter and tree_map") from error

__all__ = [
    "TORCH",
    "TorchDispatchMode",
    "attention",
    "fused_attention_kernel",
    "storage_key",
    "tree_iter",
    "tree_map",
]


def storage_key(tensor: torch.Tensor) -> int:
    """The address of a tensor's storage: two tensors have the same one if they view the same memory.

    No public name tells it on the meta device, where the data pointer of every storage is 0.
    """
    return int(TORCH.attribute(tensor.untyped_storage(), "_cdata"))


def fused_attention_kernel(*inputs: Any, **settings: Any) -> int:
    """Which kernel `scaled_dot_product_attention` takes for these inputs: 0 math, 1 flash, 2 memory-efficient."""
    return int(TORCH.attribute(torch, "_fused_sdp_choice")(*inputs, **settings))


def attention(kernel: str, *inputs: Any, **settings: Any) -> torch.Tensor:
    """One kernel of attention, whose outputs take the memory that it takes on its device.

    Args:
        kernel: ``"flash_attention_for_cpu"``, ``"flash_attention"`` or ``"efficient_attention"``.
        *inputs: What the kernel takes.
        **settings: What else it takes.

    Returns:
        The attended values; what the kernel keeps for its backward pass is kept by autograd.
    """
    operation = TORCH.attribute(torch.ops.aten, f"_scaled_dot_product_{kernel}")
    attended: torch.Tensor = operation(*inputs, **settings)[0]
    return attended
