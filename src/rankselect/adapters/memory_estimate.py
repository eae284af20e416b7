"""The peak memory of one training step, predicted by running it without data."""

from __future__ import annotations

import inspect
import math
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, final

import torch
from torch import nn

from rankselect.adapters.memory_autocast import MetaAutocast
from rankselect.adapters.memory_copy import QuantizedLinear, add_adapters, quantize, set_checkpointing, weightless_copy
from rankselect.adapters.memory_kernels import DeviceKernels
from rankselect.adapters.memory_step import TrainingStep, as_dtype, name_of
from rankselect.adapters.saved_activations import LiveMemory
from rankselect.errors import ArgumentError, ModelError, RankSelectError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rankselect.plan.rank_plan import RankPlan

__all__ = ["MemoryEstimate", "predict", "run", "trainable_copy"]

_CUDA_BLOCK = 512  # bytes: PyTorch's allocator rounds every request up to a multiple
_8BIT_FROM, _8BIT_BLOCK = 4096, 256  # bitsandbytes: smaller tensors keep 32-bit states; states that share a constant
_PHASES = {
    "activations": "the forward pass",
    "logits_and_loss": "the loss",
    "temporaries": "the backward pass",
    "optimizer_temporaries": "the optimizer step",
}


@final
@dataclass(frozen=True)
class MemoryEstimate:
    """The bytes of a training step at the moment when it takes the most.

    The parts add up to the peak. Parts that are not there at that moment are 0: where the loss takes the most, no
    gradient exists yet.

    Attributes:
        base_weights: The base model's parameters and buffers, as stored.
        quantization_constants: The scales of quantised weights.
        adapters: The adapters' weights.
        optimizer_states: What the optimizer keeps between steps.
        gradients: The adapters' gradients that exist then.
        activations: What the layers keep for the backward pass, and the batch itself.
        logits_and_loss: The output head's logits, their float32 copy, the log-probabilities and their gradients.
        temporaries: What the backward pass or the optimizer holds for a moment: gradients of activations, layers that
            are computed again, weights that are unpacked to be multiplied.
        moment: Where in the step the peak is, for example ``"the backward pass"``.
        device: The kind of device whose kernels were counted.
        step: The settings.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> import rankselect as rs
        >>> model = tiny_model()
        >>> estimate = predict(model, rs.Fixed(4).plan(model), TrainingStep(batch_size=2, length=64))
        >>> estimate.adapters, estimate.optimizer_states, sum(estimate.parts.values()) == estimate.peak
        (5120, 10272, True)
    """

    base_weights: int
    quantization_constants: int
    adapters: int
    optimizer_states: int
    gradients: int
    activations: int
    logits_and_loss: int
    temporaries: int
    moment: str
    device: str
    step: TrainingStep

    @property
    def parts(self) -> dict[str, int]:
        """``{part: bytes}``, in the order of the attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.type == "int"}

    @property
    def peak(self) -> int:
        """The most bytes in use at once: the sum of the parts."""
        return sum(self.parts.values())

    def to_dict(self) -> dict[str, Any]:
        """The estimate in JSON values: the parts, ``peak``, ``moment``, ``device`` and the settings."""
        step = {name: name_of(value) if isinstance(value, torch.dtype) else value for name, value in vars(self.step).items()}
        return {**self.parts, "peak": self.peak, "moment": self.moment, "device": self.device, "step": step}

    def __str__(self) -> str:
        rows = [(name.replace("_", " "), n_bytes) for name, n_bytes in self.parts.items()]
        rows.append((f"peak, in {self.moment}", self.peak))
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {as_text(n_bytes):>10}  {n_bytes / self.peak:>6.1%}" for name, n_bytes in rows]
        return "\n".join([f"{self.step}, on {self.device}", *lines])


def predict(model: nn.Module, plan: RankPlan, step: TrainingStep) -> MemoryEstimate:
    """Predict the peak of a training step; see `rankselect.adapters.memory.estimate_memory`."""
    return run(trainable_copy(model, plan, step), step, step.device_of(model))


def trainable_copy(model: nn.Module, plan: RankPlan, step: TrainingStep) -> nn.Module:
    """The model as the step will train it, without weights: typed, quantised, adapted, checkpointed.

    Raises:
        ArgumentError: If the model is quantised in another way than the step asks for.
        ModelError: If the step asks for gradient checkpointing and the model has none.
        PlanMismatchError: If the plan is for another model.
    """
    step.check(model)
    bare = weightless_copy(model)
    dtype = as_dtype(step.dtype)
    if dtype is not None:
        for parameter in bare.parameters():
            parameter.data = parameter.data.to(dtype) if parameter.is_floating_point() else parameter.data
    kinds = {module.kind for module in bare.modules() if isinstance(module, QuantizedLinear)}
    if kinds and step.quantization not in ("none", *kinds):
        raise ArgumentError(
            f"a model that can be loaded in {step.quantization}", f"one in {kinds.pop()}", 'Use quantization="none".'
        )
    if not kinds and step.quantization != "none":
        quantize(bare, step.quantization, dtype or _commonest_dtype(bare))
    if step.upcast and (kinds or step.quantization != "none"):
        for parameter in bare.parameters():
            parameter.data = parameter.data.float() if parameter.is_floating_point() else parameter.data
    device = step.device_of(model)
    set_checkpointing(bare, (lambda: _as_on(device, step)) if step.gradient_checkpointing else None)
    add_adapters(bare, plan, as_dtype(step.adapter_dtype) or torch.float32, step.lora_dropout)
    return bare.train()


def run(copy: nn.Module, step: TrainingStep, device: str) -> MemoryEstimate:
    """Run one step of a model without weights, the second of a training: the optimizer has its states.

    Raises:
        ModelError: If its forward pass cannot be run without data.
    """
    block = _CUDA_BLOCK if device == "cuda" else 1
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    optimizer, states = _optimizer(trained, step.optimizer, device)
    memory = LiveMemory([*copy.parameters(), *copy.buffers(), *states], block_bytes=block)
    hooks = [p.register_post_accumulate_grad_hook(lambda p: memory.move(p.grad, "gradients")) for p in trained]
    hooks.append(_head_hook(copy, memory))
    try:
        with memory:
            if step.accumulate:
                memory.part = "gradients"
                for parameter in trained:
                    parameter.grad = torch.empty_like(parameter)
            memory.part = "activations"
            with _as_on(device, step):
                loss = _loss(copy, step)
            memory.part = "temporaries"
            loss.backward()
            del loss
            memory.part = "optimizer_temporaries"
            if optimizer is not None:
                optimizer.step()
    except RankSelectError:
        raise
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise ModelError(
            "a model whose training step can be run without data",
            f"{type(copy).__name__}, where {type(error).__name__} says: {first_sentence(error)}",
            'Some models (mixtures of experts) need dtype="bfloat16" for that; measure a step of the others instead.',
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in trained:
            parameter.grad = None
    at_peak = memory.at_peak
    return MemoryEstimate(
        **_weights(copy, block),
        optimizer_states=_bytes(states, block),
        gradients=at_peak["gradients"],
        activations=at_peak["activations"],
        logits_and_loss=at_peak["logits_and_loss"],
        temporaries=at_peak["temporaries"] + at_peak["optimizer_temporaries"],
        moment=_PHASES[memory.peak_part],
        device=device,
        step=step,
    )


def as_text(n_bytes: float) -> str:
    """Bytes with a unit that leaves at most four digits before the point: ``"1.50 GiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if abs(n_bytes) < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.2f} GiB"


