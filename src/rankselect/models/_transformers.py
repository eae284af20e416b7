"""The one door to names that transformers, accelerate and bitsandbytes do not promise to keep.

Nothing else in rankselect uses such a name. Each function here says what it needs in terms of its own and raises an
IncompatibleVersionError where a release has taken the name away, or has given it another meaning.
"""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from rankselect.models.private_names import Library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

__all__ = [
    "align_special_tokens",
    "bits_of",
    "build",
    "check_trainer",
    "checkpointing",
    "enable_checkpointing",
    "execution_device",
    "is_packed",
    "is_processor",
    "is_remote_code",
    "is_repacked",
    "keep_from_repacking",
    "modules_to_quantize",
    "old_names_allowed",
    "recomputes_activations",
    "renaming",
    "resume_checkpointing",
    "stop_checkpointing",
    "stored_bytes",
]

_DOOR = "models/_transformers.py"
TRANSFORMERS = Library("transformers", "5.23.0", _DOOR)
ACCELERATE = Library("accelerate", "1.15.0", _DOOR)
BITSANDBYTES = Library("bitsandbytes", "0.50.2", _DOOR)

_REPACKS_SINCE = (0, 49)  # releases of bitsandbytes before this one do not change the layout of 4-bit weights
_LAYERS: tuple[tuple[str, Literal[4, 8]], ...] = (("Linear4bit", 4), ("Linear8bitLt", 8))


# How models are built and their weights are named.


def build(kind: Any, config: PreTrainedConfig, dtype: torch.dtype | None) -> PreTrainedModel:
    """Build a model of a class in a dtype, with random weights on the default device. The config is changed."""
    make = TRANSFORMERS.attribute(kind, "_from_config", "config")
    model: PreTrainedModel = make(config, dtype=dtype)
    return model


def is_remote_code(config: PreTrainedConfig) -> bool:
    """Whether a config comes with its own code, from the folder or the hub."""
    package = TRANSFORMERS.get("transformers.utils:TRANSFORMERS_DYNAMIC_MODULE_NAME")
    return type(config).__module__.startswith(package)


def is_processor(given: object) -> bool:
    """Whether an object combines a tokenizer with readers of images or audio."""
    from transformers import ProcessorMixin

    return isinstance(given, ProcessorMixin)


def renaming(model: PreTrainedModel) -> Callable[[str], tuple[str, bool]]:
    """How keys of a checkpoint become names of a model's parameters and buffers when transformers loads it.

    Returns:
        A function from a key to a name, and to whether transformers makes that parameter of several keys, or several
        parameters of that key.
    """
    part = "transformers.core_model_loading"
    find = TRANSFORMERS.get("transformers.conversion_mapping:get_model_conversion_mapping", "model")
    rename = TRANSFORMERS.get(
        f"{part}:rename_source_key",
        *("source_key", "weight_renamings", "weight_converters", "prefix|base_model_prefix", "meta_state_dict"),
    )
    kinds = [TRANSFORMERS.get(f"{part}:{name}") for name in ("WeightRenaming", "WeightConverter")]
    mapping = find(model)
    renamings, converters = ([entry for entry in mapping if isinstance(entry, kind)] for kind in kinds)
    if len(renamings) + len(converters) < len(mapping):
        raise TRANSFORMERS.error("conversions that are renamings and converters alone")
    prefix, names = model.base_model_prefix, model.state_dict()

    def renamed(key: str) -> tuple[str, bool]:
        name, pattern = rename(key, renamings, converters, prefix, names)
        if name not in names and key in names:  # a checkpoint in the model's own names
            name, pattern = rename(key, [], [], prefix, names)
        return name, pattern is not None

    return renamed


# The layers that bitsandbytes quantizes, and what replaces them.


