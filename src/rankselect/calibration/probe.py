"""A probe: what a short training through LoRA changes in each weight."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from tqdm.auto import tqdm

from rankselect.calibration.loss_batches import finite_loss, loss_batches
from rankselect.calibration.module_spectra import ModuleSpectra, described_model
from rankselect.errors import ArgumentError, ModelError
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import unwrapped
from rankselect.models.low_rank import low_rank_svd
from rankselect.models.trunk import input_device
from rankselect.plan import _peft
from rankselect.plan.targets import find_targets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from rankselect.calibration.evidence import Calibration
    from rankselect.calibration.loss_batches import LossBatches

__all__ = ["ProbeSpectra"]

_SCALE = 2.0  # alpha / rank


@final
@dataclass(frozen=True, eq=False)
class ProbeSpectra(ModuleSpectra):
    """Singular values of what some steps of training through LoRA change in each weight.

    An adapter of one rank is trained with AdamW at a constant rate and alpha = 2 · rank, without dropout, and taken off
    again. The model is left bit for bit as it was, also after Ctrl-C.

    Cost: the steps. Memory: that of training the adapter.

    References:
        Zhang et al., *AdaLoRA: Adaptive budget allocation for parameter-efficient fine-tuning*, 2023, arXiv:2303.10512,
        which prunes singular values in training; here they are looked at once, before.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> calibration = rs.Calibration(tiny_model(), tiny_tokenizer(), tiny_texts(20), progress=False)
        >>> spectra = ProbeSpectra.measure(calibration, rank=4, steps=3)
        >>> len(spectra.modules), len(spectra.values[spectra.modules[0]])
        (4, 4)
    """

    file_format: ClassVar[str] = "rankselect.probe_spectra"
    about: ClassVar[str] = "change by training"

    @classmethod
    def measure(
        cls, calibration: Calibration, *, rank: int = 16, steps: int = 30, learning_rate: float = 2e-3
    ) -> ProbeSpectra:
        """Train an adapter on a calibration's rows or texts, and take it off again.

        Args:
            calibration: The model, with question-answer rows or texts. Its `batch_size` is that of a step.
            rank: The rank of the adapter, in every module.
            steps: The steps of training. Rows are read again from the start, in another order, when they are used up.
            learning_rate: The learning rate.

        Raises:
            TextsError: If there are fewer than two rows, or none that are texts.
            ModelError: If the model is not causal, has an adapter, or its loss is not finite.
            TargetError: If `target_modules` match nothing.
            ArgumentError: If an argument is out of its range.
        """
        _check(rank, steps, learning_rate)
        model = calibration.model
        targets = find_targets(model, calibration.target_modules)
        batches = loss_batches(calibration)
        with evaluating(model, seed=calibration.seed), _adapter(model, [t.name for t in targets], rank) as layers:
            losses = _train(model, batches, steps, learning_rate, calibration)
            values = {target.name: _change(layers[target.name]) for target in targets}
        measurement = {
            **described_model(model),
            **batches.described(calibration),
            "rank": rank,
            "steps": steps,
            "learning_rate": learning_rate,
            "losses": losses,
        }
        return cls(values, {t.name: (t.d_in, t.d_out) for t in targets}, {}, measurement)


def _check(rank: int, steps: int, learning_rate: float) -> None:
    for name, value in (("rank", rank), ("steps", steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} of a probe of at least 1", repr(value), "Common are rank=16 and steps=30.")
    if not (isinstance(learning_rate, float) and math.isfinite(learning_rate) and learning_rate > 0):
        raise ArgumentError("a learning_rate above 0", repr(learning_rate), "Use 2e-3.")


@contextmanager
def _adapter(model: nn.Module, names: Sequence[str], rank: int) -> Iterator[dict[str, Any]]:
    """An adapter on these modules; afterwards, modules, attributes and flags are what they were before."""
    base = unwrapped(model)
    if _peft.lora_layers(base):
        raise ModelError("a base model without an adapter", "one with LoRA layers", "Measure the base model.")
    modules = {name: base.get_submodule(name) for name in names}
    flags = [(parameter, parameter.requires_grad) for parameter in base.parameters()]
    attributes = set(vars(base))
    try:
        for parameter, _ in flags:
            parameter.requires_grad = False
        config = LoraConfig(r=rank, lora_alpha=_SCALE * rank, target_modules=list(names))  # type: ignore[arg-type]
        inject_adapter_in_model(config, base)
        for parameter in base.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        yield _peft.lora_layers(base)
    finally:
        for name, module in modules.items():
            parent, _, last = name.rpartition(".")
            setattr(base.get_submodule(parent), last, module)
        for parameter, needs in flags:
            parameter.requires_grad = needs
        for added in set(vars(base)) - attributes:
            delattr(base, added)


def _train(
    model: nn.Module, batches: LossBatches, steps: int, learning_rate: float, calibration: Calibration
) -> list[float]:
    """Train what can be trained, and return the losses."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    device, losses = input_device(model), []
    bar = tqdm(batches.shuffled(steps, calibration.seed), desc="probe", disable=not calibration.progress)
    with torch.enable_grad():
        for batch in bar:
            loss: Any = finite_loss(model, batch, device)
            losses.append(float(loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return losses


def _change(layer: Any) -> NDArray[np.float64]:
    """The singular values of what a LoRA layer adds to its weight."""
    a, b = _peft.factors(layer)
    sigma = low_rank_svd(b.detach(), a.detach())[1]
    return np.asarray((_SCALE * sigma).cpu(), dtype=np.float64)