@contextmanager
def _as_on(device: str, step: TrainingStep) -> Iterator[None]:
    """Allocate as this kind of device does, in the types that autocast chooses."""
    dtype = as_dtype(step.autocast)
    with DeviceKernels(device, answer=not step.padding), nullcontext() if dtype is None else MetaAutocast(dtype, device):
        yield


def _loss(copy: nn.Module, step: TrainingStep) -> torch.Tensor:
    """The loss of a batch as trainers compute it; outputs other than the loss are let go."""
    accepted = inspect.signature(copy.forward).parameters
    if "input_ids" not in accepted:
        raise ModelError("a model that reads input_ids", type(copy).__name__, "Only models of token ids are counted.")
    ids = torch.empty(step.batch_size, step.length, dtype=torch.long, device="meta")
    batch: dict[str, Any] = {"input_ids": ids}
    if "attention_mask" in accepted:
        batch["attention_mask"] = torch.empty_like(ids)
    if "use_cache" in accepted or "kwargs" in accepted:
        batch["use_cache"] = False
    if "labels" in accepted:
        per_row = any(word in type(copy).__name__ for word in ("SequenceClassification", "MultipleChoice"))
        batch["labels"] = ids.new_empty(step.batch_size) if per_row else torch.empty_like(ids)
    output = copy(**batch)
    if step.autocast is not None:  # accelerate, and with it Trainer, returns outputs in float32
        output = type(output)({k: v.float() if isinstance(v, torch.Tensor) else v for k, v in output.items()})
    if "labels" in batch:
        return output.loss  # type: ignore[no-any-return]
    return (output[0] if isinstance(output, tuple) else next(iter(output.values()))).float().mean()  # type: ignore[no-any-return]


