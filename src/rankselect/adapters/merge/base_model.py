"""The base model of a merge: where it is, how it is built, and which weight of its files belongs to which module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch

from rankselect.adapters.merge.shards import Checkpoint
from rankselect.errors import ModelError
from rankselect.models._transformers import modules_to_quantize, renaming
from rankselect.models.loading import empty_model
from rankselect.models.names import download, load_config
from rankselect.models.quantized_layers import Quantization, require_bitsandbytes
from rankselect.models.quantized_weights import weight_of

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["BaseModel", "open_base", "parameter_keys", "quantized_modules", "scales", "ties"]


@final
@dataclass(frozen=True)
class BaseModel:
    """A base model on disk.

    Attributes:
        name: As the caller or the adapter names it.
        config: Its config, without the settings of quantized weights.
        stored: How its weights are stored: ``"none"`` (as they are), ``"nf4"`` (any 4-bit weights) or ``"int8"``.
        stored_config: The settings of quantized weights, if they are.
        checkpoint: Its weights.
        model: The model on the meta device: names and shapes, with buffers that are computed.
        keys: ``{name of a parameter: its key in the checkpoint}``.
        fused: Parameters that transformers makes from several keys, or keys from which it makes several.
        parts: ``{key of a quantized weight: keys of its scales}``.
        dtype: The dtype that transformers loads the model in, unless told otherwise; None for that of each tensor.
    """

    name: str
    config: PreTrainedConfig
    stored: Quantization
    stored_config: Any
    checkpoint: Checkpoint
    model: PreTrainedModel
    keys: dict[str, str]
    fused: frozenset[str]
    parts: dict[str, tuple[str, ...]]
    dtype: torch.dtype | None


def open_base(name: str, *, trust_remote_code: bool = False) -> BaseModel:
    """Find a base model and read everything but its weights.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is no such model, it cannot be built, or its weights are missing, damaged, pickled, or
            quantized by something else than bitsandbytes.
        MissingExtraError: If its weights are quantized and bitsandbytes is not installed.
    """
    try:
        config = load_config(name, trust_remote_code=trust_remote_code)
        folder = download(name)
    except ModelError as error:
        remedy = f"{error.remedy} To use another base model, give its folder with base (--base)."
        raise ModelError(error.expected, error.got, remedy) from error
    stored_config = getattr(config, "quantization_config", None)
    stored = _stored(name, stored_config)
    if stored_config is not None:
        del config.quantization_config
    dtype = getattr(config, "dtype", None)
    model = empty_model(config, dtype=torch.float32, computed_buffers=True, trust_remote_code=trust_remote_code)
    checkpoint = Checkpoint.open(folder)
    keys, fused = parameter_keys(model, checkpoint)
    return BaseModel(name, config, stored, stored_config, checkpoint, model, keys, fused, scales(checkpoint), dtype)


def ties(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """The parameters that share a tensor with others: ``{name: all the names of its tensor}``."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name: tuple(group) for group in names.values() if len(group) > 1 for name in group}


def parameter_keys(model: PreTrainedModel, checkpoint: Checkpoint) -> tuple[dict[str, str], frozenset[str]]:
    """Which key of the checkpoint belongs to which parameter, by transformers' own rules of renaming.

    Returns:
        ``{name of a parameter or buffer: key}``, several names for one key where weights are tied, and the names of
        parameters that are not stored under one key.
    """
    renamed, names = renaming(model), model.state_dict()
    keys: dict[str, str] = {}
    fused: set[str] = set()
    for key in checkpoint.files:
        if weight_of(key) is not None:
            continue
        name, of_several = renamed(key)
        if of_several:
            fused.add(name)
        elif name in names:
            keys[name] = key
    for name, group in ties(model).items():
        other = next((other for other in group if other in keys), None)
        if name not in keys and other is not None:
            keys[name] = keys[other]
    return keys, frozenset(fused)


def quantized_modules(base: BaseModel, quantization: Quantization) -> frozenset[str]:
    """The modules whose weights bitsandbytes quantizes when transformers loads the model.

    Those are the linear modules but the output head, tied ones, and those that transformers keeps in full precision.
    """
    if base.stored != "none":
        return frozenset(name.removesuffix(".weight") for name, key in base.keys.items() if key in base.parts)
    if quantization == "none":
        return frozenset()
    return frozenset(modules_to_quantize(base.model))


def scales(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """``{key of a quantized weight: keys of its scales}`` of a checkpoint."""
    found: dict[str, tuple[str, ...]] = {}
    for key in checkpoint.files:
        weight = weight_of(key)
        if weight is not None:
            found[weight] = (*found.get(weight, ()), key)
    return found


def _stored(name: str, settings: Any) -> Quantization:
    if settings is None:
        return "none"
    values: dict[str, Any] = settings if isinstance(settings, dict) else settings.to_dict()
    if values.get("quant_method") != "bitsandbytes":
        raise ModelError(
            "a base model in full precision, or quantized by bitsandbytes",
            f"{name}, quantized by {values.get('quant_method')}",
            "Give the base model in full precision with base (--base).",
        )
    require_bitsandbytes()
    return "int8" if values.get("load_in_8bit") else "nf4"
