"""The streaming collector: one vector for each text and layer, gathered in a single pass."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import torch

from rankselect.calibration.batches import padded_batches
from rankselect.errors import ModelError
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import find_layers
from rankselect.models.processes import Processes
from rankselect.models.suitability import filler_token
from rankselect.models.trunk import decoder_modules, input_device, run_trunk

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.hooks import RemovableHandle
    from tqdm.auto import tqdm

    from rankselect.calibration.batches import Samples

__all__ = ["HiddenStates"]


@final
class HiddenStates:
    """Pooled hidden states of every layer, and of the input of each stack of layers.

    Memory: layers x samples x width x 4 bytes, allocated as batches arrive, plus one batch. Hooks sit on the layers
    only, so no other activation is kept. Several processes share the batches out; then each layer's states go to the
    one process that will estimate it, so that together they keep as much as one process would.

    Attributes:
        names: The names of all layers, in model order.
        layers: ``{layer name: (samples, width) float32 tensor}`` on the CPU, in model order: on one process all layers,
            on several those of this one.
        stack_inputs: ``{name of the first layer of a stack: the same, of its input}``.

    Args:
        model: The model.
        samples: The inputs.
        tokenizer: For its padding token, if it has one.
        pooling: One or several of ``"mean"`` over the unpadded tokens and the ``"last"`` unpadded token. The attributes
            are those of the first; `of` gives those of another.
        batch_size: Samples in a batch.
        processes: Those that share the work.
        autocast: ``"bfloat16"`` to multiply matrices in bfloat16.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        tokenizer: Any,
        *,
        pooling: tuple[Literal["mean", "last"], ...],
        batch_size: int,
        processes: Processes = Processes(),
        autocast: Literal["bfloat16"] | None = None,
    ) -> None:
        self._pooling = pooling[0]
        self._kept: dict[tuple[str, str], dict[str, torch.Tensor]] = {
            (each, kind): {} for each in pooling for kind in ("stack_inputs", "layers")
        }
        self._model = model
        self._samples = samples
        self._batch_size = batch_size
        self._processes = processes
        self._autocast = autocast
        self._pad_id = filler_token(model, tokenizer)
        self._pools = {each: _mean if each == "mean" else _last for each in pooling}
        self._modules = find_layers(model)
        self.names = tuple(self._modules)
        in_decoder = decoder_modules(model)
        self._decoder_layers = {name for name, module in self._modules.items() if module in in_decoder}
        self._device = input_device(model)
        if not self._modules:
            raise ModelError(
                "a model with a list of layers",
                f"{type(model).__name__}, where none was found",
                "Its blocks must be in a ModuleList; or measure the IDs yourself and use IDProfile.from_values.",
            )

    @property
    def layers(self) -> dict[str, torch.Tensor]:
        """The states of the layers."""
        return self._kept[self._pooling, "layers"]

    @property
    def stack_inputs(self) -> dict[str, torch.Tensor]:
        """The inputs of the stacks."""
        return self._kept[self._pooling, "stack_inputs"]

    def of(self, pooling: Literal["mean", "last"]) -> HiddenStates:
        """The same states, under another pooling that was read."""
        other = copy.copy(self)
        other._pooling = pooling  # noqa: SLF001  (its own class)
        return other

    def read(self, rows: np.ndarray, bar: tqdm[Any]) -> None:
        """Run these samples through the model and keep their pooled hidden states.

        Raises:
            ModelError: If hidden states are not finite, or not of shape (batch, length, width).
        """
        mine = self._processes.together(lambda: self._read_share(rows, bar))
        if self._processes.count > 1:
            with torch.no_grad():
                self._hand_over(torch.from_numpy(rows), torch.from_numpy(np.isin(rows, mine)))

    def _read_share(self, rows: np.ndarray, bar: tqdm[Any]) -> list[int]:
        """Read this process's batches; the rows in them."""
        rank, count = self._processes.rank, self._processes.count
        mine: list[int] = []
        left = len(rows)
        with evaluating(self._model):
            for batch_rows, batch in padded_batches(
                self._samples, rows, self._batch_size, self._pad_id, share=(rank, count)
            ):
                on_device = {name: tensor.to(self._device) for name, tensor in batch.items()}
                with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast is not None):
                    self._read_batch(torch.from_numpy(batch_rows), on_device)
                mine.extend(batch_rows.tolist())
                done = min(count * len(batch_rows), left)  # the other processes have read as much
                left -= done
                bar.update(done)
        return mine

    def _hand_over(self, rows: torch.Tensor, mine: torch.Tensor) -> None:
        """Give the states of these rows, of which some are mine, to the process that owns the layer."""
        kinds = self._kept
        # The first process has always read a batch; others may have had none, and do not know the width.
        widths = self._processes.from_first(
            {(kind, name): states.shape[1] for kind, into in kinds.items() for name, states in into.items()}
        )
        for index, name in enumerate(self.names):
            owner = index % self._processes.count
            for kind in (kind for kind in kinds if (kind, name) in widths):
                into = kinds[kind]
                whole = torch.zeros(len(rows), widths[kind, name])
                if mine.any():
                    whole[mine] = into[name][rows[mine]]
                whole = self._processes.sum_at(owner, whole)  # exact: all but one are zero
                if owner == self._processes.rank:
                    if name not in into:
                        into[name] = torch.empty(len(self._samples), whole.shape[1])
                    into[name][rows] = whole
                else:
                    into.pop(name, None)

    def _read_batch(self, rows: torch.Tensor, batch: dict[str, torch.Tensor]) -> None:
        pooled: dict[tuple[str, str, str], torch.Tensor] = {}
        handles: list[RemovableHandle] = []

        def keep(kind: str, name: str, output: Any) -> None:
            if kind == "stack_inputs" and (self._pooling, kind, name) in pooled:
                return  # a shared layer (ALBERT) runs again and again; only its first input enters the stack
            hidden = output if isinstance(output, torch.Tensor) else next(iter(output))
            hidden = _checked(hidden, len(rows), name)
            mask = self._mask_of(name, hidden, batch)
            with torch.autocast(self._device.type, enabled=False):
                for pooling, pool in self._pools.items():
                    pooled[pooling, kind, name] = pool(hidden, mask)

        try:
            for name, module in self._modules.items():
                if name in _first_of_stacks(self._modules):
                    handles.append(
                        module.register_forward_pre_hook(
                            lambda _, args, kwargs, name=name: keep("stack_inputs", name, _first(args, kwargs)),
                            with_kwargs=True,
                        )
                    )
                handles.append(
                    module.register_forward_hook(lambda _, __, output, name=name: keep("layers", name, output))
                )
            run_trunk(self._model, batch)
        finally:
            for handle in handles:
                handle.remove()
        self._store(rows, pooled)

    def _mask_of(self, name: str, hidden: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The mask of the tokens that a layer reads."""
        if "decoder_input_ids" in batch and name in self._decoder_layers:
            return _fitting(batch.get("decoder_attention_mask"), hidden, name, text_only=True)
        return _fitting(batch.get("attention_mask"), hidden, name, text_only=_is_text_only(batch))

    def _store(self, rows: torch.Tensor, pooled: dict[tuple[str, str, str], torch.Tensor]) -> None:
        for (pooling, kind), into in self._kept.items():
            for name in self._modules:
                if (pooling, kind, name) in pooled:
                    vectors = pooled[pooling, kind, name].cpu()
                    self._require_finite(vectors, name)
                    if name not in into:
                        into[name] = torch.empty(len(self._samples), vectors.shape[1])
                    into[name][rows] = vectors

    def _require_finite(self, vectors: torch.Tensor, name: str) -> None:
        if not bool(torch.isfinite(vectors).all()):
            dtype = next(self._modules[name].parameters()).dtype
            raise ModelError(
                "finite hidden states",
                f"NaN or infinite values in {name} ({dtype})",
                "If the model is in float16, its activations overflow: load it in bfloat16 or float32.",
            )


def _first_of_stacks(names: dict[str, Any]) -> set[str]:
    """The first layer of every list of layers."""
    first = {name.rpartition(".")[0]: name for name in reversed(list(names))}
    return set(first.values())


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _checked(hidden: torch.Tensor, batch: int, name: str) -> torch.Tensor:
    if hidden.ndim != 3 or hidden.shape[0] != batch:
        raise ModelError(
            "hidden states of shape (batch, length, width)",
            f"{tuple(hidden.shape)} from {name} for a batch of {batch}",
            "Such layouts are not supported; measure the IDs yourself and use IDProfile.from_values.",
        )
    return hidden


def _is_text_only(batch: dict[str, torch.Tensor]) -> bool:
    """Whether the inputs are tokens only, without images or audio."""
    return not any(
        tensor.is_floating_point() for name, tensor in batch.items() if not name.endswith(("mask", "inputs_embeds"))
    )


def _fitting(mask: torch.Tensor | None, hidden: torch.Tensor, name: str, *, text_only: bool) -> torch.Tensor:
    """The mask for these hidden states, or all ones if they do not correspond to tokens and nothing is padding.

    An image may happen to have as many patches as there are tokens, whose mask does not apply; so with images or
    sounds nothing may be padded. Texts that get longer inside the model are padded there (Longformer).
    """
    if mask is None:
        return torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    full = bool(mask.all())
    if mask.shape == hidden.shape[:2] and (full or text_only):
        return mask.to(hidden.device)
    shorter = hidden.shape[1] < mask.shape[1]
    if full and (shorter or not text_only):
        return torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    raise ModelError(
        "one hidden state for each token",
        f"{tuple(hidden.shape[:2])} from {name} for a mask of {tuple(mask.shape)}",
        "Use batch_size=1 for this model."
        if shorter or not text_only
        else "Such layouts are not supported; measure the IDs yourself and use IDProfile.from_values.",
    )


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.float() / mask.sum(dim=1, keepdim=True)
    return torch.bmm(weights[:, None, :], hidden.float())[:, 0]


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
