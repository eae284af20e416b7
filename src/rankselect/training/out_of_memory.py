"""When memory runs out: smaller batches that come to the same, and an error that says what would save how much."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from rankselect.errors import ArgumentError, OutOfMemoryError, first_sentence
from rankselect.memory import savings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from rankselect.plan.rank_plan import RankPlan

__all__ = ["loss_share", "micro_batches", "n_rows", "out_of_memory_error", "shrinking_batches"]

logger = logging.getLogger(__name__)

_CHANGES_SHOWN = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def shrinking_batches(
    items: Sequence[Item], batch_size: int, run: Callable[[Sequence[Item]], Result]
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Run a function over batches; where one does not fit into memory, halve it and go on with that size.

    Args:
        items: What is batched; put the largest first, so that running out of memory shows at once.
        batch_size: Items in a batch.
        run: The function; a batch that runs out of memory is given to it again, in halves.

    Yields:
        Each batch with the function's result.

    Raises:
        OutOfMemoryError: If not even one item fits.
        ArgumentError: If `batch_size` is less than 1.

    Example:
        >>> [result for _, result in shrinking_batches([3, 2, 1], 2, sum)]
        [5, 1]
    """
    if batch_size < 1:
        raise ArgumentError("a batch size of at least 1", repr(batch_size), "For example 8.")
    done, size = 0, batch_size
    while done < len(items):
        batch = items[done : done + size]
        result, ran_out = _attempt(run, batch)
        if ran_out is None:
            yield batch, result[0]
            done += len(batch)
        elif len(batch) == 1:
            raise OutOfMemoryError(
                "memory for one row at a time",
                f"too little ({ran_out})",
                'Load the model with quantization="nf4", or lower max_length or max_new_tokens.',
            )
        else:
            size = (len(batch) + 1) // 2
            logger.warning("out of memory with %d rows at a time: going on with %d", len(batch), size)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _attempt(run: Callable[[Sequence[Item]], Result], batch: Sequence[Item]) -> tuple[list[Result], str | None]:
    """The result in a list, or what ran out; the exception and the tensors that it holds are let go at once."""
    try:
        return [run(batch)], None
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or should_reduce_batch_size(error)):
            raise
        return [], first_sentence(error) or "MemoryError"


def n_rows(inputs: Mapping[str, Any]) -> int:
    """The number of rows in a batch.

    Example:
        >>> n_rows({"input_ids": torch.zeros(3, 5)})
        3
    """
    return next(len(value) for value in inputs.values() if isinstance(value, torch.Tensor) and value.ndim)


def micro_batches(inputs: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """A batch in micro-batches of at most `size` rows. Values that are not tensors of one entry per row go to each.

    Example:
        >>> [n_rows(each) for each in micro_batches({"input_ids": torch.zeros(5, 2)}, 2)]
        [2, 2, 1]
    """
    rows = n_rows(inputs)
    for start in range(0, rows, size):
        yield {name: _slice(value, start, size, rows) for name, value in inputs.items()}


def loss_share(micro_batch: Mapping[str, Any], batch: Mapping[str, Any]) -> float:
    """The weight of a micro-batch's mean loss in the mean loss of its batch: by label tokens, or else by rows.

    Example:
        >>> labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, -100, 4]])
        >>> loss_share({"labels": labels[:1]}, {"labels": labels})
        0.75
    """
    n_labels = _n_labels(batch)
    return _n_labels(micro_batch) / n_labels if n_labels else n_rows(micro_batch) / n_rows(batch)


def _slice(value: Any, start: int, size: int, rows: int) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim and len(value) == rows:
        return value[start : start + size]
    return value


def _n_labels(inputs: Mapping[str, Any]) -> int:
    labels = inputs.get("labels")
    if labels is None:
        return 0
    return int((labels[..., 1:] if labels.ndim > 1 else labels).ne(-100).sum())


def out_of_memory_error(
    model: nn.Module, plan: RankPlan, *, batch_size: int, length: int, **settings: Any
) -> OutOfMemoryError:
    """The error of a training step that does not fit, with what each change would save.

    Args:
        model: The base model.
        plan: The ranks.
        batch_size: Rows in the forward pass that failed.
        length: Its tokens in a row.
        **settings: What `rankselect.memory.savings` takes besides.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> model = tiny_model()
        >>> error = out_of_memory_error(model, rs.Fixed(4).plan(model), batch_size=1, length=64)
        >>> error.got
        'too little for 1 row of 64 tokens'
    """
    try:
        changes = savings(model, plan, batch_size=batch_size, length=length, **settings)
    except Exception:  # a model that cannot be built anew must not hide what went wrong
        logger.warning("What each change would save could not be computed for this model.", exc_info=True)
        changes = []
    advice = "; ".join(
        f"{change.how} saves about {change.saved_bytes / 2**20:,.0f} MiB" for change in changes[:_CHANGES_SHOWN]
    )
    return OutOfMemoryError(
        "enough memory for a training step",
        f"too little for {batch_size} row{'s' if batch_size > 1 else ''} of {length} tokens",
        f"{advice}." if advice else "Use gradient checkpointing, 4-bit weights, shorter rows, or lower ranks.",
    )
