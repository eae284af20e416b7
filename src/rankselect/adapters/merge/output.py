"""Writing a merged model folder: its weights, config and tokenizer."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from rankselect.adapters.buffer import is_finite
from rankselect.adapters.merge.base_model import BaseModel, ties
from rankselect.adapters.merge.shards import ShardWriter
from rankselect.adapters.merge.weights import is_transposed_weight
from rankselect.adapters.merged_from import MERGE_FILE
from rankselect.adapters.record import RECORD_FILE
from rankselect.errors import AdapterError
from rankselect.models.loading import empty_model
from rankselect.models.quantized_layers import bitsandbytes_config
from rankselect.models.quantized_weights import quantize

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel

    from rankselect.adapters.merge.settings import MergeSettings
    from rankselect.adapters.merge.weights import MergedWeights

__all__ = ["copy_files", "merged_config", "merged_model", "write_config", "write_weights"]

_COPIED = {".json", ".txt", ".model", ".jinja", ".py", ".tiktoken"}
_NOT_COPIED = (
    "config.json",
    "adapter_config.json",
    RECORD_FILE,
    MERGE_FILE,
    "trainer_state.json",
    "training_args",
)


def merged_config(base: BaseModel, merged: MergedWeights) -> tuple[PreTrainedConfig, bool]:
    """The config of the merged model, and whether tied embeddings had to be untied.

    Where an adapter changes one of two tied weights, the model that was trained has two different ones.
    """
    config = copy.deepcopy(base.config)
    untied = any(merged.changed(name) for name in ties(base.model))
    if untied:
        for part in (config, config.get_text_config()):
            part.tie_word_embeddings = False
    return config, untied


def merged_model(config: PreTrainedConfig, merged: MergedWeights, *, trust_remote_code: bool) -> PreTrainedModel:
    """The merged model without weights.

    Raises:
        AdapterError: If the adapter changes a weight that stays tied to another one.
    """
    model = empty_model(config, dtype=torch.float32, computed_buffers=True, trust_remote_code=trust_remote_code)
    still = next((name for name in ties(model) if merged.changed(name)), None)
    if still is not None:
        others = ", ".join(name for name in ties(model)[still] if name != still)
        raise AdapterError(
            "an adapter of weights that the model does not share",
            f"one of {still}, which this architecture always shares with {others}",
            "A merge would change both: keep the adapter unmerged.",
        )
    return model


def write_weights(
    folder: Path,
    merged: MergedWeights,
    model: PreTrainedModel,
    settings: MergeSettings,
    quantized: frozenset[str],
    *,
    max_bytes: int,
    progress: bool,
) -> int:
    """Write the weights, in the order in which the base's files hold them; return the number of files.

    Args:
        folder: Where to.
        merged: The weights.
        model: The merged model, without weights.
        settings: The settings of the merge.
        quantized: The modules whose weights are written quantized, if the result is requantized.
        max_bytes: The size of a file.
        progress: Whether to show a progress bar.
    """
    checkpoint, parts = merged.base.checkpoint, {part for group in merged.base.parts.values() for part in group}
    writer = ShardWriter(folder, max_bytes)
    names = _names(merged.base)
    tied = ties(model)
    keys = [key for key in checkpoint.files if key not in parts]
    for key in tqdm(keys, desc="merging", unit="weight", disable=not progress):
        if key not in names:  # of parameters that transformers builds from several
            writer.add(key, _cast(checkpoint.tensor(key), settings.dtype))
            continue
        first, *aliases = names[key]
        for written, name in ((key, first), *((name, name) for name in aliases if name not in tied)):
            module = name.removesuffix(".weight")
            tensor = merged.tensor(name)
            dtype = settings.dtype or _stored_dtype(merged.base, key)
            if settings.onto == "requantized" and module in quantized and name.endswith(".weight"):
                weight = tensor.to(dtype)
                packed = quantize(weight.T if is_transposed_weight(model, name) else weight, settings.quantization)
                for part, value in packed.items():
                    writer.add(written.removesuffix("weight") + part, value)
            else:
                writer.add(written, _cast(tensor, dtype))
    return writer.close()


def write_config(folder: Path, base: BaseModel, settings: MergeSettings, *, untied: bool) -> None:
    """Write the base's config with the changes of the merge, and no others."""
    raw: dict[str, Any] = json.loads((base.checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    raw.pop("quantization_config", None)
    for part in _parts(raw):
        if untied:
            part["tie_word_embeddings"] = False
        if settings.dtype is not None:
            part.pop("torch_dtype", None)
            part["dtype"] = str(settings.dtype).removeprefix("torch.")
    if settings.onto == "requantized":
        compute = settings.dtype or base.dtype or torch.float32
        raw["quantization_config"] = bitsandbytes_config(settings.quantization, compute).to_dict()
    (folder / "config.json").write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def copy_files(folder: Path, base: Path, adapter: Path) -> None:
    """Copy the tokenizer and the other files of a model from the base, and the adapter's own tokenizer over it."""
    for source in (base, adapter):
        for file in sorted(source.iterdir()):
            own = source == base or file.name.startswith(("tokenizer", "special_tokens", "added_tokens", "chat_"))
            unwanted = file.name.endswith(".index.json") or file.name.startswith(_NOT_COPIED)
            if own and not unwanted and file.suffix in _COPIED and file.is_file():
                shutil.copyfile(file, folder / file.name)


def _parts(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The config, and that of the text model inside it."""
    yield raw
    text = raw.get("text_config")
    if isinstance(text, dict):
        yield text


def _names(base: BaseModel) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, key in base.keys.items():
        names.setdefault(key, []).append(name)
    return names


def _stored_dtype(base: BaseModel, key: str) -> torch.dtype:
    stored = base.checkpoint.tensor(key).dtype
    return stored if stored.is_floating_point else base.dtype or torch.float32


def _cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    if dtype is None or not tensor.is_floating_point() or tensor.dtype == dtype:
        return tensor
    cast = tensor.to(dtype)
    if not is_finite(cast):
        raise AdapterError(
            f"merged weights that fit into {dtype}", "one that overflows", "Choose dtype='bfloat16' or 'float32'."
        )
    return cast
