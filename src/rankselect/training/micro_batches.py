"""Cuts a batch into pieces that fit into memory, without changing what is learned from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["n_rows", "pieces", "share"]


def n_rows(inputs: Mapping[str, Any]) -> int:
    """The number of rows in a batch.

    Example:
        >>> n_rows({"input_ids": torch.zeros(3, 5)})
        3
    """
    return next(len(value) for value in inputs.values() if isinstance(value, torch.Tensor) and value.ndim)


def pieces(inputs: Mapping[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """A batch in pieces of at most `size` rows; what is no tensor with a row for each is given to every piece.

    Example:
        >>> [n_rows(piece) for piece in pieces({"input_ids": torch.zeros(5, 2)}, 2)]
        [2, 2, 1]
    """
    rows = n_rows(inputs)
    for start in range(0, rows, size):
        yield {name: _slice(value, start, size, rows) for name, value in inputs.items()}


def share(piece: Mapping[str, Any], whole: Mapping[str, Any]) -> float:
    """The weight of a piece's mean loss in the mean loss of the whole: by label tokens, or else by rows.

    Example:
        >>> labels = torch.tensor([[-100, 1, 2, 3], [-100, -100, -100, 4]])
        >>> share({"labels": labels[:1]}, {"labels": labels})
        0.75
    """
    ours, all_of_them = _n_labels(piece), _n_labels(whole)
    return ours / all_of_them if all_of_them else n_rows(piece) / n_rows(whole)


def _slice(value: Any, start: int, size: int, rows: int) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim and len(value) == rows:
        return value[start : start + size]
    return value


def _n_labels(inputs: Mapping[str, Any]) -> int:
    labels = inputs.get("labels")
    if labels is None:
        return 0
    return int((labels[..., 1:] if labels.ndim > 1 else labels).ne(-100).sum())
