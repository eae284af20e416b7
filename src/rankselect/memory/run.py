"""Runs one training step of a model without weights, and counts its memory."""

from __future__ import annotations

import inspect
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from rankselect.errors import ArgumentError, ModelError, RankSelectError, first_sentence
from rankselect.memory._torch import storage_key
from rankselect.memory.autocast import MetaAutocast
from rankselect.memory.estimate import MemoryEstimate
from rankselect.memory.kernels import DeviceKernels
from rankselect.memory.model_copy import add_adapters, set_checkpointing, weightless_copy
from rankselect.memory.quantized import QuantizedLinear, quantize
from rankselect.memory.saved_activations import LiveMemory
from rankselect.memory.step import as_dtype, optimizer_and_states
from rankselect.plan.rank_plan import require_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

    from rankselect.memory.step import TrainingStep
    from rankselect.plan.rank_plan import RankPlan

__all__ = ["predict", "run", "trainable_copy"]

_CUDA_BLOCK = 512  # bytes: PyTorch's allocator rounds every request up to a multiple
_PHASES = {
    "activations": "the forward pass",
    "logits_and_loss": "the loss",
    "temporaries": "the backward pass",
    "optimizer_temporaries": "the optimizer step",
}


def predict(model: nn.Module, plan: RankPlan, step: TrainingStep) -> MemoryEstimate:
    """Predict the peak of a training step; see `rankselect.memory.estimate_memory`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.memory.step import TrainingStep
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> predict(model, rs.Fixed(4).plan(model), TrainingStep(length=64)).moment
        'the backward pass'
    """
    return run(trainable_copy(model, plan, step), step, step.device_of(model))


def trainable_copy(model: nn.Module, plan: RankPlan, step: TrainingStep) -> nn.Module:
    """The model as the step will train it, without weights: typed, quantised, adapted, checkpointed.

    Raises:
        ArgumentError: If the model is quantised in another way than the step.
        ModelError: If the step uses gradient checkpointing and the model does not support it.
        PlanMismatchError: If the plan is for another model.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.memory.step import TrainingStep
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> copy = trainable_copy(model, rs.Fixed(4).plan(model), TrainingStep(length=64))
        >>> sum(parameter.numel() for parameter in copy.parameters() if parameter.requires_grad)
        896
    """
    require_plan(plan)
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

    Args:
        copy: The result of `trainable_copy`. It can be run again with another batch.
        step: The settings.
        device: ``"cuda"`` or ``"cpu"``.

    Raises:
        ModelError: If its forward pass cannot be run without data.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.memory.step import TrainingStep
        >>> from rankselect.testing import tiny_model
        >>> model, steps = tiny_model(), [TrainingStep(batch_size=size, length=64) for size in (1, 2)]
        >>> copy = trainable_copy(model, rs.Fixed(4).plan(model), steps[0])
        >>> one, two = (run(copy, step, "cpu") for step in steps)
        >>> one.base_weights == two.base_weights, one.activations < two.activations
        (True, True)
    """
    block = _CUDA_BLOCK if device == "cuda" else 1
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    optimizer, states = optimizer_and_states(trained, step.optimizer, device)
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
            f"{type(copy).__name__}, which raised {type(error).__name__}: {first_sentence(error)}",
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


@contextmanager
def _as_on(device: str, step: TrainingStep) -> Iterator[None]:
    """Allocate as this kind of device does, in the types that autocast chooses."""
    dtype = as_dtype(step.autocast)
    autocast = nullcontext() if dtype is None else MetaAutocast(dtype, device)
    with DeviceKernels(device, answer=not step.padding), autocast:
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


def _weights(copy: nn.Module, block: int) -> dict[str, int]:
    constants = [module.constants for module in copy.modules() if isinstance(module, QuantizedLinear)]
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    everything = _bytes([*copy.parameters(), *copy.buffers()], block)
    of = {"quantization_constants": _bytes(constants, block), "adapters": _bytes(trained, block)}
    return {"base_weights": everything - sum(of.values()), **of}


def _bytes(tensors: Iterable[torch.Tensor], block: int) -> int:
    """The bytes of their storages, each counted once."""
    storages = {storage_key(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(-(-n_bytes // block) * block for n_bytes in storages.values())


def _commonest_dtype(model: nn.Module) -> torch.dtype:
    sizes: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    return max(sizes, key=lambda dtype: sizes[dtype])
