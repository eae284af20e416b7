"""From an adapter and its base to a plain model folder, one weight at a time."""

from __future__ import annotations

import logging
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.merge.base_model import BaseModel, open_base, quantized_modules
from rankselect.adapters.merge.logits import LogitDifference, compare, logits, token_sequences
from rankselect.adapters.merge.output import copy_files, merged_config, merged_model, write_config, write_weights
from rankselect.adapters.merge.reference import load_factors, peft_model
from rankselect.adapters.merge.settings import MergeSettings, decide_settings
from rankselect.adapters.merge.shards import Checkpoint
from rankselect.adapters.merge.weights import BaseWeights, MergedWeights, StoredWeights
from rankselect.adapters.merged_from import MergedFrom
from rankselect.errors import ModelError, RankSelectWarning, first_sentence
from rankselect.files import new_folder, require_path
from rankselect.memory.sizes import in_bytes
from rankselect.plan._peft import parameter_name

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import torch
    from peft import PeftModel

    from rankselect.adapters.adapter_folder import AdapterFolder

__all__ = ["MergeReport", "merge_adapter"]


@final
@dataclass(frozen=True)
class MergeReport:
    """The result of a merge.

    Attributes:
        out: The merged model's folder.
        adapter: The adapter's folder.
        base: The base model.
        onto: ``"dequantized"``, ``"original"`` or ``"requantized"``.
        quantization: What the base was quantized to in training: ``"none"``, ``"nf4"`` or ``"int8"``.
        quantization_source: The source of that information.
        n_modules: Modules merged.
        n_replaced: Parameters put in the place of the base's: modules to save, biases.
        n_files: Files of weights.
        untied: Whether tied embeddings had to be written as two weights.
        difference: How far the logits are from those of the unmerged adapter on the base that it was trained on; None
            if not measured.
        not_measured: Why not, if the measurement was requested.

    Example:
        >>> from rankselect.adapters.merge.logits import LogitDifference
        >>> difference = LogitDifference(max_abs=1e-6, relative=1e-7, same_token=1.0, n_tokens=128)
        >>> report = MergeReport("merged", "adapter", "base", "original", "none", "as you said", 8, 0, 1, False,
        ...                      difference, "")
        >>> print(report)
        merged 8 modules of adapter onto base (original weights) in merged
        trained on: none (as you said)
        logits, to the unmerged adapter: at most 1e-06 (1e-07 of the greatest logit), same next token at 100.0% of 128 \
positions
    """

    out: str
    adapter: str
    base: str
    onto: str
    quantization: str
    quantization_source: str
    n_modules: int
    n_replaced: int
    n_files: int
    untied: bool
    difference: LogitDifference | None
    not_measured: str

    def __str__(self) -> str:
        lines = [
            f"merged {self.n_modules} modules of {self.adapter} onto {self.base} ({self.onto} weights) in {self.out}",
            f"trained on: {self.quantization} ({self.quantization_source})",
        ]
        if self.n_replaced:
            lines.append(f"replaced: {self.n_replaced} complete parameters")
        if self.untied:
            lines.append("tied embeddings are two weights now, as the adapter changes one of them")
        reason = f" ({self.not_measured})" if self.not_measured else ""
        lines.append(f"logits, to the unmerged adapter: {self.difference or f'not measured{reason}'}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"format": "rankselect.merge_report", "version": 1, **asdict(self)}


logger = logging.getLogger(__name__)


def merge_adapter(
    adapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    onto: str = "auto",
    quantization: str | None = None,
    dtype: str | torch.dtype = "auto",
    max_shard_size: int | str = "5GB",
    check_texts: Sequence[str] | None = None,
    measure: bool = True,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> MergeReport:
    """Merge a LoRA adapter into its base model and write a plain model folder.

    An adapter that was trained on a 4- or 8-bit base has learned to correct that base, rounding errors and all. So by
    default it is merged onto the *dequantized* weights, which is the model that was trained, only in a wider dtype.
    Merging onto the original weights, or quantizing the sum again, gives other models, near it.

    Weights are read, changed and written one at a time: it takes the memory of one output file and a few copies of the
    largest weight. Nothing appears under the name of `out` before everything is written and measured.

    Args:
        adapter: A folder that PEFT's `save_pretrained` wrote. Plain LoRA (also rank-stabilised, with rank and alpha
            patterns) on linear, Conv1D and embedding modules; trained biases and modules to save are put in place.
        out: The folder to write. It must not exist, or be empty.
        base: The folder or hub name of the base model. The one that the adapter names, if left out.
        onto: ``"dequantized"``: the weights that the base computed with in training; ``"original"``: the base as it was
            before; ``"requantized"``: dequantized, merged, and quantized again, which makes a 4- or 8-bit folder;
            ``"auto"``: dequantized if the training was on a quantized base, else original.
        quantization: What the base was quantized to in training: ``"none"``, ``"nf4"`` (4 bits with double
            quantization) or ``"int8"``. If left out: what the base's weights are stored in, else what the training
            record beside the adapter says, else ``"none"``.
        dtype: The dtype to write in, ``"auto"`` for that of the base. In 16 bits the sums are rounded once more.
        max_shard_size: The size of an output file, for example ``"5GB"``.
        check_texts: Texts on which to compare logits. Four fixed sequences of 32 random tokens, if left out.
        measure: Compare the logits of the merged model with those of PEFT's unmerged adapter, in float32. Both models
            run with one layer in memory at a time.
        trust_remote_code: Run code that comes with the base model.
        progress: Whether to show a progress bar.

    Returns:
        The result, with the measured difference of the logits.

    Raises:
        AdapterError: If the adapter folder is incomplete or damaged, does not fit the base, or is no plain LoRA.
        ModelError: If the base is missing, damaged or quantized by something else than bitsandbytes.
        ArgumentError: If the way of merging is not possible here.
        UnknownNameError: If `onto` or `quantization` is no such name.
        SaveError: If `out` exists, or cannot be written; nothing is left behind.
        MissingExtraError: If weights have to be quantized and bitsandbytes is not installed.

    Warns:
        RankSelectWarning: If it is unknown how the adapter was trained, or the logits could not be compared.

    References:
        Hu et al., 2021, LoRA, https://arxiv.org/abs/2106.09685; Dettmers et al., 2023, QLoRA,
        https://arxiv.org/abs/2305.14314

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = Path(tempfile.mkdtemp())
        >>> tiny_model().save_pretrained(folder / "base")
        >>> get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder / "adapter")
        >>> report = merge_adapter(folder / "adapter", folder / "merged", base=folder / "base", quantization="none",
        ...                        progress=False)
        >>> report.n_modules, report.difference.relative < 1e-5
        (2, True)
    """
    if base is not None:
        require_path(base, "base as a folder or a hub name")
    lora = read_adapter(adapter)
    size = in_bytes(max_shard_size, "max_shard_size")
    found = open_base(str(base) if base else _base_of(lora), trust_remote_code=trust_remote_code)
    settings = decide_settings(lora, found, onto=onto, quantization=quantization, dtype=dtype)
    peft = peft_model(lora, found)
    sequences = token_sequences(found, check_texts, trust_remote_code=trust_remote_code) if measure else []
    quantized = _quantized(found, settings)
    stored = StoredWeights(found.model, found.checkpoint, found.keys, found.parts)
    loaded = "none" if found.stored != "none" else settings.quantization
    trained = BaseWeights(stored, loaded, quantized, settings.load_dtype)
    changes = {f"{module.name}.weight": module for module in lora.modules}
    merged = MergedWeights(found, stored if settings.onto == "original" else trained, lora, changes)
    config, untied = merged_config(found, merged)
    model = merged_model(config, merged, trust_remote_code=trust_remote_code)
    difference, reason = None, ""
    with new_folder(out) as folder:
        copy_files(folder, found.checkpoint.folder, lora.path)
        write_config(folder, found, settings, untied=untied)
        MergedFrom.of(lora).save(folder)
        n_files = write_weights(folder, merged, model, settings, quantized, max_bytes=size, progress=progress)
        if measure:
            written = StoredWeights.of(model, Checkpoint.open(folder))
            difference, reason = _measured(peft, trained, merged, written, sequences)
    report = MergeReport(
        out=str(out),
        adapter=str(adapter),
        base=found.name,
        onto=settings.onto,
        quantization=settings.quantization,
        quantization_source=settings.source,
        n_modules=len(lora.modules),
        n_replaced=len(lora.full_parameters),
        n_files=n_files,
        untied=untied,
        difference=difference,
        not_measured=reason,
    )
    logger.info("%s", report)
    return report


def _base_of(adapter: AdapterFolder) -> str:
    """The base model that an adapter names."""
    name = adapter.config.base_model_name_or_path or adapter.record.get("base_model")
    if not name:
        raise ModelError(
            "a base model (a folder, or a name on the hub)",
            f"none, as {adapter.path} was trained on a model that was built in memory",
            "Save that model without the adapter, with save_pretrained, and give the folder as base (--base).",
        )
    return str(name)


def _quantized(base: BaseModel, settings: MergeSettings) -> frozenset[str]:
    """The modules that were quantized in training; each weight must be a separate tensor in the base's files."""
    quantized = quantized_modules(base, settings.quantization)
    apart = sorted(f"{module}.weight" for module in quantized if f"{module}.weight" not in base.keys)
    if apart and settings.onto != "original":
        raise ModelError(
            "quantized modules whose weights are separate tensors in the base's files",
            f"{apart[0]} ({len(apart)} such), which transformers builds from others",
            "Load the base with transformers, save it with save_pretrained, and merge onto that.",
        )
    return quantized


def _measured(
    peft: PeftModel, trained: BaseWeights, merged: MergedWeights, written: StoredWeights, sequences: list[list[int]]
) -> tuple[LogitDifference | None, str]:
    """Compare the merged model with the unmerged adapter; a merge is kept even if that cannot be done."""
    adapter = merged.adapter

    def unmerged(name: str) -> torch.Tensor:
        plain = parameter_name(name)
        if plain in adapter.full_parameters and ".original_module." not in name:
            return adapter.tensor(adapter.full_parameters[plain])
        return trained.tensor(plain)

    try:
        load_factors(peft, adapter)
        trained.stored.fill_buffers(peft.get_base_model())
        written.fill_buffers(written.model)
        reference = logits(peft, unmerged, sequences)
        return compare(reference, logits(written.model, written.tensor, sequences)), ""
    except Exception as error:  # noqa: BLE001  (any model may fail in its own way, and the merge is done)
        reason = f"{type(error).__name__}: {first_sentence(error)}"
        warnings.warn(f"The logits could not be compared ({reason}).", RankSelectWarning, stacklevel=3)
        return None, reason
