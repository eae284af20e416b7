"""Models with layers of bitsandbytes: how they are loaded, recognised, evaluated and trained."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any, Literal

import torch

from rankselect.errors import MissingExtraError, ModelError
from rankselect.models._transformers import bits_of, enable_checkpointing, is_packed, is_repacked, keep_from_repacking
from rankselect.models.layers import unwrapped

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Quantization",
    "bitsandbytes_config",
    "count_parameters",
    "keep_as_quantized",
    "prepare_for_training",
    "quantization_of",
    "require_bitsandbytes",
]

Quantization = Literal["none", "nf4", "int8"]


def require_bitsandbytes() -> None:
    """Raise unless bitsandbytes is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantized")


def bitsandbytes_config(quantization: Quantization, compute_dtype: torch.dtype = torch.bfloat16) -> Any:
    """The `BitsAndBytesConfig` for ``"nf4"`` (with double quantization) or ``"int8"``.

    Args:
        quantization: ``"nf4"`` or ``"int8"``.
        compute_dtype: The dtype in which 4-bit layers multiply.

    Raises:
        MissingExtraError: If bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    require_bitsandbytes()
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def quantization_of(model: Any) -> str:
    """How the weights of a model's linear layers are stored.

    Returns:
        ``"none"``, ``"nf4"``, ``"fp4"``, ``"int8"``, or for other libraries transformers' name of the method, for
        example ``"gptq"``.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> quantization_of(tiny_model())
        'none'
    """
    base: Any = unwrapped(model)
    for module in base.modules():
        bits = bits_of(module)
        if bits is not None:
            return "int8" if bits == 8 else str(module.weight.quant_type)
    method = getattr(base, "quantization_method", None)
    return "none" if method is None else str(getattr(method, "value", method))


def count_parameters(model: nn.Module) -> int:
    """The number of parameters of a model. 4-bit weights are stored two to a byte, and each counts.

    Example:
        >>> from torch import nn
        >>> count_parameters(nn.Linear(3, 5))
        20
    """
    return sum(
        parameter.numel() * (2 * parameter.element_size() if is_packed(parameter) else 1)
        for parameter in model.parameters()
    )


def keep_as_quantized(model: nn.Module) -> None:
    """Keep bitsandbytes from changing 4-bit weights on a CPU, and from logging at every call of an 8-bit layer.

    Args:
        model: Any model; one without such layers is left alone.

    Raises:
        IncompatibleVersionError: If the installed bitsandbytes cannot be kept from it.
    """
    for module in model.modules():
        bits = bits_of(module)
        if bits == 4:
            keep_from_repacking(module)
        elif bits == 8:
            _log_casts_once()


class _Once(logging.Filter):
    """Lets each message of a logger pass once, whatever its arguments are."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record passes."""
        seen = str(record.msg) in self._seen
        self._seen.add(str(record.msg))
        return not seen


def _log_casts_once() -> None:
    """8-bit layers compute in float16, and log a line at every call with inputs of another type."""
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    if not any(isinstance(known, _Once) for known in logger.filters):
        logger.addFilter(_Once())


def prepare_for_training(model: nn.Module, *, gradient_checkpointing: bool) -> None:
    """Prepare a model for training an adapter on it, or the one that it has.

    Args:
        model: A model of transformers, or a PEFT model.
        gradient_checkpointing: Compute activations twice instead of keeping them.

    Raises:
        ModelError: If 4-bit weights have been repacked, which have no backward pass; or if the model has no gradient
            checkpointing.
    """
    from peft import prepare_model_for_kbit_training

    base: Any = unwrapped(model)
    if any(bits_of(module) == 4 and is_repacked(module) for module in base.modules()):
        raise ModelError(
            "a 4-bit model as it was loaded",
            "one that bitsandbytes repacked in an evaluation pass on the CPU, so that it has no gradients",
            "Load it again, with load_model, which keeps it from being repacked.",
        )
    if gradient_checkpointing and not getattr(base, "supports_gradient_checkpointing", False):
        raise ModelError(
            "a model with gradient checkpointing",
            f"a {type(base).__name__} without",
            "Leave gradient_checkpointing out.",
        )
    if quantization_of(base) != "none":
        # PEFT freezes every parameter, those of an adapter too
        trained = [parameter for name, parameter in _adapter_parameters(base) if parameter.requires_grad]
        prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
        for parameter in trained:
            parameter.requires_grad = True
    if gradient_checkpointing:
        enable_checkpointing(base)


def _adapter_parameters(base: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in base.named_parameters() if "lora_" in name]
