"""Models and tokenizers by name: a folder or the Hugging Face hub, in full precision or quantised, ready to train."""

from __future__ import annotations

import copy
import os
import warnings
from typing import TYPE_CHECKING, Any, Literal, cast

from rankselect.errors import ArgumentError, ModelError, OutOfMemoryError, RankSelectWarning, first_sentence
from rankselect.models.names import cannot_load, load_config, model_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["empty_model", "load_model", "load_tokenizer"]

_DTYPES = ("auto", "float32", "bfloat16", "float16")
_QUANTIZATIONS = ("none", "nf4", "int8")


def load_model(
    name_or_model: str | os.PathLike[str] | PreTrainedModel,
    *,
    quantization: Literal["none", "nf4", "int8"] = "none",
    dtype: str = "auto",
    device_map: str = "auto",
    trainable: bool = False,
    gradient_checkpointing: bool = False,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a model with its weights, as the class that its config names.

    A model's own code is used where it is trusted. If the config names no class of transformers, the model is what
    `AutoModelForCausalLM` gives, or else `AutoModel`.

    Args:
        name_or_model: A folder, a name on the hub, or a model that was built before, which is passed through.
        quantization: ``"nf4"`` (4 bits, with double quantisation) or ``"int8"`` quantises the linear layers while
            loading, by bitsandbytes, on a GPU or a CPU. A model that is stored quantised needs ``"none"``.
        dtype: ``"auto"`` (as the weights are stored), ``"float32"``, ``"bfloat16"`` or ``"float16"``. Four-bit layers
            multiply in it too; with ``"auto"`` in bfloat16.
        device_map: Where the weights go, as in transformers. Under a launcher, where each process has the complete
            model, ``"auto"`` is the process's own device.
        trainable: Prepare a quantised model for training an adapter on it, with PEFT's
            `prepare_model_for_kbit_training`: the base is frozen, and the rest (embeddings, norms, output
            head) becomes float32, which for a vocabulary of 51,200 and a width of 2,560 takes 1 GB instead of 0.5. A
            model in full precision needs no preparation.
        gradient_checkpointing: With `trainable`, compute activations twice instead of keeping them.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is no such model, it cannot be loaded, or one that was built before cannot be trained.
        ArgumentError: If a model that was built before is to be quantised or changed, or an argument is unknown.
        MissingExtraError: If quantisation is requested and bitsandbytes is not installed.
        OutOfMemoryError: If the weights do not fit.

    Warns:
        RankSelectWarning: If weights of its layers are missing, so that transformers filled in random ones.

    References:
        Dettmers et al. (2023), "QLoRA", https://arxiv.org/abs/2305.14314 (nf4, double quantisation);
        Dettmers et al. (2022), "LLM.int8()", https://arxiv.org/abs/2208.07339.

    Example:
        >>> import tempfile
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> tiny_model().save_pretrained(folder)
        >>> load_model(folder, dtype="bfloat16").dtype
        torch.bfloat16
    """
    from rankselect.models.processes import Processes
    from rankselect.models.quantized_layers import keep_as_quantized, prepare_for_training

    _check("quantization", quantization, _QUANTIZATIONS)
    if gradient_checkpointing and not trainable:
        raise ArgumentError("gradient_checkpointing with trainable=True", "without", "Give both or neither.")
    if isinstance(name_or_model, (str, os.PathLike)):
        _check("dtype", dtype, _DTYPES)
        name = os.fspath(name_or_model)
        where = Processes.current().device_map(device_map)
        options = {"dtype": dtype, "device_map": where, "trust_remote_code": trust_remote_code}
        model = _loaded(name, quantization, options)
    else:
        model = name_or_model
        _check_built(model, quantization, dtype, device_map)
    keep_as_quantized(model)
    if trainable:
        prepare_for_training(model, gradient_checkpointing=gradient_checkpointing)
    return model


def empty_model(
    model: str | os.PathLike[str] | PreTrainedConfig,
    *,
    dtype: torch.dtype | str = "auto",
    computed_buffers: bool = False,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Build a model from its config alone, on the meta device: names, shapes and types, no weights.

    It is enough for a plan and for an estimate of memory.

    Args:
        model: A folder, a name on the hub, or a config.
        dtype: The type of the parameters; ``"auto"`` for the one that the config names, else float32.
        computed_buffers: Have buffers that are computed when a model is built (rotary frequencies, masks) for real, so
            that the model can run once it has weights.
        trust_remote_code: Run code that comes with the model.

    Returns:
        A model of the same class as that of `load_model`, in evaluation mode.

    Raises:
        ModelError: If there is no such model, or transformers does not support it.

    Example:
        >>> import tempfile
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> tiny_model().save_pretrained(folder)
        >>> empty_model(folder).device
        device(type='meta')
    """
    import torch
    from accelerate import init_empty_weights

    from rankselect.models._transformers import build

    if isinstance(model, (str, os.PathLike)):
        config = load_config(os.fspath(model), trust_remote_code=trust_remote_code)
    else:
        config = copy.deepcopy(model)  # its dtype is changed below
    kind = model_class(config, trust_remote_code=trust_remote_code)
    of_parameters = _parameter_dtype(dtype, config)
    with init_empty_weights(include_buffers=False) if computed_buffers else torch.device("meta"):
        if hasattr(kind, "from_config"):  # an Auto class
            built = kind.from_config(config, dtype=of_parameters, trust_remote_code=trust_remote_code)
        else:
            built = build(kind, config, of_parameters)
    if computed_buffers:
        built.tie_weights()  # moving parameters to the meta device has cut the ties
    return cast("PreTrainedModel", built.eval())


def load_tokenizer(name: str | os.PathLike[str], *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Args:
        name: A folder or a name on the hub.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is none, as for vision and audio models, or it cannot be loaded.

    Example:
        >>> import tempfile
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> folder = tempfile.mkdtemp()
        >>> tiny_model().save_pretrained(folder)
        >>> _ = tiny_tokenizer().save_pretrained(folder)
        >>> load_tokenizer(folder).bos_token
        '<s>'
    """
    from transformers import AutoTokenizer

    name = os.fspath(name)
    load_config(name, trust_remote_code=trust_remote_code)  # has more precise errors
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            "a text model with a tokenizer",
            f"{name}, whose tokenizer cannot be loaded ({first_sentence(error)})",
            "Save the tokenizer in the model's folder. Models of images or audio have none: profile them in Python, "
            "where id_profile takes their inputs as mappings.",
        ) from error


def _parameter_dtype(dtype: torch.dtype | str, config: PreTrainedConfig) -> torch.dtype:
    """The dtype that `load_model` would give to the parameters of a model, as far as its config tells."""
    import torch

    name = str(dtype).removeprefix("torch.")
    _check("dtype", name, _DTYPES)
    if name == "auto":
        name = str(getattr(config, "dtype", None) or "float32").removeprefix("torch.")
    return cast("torch.dtype", getattr(torch, name))


def _check(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ArgumentError(f"{', '.join(known[:-1])} or {known[-1]} for {name}", repr(value), "Choose one of them.")


def _check_built(model: PreTrainedModel, quantization: str, dtype: str, device_map: str) -> None:
    from rankselect.models.quantized_layers import quantization_of

    found = quantization_of(model)
    if quantization not in ("none", found):
        stored = "a model built in full precision" if found == "none" else f"a model built in {found}"
        raise ArgumentError(
            f"the name of a model to load in {quantization}",
            stored,
            "Quantisation happens while loading: pass the folder or the name instead of the model.",
        )
    for name, value in (("dtype", dtype), ("device_map", device_map)):
        if value != "auto":
            raise ArgumentError(
                f"{name} for a model that is loaded by name",
                f"{value!r} for one that was built before",
                "Leave it out, and use model.to(…).",
            )


def _loaded(name: str, quantization: Literal["none", "nf4", "int8"], options: dict[str, Any]) -> PreTrainedModel:
    import torch
    from safetensors import SafetensorError

    config = load_config(name, trust_remote_code=options["trust_remote_code"])
    if quantization != "none":
        from rankselect.models.quantized_layers import bitsandbytes_config

        if getattr(config, "quantization_config", None) is not None:
            raise ArgumentError(
                f"a model in full precision to quantise to {quantization}",
                f"{name}, whose weights are stored quantised",
                'Load it with quantization="none", or give the model that was quantised.',
            )
        compute_dtype = torch.bfloat16 if options["dtype"] == "auto" else getattr(torch, options["dtype"])
        options = {**options, "quantization_config": bitsandbytes_config(quantization, compute_dtype)}
    try:
        kind = model_class(config, trust_remote_code=options["trust_remote_code"])
        model, loading = kind.from_pretrained(name, output_loading_info=True, **options)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(
            f"memory for the weights of {name}",
            f"too little ({first_sentence(error)})",
            'Load it with quantization="nf4" (--quantization nf4), or in dtype="bfloat16".',
        ) from error
    except (OSError, ValueError, ImportError, RuntimeError, AssertionError, SafetensorError) as error:
        raise cannot_load("weights that can be loaded", name, error) from error
    _warn_of_random_weights(name, model, loading["missing_keys"])
    return cast("PreTrainedModel", model)


def _warn_of_random_weights(name: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Random heads change nothing that is measured; random layers do."""
    from rankselect.models.layers import layer_names, layer_of

    layers = layer_names(model)
    inside = sorted(weight for weight in missing if layer_of(weight, layers) is not None)
    if inside:
        warnings.warn(
            f"{name} lacks {len(inside)} weights of the model's layers, which are random now (the first is "
            f"{inside[0]}): a measurement would be meaningless.",
            RankSelectWarning,
            stacklevel=4,
        )
