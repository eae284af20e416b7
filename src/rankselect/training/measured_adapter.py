"""An adapter on its base model, and its loss on rows before and after it changes."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import nn
from transformers import AutoTokenizer

from rankselect.adapters.attach import attach_adapter
from rankselect.adapters.record import TrainingRecord
from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.data.prompt_tokens import row_length
from rankselect.data.rows import rows_of
from rankselect.errors import AdapterError, ArgumentError, DataError, RankSelectError, described
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.loading import load_model, load_tokenizer
from rankselect.models.suitability import filler_token, require_tokenizer
from rankselect.models.trunk import input_device
from rankselect.plan._peft import factors, lora_layers, set_factors
from rankselect.training.answer_losses import answer_losses
from rankselect.training.loss_change import LossChange
from rankselect.training.own_template import own_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rankselect.adapters.adapter_folder import AdapterFolder
    from rankselect.adapters.resize import ResizedAdapter
    from rankselect.data.prompts import PromptTemplate, QuestionAnswer

__all__ = ["MeasuredAdapter", "measured_adapter", "tokenizer_for"]

_FEWEST = 6  # rows for an interval


@contextmanager
def measured_adapter(
    adapter: AdapterFolder,
    rows: object,
    base: nn.Module | str | os.PathLike[str] | None,
    tokenizer: Any,
    template: PromptTemplate | None,
    *,
    batch_size: int,
    seed: int,
    trains: bool,
) -> Iterator[MeasuredAdapter]:
    """Put an adapter on its base model, and take it off again at the end.

    Args:
        adapter: The adapter.
        rows: The rows to measure it on.
        base: The base model, its name, or None for the one that the adapter's config names.
        tokenizer: The tokenizer; None for the one in the adapter's folder, or else that of the base.
        template: The prompt template; None for that of the adapter's record, or else the default.
        batch_size: Rows in a batch.
        seed: Of the halves.
        trains: Whether to keep a random half of the rows for training.

    Raises:
        AdapterError: If there is no base, or it is another.
        ModelError: If it cannot be loaded.
        ArgumentError: If there is no tokenizer.
        DataError: If there are too few rows for an interval.
    """
    name = base if isinstance(base, (str, os.PathLike)) else adapter.config.base_model_name_or_path
    loaded = base if isinstance(base, nn.Module) else _load_base(adapter, name)
    tokenizer = require_tokenizer(tokenizer_for(adapter, name) if tokenizer is None else tokenizer)
    flags = [(parameter, parameter.requires_grad) for parameter in loaded.parameters()]
    modes = [(module, module.training) for module in loaded.modules()]
    measured = MeasuredAdapter(loaded, adapter, tokenizer, template, batch_size)
    try:
        measured.read(rows_of(rows, measured.template), seed, trains=trains)
        yield measured
    finally:
        measured.release()
        for parameter, needs in flags:
            parameter.requires_grad = needs
        for module, training in modes:
            module.training = training


@final
class MeasuredAdapter:
    """An adapter on its base model.

    Attributes:
        model: PEFT's model.
        tokenizer: The tokenizer.
        template: The prompt template.
        rows: The rows that are measured.
        training_rows: Rows to train on, which are not measured.
        loss_before: The mean loss on the rows, with the adapter as it was.
    """

    def __init__(
        self, base: nn.Module, adapter: AdapterFolder, tokenizer: Any, template: PromptTemplate | None, batch_size: int
    ) -> None:
        self.tokenizer = tokenizer
        self.model: Any = attach_adapter(base, adapter.path)
        self.template = own_template(self.model, tokenizer, template)
        self.rows: Sequence[QuestionAnswer] = ()
        self.training_rows: Sequence[QuestionAnswer] = ()
        self._batch_size = batch_size
        self._before: list[float] = []

    @property
    def loss_before(self) -> float:
        """The mean loss on the rows, with the adapter as it was."""
        return float(np.mean(self._before))

    def read(self, rows: Sequence[QuestionAnswer], seed: int, *, trains: bool) -> None:
        """Take rows, and measure the loss of the adapter as it is."""
        order = np.random.default_rng(seed).permutation(len(rows)).tolist() if trains else []
        trained = set(order[: len(rows) // 2])
        self.training_rows = [row for index, row in enumerate(rows) if index in trained]
        self.rows = [row for index, row in enumerate(rows) if index not in trained]
        if len(self.rows) < _FEWEST:
            wanted = f"at least {_FEWEST * (1 + trains)} rows, for an interval"
            raise DataError(wanted, str(len(rows)), "Pass a hundred or more.")
        self._before = self._losses()

    def change(self, folder: Path) -> LossChange:
        """The loss with another adapter in place of this one, read from its folder as PEFT reads it."""
        self.model = attach_adapter(self.release(), folder)
        return LossChange.between(self._before, self._losses())

    def change_to(self, resized: ResizedAdapter) -> LossChange:
        """The loss with other ranks, rounded as they would be stored. The adapter is changed in place."""
        pairs = {module.name: resized.stored(module) for module in resized.modules}
        for name, layer in lora_layers(self.model).items():
            now_a, now_b = factors(layer)
            nothing = torch.zeros(1, now_a.shape[1]), torch.zeros(now_b.shape[0], 1)
            a, b = pairs.get(name, nothing)
            set_factors(layer, *(nn.Parameter(each.to(now_a), requires_grad=False) for each in (a, b)))
        return LossChange.between(self._before, self._losses())

    def release(self) -> nn.Module:
        """Take the adapter off, and return the base model."""
        base: nn.Module = self.model.unload()
        vars(base).pop("peft_config", None)
        return base

    def moments(self) -> dict[str, torch.Tensor]:
        """The second moment of each A's output on the rows' tokens: ``{full module name: (r, r)}``, in float64."""
        length = row_length(self.model, self.tokenizer, None)
        encoded = encode_rows(self.rows, self.tokenizer, template=self.template, max_length=length, model=self.model)
        collate, device = AnswerCollator(filler_token(self.model, self.tokenizer)), input_device(self.model)
        sums: dict[str, torch.Tensor] = {}
        mask = torch.empty(0)

        def watch(name: str, layer: Any) -> Any:
            a = factors(layer)[0].detach()
            sums[name] = torch.zeros(len(a), len(a), dtype=torch.float64)

            def hook(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
                inputs = given[0]
                outputs = inputs.to(a.dtype) @ a.T if inputs.is_floating_point() else a.T[inputs]
                tokens = outputs.reshape(-1, len(a))
                if len(tokens) == mask.numel():  # an expert of a mixture sees some of them only
                    tokens = tokens[mask.reshape(-1).to(tokens.device)]
                sums[name] += (tokens.T.double() @ tokens.double()).cpu()

            return layer.register_forward_pre_hook(hook)

        handles = [watch(name, layer) for name, layer in lora_layers(self.model).items()]
        order = sorted(range(len(encoded)), key=lambda index: -encoded.lengths[index])
        try:
            with evaluating(self.model):
                for start in range(0, len(order), self._batch_size):
                    batch = collate([encoded[index] for index in order[start : start + self._batch_size]])
                    mask = batch["attention_mask"].bool()
                    self.model(**{name: tensor.to(device) for name, tensor in batch.items()}, use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return sums

    def _losses(self) -> list[float]:
        return answer_losses(self.model, self.tokenizer, self.rows, template=self.template, batch_size=self._batch_size)


def _load_base(adapter: AdapterFolder, name: str | os.PathLike[str] | None) -> nn.Module:
    if not name:
        raise AdapterError(
            "an adapter whose config names its base model",
            f"{adapter.path}, which does not",
            "Give the model, or its name, with base (--base).",
        )
    stored: Any = TrainingRecord.load(adapter.path).quantization if adapter.record else "none"
    loaded: nn.Module = load_model(name, quantization=stored)
    return loaded


def tokenizer_for(adapter: AdapterFolder, base: str | os.PathLike[str] | None = None) -> Any:
    """The tokenizer in an adapter's folder, or else that of its base model.

    Raises:
        ArgumentError: If there is none.
    """
    if (adapter.path / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(str(adapter.path))  # there is no model in this folder
    name = base or adapter.config.base_model_name_or_path
    try:
        return load_tokenizer(name or "")
    except RankSelectError as error:
        got = f"none in {adapter.path}, nor with {described(name)}"
        raise ArgumentError(
            "a tokenizer for the rows", got, "Pass tokenizer=, or name the base model (--base)."
        ) from error
