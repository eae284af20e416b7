"""Converts an adapter of many ranks to one of a single rank, which all serving engines read in the same way."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from safetensors.torch import save_file

from rankselect.adapters.adapter_folder import WEIGHTS, AdapterFolder, read_adapter
from rankselect.adapters.lora_delta import check_supported
from rankselect.adapters.merge.settings import dtype_of
from rankselect.errors import AdapterError, UnknownNameError
from rankselect.files import new_folder

if TYPE_CHECKING:
    import os

    from peft import LoraConfig

    from rankselect.adapters.lora_delta import LoraModule

__all__ = ["TARGETS", "ExportReport", "export_adapter"]

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_NEXT_STEPS = {
    "any": "vLLM needs --max-lora-rank {rank}; llama.cpp first needs its own convert_lora_to_gguf.py",
    "vllm": "serve with --enable-lora --max-lora-rank {rank}",
    "llama.cpp": "convert with llama.cpp's own convert_lora_to_gguf.py, then pass the file with --lora",
    "sglang": "serve with --enable-lora --max-lora-rank {rank} --lora-paths NAME=FOLDER",
    "tensorrt-llm": "build with a maximal LoRA rank of {rank} (max_lora_rank)",
}
TARGETS = tuple(_NEXT_STEPS)


@final
@dataclass(frozen=True)
class ExportReport:
    """The result of an export, and the cost of the padding.

    Attributes:
        out: The folder written.
        adapter: The adapter's folder.
        target: The engine.
        rank: The one rank of all modules.
        ranks: The ranks before, from the least to the greatest.
        n_modules: How many modules.
        parameters_before: Parameters of the adapter as it was.
        parameters_after: Parameters of the written adapter.
        bytes_before: Bytes of its weights before.
        bytes_after: Bytes of the written weights.
        rounding: The greatest relative change of a module's B by casting it to the dtype written; 0 in float32.
        next_step: How to use it.
        notes: Warnings about its use.

    Example:
        >>> print(ExportReport("out", "adapter", "vllm", 8, (3, 5), 2, 512, 1024, 2048, 4096, 0.0, "serve", ()))
        exported 2 modules of adapter, ranks 3 to 5, as rank 8 for vllm in out
        padding: 512 -> 1,024 parameters, 2,048 -> 4,096 bytes (2.00 times)
        next: serve
    """

    out: str
    adapter: str
    target: str
    rank: int
    ranks: tuple[int, ...]
    n_modules: int
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    rounding: float
    next_step: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        least, greatest = self.ranks[0], self.ranks[-1]
        ranks = f"rank {least}" if least == greatest else f"ranks {least} to {greatest}"
        what = f"{self.n_modules} modules of {self.adapter}, {ranks}, as rank {self.rank}"
        parameters = f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"
        size = f"{self.bytes_before:,} -> {self.bytes_after:,} bytes ({self.bytes_after / self.bytes_before:.2f} times)"
        lines = [f"exported {what} for {self.target} in {self.out}", f"padding: {parameters}, {size}"]
        if self.rounding:
            lines.append(f"rounding of the scaled B: at most {self.rounding:.1e} of a module's norm")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes), f"next: {self.next_step}"])

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"format": "rankselect.export_report", "version": 1, **values}


def export_adapter(
    adapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str = "any",
    dtype: str | torch.dtype | None = None,
) -> ExportReport:
    r"""Write an adapter of many ranks as one of a single rank, with the same change of every weight.

    PEFT and recent vLLM honour a rank and an alpha for each module; llama.cpp, TensorRT-LLM and LoRAX ignore
    `alpha_pattern`, and SGLang slices its buffers by one rank. So each B is multiplied by the module's true scale in
    float32, A and B are padded with zeros to one rank r, and alpha is set to r: :math:`\Delta W = s\,B A =
    \frac{r}{r}\,[s B\; 0]\,[A;\, 0]`.

    Args:
        adapter: A folder that PEFT's `save_pretrained` wrote, of plain or rank-stabilised LoRA.
        out: The folder to write. It must not exist, or be empty.
        target: The engine, which decides the rank: the greatest of the adapter for ``"llama.cpp"``, ``"sglang"`` and
            ``"tensorrt-llm"``; the next of 1, 8, 16, 32, 64, 128, 256, 320 and 512 for ``"vllm"``, whose buffers have
            only these, and for ``"any"``.
        dtype: The dtype to write in; that of each tensor of the adapter, if left out.

    Returns:
        The result, the cost of the padding, and how to use the adapter.

    Raises:
        UnknownNameError: If `target` is no such engine.
        AdapterError: If the adapter folder is incomplete or damaged, is no plain LoRA (DoRA, biases, modules to save),
            its greatest rank is above the maximum of the engine, or a weight overflows the dtype.
        ArgumentError: If weights cannot be stored in `dtype`.
        SaveError: If `out` exists, or cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = Path(tempfile.mkdtemp())
        >>> config = LoraConfig(r=3, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 5})
        >>> get_peft_model(tiny_model(), config).save_pretrained(folder / "adapter")
        >>> report = export_adapter(folder / "adapter", folder / "served", target="vllm")
        >>> report.rank, report.parameters_before, report.parameters_after
        (8, 864, 1792)
    """
    if target not in TARGETS:
        raise UnknownNameError("serving engine", target, TARGETS)
    lora = read_adapter(adapter)
    _check_plain(lora)
    rank = _one_rank(lora, target)
    chosen = None if dtype is None else dtype_of(dtype)
    tensors: dict[str, torch.Tensor] = {}
    rounding, before = 0.0, 0
    for module in lora.modules:
        a, b = lora.factors(module)
        before += a.nbytes + b.nbytes
        padded_a, padded_b, lost = _padded(module, a, b, rank, chosen)
        tensors |= dict(zip(module.keys, (padded_a, padded_b), strict=True))
        rounding = max(rounding, lost)
    with new_folder(out) as folder:
        lora.copy_other_files(folder)
        _one_rank_config(lora, rank).save_pretrained(str(folder))
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return ExportReport(
        out=str(out),
        adapter=str(adapter),
        target=target,
        rank=rank,
        ranks=tuple(sorted({module.rank for module in lora.modules})),
        n_modules=len(lora.modules),
        parameters_before=sum(module.rank * (module.d_in + module.d_out) for module in lora.modules),
        parameters_after=sum(rank * (module.d_in + module.d_out) for module in lora.modules),
        bytes_before=before,
        bytes_after=sum(tensor.nbytes for tensor in tensors.values()),
        rounding=rounding,
        next_step=_NEXT_STEPS[target].format(rank=rank),
        notes=_notes(lora),
    )


def _check_plain(adapter: AdapterFolder) -> None:
    remedy = "Merge the adapter (rankselect merge) and serve the merged model."
    check_supported(adapter.config, besides=(), remedy=remedy)
    embeddings = [
        name for name in adapter.full_parameters if not any(name == f"{m.name}.weight" for m in adapter.modules)
    ]
    if embeddings:
        raise AdapterError(
            "a plain LoRA adapter",
            f"one that also contains the complete parameter {embeddings[0]}",
            f"A complete parameter is not a low-rank update. {remedy}",
        )


def _one_rank(adapter: AdapterFolder, target: str) -> int:
    module = max(adapter.modules, key=lambda module: module.rank)
    if target not in ("vllm", "any"):
        return module.rank
    for rank in VLLM_RANKS:
        if rank >= module.rank:
            return rank
    raise AdapterError(
        f"ranks of at most {VLLM_RANKS[-1]}, the greatest that vLLM takes",
        f"rank {module.rank} ({module.name})",
        "Merge the adapter (rankselect merge) and serve the merged model, or export for another engine.",
    )


def _padded(
    module: LoraModule, a: torch.Tensor, b: torch.Tensor, rank: int, dtype: torch.dtype | None
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A and B of the single rank, and the rounding error of B."""
    scaled = b.float() * module.scale
    cast_b, cast_a = scaled.to(dtype or b.dtype), a.to(dtype or a.dtype)
    if not bool(cast_b.isfinite().all() and cast_a.isfinite().all()):
        raise AdapterError(
            f"scaled weights that fit into {cast_b.dtype}",
            f"{module.name}, whose B times {module.scale:g} overflows",
            "Export with dtype='float32' or 'bfloat16' (--dtype).",
        )
    norm = float(scaled.norm())
    lost = float((cast_b.float() - scaled).norm()) / norm if norm else 0.0
    padded_a = torch.zeros(rank, module.d_in, dtype=cast_a.dtype)
    padded_b = torch.zeros(module.d_out, rank, dtype=cast_b.dtype)
    padded_a[: module.rank] = cast_a
    padded_b[:, : module.rank] = cast_b
    return padded_a, padded_b, lost


def _one_rank_config(adapter: AdapterFolder, rank: int) -> LoraConfig:
    """The config with one rank, alpha equal to it, and target modules that engines can read."""
    config = copy.deepcopy(adapter.config)
    config.r = config.lora_alpha = rank
    config.rank_pattern, config.alpha_pattern = {}, {}
    config.use_rslora = False
    config.inference_mode = True
    config.init_lora_weights = True
    if isinstance(config.target_modules, str) or config.layers_to_transform is not None or config.exclude_modules:
        config.target_modules = sorted(module.name for module in adapter.modules)  # regular expressions are PEFT's own
        config.layers_to_transform = config.layers_pattern = config.exclude_modules = None
    return config


def _notes(adapter: AdapterFolder) -> tuple[str, ...]:
    notes = [
        f"{name}, a weight of the base that PEFT had saved along, was left out" for name in adapter.full_parameters
    ]
    outside = sorted(
        {
            module.name
            for module in adapter.modules
            if module.kind == "embedding" or module.name.endswith(("lm_head", "embed_tokens", "embed_out"))
        }
    )
    if outside:
        notes.append(f"{', '.join(outside)}: not every engine serves adapters of embeddings and output heads")
    return tuple(notes)