def modules_to_quantize(model: nn.Module) -> list[str]:
    """The modules that transformers lets bitsandbytes quantize when it loads a model.

    Those are the linear layers but the output head, layers tied to others, the last one, and those that the model's
    class keeps in float32. Subclasses of linear layers are left out.
    """
    from transformers import PreTrainedModel

    convert = TRANSFORMERS.get(
        "transformers.quantizers.quantizers_utils:should_convert_module", "full_name", "patterns"
    )
    transposed = TRANSFORMERS.get("transformers.pytorch_utils:Conv1D")
    kept: list[str] = []
    if isinstance(model, PreTrainedModel):
        kept += TRANSFORMERS.get("transformers.quantizers.base:get_keys_to_not_convert", "model")(model)
        kept += TRANSFORMERS.attribute(model, "_keep_in_fp32_modules") or []
    return [
        name
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, transposed)) and convert(name, kept)
    ]


def bits_of(module: nn.Module) -> Literal[4, 8] | None:
    """The bits per weight of a linear layer of bitsandbytes; None for any other module."""
    if "bitsandbytes.nn" not in sys.modules:  # then no module can be one of its layers
        return None
    for name, bits in _LAYERS:
        if isinstance(module, BITSANDBYTES.get(f"bitsandbytes.nn:{name}")):
            return bits
    return None


def is_packed(parameter: torch.Tensor) -> bool:
    """Whether a parameter holds the weights of a 4-bit layer, two to a byte."""
    if "bitsandbytes.nn" not in sys.modules:
        return False
    packed: type = BITSANDBYTES.get("bitsandbytes.nn:Params4bit")
    return isinstance(parameter, packed) and not parameter.is_floating_point()


def stored_bytes(layer: Any) -> tuple[int, int] | None:
    """The bytes of a quantized layer's weight and of its scales; None before it has been quantized."""
    if bits_of(layer) == 4:
        state = BITSANDBYTES.attribute(layer.weight, "quant_state")
        if state is None:
            return None
        absmax, nested = BITSANDBYTES.attribute(state, "absmax"), BITSANDBYTES.attribute(state, "state2")
        scales = absmax.nbytes + (0 if nested is None else nested.absmax.nbytes)
        return layer.weight.nbytes, scales
    of_weight = BITSANDBYTES.attribute(layer.weight, "SCB")
    of_layer = BITSANDBYTES.attribute(layer.state, "SCB")
    rows = of_layer if of_weight is None else of_weight
    return None if rows is None else (layer.weight.nbytes, rows.nbytes)


def keep_from_repacking(layer: Any) -> None:
    """Keep a 4-bit layer as it was loaded.

    On a CPU with AVX512-BF16, bitsandbytes turns a 4-bit layer into another layout at the first forward pass in
    evaluation mode, for good. It rounds the scales to bfloat16, fails for widths that are not multiples of 32, and
    the new layout has no backward pass: training after generation would continue without these gradients, unnoticed.
    """
    if hasattr(layer, "support_avx512bf16_for_cpu"):
        layer.support_avx512bf16_for_cpu = False
    elif layer.weight.device.type == "cpu" and _release(BITSANDBYTES.installed) >= _REPACKS_SINCE:
        raise BITSANDBYTES.error("Linear4bit.support_avx512bf16_for_cpu")


def is_repacked(layer: Any) -> bool:
    """Whether a 4-bit layer is in the layout that has no backward pass."""
    state = BITSANDBYTES.attribute(layer.weight, "quant_state")
    return bool(getattr(state, "packing_format_for_cpu", False))  # bitsandbytes sets it when it repacks, not before


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


# How a model runs: on which device, and which activations are kept.


def execution_device(model: nn.Module) -> torch.device | None:
    """The device on which a model whose weights accelerate moves about computes; None for any other model."""
    hooks = [hook for module in model.modules() if (hook := getattr(module, "_hf_hook", None)) is not None]
    devices = (getattr(hook, "execution_device", None) for hook in hooks)
    found = next((torch.device(device) for device in devices if device is not None), None)
    offloaded = any(parameter.is_meta for parameter in model.parameters())
    if found is None and offloaded and (hooks or hasattr(model, "hf_device_map")):
        raise ACCELERATE.error("hooks (_hf_hook) with an execution_device")
    return found


