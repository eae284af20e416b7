"""Whether a model and a tokenizer fit the work: checks before anything that takes long."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from rankselect.errors import ArgumentError, ModelError, described
from rankselect.models._transformers import is_processor
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import require_model, unwrapped
from rankselect.models.quantized_layers import quantization_of
from rankselect.models.trunk import input_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

__all__ = ["filler_token", "require_causal", "require_embedded", "require_tokenizer", "tokenizer_of"]

_SMALLEST_EFFECT = 1e-4  # of a later token on an earlier one, relative to its effect on itself: below, it is rounding
_known_causal: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def tokenizer_of(given: Any) -> Any:
    """The tokenizer of a processor; anything else is returned as it is.

    Example:
        >>> from rankselect.testing import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer()
        >>> tokenizer_of(tokenizer) is tokenizer
        True
    """
    return getattr(given, "tokenizer", given) if is_processor(given) else given


def require_tokenizer(given: Any) -> Any:
    """The tokenizer itself, or that of a processor.

    Raises:
        ArgumentError: If it is neither: a name, a class, a model.

    Example:
        >>> require_tokenizer("gpt2")
        Traceback (most recent call last):
            ...
        rankselect.errors.ArgumentError: expected a tokenizer, got 'gpt2'. Load it first, for example with \
rankselect.load_tokenizer.
    """
    found = tokenizer_of(given)
    if isinstance(found, type) or not (callable(found) and hasattr(found, "convert_ids_to_tokens")):
        remedy = "Load it first, for example with rankselect.load_tokenizer."
        raise ArgumentError("a tokenizer", described(given), remedy)
    return found


def require_causal(model: object) -> None:
    """Refuse a model that is not a causal language model: one that would see the answers that it learns to predict.

    A model with weights is also run on a few tokens once: if a later token changes the output for an earlier one, the
    model is not causal, whatever its class.

    Raises:
        ModelError: If it is an encoder-decoder, a masked language model, a model without a language-model head, or
            another one that is not causal.

    Example:
        >>> import transformers
        >>> from rankselect.testing import tiny_model
        >>> require_causal(tiny_model())
        >>> require_causal(tiny_model().model)
        Traceback (most recent call last):
            ...
        rankselect.errors.ModelError: expected a causal language model, which predicts each token from those before \
it, got a LlamaModel, which has no language-model head. Load it with transformers.AutoModelForCausalLM.
    """
    require_model(model)
    base: Any = unwrapped(model)  # type: ignore[arg-type]
    if base in _known_causal:
        return
    wanted = "a causal language model, which predicts each token from those before it"
    name, remedy = f"a {type(base).__name__}", "Use a model such as Llama or Qwen, loaded with AutoModelForCausalLM."
    config = getattr(base, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(wanted, f"{name}, which is an encoder-decoder", remedy)
    if not (hasattr(base, "can_generate") and base.can_generate()):
        head = getattr(base, "get_output_embeddings", lambda: None)()
        if head is None:
            remedy = "Load it with transformers.AutoModelForCausalLM."
            raise ModelError(wanted, f"{name}, which has no language-model head", remedy)
        raise ModelError(wanted, f"{name}, which does not generate text", remedy)
    if _sees_later_tokens(base):
        if getattr(config, "is_decoder", None) is False:
            remedy = "Load it with is_decoder=True in its config if it was trained as a decoder."
        raise ModelError(wanted, f"{name}, whose output for a token depends on later tokens", remedy)
    if all(not parameter.is_meta for parameter in base.parameters()):
        _known_causal.add(base)


def _sees_later_tokens(base: Any) -> bool:
    """Whether another last token changes the output for the first one by more than rounding."""
    is_meta = any(parameter.is_meta for parameter in base.parameters())
    if is_meta or quantization_of(base) == "int8":  # int8 layers look for outliers in the complete input
        return False
    n = _n_embeddings(base) or 9
    first, other = torch.tensor([[n // 2] * 4]), torch.tensor([[n // 2] * 3 + [n // 2 - 1]])
    try:
        with evaluating(base), torch.no_grad():
            once, again, changed = (base(input_ids=ids.to(input_device(base))).logits for ids in (first, first, other))
    except Exception:  # noqa: BLE001  (a model that needs more than token ids says so when it is used)
        return False
    effect = (once - changed).float().abs().amax(dim=-1)[0]
    noise = (once - again).float().abs().max()
    return bool(effect[0] > _SMALLEST_EFFECT * effect[-1] and effect[0] > 10 * noise)


def require_embedded(model: nn.Module | None, tokenizer: Any, rows: Iterable[Sequence[int]]) -> None:
    """Refuse token ids that are outside the model's embeddings.

    Args:
        model: The model, or None if it is not known yet.
        tokenizer: The tokenizer, for the message.
        rows: The token ids, without padding.

    Raises:
        ModelError: If an id is outside; the message names the id and its token.
    """
    n = None if model is None else _n_embeddings(unwrapped(model))
    if n is None:
        return
    largest = max((max(row, default=0) for row in rows), default=0)
    if largest >= n:
        token = tokenizer_of(tokenizer).convert_ids_to_tokens(int(largest))
        raise ModelError(
            f"token ids below {n}, the number of the model's embeddings",
            f"{largest}, the token {token!r}",
            "Use the model's own tokenizer, or call model.resize_token_embeddings(len(tokenizer)) and train the new "
            "rows (trainable_token_indices).",
        )


def filler_token(model: nn.Module | None, tokenizer: Any) -> int:
    """A token id for padding, which is masked: that of the tokenizer or of the model if it is embedded, else another.

    Example:
        >>> from rankselect.testing import tiny_model, tiny_tokenizer
        >>> model, tokenizer = tiny_model(), tiny_tokenizer()
        >>> _ = tokenizer.add_special_tokens({"pad_token": "[NEW]"})
        >>> tokenizer.pad_token_id < model.get_input_embeddings().num_embeddings, filler_token(model, tokenizer)
        (False, 1)
    """
    base = None if model is None else unwrapped(model)
    n = None if base is None else _n_embeddings(base)
    known = tokenizer_of(tokenizer)
    config = getattr(base, "config", None)
    candidates = (
        *(getattr(owner, "pad_token_id", None) for owner in (known, config)),
        getattr(known, "eos_token_id", None),
    )
    legal = (each for each in candidates if isinstance(each, int) and each >= 0 and (n is None or each < n))
    return next(legal, 0)


def _n_embeddings(base: Any) -> int | None:
    """The number of input embeddings of a model; None if it has none."""
    try:
        embeddings = base.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return getattr(embeddings, "num_embeddings", None)