def _head_hook(copy: Any, memory: LiveMemory) -> Any:
    """Count under "logits and loss" from the output head on; without one, from the end of the trunk on."""

    def begin(*_: Any) -> None:
        if memory.part == "activations":
            memory.part = "logits_and_loss"

    head = copy.get_output_embeddings() if hasattr(copy, "get_output_embeddings") else None
    if head is not None:
        return head.register_forward_pre_hook(begin)
    return getattr(copy, "base_model", copy).register_forward_hook(begin)


def _optimizer(
    trained: list[nn.Parameter], name: str, device: str
) -> tuple[torch.optim.Optimizer | None, list[torch.Tensor]]:
    """An optimizer after its first step, and the tensors that it keeps; None for those of bitsandbytes."""
    if "8bit" in name or name.startswith("paged"):
        sizes = (size for parameter in trained for size in _bitsandbytes_states(parameter.numel(), eight_bit="8bit" in name))
        return None, [torch.empty(size, dtype=torch.uint8, device="meta") for size in sizes]
    foreach = device == "cuda"
    optimizer: torch.optim.Optimizer
    if name == "adamw":
        optimizer = torch.optim.AdamW(trained, foreach=foreach)
    else:
        optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9 if name == "sgd_momentum" else 0.0, foreach=foreach)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)]
    return optimizer, kept


def _bitsandbytes_states(n: int, *, eight_bit: bool) -> Iterable[int]:
    """The bytes of the two states of one tensor, and of their constants."""
    if not eight_bit or n < _8BIT_FROM:
        return (4 * n, 4 * n)
    constants = 4 * math.ceil(n / _8BIT_BLOCK)
    return (n, n, constants, constants)


def _weights(copy: nn.Module, block: int) -> dict[str, int]:
    constants = [module.constants for module in copy.modules() if isinstance(module, QuantizedLinear)]
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    everything = _bytes([*copy.parameters(), *copy.buffers()], block)
    of = {"quantization_constants": _bytes(constants, block), "adapters": _bytes(trained, block)}
    return {"base_weights": everything - sum(of.values()), **of}


def _bytes(tensors: Iterable[torch.Tensor], block: int) -> int:
    """The bytes of their storages, each counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}  # noqa: SLF001
    return sum(-(-n_bytes // block) * block for n_bytes in storages.values())


def _commonest_dtype(model: nn.Module) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    return max(sizes, key=lambda dtype: sizes[dtype])
