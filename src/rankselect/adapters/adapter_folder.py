"""Reading and checking an adapter folder: PEFT's config and weights, without the base model."""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError

from rankselect.adapters.buffer import is_finite
from rankselect.adapters.lora_delta import Kind, LoraModule, check_supported, resolved
from rankselect.adapters.record import RECORD_FILE, RECORD_FORMAT, RECORD_VERSION
from rankselect.adapters.stored_tensors import StoredTensors
from rankselect.errors import AdapterError, first_sentence
from rankselect.files import read_document, require_path
from rankselect.plan._peft import PREFIX, target_rule

if TYPE_CHECKING:
    import os

    import torch

__all__ = ["AdapterFolder", "read_adapter"]

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_COPIED = {".json", ".txt", ".model", ".jinja", ".md"}
_OF_THESE_RANKS = {CONFIG, "plan.json", "resize.json"}
_FACTOR = re.compile(r"^(?P<name>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(?:\.weight)?$")


@final
@dataclass(frozen=True)
class AdapterFolder:
    """A LoRA adapter on disk; its weights are read one tensor at a time.

    Attributes:
        path: The folder.
        config: PEFT's config.
        modules: The adapted modules, in the order of their names.
        full_parameters: ``{name of a parameter of the base model: key in the file}`` of what the adapter holds beside A
            and B: biases, modules to save, embeddings.
        record: The training record in the same folder (`rankselect.json`), or an empty dict.

    Example:
        >>> import tempfile
        >>> from peft import get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
        >>> adapter = read_adapter(folder)
        >>> adapter.delta(adapter.modules[0]).shape
        torch.Size([32, 32])
    """

    path: Path
    config: LoraConfig
    modules: tuple[LoraModule, ...]
    full_parameters: dict[str, str]
    record: dict[str, Any]

    @cached_property
    def _stored(self) -> StoredTensors:
        return StoredTensors(self.path / WEIGHTS)

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor of the file.

        Raises:
            AdapterError: If it has entries that are not finite.
        """
        tensor = self._stored.read(key)
        if not is_finite(tensor):
            raise AdapterError(
                "an adapter of finite numbers",
                f"NaN or infinity in {key} of {self.path}",
                "Its training diverged: take an earlier checkpoint, or train with a lower learning rate.",
            )
        return tensor

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one tensor of the file."""
        return self._stored.shape(key)

    def dtype(self, key: str) -> torch.dtype:
        """The dtype of one tensor of the file."""
        return self._stored.dtype(key)

    def copy_other_files(self, folder: Path) -> None:
        """Copy what does not depend on the ranks: tokenizer, training record, description."""
        for file in sorted(self.path.iterdir()):
            if file.is_file() and file.suffix in _COPIED and file.name not in _OF_THESE_RANKS:
                shutil.copyfile(file, folder / file.name)

    def factors(self, module: LoraModule) -> tuple[torch.Tensor, torch.Tensor]:
        """A and B of a module, as stored."""
        a, b = module.keys
        return self.tensor(a), self.tensor(b)

    def delta(self, module: LoraModule) -> torch.Tensor:
        """The change of a module's weight, in float32."""
        return module.delta(*self.factors(module))


def read_adapter(path: str | os.PathLike[str]) -> AdapterFolder:
    """Read an adapter folder and check everything that can be checked without its base model.

    Args:
        path: A folder that PEFT's `save_pretrained` wrote, with weights in safetensors; or the folder above it, where
            PEFT writes an adapter with a name of its own.

    Returns:
        The adapter; its tensors are read when they are used.

    Raises:
        AdapterError: If the folder, its config or its weights are missing, it is no plain LoRA (DoRA, say), the
            weights are truncated or pickled, A or B of a module is missing, or tensors are there that the config does
            not speak of.
        FileFormatError: If there is a training record that is damaged, or weights of a dtype such as float8.

    Example:
        >>> import tempfile
        >>> from peft import get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
        >>> [(module.name, module.rank, module.scale) for module in read_adapter(folder).modules]
        [('model.layers.0.self_attn.q_proj', 2, 4.0), ('model.layers.1.self_attn.q_proj', 2, 4.0)]
    """
    require_path(path, "the path of an adapter's folder")
    folder = _folder_of(Path(path))
    config = _read_config(folder)
    check_supported(config, besides=("bias", "modules_to_save"), remedy="Use PEFT itself (merge_and_unload).")
    _check_files(folder)
    modules, full = _modules(folder, config, _shapes(folder))
    record = folder / RECORD_FILE
    document = read_document(record, RECORD_FORMAT, RECORD_VERSION) if record.is_file() else {}
    return AdapterFolder(folder, config, modules, full, document)


