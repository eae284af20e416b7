"""The loss of each reference answer under a model, in nats per token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn import functional

from rankselect.data.encoding import IGNORED, AnswerCollator, encode_rows
from rankselect.data.prompt_tokens import row_length
from rankselect.models.evaluation_mode import evaluating
from rankselect.models.layers import unwrapped
from rankselect.models.suitability import filler_token, require_tokenizer
from rankselect.models.trunk import input_device
from rankselect.training.out_of_memory import shrinking_batches
from rankselect.training.own_template import own_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch
    from torch import nn

    from rankselect.data.prompts import PromptTemplate, QuestionAnswer

__all__ = ["answer_losses"]


def answer_losses(
    model: nn.Module,
    tokenizer: Any,
    rows: Iterable[QuestionAnswer | Mapping[str, Any]],
    *,
    template: PromptTemplate | None = None,
    max_length: int | None = None,
    batch_size: int = 8,
) -> list[float]:
    """Compute the mean loss of each reference answer, given its prompt.

    This is the training loss for each answer separately: the mean over the answer's tokens, including the end-of-text
    token if the answer was not cut. Dropout is off, and the loss of a row does not depend on its batch. The exponential
    of a loss is the answer's perplexity.

    Args:
        model: A causal language model of transformers, with or without an adapter.
        tokenizer: Its tokenizer.
        rows: Questions with their answers, as `load_rows` returns them, or mappings with question and answer.
        template: The prompt template. None: that of the adapter's record, or else the default.
        max_length: The maximum number of tokens in a row; longer rows are cut as in training. None for 512 or the
            model's maximum, whichever is less.
        batch_size: Rows per batch; a batch that does not fit into memory is halved.

    Returns:
        One loss for each row, in nats per token.

    Raises:
        DataError: As for `encode_rows`.
        ModelError: If the model is not causal, or has no embedding for a token.
        ArgumentError: If `max_length` is above the model's maximum, or `batch_size` is less than 1.
        OutOfMemoryError: If not even one row fits into memory.

    Warns:
        RankSelectWarning: If rows were cut.

    Example:
        >>> from rankselect.data.medical_qa import medical_qa
        >>> from rankselect.training.small_phi import small_phi
        >>> model, tokenizer = small_phi(steps=0, progress=False)
        >>> [loss] = answer_losses(model, tokenizer, medical_qa()[:1])
        >>> 7 < loss < 8  # untrained: near log(1500), the size of its vocabulary
        True
    """
    tokenizer = require_tokenizer(tokenizer)
    template = own_template(model, tokenizer, template)
    length = row_length(model, tokenizer, max_length)
    encoded = encode_rows(rows, tokenizer, template=template, max_length=length, model=model)
    collate, device = AnswerCollator(filler_token(model, tokenizer)), input_device(model)
    order = sorted(range(len(encoded)), key=lambda index: -encoded.lengths[index])
    losses: dict[int, float] = {}

    def losses_of(batch: Sequence[int]) -> list[float]:
        inputs = {name: tensor.to(device) for name, tensor in collate([encoded[index] for index in batch]).items()}
        return _row_losses(unwrapped(model), inputs)

    with evaluating(model):
        for batch, found in shrinking_batches(order, batch_size, losses_of):
            losses.update(zip(batch, found, strict=True))
    return [losses[index] for index in range(len(encoded))]


def _row_losses(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[float]:
    targets = inputs["labels"][:, 1:]
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
    learned = targets != IGNORED
    # only the answers' logits are converted to float32: all logits would take gigabytes with a large vocabulary
    losses = functional.cross_entropy(
        logits[:, :-1][learned].float(), targets[learned].to(logits.device), reduction="none"
    )
    return [float(part.mean()) for part in losses.split(learned.sum(dim=1).tolist())]
