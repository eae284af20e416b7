"""The one door to what transformers names otherwise from release to release, or does aloud."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from transformers import TrainingArguments

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "align_special_tokens",
    "checkpointing",
    "enable_checkpointing",
    "old_names_allowed",
    "recomputes_activations",
]

_NEW, _OLD = "activation_checkpointing", "gradient_checkpointing"  # since transformers 5.23, and before
_CHECKPOINTING = _NEW if _NEW in {field.name for field in fields(TrainingArguments)} else _OLD


def checkpointing(*, on: bool) -> dict[str, Any]:
    """The argument of `TrainingArguments` that computes activations twice instead of keeping them."""
    return {_CHECKPOINTING: on}


def recomputes_activations(arguments: TrainingArguments) -> bool:
    """Whether training arguments ask for activations to be computed twice instead of kept."""
    return bool(getattr(arguments, _CHECKPOINTING))


def enable_checkpointing(model: Any, **how: Any) -> None:
    """Let a model of transformers compute activations twice, in the variant that needs no gradients of the inputs.

    Args:
        model: The model itself, inside all wrappers.
        **how: What `torch.utils.checkpoint.checkpoint` takes besides.

    Example:
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> enable_checkpointing(model)
        >>> model.model.layers[0].gradient_checkpointing
        True
    """
    getattr(model, f"{_CHECKPOINTING}_enable")({"use_reentrant": False, **how})


@contextmanager
def old_names_allowed() -> Iterator[None]:
    """Keep transformers from warning of the names by which PEFT 0.21 asks a model whether it is checkpointed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def align_special_tokens(model: Any, tokenizer: Any) -> None:
    """Give the model's configs the tokenizer's special tokens.

    `transformers.Trainer` does the same when training begins, and warns of it at each run. What the tokenizer does not
    define stays as it is, and so do further end tokens.

    Args:
        model: A model of transformers, or a PEFT model.
        tokenizer: Its tokenizer.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> model, tokenizer = tiny_model(), tiny_tokenizer()
        >>> tokenizer.pad_token = "fever"
        >>> align_special_tokens(model, tokenizer)
        >>> model.config.pad_token_id == model.generation_config.pad_token_id == tokenizer.pad_token_id
        True
    """
    generation = getattr(model, "generation_config", None)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token = getattr(tokenizer, name)
        for config in (model.config.get_text_config(), generation):
            known = getattr(config, name, None)
            ids = known if isinstance(known, list) else [known]
            if config is None or token is None or token in ids:
                continue
            several = name == "eos_token_id" and (config is generation or known is ids)
            setattr(config, name, [token, *(each for each in ids if each is not None)] if several else token)
