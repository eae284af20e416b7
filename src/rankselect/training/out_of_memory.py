"""Out of memory: smaller batches with the same result, and an error that lists what would save how much memory."""

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
    """Run a function on batches; when a batch does not fit into memory, halve the batch size and continue.

    Args:
        items: The items to batch; put the largest first, so that a lack of memory shows in the first batch.
        batch_size: Items per batch.
        run: The function; it is called again with the halves of a batch that did not fit.

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
            logger.warning("Out of memory with %d rows per batch: continuing with %d.", len(batch), size)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _attempt(run: Callable[[Sequence[Item]], Result], batch: Sequence[Item]) -> tuple[list[Result], str | None]:
    """Return the result in a list, or the error's message; the exception and its tensors are released at once."""
    try:
        return [run(batch)], None
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or should_reduce_batch_size(error)):
            raise
        return [], first_sentence(error) or "MemoryError"


def n_rows(inputs: Mapping[str, Any]) -> int:
    """Return the number of rows in a batch.

    Example:
        >>> n_rows({"input_ids": torch.zeros(3, 5)})
        3
    """
    return next(len(value) for value in inputs.values() if isinstance(value, torch.Tensor) and value.ndim)


def micro_batches(inputs: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """Split a batch into micro-batches of at most `size` rows; values without an entry per row are passed to each.

    Example:
        >>> [n_rows(each) for each in micro_batches({"input_ids": torch.zeros(5, 2)}, 2)]
        [2, 2, 1]
    """
    rows = n_rows(inputs)
    for start in range(0, rows, size):
        yield {name: _slice(value, start, size, rows) for name, value in inputs.items()}


def loss_share(micro_batch: Mapping[str, Any], batch: Mapping[str, Any]) -> float:
    """Return the weight of a micro-batch in the mean loss of its batch: by label tokens, or by rows without labels.

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
    """Return the error for a training step that does not fit into memory, with what each change would save.

    Args:
        model: The base model.
        plan: The ranks.
        batch_size: Rows in the forward pass that failed.
        length: Tokens in each of its rows.
        **settings: Further arguments of `rankselect.memory.savings`.

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
    except Exception:  # a failure here must not hide the original error
        logger.warning("Could not compute the memory that each change would save.", exc_info=True)
        changes = []
    advice = "; ".join(
        f"{change.how} saves about {change.saved_bytes / 2**20:,.0f} MiB" for change in changes[:_CHANGES_SHOWN]
    )
    return OutOfMemoryError(
        "enough memory for a training step",
        f"too little for {batch_size} row{'s' if batch_size > 1 else ''} of {length} tokens",
        f"{advice}." if advice else "Use gradient checkpointing, 4-bit weights, shorter rows, or lower ranks.",
    )
