"""Evaluation mode: no dropout, no gradients, no lasting change. All settings are restored afterwards."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from rankselect.models._transformers import bits_of, resume_checkpointing, stop_checkpointing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["evaluating", "has_dropout"]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@contextmanager
def evaluating(model: nn.Module, *, dropout: bool = False, seed: int = 0) -> Iterator[None]:
    """Evaluation mode without gradients, then every module's own mode and the random number generators back.

    Gradient checkpointing is off meanwhile, because it forbids the cache that generation needs. Four-bit layers of
    bitsandbytes keep their training flag: they have no dropout, and on a CPU with AVX512 they would repack their
    weights for good at the first evaluation-mode pass, after which they can neither be trained nor (for widths that
    are not multiples of 32) run.

    Args:
        model: The model, with or without an adapter.
        dropout: Leave dropout on, inside attention too.
        seed: Seeds the generators of the CPU and of the model's GPUs, from which dropout and sampling draw.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)).train()
        >>> with evaluating(model):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    checkpointed: list[nn.Module] = []
    try:
        checkpointed = stop_checkpointing(model)
        model.eval()
        for module, _ in modes:
            module.training = bits_of(module) == 4 or (dropout and _drops(module))
        with torch.no_grad(), _seeded(model, seed):
            yield
    finally:
        for module, training in modes:
            module.training = training
        resume_checkpointing(checkpointed)


def has_dropout(model: nn.Module) -> bool:
    """Whether the model drops anything in training mode."""
    return any(_drops(module) for module in model.modules())


def _drops(module: nn.Module) -> bool:
    """Whether a module drops anything in training mode: itself, or as the argument of a function that it calls."""
    rates = [value for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]
    children = [module, *module.children()]
    rates += [child.p for child in children if isinstance(child, _DROPOUTS)]
    return any(rate > 0 for rate in rates)


@contextmanager
def _seeded(model: nn.Module, seed: int) -> Iterator[None]:
    gpus = sorted({parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"})
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed other GPUs
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield
