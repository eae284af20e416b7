"""`resize_adapter`: another size for a trained adapter, with what it costs on rows."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from rankselect.adapters.adapter_folder import read_adapter
from rankselect.adapters.resize import ResizedAdapter
from rankselect.adapters.resized_ranks import ranks_at_energy, ranks_of_budget, ranks_within, uniform_ranks
from rankselect.adapters.spectra import spectra_of
from rankselect.errors import ArgumentError
from rankselect.files import json_text, new_folder
from rankselect.training.measured_adapter import measured_adapter
from rankselect.training.recovery import recovered_factors, require_plain
from rankselect.training.resize_report import ResizeReport

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.adapters.spectra import AdapterSpectra
    from rankselect.data.prompts import PromptTemplate, QuestionAnswer
    from rankselect.plan.budget import Budget
    from rankselect.training.measured_adapter import MeasuredAdapter

__all__ = ["resize_adapter"]

_PRECISION = 1.03  # the search for the smallest size stops when it is known within 3 %
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def resize_adapter(
    adapter: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rank: int | None = None,
    budget: Budget | str | None = None,
    energy: float | None = None,
    tolerance: float | str | None = None,
    rows: Sequence[QuestionAnswer] | Sequence[Mapping[str, Any]] | None = None,
    base: nn.Module | str | os.PathLike[str] | None = None,
    tokenizer: Any = None,
    template: PromptTemplate | None = None,
    weigh_inputs: bool = False,
    recover_steps: int = 0,
    learning_rate: float = 2e-4,
    batch_size: int = 8,
    seed: int = 0,
    progress: bool = True,
) -> ResizeReport:
    r"""Give a trained adapter another size: one rank, a budget, or the smallest that is as good on your rows.

    Each update :math:`s\,B A` is decomposed without building it, and its largest singular values are kept: the best
    update of that rank (Eckart and Young). Scales stay as they are, and the result is an adapter that PEFT reads.

    Exactly one of the first four says how large.

    Args:
        adapter: A folder that PEFT's `save_pretrained` wrote, also through TRL, unsloth or axolotl.
        out: The folder to write. It must not exist, or be empty.
        rank: One rank for all modules. A larger one than now is filled up so that nothing changes and training can
            use it.
        budget: The number of parameters (``"2M"``, ``"rank:8"``, ``"25%"`` of the adapter's own, or a `Budget`). It is
            spent on the largest squared singular values per parameter, over all modules; a module may get none.
        energy: Each module keeps the least rank that holds this share of its squared singular values.
        tolerance: The smallest budget at which the loss on the rows is shown to be at most this much higher: a share
            of the loss (0.01 or ``"1%"``). Shown means that the 95 % interval of the paired difference lies below.
        rows: Questions with their answers, to measure the loss before and after on. Take rows that were not trained on.
        base: The base model or its name; None for the one that the adapter names.
        tokenizer: The tokenizer; None for the adapter's or the base model's.
        template: The prompt template; None for that of the adapter's record, or else the default.
        weigh_inputs: Lose least of what modules add to their outputs on the rows, instead of the updates themselves.
        recover_steps: Train the resized adapter for so many steps on half of the rows, drawn at random, and measure on
            the other half.
        learning_rate: The learning rate of these steps; it decays linearly to 0.
        batch_size: Rows in a batch.
        seed: Of the halves, of the further training, and of what fills up larger ranks.
        progress: Show progress bars.

    Returns:
        The report, which is also written to ``resize.json`` in the folder.

    Raises:
        ArgumentError: If not exactly one size is given, or it is out of range; or if rows are needed and missing.
        AdapterError: If the adapter is damaged, no plain LoRA (DoRA, fused experts), changes nothing, or belongs to
            another base model.
        ModelError: If the base model cannot be loaded.
        SaveError: If `out` exists, or cannot be written; nothing is left behind.

    References:
        Eckart and Young, *The approximation of one matrix by another of lower rank*, 1936, doi:10.1007/BF02288367;
        *PARA*, 2026, arXiv:2604.27796; *LoRA-Squeeze*, 2026, arXiv:2602.10993.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = Path(tempfile.mkdtemp())
        >>> config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        >>> get_peft_model(tiny_model(), config).save_pretrained(folder / "adapter")
        >>> report = resize_adapter(folder / "adapter", folder / "small", budget="25%")
        >>> report.parameters_before, report.parameters_after <= 448
        (1792, True)
    """
    _check_numbers(recover_steps, learning_rate, seed)
    _check(
        {"rank": rank, "budget": budget, "energy": energy, "tolerance": tolerance},
        {"tolerance": tolerance, "weigh_inputs": weigh_inputs, "recover_steps": recover_steps},
        rows,
    )
    lora = read_adapter(adapter)
    if recover_steps:
        require_plain(lora)
    moments, spectra = None, spectra_of(lora)
    ranks = _ranks(spectra, rank, budget, energy)
    with (
        new_folder(out) as folder,
        nullcontext()
        if rows is None
        else measured_adapter(
            lora, rows, base, tokenizer, template, batch_size=batch_size, seed=seed, trains=recover_steps > 0
        ) as measured,
    ):
        if measured is not None and weigh_inputs:
            moments = measured.moments()
            spectra = spectra_of(lora, moments)
            ranks = _ranks(spectra, rank, budget, energy)
        if measured is not None and tolerance is not None:
            ranks = _smallest(lora, spectra, moments, measured, _share(tolerance), progress=progress)
        cut = ResizedAdapter(lora, ranks, moments, seed)
        after = recovered = None
        rounding = cut.write(folder)
        if measured is not None:
            after = measured.change(folder)
        if measured is not None and recover_steps:
            how: dict[str, Any] = {"steps": recover_steps, "learning_rate": learning_rate, "batch_size": batch_size}
            trained = recovered_factors(measured, read_adapter(folder), seed=seed, progress=progress, **how)
            rounding = cut.write(folder, lambda module: trained[module.name])
            recovered = measured.change(folder)
        report = ResizeReport(
            out=str(out),
            adapter=str(adapter),
            ranks=ranks,
            spectra=spectra,
            parameters_before=spectra.parameters,
            parameters_after=spectra.parameters_of(ranks),
            energy_kept=spectra.energy_kept(ranks),
            rounding=rounding,
            loss_before=None if measured is None else measured.loss_before,
            loss_after=after,
            loss_recovered=recovered,
        )
        (folder / "resize.json").write_text(json_text(report.to_dict()), encoding="utf-8")
    return report


def _check(sizes: Mapping[str, Any], need_rows: Mapping[str, Any], rows: object) -> None:
    given = [name for name, value in sizes.items() if value is not None]
    if len(given) != 1:
        raise ArgumentError(
            "one of rank, budget, energy and tolerance",
            " and ".join(given) or "none",
            'For example budget="25%", or tolerance="1%" with rows.',
        )
    without = [name for name, value in need_rows.items() if value not in {None, False}]
    if without and rows is None:
        raise ArgumentError(f"rows, for {' and '.join(without)}", "none", "Pass questions with answers (--data).")
    if sizes["tolerance"] is not None:
        _share(sizes["tolerance"])


def _check_numbers(recover_steps: Any, learning_rate: Any, seed: Any) -> None:
    """Raise an error for numbers of the further training that cannot be."""
    wholes = {
        "recover_steps": (recover_steps, "0 leaves the resized adapter as it is."),
        "seed": (seed, "For example 0."),
    }
    for name, (value, remedy) in wholes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ArgumentError(f"{name} of at least 0", repr(value), remedy)
    real = isinstance(learning_rate, (int, float)) and not isinstance(learning_rate, bool)
    if not (real and math.isfinite(learning_rate) and learning_rate > 0):
        raise ArgumentError("a learning_rate above 0", repr(learning_rate), "For example 2e-4.")


def _ranks(
    spectra: AdapterSpectra, rank: int | None, budget: Budget | str | None, energy: float | None
) -> dict[str, int]:
    """The ranks of the size that is given; those of the whole adapter for a tolerance, which rows decide."""
    if rank is not None:
        return uniform_ranks(spectra, rank)
    if energy is not None:
        return ranks_at_energy(spectra, energy)
    if budget is not None:
        return ranks_of_budget(spectra, budget)
    return ranks_within(spectra, spectra.parameters)


def _share(tolerance: float | str) -> float:
    """A tolerance as a share of the loss."""
    number: Any = tolerance
    if isinstance(tolerance, str) and (match := _SHARE.fullmatch(tolerance)):
        number = float(match[1]) / 100
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not (math.isfinite(number) and number > 0):
        raise ArgumentError("a tolerance above 0, as a share of the loss", repr(tolerance), "0.01 and '1%' are 1 %.")
    return float(number)


def _smallest(
    adapter: AdapterFolder,
    spectra: AdapterSpectra,
    moments: Mapping[str, torch.Tensor] | None,
    measured: MeasuredAdapter,
    tolerance: float,
    *,
    progress: bool,
) -> dict[str, int]:
    """The ranks of the smallest budget at which the loss is shown to be within the tolerance, by bisection."""
    low = min(sum(size) for size in spectra.sizes.values())
    high, limit = spectra.parameters, tolerance * measured.loss_before
    best = ranks_within(spectra, high)
    steps = math.ceil(math.log2(max(math.log(high / low) / math.log(_PRECISION), 1.0)))
    for _ in tqdm(range(steps), desc="sizes", disable=not progress):
        middle = round(math.sqrt(low * high))
        if not low < middle < high:
            break
        ranks = ranks_within(spectra, middle)
        if measured.change_to(ResizedAdapter(adapter, ranks, moments)).high <= limit:
            best, high = ranks, middle
        else:
            low = middle
    return best
