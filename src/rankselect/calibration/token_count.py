"""How many tokens of your rows carry loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from rankselect.calibration.evidence import Evidence
from rankselect.calibration.loss_batches import loss_batches
from rankselect.errors import EvidenceError
from rankselect.files import field as checked
from rankselect.files import read_document, write_document

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from typing_extensions import Self

    from rankselect.calibration.evidence import Calibration

__all__ = ["TokenCount"]

_FORMAT, _VERSION = "rankselect.token_count", 1


@final
@dataclass(frozen=True)
class TokenCount(Evidence):
    """The number of tokens that carry loss: those of the answers of rows, or all tokens of texts.

    Attributes:
        n_tokens: The tokens, in one pass over the rows.
        measurement: The number of rows, their digest, and how they were cut.

    Raises:
        EvidenceError: If it is not an integer of at least 1.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> TokenCount.measure(rs.Calibration(tiny_model(), tiny_tokenizer(), tiny_texts(4))).n_tokens > 20
        True
    """

    n_tokens: int
    measurement: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.n_tokens, bool) or not isinstance(self.n_tokens, int) or self.n_tokens < 1:
            raise EvidenceError("an integer of at least 1 tokens", repr(self.n_tokens), "Count them on your rows.")

    @classmethod
    def measure(cls, calibration: Calibration) -> TokenCount:
        """Count the tokens of a calibration's rows or texts; the model does not run.

        Raises:
            TextsError: If there are fewer than two rows, or none that are texts.
            ModelError: If the model is not causal.
        """
        batches = loss_batches(calibration)
        return cls(batches.tokens_of(0) + batches.tokens_of(1), batches.described(calibration))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the count as JSON; an existing file is replaced in one step."""
        document = {"n_tokens": self.n_tokens, "measurement": dict(self.measurement)}
        write_document(path, {"format": _FORMAT, "version": _VERSION, **document})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a count that `save` wrote.

        Raises:
            FileFormatError: If the file is damaged, of another kind or of a newer version.
        """
        document = read_document(path, _FORMAT, _VERSION)
        return cls(checked(document, "n_tokens", int, path), checked(document, "measurement", dict, path))
