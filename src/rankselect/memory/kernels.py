"""What the kernels of a device allocate where the meta device would take other ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rankselect.memory._torch import attention, fused_attention_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DeviceKernels"]

_MATH, _FLASH, _EFFICIENT, _CUDNN = 0, 1, 2, 3  # torch.nn.attention.SDPBackend
_ALIGNED = 16  # keys in the bias of CUDA's memory-efficient attention are padded to a multiple of this


@final
class DeviceKernels(TorchFunctionMode):
    """Runs a model on the meta device with the memory behaviour of a real one.

    On the meta device PyTorch takes the plain attention, which keeps a matrix of length x length for every head, and
    the dropout of CPUs, which keeps a mask as wide as its input. Here attention takes the kernel that the device would
    choose, and dropout the one that the device has. Questions about values ("is anything padded?"), which a tensor
    without data cannot answer, all get the same answer.

    Args:
        device: ``"cuda"`` or ``"cpu"``.
        answer: The truth of every tensor. Models ask whether all tokens are real and all positions in order; where
            they are, a causal mask need not be kept, and faster attention can be taken.

    Example:
        >>> mask = torch.empty(2, 5, device="meta")
        >>> with DeviceKernels("cpu", answer=True):
        ...     bool(mask.all())
        True
    """

    def __init__(self, device: str, *, answer: bool = False) -> None:
        super().__init__()
        self.device = device
        self.answer = answer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the device's own version of a function, or the function."""
        kwargs = kwargs or {}
        if func is torch.Tensor.__bool__ and args[0].is_meta:
            return self.answer
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            return _attention(self.device, *args, **kwargs)
        if self.device == "cuda" and func is F.dropout:
            return _cuda_dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    device: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    kernel = _chosen_kernel(device, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if kernel == _MATH:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    bias = attn_mask
    if bias is not None and bias.dtype == torch.bool:
        lowest, zero = (torch.scalar_tensor(v, dtype=query.dtype, device="meta") for v in (-torch.inf, 0.0))
        bias = torch.where(bias.logical_not(), lowest, zero)
    if device == "cpu":
        return attention(
            "flash_attention_for_cpu", query, key, value, dropout_p, is_causal, attn_mask=bias, scale=scale
        )
    if kernel == _EFFICIENT:
        if bias is not None:
            bias = _padded_bias(bias, query, key)
        settings: dict[str, Any] = {"dropout_p": dropout_p, "is_causal": is_causal, "scale": scale}
        return attention("efficient_attention", query, key, value, bias, compute_log_sumexp=True, **settings)
    return attention("flash_attention", query, key, value, dropout_p, is_causal, return_debug_mask=False, scale=scale)


def _chosen_kernel(
    device: str,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> int:
    """What PyTorch answers for tensors of these shapes on the device itself; its rules from memory where it is none."""
    if device == "cuda" and not torch.cuda.is_available():
        half = query.dtype in (torch.float16, torch.bfloat16)
        if mask is None and half and query.shape[-1] == value.shape[-1] <= 256:
            return _FLASH
        return _MATH if enable_gqa else _EFFICIENT
    inputs: list[Any] = [_like(tensor, device).requires_grad_() for tensor in (query, key, value)]
    inputs.append(None if mask is None else _like(mask, device))
    with torch.enable_grad():
        return fused_attention_kernel(*inputs, dropout, is_causal, scale=scale, enable_gqa=enable_gqa)


def _like(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """A tensor of the same shape and type on a device that takes the memory of one row."""
    return torch.zeros(tensor.shape[-1], dtype=tensor.dtype, device=device).expand(tensor.shape)


def _padded_bias(bias: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    length = key.shape[-2]
    if length % _ALIGNED:
        bias = F.pad(bias, (0, _ALIGNED - length % _ALIGNED))[..., :length]
    return bias.expand(query.shape[0], query.shape[1], query.shape[2], length)


def _cuda_dropout(
    x: torch.Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> torch.Tensor:
    """CUDA keeps one byte for each element, a CPU a whole element."""
    if not training or p == 0.0 or inplace:
        return F.dropout(x, p, training, inplace)
    return torch.native_dropout(x, p, train=True)[0]
