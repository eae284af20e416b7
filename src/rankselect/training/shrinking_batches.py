"""Work in batches that shrink when memory runs out."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from rankselect.errors import ArgumentError, OutOfMemoryError, first_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["shrinking_batches"]

logger = logging.getLogger(__name__)

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
