"""From a model's name to its folder, config and class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankselect.errors import ModelError, first_sentence

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig

__all__ = ["cannot_load", "download", "load_config", "local_folder", "model_class", "model_name"]

_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.tiktoken")


def model_name(model: nn.Module) -> str | None:
    """The folder or the name on the hub that a model was loaded from; None for a model that was built in memory.

    Example:
        >>> import tempfile
        >>> from rankselect.models.loading import load_model
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> tiny_model().save_pretrained(folder)
        >>> model_name(load_model(folder)) == folder, model_name(tiny_model())
        (True, None)
    """
    from rankselect.models.layers import unwrapped  # loads torch

    return getattr(getattr(unwrapped(model), "config", None), "name_or_path", None) or None


def local_folder(name: str) -> Path | None:
    """The folder that a name refers to; None for a name on the hub.

    Raises:
        ModelError: If it is the path of a file, or of nothing.

    Example:
        >>> local_folder("Qwen/Qwen3-0.6B") is None
        True
        >>> local_folder("./models/mine")
        Traceback (most recent call last):
            ...
        rankselect.errors.ModelError: expected a folder with a model, or a name on the hub, got ./models/mine, which \
does not exist. Check the path.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        got = "which is a file" if folder.exists() else "which does not exist"
        raise ModelError("a folder with a model, or a name on the hub", f"{name}, {got}", "Check the path.")
    return None


def download(name: str) -> Path:
    """The folder with a model's files, which come from the hub unless the name is that of a folder.

    Raises:
        ModelError: If there is no such model.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError, RuntimeError) as error:
        raise cannot_load("a model on the hub", name, error) from error


def load_config(name: str, *, trust_remote_code: bool) -> PreTrainedConfig:
    """The config of a model.

    Args:
        name: A folder or a name on the hub.
        trust_remote_code: Run code that comes with the model.

    Raises:
        ModelError: If there is no such model, or transformers does not support it.
    """
    from transformers import AutoConfig

    folder = local_folder(name)
    if folder is not None and not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(
            "a folder with a model (config.json)",
            f"{name}, which holds an adapter" if adapter else f"{name}, which has no config.json",
            "Give the folder or name of its base model." if adapter else "Save the model there with save_pretrained.",
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise cannot_load("a model that transformers can load", name, error) from error
    return config


def model_class(config: PreTrainedConfig, *, trust_remote_code: bool = False) -> Any:
    """The class of a model, so that its modules have the names they have in training.

    It is the model's own code where that is trusted, else the class that the config names. Where transformers has no
    such class, it is the one that `AutoModelForCausalLM` gives, or `AutoModel` for encoders and all other models.

    Args:
        config: The model's config.
        trust_remote_code: Whether to run code that comes with the model.
    """
    import transformers

    from rankselect.models._transformers import is_remote_code

    own_code = getattr(config, "auto_map", None) or {}
    if trust_remote_code or is_remote_code(config):
        for name in ("AutoModelForCausalLM", "AutoModel"):
            if name in own_code:
                return getattr(transformers, name)
    kind = getattr(transformers, (config.architectures or [""])[0], None)
    if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
        return kind
    is_causal = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    is_causal = is_causal and type(config) not in transformers.MODEL_FOR_MASKED_LM_MAPPING  # encoders such as BERT
    return transformers.AutoModelForCausalLM if is_causal else transformers.AutoModel


def cannot_load(expected: str, name: str, error: Exception) -> ModelError:
    """The error for a model that another library could not load."""
    return ModelError(expected, f"{name}: {first_sentence(error)}", _remedy(name, error))


def _remedy(name: str, error: Exception) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "Add trust_remote_code=True (--trust-remote-code) if you trust the code that comes with this model."
    if "does not recognize this architecture" in text:
        return (
            "Upgrade transformers, or add trust_remote_code=True (--trust-remote-code) if the model brings its own "
            "code."
        )
    if "cuda" in text.lower():
        return "Choose another device_map, for example cpu."
    if Path(name).is_dir():
        return "The folder is damaged or incomplete: save or download the model again."
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        return "HF_HUB_OFFLINE is set and the model is not in the cache: unset it, or give a folder."
    return "Check name and connection, log in with `hf auth login` if the model is private or gated, or give a folder."