def _folder_of(path: Path) -> Path:
    """The folder with the config: PEFT saves an adapter that is not called "default" in a folder of its name."""
    if (path / CONFIG).is_file() or not path.is_dir():
        return path
    inside = sorted(each.parent for each in path.glob(f"*/{CONFIG}"))
    if len(inside) > 1:
        names = ", ".join(each.name for each in inside)
        raise AdapterError("a folder with one adapter", f"{path}, which contains {names}", "Give one of these folders.")
    return inside[0] if inside else path


def _read_config(folder: Path) -> LoraConfig:
    wanted = f"a folder with an adapter ({CONFIG})"
    if not folder.is_dir():
        got = "which is a file" if folder.exists() else "which does not exist"
        raise AdapterError(wanted, f"{folder}, {got}", "Check the path; download an adapter from the hub first.")
    if not (folder / CONFIG).is_file():
        is_model = (folder / "config.json").is_file()
        raise AdapterError(
            wanted,
            f"{folder}, which contains a complete model" if is_model else f"{folder}, which has none",
            "Give the folder that PEFT's save_pretrained wrote the adapter to.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that a newer PEFT wrote
            config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, OSError, AttributeError) as error:
        raise AdapterError(
            wanted, f"{folder / CONFIG}, which PEFT cannot read ({first_sentence(error)})", "Save the adapter again."
        ) from error
    if type(config) is not LoraConfig:
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        raise AdapterError("a LoRA adapter", f"{folder}, an adapter of the type {kind}", "Use PEFT for this one.")
    return config


def _check_files(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    pickled = next((file.name for file in sorted(folder.glob("adapter_model*.bin"))), None)
    if pickled:
        raise AdapterError(
            f"weights in {WEIGHTS}",
            f"{folder / pickled}, a pickle, which can run any code when it is read",
            "If you trust where it comes from, load it with PEFT and save it again with save_pretrained.",
        )
    raise AdapterError(f"weights in {WEIGHTS}", f"none in {folder}", "Save the adapter again with save_pretrained.")


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    try:
        return StoredTensors(folder / WEIGHTS).shapes
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            "an adapter whose weights are complete",
            f"{folder / WEIGHTS}, which cannot be read ({first_sentence(error)})",
            "The file is truncated or damaged: copy or save it again.",
        ) from error


def _modules(
    folder: Path, config: LoraConfig, shapes: dict[str, tuple[int, ...]]
) -> tuple[tuple[LoraModule, ...], dict[str, str]]:
    factors: dict[tuple[str, Kind], dict[str, tuple[int, ...]]] = {}
    full: dict[str, str] = {}
    for key, shape in shapes.items():
        name = key.removeprefix(PREFIX)
        match = _FACTOR.match(name)
        if not key.startswith(PREFIX) or (match is None and "lora_" in name):
            raise _extra(folder, key, "whose name is not one that PEFT gives to plain LoRA")
        if match is None:
            full[name.replace(".base_layer.", ".")] = key
            continue
        kind: Kind = "embedding" if match["embedding"] else "linear"
        factors.setdefault((match["name"], kind), {})[match["factor"]] = shape
    if not factors:
        raise AdapterError("an adapter with LoRA weights", f"none in {folder / WEIGHTS}", "Save the adapter again.")
    modules = tuple(_module(folder, config, name, kind, pair) for (name, kind), pair in factors.items())
    return modules, full


def _module(folder: Path, config: LoraConfig, name: str, kind: Kind, pair: dict[str, tuple[int, ...]]) -> LoraModule:
    if len(pair) < 2:
        there, missing = ("A", "B") if "A" in pair else ("B", "A")
        raise AdapterError(
            "A and B for every module",
            f"only {there} for {name} in {folder / WEIGHTS}",
            f"{missing} is missing: copy or save the adapter again.",
        )
    if config.target_modules and not target_rule()(config, name):
        raise _extra(folder, name, "which target_modules of its config does not name")
    (rank, d_in), (d_out, of_b) = _matrix(folder, name, pair["A"]), _matrix(folder, name, pair["B"])
    wanted, alpha, scale = resolved(config, name)
    if not rank == of_b == wanted:
        raise AdapterError(
            f"rank {wanted} for {name}, as in {folder / CONFIG}",
            f"A of rank {rank} and B of rank {of_b}",
            "Config and weights are of different trainings: copy or save the adapter again.",
        )
    return LoraModule(name, kind, rank, alpha, scale, d_in, d_out)


def _matrix(folder: Path, name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2 or 0 in shape:
        raise AdapterError(
            "A and B as matrices",
            f"one of shape {shape} for {name} in {folder / WEIGHTS}",
            "Gather sharded weights (DeepSpeed, FSDP) before saving; convolutions are not supported.",
        )
    return shape[0], shape[1]


def _extra(folder: Path, key: str, what: str) -> AdapterError:
    return AdapterError(
        "weights of the modules that the config names",
        f"{key} in {folder / WEIGHTS}, {what}",
        "Config and weights do not belong together, or it is no plain LoRA: save the adapter again.",
    )