def enable_checkpointing(model: Any, **how: Any) -> None:
    """Let a model of transformers compute activations twice, in the variant that needs no gradients of the inputs.

    Args:
        model: The model itself, inside all wrappers.
        **how: Further arguments of `torch.utils.checkpoint.checkpoint`.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> enable_checkpointing(model)
        >>> model.model.layers[0].gradient_checkpointing
        True
    """
    new = getattr(model, "activation_checkpointing_enable", None)  # the name since 5.23; the only one from 6 on
    enable = new or TRANSFORMERS.attribute(model, "gradient_checkpointing_enable")
    enable({"use_reentrant": False, **how})
    if not _is_checkpointing(model):
        raise TRANSFORMERS.error("modules' gradient_checkpointing")


def stop_checkpointing(model: nn.Module) -> list[nn.Module]:
    """Keep activations, as if checkpointing had never been enabled; the modules that did not are returned."""
    modules = [module for module in model.modules() if getattr(module, "gradient_checkpointing", None) is True]
    for module in modules:
        module.gradient_checkpointing = False  # type: ignore[assignment]
    if _is_checkpointing(model):
        raise TRANSFORMERS.error("modules' gradient_checkpointing")
    return modules


def resume_checkpointing(modules: Iterable[nn.Module]) -> None:
    """Undo `stop_checkpointing` in the modules that it returned."""
    for module in modules:
        module.gradient_checkpointing = True  # type: ignore[assignment]


@contextmanager
def old_names_allowed() -> Iterator[None]:
    """Keep transformers from warning of the names by which PEFT 0.21 asks a model whether it is checkpointed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _is_checkpointing(model: Any) -> bool:
    """What transformers itself reports: a second source, so that a renamed flag is noticed."""
    for name in ("is_activation_checkpointing", "is_gradient_checkpointing"):
        if hasattr(type(model), name):
            return bool(getattr(model, name))
    return False


# The trainer and its arguments.


def checkpointing(*, on: bool) -> dict[str, Any]:
    """The argument of `TrainingArguments` that computes activations twice instead of keeping them."""
    from transformers import TrainingArguments

    return {_checkpointing_name(TrainingArguments): on}


def recomputes_activations(arguments: TrainingArguments) -> bool:
    """Whether training arguments turn gradient checkpointing on."""
    return bool(getattr(arguments, _checkpointing_name(arguments)))


def _checkpointing_name(arguments: Any) -> str:
    """The name since 5.23, and the only one from 6 on; else the one before."""
    if hasattr(arguments, "activation_checkpointing"):
        return "activation_checkpointing"
    TRANSFORMERS.attribute(arguments, "gradient_checkpointing")
    return "gradient_checkpointing"


def check_trainer(trainer: Any) -> None:
    """Check the names on which a subclass of `transformers.Trainer` builds: a method it overrides, an attribute."""
    from transformers import Trainer

    TRANSFORMERS.attribute(Trainer, "_save_checkpoint", "model", "trial")
    TRANSFORMERS.attribute(trainer, "model_accepts_loss_kwargs")


def align_special_tokens(model: Any, tokenizer: Any) -> None:
    """Give the model's configs the tokenizer's special tokens.

    `transformers.Trainer` does the same when training begins, and warns about it at each run. Tokens that the tokenizer
    does not define, and further end tokens, are not changed.

    Args:
        model: A model of transformers, or a PEFT model.
        tokenizer: Its tokenizer.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> model, tokenizer = tiny_model(), tiny_tokenizer()
        >>> tokenizer.pad_token = "fever"
        >>> align_special_tokens(model, tokenizer)
        >>> model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
        True
    """
    generation = getattr(model, "generation_config", None)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token = getattr(tokenizer, name)
        for config in (model.config.get_text_config(), generation):
            known = getattr(config, name, None)
            ids = known if isinstance(known, list) else [known]
            if config is None or token is None or token in ids:
                continue
            several = name == "eos_token_id" and (config is generation or known is ids)
            setattr(config, name, [token, *(each for each in ids if each is not None)] if several else token)
