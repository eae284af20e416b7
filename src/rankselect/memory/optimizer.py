"""What optimizers keep between steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

__all__ = ["optimizer_and_states"]

_8BIT_FROM, _8BIT_BLOCK = 4096, 256  # bitsandbytes: smaller tensors keep 32-bit states; states that share a constant


def optimizer_and_states(
    trained: Sequence[nn.Parameter], name: str, device: str
) -> tuple[torch.optim.Optimizer | None, list[torch.Tensor]]:
    """An optimizer after its first step, and the tensors that it keeps.

    Args:
        trained: Parameters on the meta device.
        name: One of `rankselect.memory.step.OPTIMIZERS`.
        device: ``"cuda"``, where PyTorch's optimizers work on all tensors at once, or ``"cpu"``.

    Returns:
        The optimizer, or None for those of bitsandbytes, which work in place; and its states.

    References:
        Dettmers et al. (2021), "8-bit Optimizers via Block-wise Quantization", https://arxiv.org/abs/2110.02861

    Example:
        >>> weight = torch.nn.Parameter(torch.empty(128, 64, device="meta"))
        >>> sum(state.nbytes for state in optimizer_and_states([weight], "adamw_8bit", "cuda")[1])
        16640
    """
    if "8bit" in name or name.startswith("paged"):
        numbers = [parameter.numel() for parameter in trained]
        sizes = (size for n in numbers for size in _bitsandbytes_states(n, eight_bit="8bit" in name))
        return None, [torch.empty(size, dtype=torch.uint8, device="meta") for size in sizes]
    foreach = device == "cuda"
    optimizer: torch.optim.Optimizer
    if name == "adamw":
        optimizer = torch.optim.AdamW(trained, foreach=foreach)
    else:
        optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9 if name == "sgd_momentum" else 0.0, foreach=foreach)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return optimizer, kept


def _bitsandbytes_states(n: int, *, eight_bit: bool) -> Iterable[int]:
    """The bytes of the two states of one tensor, and of their constants."""
    if not eight_bit or n < _8BIT_FROM:
        return (4 * n, 4 * n)
    constants = 4 * math.ceil(n / _8BIT_BLOCK)
    return (n, n, constants, constants)
