"""Counts the memory of a training step by running it on tensors without data."""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, final

import torch

from rankselect.memory._torch import TorchDispatchMode, storage_key, tree_iter

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LiveMemory"]


@final
class LiveMemory(TorchDispatchMode):
    """Counts the bytes of every tensor storage that exists, from its first operation until nothing refers to it.

    What autograd saves for the backward pass, what the backward pass recomputes, and what an operation needs only
    for a moment are all storages that live for a while; the greatest sum of those that live at once is the peak. On
    the meta device nothing is computed, so a step of a model of billions of parameters is counted in seconds. A
    storage that several tensors view is counted once, and one that a parameter already holds is not counted at all.

    Args:
        held: Tensors that exist before and are counted elsewhere: weights, optimizer states.
        block_bytes: Sizes are rounded up to a multiple of this, as an allocator does; 1 counts the requested bytes.

    Attributes:
        part: The name under which new storages are counted; change it as the step proceeds.
        live: ``{part: bytes}`` of the storages that exist now.
        peak: The greatest sum of `live` so far.
        at_peak: `live`, at that moment.
        peak_part: `part`, at that moment.

    Example:
        >>> x = torch.empty(256, 1024, device="meta", requires_grad=True)  # 1 MiB in float32
        >>> with LiveMemory([x]) as memory:
        ...     memory.part = "forward"
        ...     y = x.exp().sum()  # exp keeps its result for the backward pass
        >>> memory.peak, memory.peak_part
        (1048580, 'forward')
    """

    def __init__(self, held: Iterable[torch.Tensor] = (), *, block_bytes: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = ""
        self.live: Counter[str] = Counter()
        self.peak = 0
        self.at_peak: Counter[str] = Counter()
        self.peak_part = ""
        self._block_bytes = block_bytes
        self._total = 0
        self._parts: dict[int, str] = {}
        self._held = {storage_key(tensor) for tensor in held}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count its results."""
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self._count(value)
        return result

    def move(self, tensor: torch.Tensor, part: str) -> None:
        """Count the storage of a tensor under another part from now on."""
        key = storage_key(tensor)
        if key in self._parts:
            n_bytes = self._rounded(tensor)
            self.live[self._parts[key]] -= n_bytes
            self.live[part] += n_bytes
            self._parts[key] = part

    def _count(self, tensor: torch.Tensor) -> None:
        key = storage_key(tensor)
        if key in self._parts or key in self._held:
            return
        n_bytes = self._rounded(tensor)
        self._parts[key] = self.part
        self.live[self.part] += n_bytes
        self._total += n_bytes
        weakref.finalize(tensor.untyped_storage(), self._freed, key, n_bytes).atexit = False
        if self._total > self.peak:
            self.peak, self.at_peak, self.peak_part = self._total, self.live.copy(), self.part

    def _freed(self, key: int, n_bytes: int) -> None:
        self.live[self._parts.pop(key)] -= n_bytes
        self._total -= n_bytes

    def _rounded(self, tensor: torch.Tensor) -> int:
        return -(-tensor.untyped_storage().nbytes() // self._block_bytes) * self._block_bytes
