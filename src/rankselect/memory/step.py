"""The settings of a training step that determine its memory, and the states of its optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

import torch

from rankselect.errors import ArgumentError, UnknownNameError
from rankselect.models.layers import unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

__all__ = ["OPTIMIZERS", "QUANTIZATIONS", "TrainingStep", "optimizer_and_states"]

OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "sgd", "sgd_momentum")
QUANTIZATIONS = ("none", "nf4", "int8")
_DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


@final
@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """What determines the memory of a training step, besides the model and the plan.

    Attributes:
        batch_size: Rows in a micro-batch, all of them `length` long.
        length: Tokens in a row.
        quantization: ``"none"`` does not change the model (also one that is quantised already); ``"nf4"`` and
            ``"int8"`` count it as bitsandbytes would load it.
        dtype: The type of weights that are not quantised, and in which 4-bit layers compute; None for the model's own.
        adapter_dtype: The type of the adapters' weights. PEFT's default is float32, whatever the base model has.
        optimizer: One of `OPTIMIZERS`. Paged states are counted, though bitsandbytes can move them to host memory.
        gradient_checkpointing: Keep only the input of each layer, and compute the rest again in the backward pass.
        lora_dropout: As in `peft.LoraConfig`; above 0, every adapter keeps a mask and a masked copy of its input.
        padding: Whether rows of a batch differ in length: then a mask is kept, and faster attention kernels cannot
            be taken.
        accumulate: Whether gradients of an earlier micro-batch are there already (gradient accumulation).
        autocast: The type that `torch.autocast` computes in (Trainer's ``bf16=True``), or None without autocast.
        upcast: Whether a quantised model goes through `peft.prepare_model_for_kbit_training`, as it does in
            `rankselect`'s trainer: embeddings, norms and head in float32.
        device: ``"cuda"``, ``"cpu"``, or ``"auto"``: where the model is, and CUDA for a model without weights.

    Raises:
        ArgumentError: If a number is out of range.
        UnknownNameError: If an optimizer, a quantisation, a type or a device is unknown.

    Example:
        >>> TrainingStep(quantization="nf5")
        Traceback (most recent call last):
            ...
        rankselect.errors.UnknownNameError: expected the name of a quantization, got 'nf5'. Did you mean nf4? Known: \
int8, nf4, none.
    """

    batch_size: int = 1
    length: int = 512
    quantization: str = "none"
    dtype: torch.dtype | str | None = None
    adapter_dtype: torch.dtype | str = "float32"
    optimizer: str = "adamw"
    gradient_checkpointing: bool = False
    lora_dropout: float = 0.0
    padding: bool = True
    accumulate: bool = False
    autocast: torch.dtype | str | None = None
    upcast: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("length", self.length)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ArgumentError(f"an integer of at least 1 for {name}", repr(value), "Choose a positive one.")
        if not 0.0 <= self.lora_dropout < 1.0:
            raise ArgumentError("a lora_dropout from 0 to below 1", repr(self.lora_dropout), "Choose one in between.")
        _known("quantization", self.quantization, QUANTIZATIONS)
        _known("training optimizer", self.optimizer, OPTIMIZERS)
        _known("device", self.device, ("auto", "cuda", "cpu"))
        for dtype in (self.dtype, self.adapter_dtype, self.autocast):
            as_dtype(dtype)

    @classmethod
    def of(cls, **settings: Any) -> TrainingStep:
        """Create a step from settings by name.

        Raises:
            ArgumentError: If a number is out of range.
            UnknownNameError: If there is no setting of a name; or an optimizer, a quantisation, … is unknown.
        """
        for name in settings:
            _known("setting of a training step", name, tuple(each.name for each in fields(cls)))
        return cls(**settings)

    def check(self, model: nn.Module) -> None:
        """See whether a model can take rows of this length.

        Raises:
            ArgumentError: If they are longer than its positions.
        """
        limit: Any = getattr(getattr(unwrapped(model), "config", None), "max_position_embeddings", None)
        if isinstance(limit, int) and 0 < limit < self.length:
            raise ArgumentError(
                f"a length of at most {limit}, the model's positions", repr(self.length), f"Use length={limit} or less."
            )

    def device_of(self, model: nn.Module) -> str:
        """``"cuda"`` or ``"cpu"``."""
        if self.device != "auto":
            return self.device
        types = {parameter.device.type for parameter in unwrapped(model).parameters()}
        return "cpu" if types == {"cpu"} else "cuda"

    def __str__(self) -> str:
        parts = [f"batch {self.batch_size} x {self.length} tokens"]
        parts += [] if self.quantization == "none" else [self.quantization]
        parts += [] if self.dtype is None else [name_of(self.dtype)]
        parts += [] if self.autocast is None else [f"autocast {name_of(self.autocast)}"]
        parts += [f"adapters {name_of(self.adapter_dtype)}", self.optimizer]
        parts += ["gradient checkpointing"] if self.gradient_checkpointing else []
        parts += ["gradient accumulation"] if self.accumulate else []
        return ", ".join(parts)


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Convert the name of a dtype to the dtype.

    Raises:
        UnknownNameError: If a model cannot be trained in it.
    """
    if dtype is None:
        return None
    name = name_of(dtype)
    _known("dtype", name, tuple(_DTYPES))
    found: torch.dtype = _DTYPES[name]
    return found


def name_of(dtype: torch.dtype | str) -> str:
    """``"bfloat16"`` for `torch.bfloat16` and for ``"bfloat16"``."""
    return str(dtype).removeprefix("torch.")


def _known(kind: str, name: Any, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UnknownNameError(kind, str(name), known)


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
