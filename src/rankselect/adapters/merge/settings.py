"""The settings of a merge: the quantization in training, and which of the three ways was requested."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, final

import torch

from rankselect.errors import ArgumentError, RankSelectWarning, UnknownNameError
from rankselect.models.quantized_layers import Quantization, require_bitsandbytes

if TYPE_CHECKING:
    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.adapters.merge.base_model import BaseModel

__all__ = ["MergeSettings", "Onto", "decide_settings", "dtype_of"]

Onto = Literal["dequantized", "original", "requantized"]

_ONTO = {
    "auto": "auto",
    "dequantized": "dequantized",
    "dequantised": "dequantized",
    "original": "original",
    "requantized": "requantized",
    "requantised": "requantized",
}
_QUANTIZATIONS = ("none", "nf4", "int8")
_DTYPES = ("float32", "bfloat16", "float16")


@final
@dataclass(frozen=True)
class MergeSettings:
    """The settings of a merge.

    Attributes:
        onto: The way.
        quantization: What the base was quantized to in training.
        source: The source of that information.
        load_dtype: The dtype in which the base was loaded before it was quantized; None for that of each tensor.
        dtype: The dtype to write in; None for that of each tensor of the base.
    """

    onto: Onto
    quantization: Quantization
    source: str
    load_dtype: torch.dtype | None
    dtype: torch.dtype | None


def decide_settings(
    adapter: AdapterFolder, base: BaseModel, *, onto: str, quantization: str | None, dtype: str | torch.dtype
) -> MergeSettings:
    """Decide how to merge.

    Args:
        adapter: The adapter, with its training record if it has one.
        base: Its base.
        onto: The requested way.
        quantization: The quantization in training according to the caller; None if not given.
        dtype: The dtype to write in.

    Raises:
        UnknownNameError: If `onto` or `quantization` is no such name.
        ArgumentError: If the way is not possible with this base and quantization, or they contradict each other.
        MissingExtraError: If weights have to be quantized and bitsandbytes is not installed.

    Warns:
        RankSelectWarning: If it is unknown how the adapter was trained.
    """
    if onto not in _ONTO:
        raise UnknownNameError("way to merge", onto, _ONTO)
    trained, source = _trained_on(adapter, base, quantization)
    way = _ONTO[onto]
    if way == "auto":
        way = "original" if trained == "none" else "dequantized"
    if trained == "none" and way != "original":
        raise ArgumentError(
            f"a quantization for onto={way!r}",
            f"none ({source})",
            "Specify what the adapter was trained with: quantization='nf4' or 'int8' (--quantization).",
        )
    if base.stored != "none" and way == "original":
        raise ArgumentError(
            "a base in full precision for onto='original'",
            f"{base.name}, whose weights are stored quantized",
            "Give the original as base (--base) and specify what the adapter was trained with (--quantization).",
        )
    if trained != "none":
        require_bitsandbytes()
    loaded = dtype_of(str(adapter.record.get("dtype") or "auto"))
    return MergeSettings(cast("Onto", way), trained, source, loaded or base.dtype, dtype_of(dtype))


def dtype_of(dtype: Any) -> torch.dtype | None:
    """A dtype by name; None for ``"auto"``.

    Raises:
        ArgumentError: If weights cannot be stored in it.

    Example:
        >>> dtype_of("bfloat16"), dtype_of("auto")
        (torch.bfloat16, None)
    """
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        return None
    if name not in _DTYPES:
        raise ArgumentError(f"a dtype: auto, {', '.join(_DTYPES)}", repr(dtype), "Choose one of them.")
    return cast("torch.dtype", getattr(torch, name))


def _trained_on(adapter: AdapterFolder, base: BaseModel, wanted: str | None) -> tuple[Quantization, str]:
    recorded = adapter.record.get("quantization")
    for given, where in ((wanted, "quantization"), (recorded, f"the training record of {adapter.path}")):
        if given is not None and given not in _QUANTIZATIONS:
            raise UnknownNameError(f"quantization ({where})", str(given), _QUANTIZATIONS)
    if base.stored != "none":
        if wanted not in (None, base.stored):
            raise ArgumentError(
                f"quantization {base.stored!r}, as the weights of {base.name} are stored",
                repr(wanted),
                "Leave quantization out, or give the base in full precision (--base).",
            )
        return base.stored, "the base's own weights"
    if wanted is not None:
        return cast("Quantization", wanted), "as you said"
    if recorded is not None:
        return cast("Quantization", recorded), "the training record"
    warnings.warn(
        f"It is not recorded whether {adapter.path} was trained on a quantized base: assuming not. If it was, "
        "pass quantization='nf4' or 'int8' (--quantization).",
        RankSelectWarning,
        stacklevel=4,
    )
    return "none", "not recorded, assumed not to be quantized"
