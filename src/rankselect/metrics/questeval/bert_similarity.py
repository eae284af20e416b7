"""The similarity of two answers by BERTScore."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from rankselect.errors import MetricError
from rankselect.metrics.bert_score import f1_scores, load_scorer, needs_prefix_space, require_bert_score
from rankselect.metrics.questeval.parts import AnswerSimilarity, missing_model, weights_identity

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
        """The weights, the layer, the version of bert-score, and how the first word is tokenized."""
        version, prefix = require_bert_score().__version__, " add_prefix_space" if self._prefix_space else ""
        return f"BertSimilarity {weights_identity(self.model)} {self.layer} bert-score {version}{prefix}"

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The F1 of each (found answer, wanted answer); 0 where one is blank."""
        return f1_scores(self._scorer, pairs)

    @cached_property
    def _scorer(self) -> Any:
        device = None if self.device == "auto" else self.device
        try:
            return load_scorer(self.model, self.layer, batch_size=self.batch_size, device=device)
        except MetricError as error:
            raise missing_model(self.model, error.__cause__ or error) from error

    @cached_property
    def _prefix_space(self) -> bool:
        from transformers import AutoTokenizer

        try:
            return needs_prefix_space(AutoTokenizer.from_pretrained(self.model))
        except (OSError, ValueError) as error:
            raise missing_model(self.model, error) from error
