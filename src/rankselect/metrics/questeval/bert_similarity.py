"""The similarity of two answers by BERTScore."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import MissingExtraError
from rankselect.metrics.questeval.parts import AnswerSimilarity
from rankselect.metrics.questeval.weights import missing_model, weights_identity

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BertSimilarity"]


@final
@dataclass(frozen=True)
class BertSimilarity(AnswerSimilarity):
    """BERTScore F1 of two answers, without idf and without rescaling.

    Args:
        model: The hub name or folder of the encoder. It is loaded at first use.
        layer: The layer whose hidden states are compared.
        batch_size: Answers encoded at once.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda:1"``, …

    Raises:
        MissingExtraError: At first use, if bert-score is not installed.
        ModelError: At first use, if the model cannot be loaded.

    References:
        Zhang, Kishore, Wu, Weinberger, Artzi, "BERTScore: Evaluating Text Generation with BERT", arXiv:1904.09675.

    Example:
        >>> BertSimilarity().layer
        9
    """

    model: str = "bert-base-multilingual-cased"
    layer: int = 9
    batch_size: int = 64
    device: str = "auto"

    def identity(self) -> str:
        """The weights, the layer and the version of bert-score."""
        return f"BertSimilarity {weights_identity(self.model)} {self.layer} bert-score {_bert_score().__version__}"

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The F1 of each (found answer, wanted answer); 0 where one is blank."""
        rows = [row for row, pair in enumerate(pairs) if all(text.strip() for text in pair)]
        values = [0.0] * len(pairs)
        if rows:
            scores = self._scorer.score([pairs[row][0] for row in rows], [pairs[row][1] for row in rows])
            for row, value in zip(rows, scores[2].tolist(), strict=True):
                values[row] = value
        return values

    @cached_property
    def _scorer(self) -> Any:
        try:
            return _bert_score().BERTScorer(
                model_type=self.model,
                num_layers=self.layer,
                batch_size=self.batch_size,
                device=None if self.device == "auto" else self.device,
            )
        except (OSError, ValueError) as error:
            raise missing_model(self.model, error) from error


def _bert_score() -> Any:
    try:
        import bert_score  # optional
    except ImportError as error:
        raise MissingExtraError("bert-score", "metrics") from error
    return bert_score
