"""`torch.autocast` for the meta device, which has none: the same casts, so that they can be counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rankselect.memory._torch import tree_map

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MetaAutocast"]

_T = torch.Tensor
_LOWER = {
    *(F.linear, F.conv1d, F.conv2d, F.scaled_dot_product_attention, torch.baddbmm, torch.einsum),
    *(torch.matmul, _T.matmul, _T.__matmul__, torch.mm, _T.mm, torch.bmm, _T.bmm, torch.addmm, _T.addmm),
}
_RAISED = {F.nll_loss, F.mse_loss, F.smooth_l1_loss, F.binary_cross_entropy_with_logits, torch.prod, _T.prod}
_RAISED_ON_CUDA = {
    *(F.softmax, torch.softmax, _T.softmax, F.log_softmax, torch.log_softmax, _T.log_softmax),
    *(F.layer_norm, F.cross_entropy, torch.norm, _T.norm, torch.cumsum, _T.cumsum),
    *(torch.pow, _T.pow, _T.__pow__, torch.rsqrt, _T.rsqrt, torch.exp, _T.exp, torch.sum, _T.sum),
}


@final
class MetaAutocast(TorchFunctionMode):
    """Casts the inputs of matrix products down; those of losses, and on CUDA of sums and exponentials, up to float32.

    As in PyTorch, weights that are trained are cast once and kept; frozen ones are cast each time.

    Args:
        dtype: ``torch.bfloat16`` or ``torch.float16``.
        device: ``"cuda"`` or ``"cpu"``, whose lists of functions differ.

    References:
        PyTorch, "Autocast Op Reference", https://docs.pytorch.org/docs/stable/amp.html

    Example:
        >>> x = torch.empty(4, 4, device="meta")
        >>> with MetaAutocast(torch.bfloat16, "cuda"):
        ...     (x @ x).dtype, (x @ x).softmax(-1).dtype
        (torch.bfloat16, torch.float32)
    """

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.dtype = dtype
        self._raised = _RAISED | _RAISED_ON_CUDA if device == "cuda" else _RAISED
        self._kept: dict[int, torch.Tensor] = {}

    def __exit__(self, *exception: object) -> None:
        """Let the kept weights go."""
        self._kept.clear()
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Cast what this function takes, and call it."""
        if func in _LOWER:
            args, kwargs = tree_map(self._lowered, (args, kwargs or {}))
        elif func in self._raised:
            args, kwargs = tree_map(_raised, (args, kwargs or {}))
        elif func is F.cross_entropy:
            func = _cross_entropy_on_cpu
        return func(*args, **(kwargs or {}))

    def _lowered(self, value: Any) -> Any:
        if not _is_float(value) or value.dtype == self.dtype:
            return value
        if not (value.is_leaf and value.requires_grad and value.dtype == torch.float32):
            return value.to(self.dtype)
        if id(value) not in self._kept:
            self._kept[id(value)] = value.to(self.dtype)
        return self._kept[id(value)]


def _cross_entropy_on_cpu(
    logits: torch.Tensor, target: torch.Tensor, *, ignore_index: int = -100, reduction: str = "mean", **_: Any
) -> torch.Tensor:
    """CPUs take the logarithm in the type of the logits, and raise it afterwards."""
    return F.nll_loss(F.log_softmax(logits, 1).float(), target, ignore_index=ignore_index, reduction=reduction)


def _raised(value: Any) -> Any:
    return value.float() if _is_float(value) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
