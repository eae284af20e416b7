"""Quantised models of bitsandbytes: how they are loaded, kept as they are, and made ready for training."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import torch
from peft import prepare_model_for_kbit_training

from rankselect.errors import ArgumentError, ModelError
from rankselect.models._transformers import enable_checkpointing
from rankselect.models.layers import unwrapped
from rankselect.models.packing import config_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig

__all__ = ["is_four_bit_layer", "keep_as_quantized", "note_casts_once", "prepare_for_training", "quantization_config"]


def quantization_config(
    quantization: Literal["nf4", "int8"], config: PreTrainedConfig, name: str, dtype: str = "auto"
) -> Any:
    """The `BitsAndBytesConfig` to load a model with.

    Args:
        quantization: ``"nf4"`` or ``"int8"``.
        config: The model's config.
        name: The model's name, for the message.
        dtype: What four-bit layers multiply in; bfloat16 for ``"auto"``.

    Raises:
        ArgumentError: If the model is stored quantised already.
        MissingExtraError: If bitsandbytes is not installed.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise ArgumentError(
            f"a model in full precision to quantise to {quantization}",
            f"{name}, whose weights are stored quantised",
            'Load it with quantization="none", or give the model that it was made from.',
        )
    return config_of(quantization, torch.bfloat16 if dtype == "auto" else getattr(torch, dtype))


def is_four_bit_layer(module: nn.Module) -> bool:
    """Whether a module is a linear layer of bitsandbytes with four-bit weights."""
    return type(module).__name__ == "Linear4bit" and type(module).__module__.startswith("bitsandbytes")


def keep_as_quantized(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking four-bit weights on a CPU.

    On a CPU with AVX512-BF16, bitsandbytes turns a four-bit layer into another layout at the first forward pass in
    evaluation mode, for good. It rounds the scales to bfloat16, fails for widths that are not multiples of 32, and
    the new layout has no backward pass: training after generation would go on with gradients missing, unnoticed.

    Args:
        model: Any model; those without four-bit layers are left alone.
    """
    for module in model.modules():
        if is_four_bit_layer(module) and hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


class _CastOnce(logging.Filter):
    """Lets the note on casts of 8-bit layers pass once: bitsandbytes writes it at every call of every layer."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record passes."""
        if not str(record.msg).startswith("MatMul8bitLt: inputs will be cast"):
            return True
        first, self._seen = not self._seen, True
        return first


def note_casts_once() -> None:
    """Keep 8-bit layers, which compute in float16, from logging a line at every call with other inputs."""
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    if not any(isinstance(known, _CastOnce) for known in logger.filters):
        logger.addFilter(_CastOnce())


def prepare_for_training(model: nn.Module, *, gradient_checkpointing: bool) -> None:
    """Make a model ready for an adapter to be trained on it, or for the one that it has.

    Args:
        model: A model of transformers, or a PEFT model.
        gradient_checkpointing: Compute activations twice instead of keeping them.

    Raises:
        ModelError: If four-bit weights have been repacked, which have no backward pass; or if the model has no
            gradient checkpointing.
    """
    base: Any = unwrapped(model)
    for module in base.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if is_four_bit_layer(module) and getattr(state, "packing_format_for_cpu", False):
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
    if getattr(base, "quantization_method", None) is not None:
        # PEFT freezes every parameter, those of an adapter too
        trained = [parameter for name, parameter in _adapter_parameters(base) if parameter.requires_grad]
        prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)  # which it calls by its old name
        for parameter in trained:
            parameter.requires_grad = True
    if gradient_checkpointing:
        enable_checkpointing(base)


def _adapter_parameters(base: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in base.named_parameters() if "lora_" in name]
