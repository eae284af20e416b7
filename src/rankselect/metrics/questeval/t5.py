"""Text generation with T5: greedy, in float32, like QuestEval's original wrapper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import ArgumentError, MissingExtraError, ModelError, RankSelectError, first_sentence
from rankselect.metrics.questeval.parts import missing_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["T5", "T5Vocabulary"]

_MAX_INPUT = 512
_PAD, _END, _UNKNOWN = 0, 1, 2
_STOCK_SIZE, _STOCK_UNANSWERABLE = 32_000, 73
_DETACHED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@final
@dataclass(frozen=True)
class T5Vocabulary:
    """T5's sentencepiece vocabulary, used as QuestEval's original tokenizer (transformers 4.8.1) used it.

    Newer tokenizers differ from one another around ``</s>``, in texts that end in it, and at unknown tokens. Here the
    vocabulary file is read directly, so the ids do not depend on the version of another library.

    Attributes:
        processor: The vocabulary, a ``sentencepiece.SentencePieceProcessor``.
    """

    processor: Any

    @classmethod
    def read(cls, path: Path) -> T5Vocabulary:
        """Read a vocabulary file (``spiece.model``).

        Raises:
            MissingExtraError: If sentencepiece is not installed.
            ModelError: If the file is not a T5 vocabulary.
        """
        try:
            from sentencepiece import SentencePieceProcessor  # optional
        except ImportError as error:
            raise MissingExtraError("sentencepiece", "questeval") from error
        try:
            processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ModelError(
                "a sentencepiece vocabulary", f"the damaged {path}", "Download the model again."
            ) from error
        special = (processor.pad_id(), processor.eos_id(), processor.unk_id())
        if special != (_PAD, _END, _UNKNOWN):
            raise ModelError("T5's ids 0, 1, 2 for pad, end, unknown", str(special), "Use a model of the T5 family.")
        return cls(processor)

    def encode(self, text: str, max_length: int) -> list[int]:
        """Return the ids of a text, always with an end id; ``</s>`` in the text is one id, and long texts are cut."""
        ids: list[int] = []
        for index, part in enumerate(text.split("</s>")):
            ids += [_END] * (index > 0) + self.processor.encode(part.strip())
        ids = ids[: max_length - 1]
        return ids if ids[-1:] == [_END] else [*ids, _END]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special ids, with punctuation and clitics joined to the word before."""
        size = len(self.processor)  # ids from here on are T5's sentinels
        text: str = self.processor.decode([each for each in ids if _UNKNOWN < each < size]).strip()
        for each in _DETACHED:
            text = text.replace(each, each.strip())
        return text

    def unanswerable(self) -> int:
        """Return the id of the first token of "unanswerable".

        Raises:
            ModelError: If the vocabulary has T5's size, but this id is not T5's id, 73.
        """
        first: int = self.processor.encode("unanswerable")[0]
        if len(self.processor) == _STOCK_SIZE and first != _STOCK_UNANSWERABLE:
            raise ModelError(
                f"id {_STOCK_UNANSWERABLE} at the beginning of 'unanswerable'",
                str(first),
                "If this vocabulary is not T5's own, set unanswerable_id=.",
            )
        return first


@final
@dataclass(frozen=True)
class T5:
    """A loaded model.

    Attributes:
        model: The ``T5ForConditionalGeneration``, in float32 and eval mode.
        vocabulary: Its vocabulary.
    """

    model: Any
    vocabulary: T5Vocabulary

    @classmethod
    def load(cls, name: str, revision: str, device: str) -> T5:
        """Load a model by its hub name or from a folder.

        Raises:
            ModelError: If there is no such model, or no network to download it.
            MissingExtraError: If sentencepiece is not installed.
            ArgumentError: If the device does not exist or has too little memory.
        """
        import torch
        from transformers import T5ForConditionalGeneration
        from transformers.utils.hub import cached_file

        try:
            vocabulary = T5Vocabulary.read(Path(str(cached_file(name, "spiece.model", revision=revision))))
            model = T5ForConditionalGeneration.from_pretrained(name, revision=revision, dtype=torch.float32)
        except (OSError, ValueError) as error:
            if isinstance(error, RankSelectError):
                raise
            raise missing_model(name, error) from error
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            return cls(model.eval().to(chosen), vocabulary)
        except (RuntimeError, AssertionError) as error:
            got = f"{chosen} ({first_sentence(error)})"
            raise ArgumentError("a device that can hold the model", got, 'Set device="cpu".') from error

    def texts(self, inputs: Sequence[str], *, batch_size: int, max_new_tokens: int) -> list[str]:
        """Generate a text for each input."""
        found = [""] * len(inputs)
        for rows, output in self._batches(inputs, batch_size, max_new_tokens, output_logits=False):
            for row, ids in zip(rows, output.sequences.tolist(), strict=True):
                found[row] = self.vocabulary.decode(ids)
        return found

    def texts_unless(
        self, inputs: Sequence[str], first_id: int, *, batch_size: int, max_new_tokens: int
    ) -> list[tuple[str, float]]:
        """Generate a text for each input, and return the probability that it does not begin with `first_id`."""
        found = [("", 0.0)] * len(inputs)
        for rows, output in self._batches(inputs, batch_size, max_new_tokens, output_logits=True):
            others = 1 - output.logits[0].softmax(dim=-1)[:, first_id]
            for row, ids, other in zip(rows, output.sequences.tolist(), others.tolist(), strict=True):
                found[row] = (self.vocabulary.decode(ids), other)
        return found

    def _batches(
        self, inputs: Sequence[str], batch_size: int, max_new_tokens: int, *, output_logits: bool
    ) -> Iterator[tuple[list[int], Any]]:
        """Yield (rows of the batch, model output); inputs of similar length are in the same batch."""
        import torch

        encoded = [self.vocabulary.encode(text, _MAX_INPUT) for text in inputs]
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
                    max_length=max_new_tokens + 1,  # the decoder's start token counts
                    do_sample=False,
                    num_beams=1,
                    return_dict_in_generate=True,
                    output_logits=output_logits,
                )
            yield rows, output
