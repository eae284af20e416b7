"""Weights by the names of the model: as stored, as quantized training saw them, and with the adapter added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from rankselect.adapters.buffer import is_finite
from rankselect.adapters.merge.base_model import BaseModel, parameter_keys, scales
from rankselect.errors import AdapterError, ModelError
from rankselect.models.layers import is_transposed
from rankselect.models.quantized_weights import dequantize, round_trip

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.adapters.lora_delta import LoraModule
    from rankselect.adapters.merge.shards import Checkpoint
    from rankselect.models.quantized_layers import Quantization

__all__ = ["BaseWeights", "MergedWeights", "StoredWeights", "is_transposed_weight"]


@final
@dataclass(frozen=True)
class StoredWeights:
    """The parameters of a model folder; quantized ones dequantized.

    Attributes:
        model: The model, without weights.
        checkpoint: The folder's weights.
        keys: ``{name of a parameter: key}``.
        parts: ``{key of a quantized weight: keys of its scales}``.
    """

    model: PreTrainedModel
    checkpoint: Checkpoint
    keys: dict[str, str]
    parts: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, model: PreTrainedModel, checkpoint: Checkpoint) -> StoredWeights:
        """The weights of a folder for a model."""
        return cls(model, checkpoint, parameter_keys(model, checkpoint)[0], scales(checkpoint))

    def tensor(self, name: str) -> torch.Tensor:
        """One parameter or buffer, in the shape that the model has for it.

        Raises:
            ModelError: If the folder does not have it, or in another shape.
        """
        if name not in self.keys:
            raise ModelError(
                "a model with all of its weights",
                f"none for {name} in {self.checkpoint.folder}",
                "The checkpoint is incomplete, or of another architecture than its config.",
            )
        key = self.keys[name]
        tensor = self.checkpoint.tensor(key)
        if key in self.parts:
            start = len(key) - len("weight")
            tensor = dequantize({"weight": tensor} | {p[start:]: self.checkpoint.tensor(p) for p in self.parts[key]})
            if is_transposed_weight(self.model, name):
                tensor = tensor.T
        expected = tuple(_shape_holder(self.model, name).shape)
        if tuple(tensor.shape) != expected:
            raise ModelError(
                f"{name} of shape {expected}, as in the config",
                f"{tuple(tensor.shape)} in {self.checkpoint.folder}",
                "Config and weights are of different models: copy or download the model again.",
            )
        return tensor

    def fill_buffers(self, model: nn.Module) -> None:
        """Give a model the buffers that are stored; the others are computed when it is built."""
        for name, buffer in model.named_buffers():
            if name in self.keys:
                buffer.copy_(self.tensor(name))


@final
@dataclass(frozen=True)
class BaseWeights:
    """The parameters of the base, as the model that was trained computed with them.

    Attributes:
        stored: The base's weights.
        quantization: What they were quantized to while loading; ``"none"`` also where they are stored quantized.
        quantized: The names of the modules that this concerns.
        dtype: The dtype that they were loaded in before; None for the one they are stored in.
    """

    stored: StoredWeights
    quantization: Quantization
    quantized: frozenset[str]
    dtype: torch.dtype | None

    def tensor(self, name: str) -> torch.Tensor:
        """One parameter, quantized and dequantized where training did."""
        tensor = self.stored.tensor(name)
        module, _, last = name.rpartition(".")
        if self.quantization == "none" or last != "weight" or module not in self.quantized:
            return tensor
        weight = tensor.to(self.dtype or tensor.dtype)
        if is_transposed_weight(self.stored.model, name):
            return round_trip(weight.T, self.quantization).T
        return round_trip(weight, self.quantization)


@final
@dataclass(frozen=True)
class MergedWeights:
    """The parameters of a base with those of the adapter added, or put in their place.

    Attributes:
        base: The base model.
        weights: Its weights, dequantized or as stored.
        adapter: The adapter.
        changes: ``{name of a parameter: module of the adapter}``.
    """

    base: BaseModel
    weights: BaseWeights | StoredWeights
    adapter: AdapterFolder
    changes: dict[str, LoraModule]

    def changed(self, name: str) -> bool:
        """Whether the adapter changes a parameter."""
        return name in self.changes or name in self.adapter.full_parameters

    def tensor(self, name: str) -> torch.Tensor:
        """One parameter; a changed one in float32.

        Raises:
            AdapterError: If the sum is not finite.
        """
        if name in self.adapter.full_parameters:
            tensor = self.adapter.tensor(self.adapter.full_parameters[name])
        else:
            tensor = self.weights.tensor(name)
        if name not in self.changes:
            return tensor
        delta = self.adapter.delta(self.changes[name])
        if is_transposed_weight(self.base.model, name):
            delta = delta.T
        merged = delta.add_(tensor)
        if not is_finite(merged):
            raise AdapterError(
                "finite merged weights", f"NaN or infinity in {name}", "Base or adapter hold broken weights."
            )
        return merged


def is_transposed_weight(model: PreTrainedModel, name: str) -> bool:
    """Whether a parameter is the weight of a `Conv1D`, which is (d_in, d_out)."""
    module, _, last = name.rpartition(".")
    return last == "weight" and is_transposed(model.get_submodule(module))


def _shape_holder(model: PreTrainedModel, name: str) -> torch.Tensor:
    module, _, last = name.rpartition(".")
    return getattr(model.get_submodule(module), last)  # type: ignore[no-any-return]
