"""Where the command line gets its model, tokenizer and texts: a folder, a file, or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rankselect.cli.texts import load_texts
from rankselect.errors import MissingExtraError, ModelError, RankSelectWarning, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["empty_model", "load_model", "load_texts", "load_tokenizer", "show_progress"]

Quantization = Literal["none", "nf4", "int8"]


def load_model(
    name: str,
    *,
    dtype: str = "auto",
    quantization: Quantization = "none",
    device_map: str = "auto",
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a model with its weights, as the class that its config names (else `AutoModel`).

    Args:
        name: A folder or a name on the hub.
        dtype: ``"auto"`` (as the weights are stored), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        quantization: ``"nf4"`` or ``"int8"`` quantises the weights while loading, by bitsandbytes.
        device_map: Where the weights go, as transformers takes it.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is no such model, or it cannot be loaded.
        MissingExtraError: If quantisation is asked for without bitsandbytes.

    Warns:
        RankSelectWarning: If weights of its layers are missing, so that transformers filled in random ones.
    """
    from safetensors import SafetensorError  # noqa: PLC0415  (slow to import, like all of transformers)

    config = _load_config(name, trust_remote_code=trust_remote_code)
    options: dict[str, Any] = {"dtype": dtype, "device_map": device_map, "trust_remote_code": trust_remote_code}
    if quantization != "none":
        options["quantization_config"] = _quantization_config(quantization)
    try:
        model, loading = _model_class(config).from_pretrained(name, output_loading_info=True, **options)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _cannot_load("weights that can be loaded", name, error) from error
    _warn_of_random_weights(name, model, loading["missing_keys"])
    return model  # type: ignore[no-any-return]


def empty_model(name: str, *, trust_remote_code: bool = False) -> PreTrainedModel:
    """Build a model of the same class on the meta device, from its config alone: names and shapes, no weights.

    Args:
        name: A folder or a name on the hub.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is no such model, or transformers does not know it.
    """
    import torch  # noqa: PLC0415

    config = _load_config(name, trust_remote_code=trust_remote_code)
    kind = _model_class(config)
    with torch.device("meta"):
        if hasattr(kind, "from_config"):  # an Auto class
            return kind.from_config(config, trust_remote_code=trust_remote_code)  # type: ignore[no-any-return]
        return kind(config)  # type: ignore[no-any-return]


def load_tokenizer(name: str, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Args:
        name: A folder or a name on the hub.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is none, as for vision and audio models, or it cannot be loaded.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415

    _load_config(name, trust_remote_code=trust_remote_code)  # says more precisely what is wrong with a model
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            "a text model with a tokenizer",
            f"{name}, whose tokenizer cannot be loaded ({first_sentence(error)})",
            "Save the tokenizer beside the model. The command line profiles text models only: for images or audio, "
            "use id_profile in Python, which takes model inputs as dicts.",
        ) from error


def show_progress(*, wanted: bool) -> None:
    """Switch the progress bars of transformers on or off."""
    from transformers.utils import logging  # noqa: PLC0415

    if wanted:
        logging.enable_progress_bar()
    else:
        logging.disable_progress_bar()


def _load_config(name: str, *, trust_remote_code: bool) -> PreTrainedConfig:
    from transformers import AutoConfig  # noqa: PLC0415

    folder = Path(name)
    if not folder.is_dir() and (folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1):
        got = "which is a file" if folder.exists() else "which does not exist"
        raise ModelError("a folder with a model, or a name on the hub", f"{name}, {got}", "Check the path.")
    if folder.is_dir() and not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(
            "a folder with a model (config.json)",
            f"{name}, which holds an adapter" if adapter else f"{name}, which has no config.json",
            "Give the folder or name of its base model." if adapter else "Save the model there with save_pretrained.",
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _cannot_load("a model that transformers can load", name, error) from error
    return config


def _model_class(config: PreTrainedConfig) -> Any:
    """The class that the config names, so that modules have the names they have in training."""
    import transformers  # noqa: PLC0415

    own_code = getattr(config, "auto_map", None) or {}
    if type(config).__module__.startswith("transformers_modules"):
        return transformers.AutoModelForCausalLM if "AutoModelForCausalLM" in own_code else transformers.AutoModel
    kind = getattr(transformers, (config.architectures or [""])[0], None)
    known = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    return kind if known else transformers.AutoModel


def _warn_of_random_weights(name: str, model: PreTrainedModel, missing: Iterable[str]) -> None:
    """Random heads change nothing that is measured; random layers do."""
    from rankselect.plan.layers import layer_names, layer_of  # noqa: PLC0415  (loads torch)

    layers = layer_names(model)
    inside = sorted(weight for weight in missing if layer_of(weight, layers) is not None)
    if inside:
        warnings.warn(
            f"{name} lacks {len(inside)} weights of the model's layers, which are random now (the first is "
            f"{inside[0]}): what is measured means nothing.",
            RankSelectWarning,
            stacklevel=3,
        )


def _quantization_config(quantization: Quantization) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quantized")
    import torch  # noqa: PLC0415
    from transformers import BitsAndBytesConfig  # noqa: PLC0415

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _cannot_load(expected: str, name: str, error: Exception) -> ModelError:
    return ModelError(expected, f"{name}: {first_sentence(error)}", _remedy(name, error))


def _remedy(name: str, error: Exception) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "Add --trust-remote-code if you trust the code that comes with this model."
    if "does not recognize this architecture" in text:
        return "Upgrade transformers, or add --trust-remote-code if the model brings its own code."
    if Path(name).is_dir():
        return "The folder is damaged or incomplete: save or download the model again."
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set and the model is not in the cache: unset it, or give a folder."
    return "Check name and connection, log in with `hf auth login` if the model is private or gated, or give a folder."
