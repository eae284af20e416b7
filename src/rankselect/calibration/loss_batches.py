"""The batches of a calibration whose loss is measured, in two random halves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np
import torch

from rankselect.calibration.batches import encode
from rankselect.data.encoding import IGNORED, AnswerCollator, encode_rows
from rankselect.errors import ArgumentError, ModelError, TextsError
from rankselect.models.suitability import filler_token, require_causal, require_embedded
from rankselect.models.trunk import longest_input

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

    from rankselect.calibration.evidence import Calibration
    from rankselect.data.prompts import QuestionAnswer

__all__ = ["LossBatch", "LossBatches", "finite_loss", "loss_batches"]


@final
@dataclass(frozen=True)
class LossBatch:
    """One batch.

    Attributes:
        inputs: ``input_ids``, ``attention_mask`` and ``labels``, each (rows, length), on the CPU.
        half: The half that its rows belong to: 0 or 1.
        n_tokens: The tokens that carry loss, in each row.
    """

    inputs: dict[str, torch.Tensor]
    half: int
    n_tokens: tuple[int, ...]


@final
@dataclass(frozen=True)
class LossBatches:
    """All batches.

    Attributes:
        batches: The batches, of each half the longest first.
        digest: SHA-256 of the rows' tokens and labels, in the order in which they were given.
    """

    batches: tuple[LossBatch, ...]
    digest: str

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return sum(len(batch.n_tokens) for batch in self.batches)

    def tokens_of(self, half: int) -> int:
        """The tokens of a half that carry loss."""
        return sum(sum(batch.n_tokens) for batch in self.batches if batch.half == half)

    def shuffled(self, n: int, seed: int) -> Iterator[LossBatch]:
        """So many batches: all of them in a random order, again and again."""
        random = np.random.default_rng(seed)
        order: list[int] = []
        for _ in range(n):
            order = order or random.permutation(len(self.batches)).tolist()
            yield self.batches[order.pop()]

    def described(self, calibration: Calibration) -> dict[str, Any]:
        """The part of a measurement that names the rows."""
        return {
            "n_rows": self.n_rows,
            "rows_digest": self.digest,
            "loss_on": "answers" if calibration.has_rows else "all tokens",
            "max_length": calibration.max_length,
            "batch_size": calibration.batch_size,
            "seed": calibration.seed,
        }


def finite_loss(model: nn.Module, batch: LossBatch, device: torch.device) -> torch.Tensor:
    """The mean loss of a batch, with its graph.

    Raises:
        ModelError: If it is not finite.
    """
    run: Any = model
    loss: torch.Tensor = run(**{name: each.to(device) for name, each in batch.inputs.items()}, use_cache=False).loss
    if not torch.isfinite(loss):
        raise ModelError(
            "a finite loss on every batch of the calibration",
            f"{float(loss)}",
            "Load the model in bfloat16 or float32, and look for rows that are not text.",
        )
    return loss


def loss_batches(calibration: Calibration) -> LossBatches:
    """Tokenize the rows or texts of a calibration, and split them into two halves at random.

    Of rows, the answers carry loss; of texts, all tokens.

    Raises:
        TextsError: If there are fewer than two rows, or if they are model inputs, whose loss is not known.
        ModelError: If the model is not a causal language model.
        DataError: If rows are faulty.
        ArgumentError: If `batch_size` or `max_samples` is out of range.
    """
    if not isinstance(calibration.batch_size, int) or calibration.batch_size < 1:
        raise ArgumentError("batch_size of at least 1", repr(calibration.batch_size), "Use batch_size=8.")
    rows = _rows(calibration)
    if len(rows) < 2:
        raise TextsError("at least two rows, one for each half", str(len(rows)), "Use a hundred or more.")
    collate = AnswerCollator(filler_token(calibration.model, calibration.tokenizer))
    order = np.random.default_rng(calibration.seed).permutation(len(rows))
    batches = []
    for half in (0, 1):
        mine = sorted(order[half::2].tolist(), key=lambda row: (-len(rows[row]["input_ids"]), row))
        for start in range(0, len(mine), calibration.batch_size):
            chosen = [rows[row] for row in mine[start : start + calibration.batch_size]]
            counts = tuple(sum(label != IGNORED for label in row["labels"][1:]) for row in chosen)
            batches.append(LossBatch(collate(chosen), half, counts))
    return LossBatches(tuple(batches), _digest(rows))


def _rows(calibration: Calibration) -> list[dict[str, list[int]]]:
    model, tokenizer = calibration.model, calibration.tokenizer
    require_causal(model)
    limit = longest_input(model, tokenizer, calibration.max_length)
    if calibration.has_rows:
        given = cast("Sequence[QuestionAnswer]", calibration.texts)
        rows: list[dict[str, list[int]]] = list(
            encode_rows(
                _drawn(given, calibration), tokenizer, template=calibration.template, max_length=limit, model=model
            )
        )
    else:
        samples = encode(tokenizer, calibration.plain_texts, limit, calibration.max_samples, calibration.seed)
        if not isinstance(samples.texts[0], str):
            raise TextsError(
                "texts or question-answer rows, for a loss", "model inputs", "Pass the texts, with the tokenizer."
            )
        ids = [sample["input_ids"].tolist() for sample in samples.inputs]
        require_embedded(model, tokenizer, ids)
        rows = [{"input_ids": row, "labels": row} for row in ids]
    return [row for row in rows if any(label != IGNORED for label in row["labels"][1:])]


def _drawn(rows: Sequence[Any], calibration: Calibration) -> Sequence[Any]:
    most = calibration.max_samples
    if most is None or most >= len(rows):
        return rows
    if most < 1:
        raise ArgumentError("max_samples of at least 1, or None", repr(most), "Use some hundred rows.")
    chosen = np.random.default_rng(calibration.seed).choice(len(rows), size=most, replace=False)
    return [rows[row] for row in sorted(chosen.tolist())]


def _digest(rows: Sequence[dict[str, list[int]]]) -> str:
    found = hashlib.sha256()
    for row in rows:
        for part in (row["input_ids"], row["labels"]):
            found.update(np.asarray(part, dtype="<i8").tobytes())
            found.update(b"|")
    return found.hexdigest()
