"""A T5 model that turns texts into texts: greedy, in float32, as QuestEval's original wrapper did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, RankSelectError, first_sentence
from rankselect.metrics.questeval.pieces import Pieces
from rankselect.metrics.questeval.weights import missing_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["T5"]

_MAX_INPUT = 512


@final
@dataclass(frozen=True)
class T5:
    """A loaded model.

    Attributes:
        model: The ``T5ForConditionalGeneration``, in float32 and eval mode.
        pieces: Its vocabulary.
    """

    model: Any
    pieces: Pieces

    @classmethod
    def load(cls, name: str, revision: str, device: str) -> T5:
        """Load a model by its hub name or from a folder.

        Raises:
            ModelError: If there is no such model, or no network to fetch it with.
            MissingExtraError: If sentencepiece is not installed.
            ArgumentError: If the device is missing or too small.
        """
        import torch
        from transformers import T5ForConditionalGeneration
        from transformers.utils.hub import cached_file

        try:
            vocabulary = cached_file(name, "spiece.model", revision=revision)
            pieces = Pieces.read(Path(str(vocabulary)))
            model = T5ForConditionalGeneration.from_pretrained(name, revision=revision, dtype=torch.float32)
        except (OSError, ValueError) as error:
            if isinstance(error, RankSelectError):
                raise
            raise missing_model(name, error) from error
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            return cls(model.eval().to(chosen), pieces)
        except (RuntimeError, AssertionError) as error:
            got = f"{chosen} ({first_sentence(error)})"
            raise ArgumentError("a device that can hold the model", got, 'Set device="cpu".') from error

    def texts(self, inputs: Sequence[str], *, batch_size: int, max_new_tokens: int) -> list[str]:
        """What the model writes for each input."""
        found = [""] * len(inputs)
        for rows, output in self._batches(inputs, batch_size, max_new_tokens, output_logits=False):
            for row, ids in zip(rows, output.sequences.tolist(), strict=True):
                found[row] = self.pieces.decode(ids)
        return found

    def texts_unless(
        self, inputs: Sequence[str], first_id: int, *, batch_size: int, max_new_tokens: int
    ) -> list[tuple[str, float]]:
        """What the model writes for each input, and the probability that it does not begin with `first_id`."""
        found = [("", 0.0)] * len(inputs)
        for rows, output in self._batches(inputs, batch_size, max_new_tokens, output_logits=True):
            others = 1 - output.logits[0].softmax(dim=-1)[:, first_id]
            for row, ids, other in zip(rows, output.sequences.tolist(), others.tolist(), strict=True):
                found[row] = (self.pieces.decode(ids), other)
        return found

    def _batches(
        self, inputs: Sequence[str], batch_size: int, max_new_tokens: int, *, output_logits: bool
    ) -> Iterator[tuple[list[int], Any]]:
        """(rows of the batch, what was generated for them), inputs of similar length together."""
        import torch

        encoded = [self.pieces.encode(text, _MAX_INPUT) for text in inputs]
        order = sorted(range(len(inputs)), key=lambda row: len(encoded[row]))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoded[row]) for row in rows], batch_first=True)
            lengths = torch.tensor([len(encoded[row]) for row in rows])
            mask = torch.arange(ids.shape[1]) < lengths[:, None]
            with torch.no_grad():
                output = self.model.generate(
                    input_ids=ids.to(self.model.device),
                    attention_mask=mask.long().to(self.model.device),
                    max_length=max_new_tokens + 1,  # the decoder's start counts
                    do_sample=False,
                    num_beams=1,
                    return_dict_in_generate=True,
                    output_logits=output_logits,
                )
            yield rows, output
