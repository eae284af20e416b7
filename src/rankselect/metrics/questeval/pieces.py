"""T5's sentencepiece vocabulary, used as QuestEval's original tokenizer (transformers 4.8.1) used it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Pieces"]

_PAD, _END, _UNKNOWN = 0, 1, 2
_STOCK_SIZE, _STOCK_UNANSWERABLE = 32_000, 73
_DETACHED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


@final
@dataclass(frozen=True)
class Pieces:
    """Text to ids and back.

    Newer tokenizers differ from one another around ``</s>``, in texts that end in it, and at unknown pieces; here
    the vocabulary file is read directly, so that ids do not depend on the version of another library.

    Attributes:
        vocabulary: The vocabulary, a ``sentencepiece.SentencePieceProcessor``.
    """

    vocabulary: Any

    @classmethod
    def read(cls, path: Path) -> Pieces:
        """Read a vocabulary file (``spiece.model``).

        Raises:
            MissingExtraError: If sentencepiece is not installed.
            ModelError: If the file is not one of T5.
        """
        try:
            from sentencepiece import SentencePieceProcessor  # optional
        except ImportError as error:
            raise MissingExtraError("sentencepiece", "questeval") from error
        try:
            vocabulary = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise ModelError(
                "a sentencepiece vocabulary", f"the damaged {path}", "Download the model again."
            ) from error
        special = (vocabulary.pad_id(), vocabulary.eos_id(), vocabulary.unk_id())
        if special != (_PAD, _END, _UNKNOWN):
            raise ModelError("T5's ids 0, 1, 2 for pad, end, unknown", str(special), "Use a model of the T5 family.")
        return cls(vocabulary)

    def encode(self, text: str, max_length: int) -> list[int]:
        """The ids of a text, always with an end; ``</s>`` within it is one id, and what is too long loses its tail."""
        ids: list[int] = []
        for index, part in enumerate(text.split("</s>")):
            ids += [_END] * (index > 0) + self.vocabulary.encode(part.strip())
        ids = ids[: max_length - 1]
        return ids if ids[-1:] == [_END] else [*ids, _END]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without special ids, and with punctuation and clitics joined to the word before."""
        size = len(self.vocabulary)  # ids from there on are T5's sentinels
        text: str = self.vocabulary.decode([each for each in ids if _UNKNOWN < each < size]).strip()
        for each in _DETACHED:
            text = text.replace(each, each.strip())
        return text

    def unanswerable(self) -> int:
        """The id with which the answer "unanswerable" begins.

        Raises:
            ModelError: If a vocabulary of T5's size does not begin it with T5's id, 73.
        """
        first: int = self.vocabulary.encode("unanswerable")[0]
        if len(self.vocabulary) == _STOCK_SIZE and first != _STOCK_UNANSWERABLE:
            raise ModelError(
                f"id {_STOCK_UNANSWERABLE} at the beginning of 'unanswerable'",
                str(first),
                "If this vocabulary is not T5's own, set unanswerable_id=.",
            )
        return first
