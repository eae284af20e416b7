"""BERTScore: the similarity of answer and reference, token by token, in a language model's hidden states."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from safetensors import SafetensorError

from rankselect.errors import MetricError, MissingExtraError, first_sentence
from rankselect.metrics._base import Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rankselect.metrics.metric_input import MetricInput

__all__ = ["BertScore", "f1_scores", "load_scorer", "needs_prefix_space", "require_bert_score"]

# The errors of bert-score and transformers for a model that is missing, damaged, of the wrong kind, or has too few
# layers (an assertion in bert-score).
_NOT_LOADED = (AssertionError, KeyError, OSError, SafetensorError, ValueError)


@final
@dataclass(frozen=True)
class BertScore(Metric):
    """The F1 of the best cosine similarities between tokens, as computed by the package bert-score.

    Every token of the answer is matched with its nearest token of the reference, and vice versa, in the hidden states
    of one layer. There is no weighting by frequency and no rescaling with a baseline, so unrelated texts score far
    above 0 (often 0.8): compare differences. An answer or reference without text scores 0. Texts are truncated to the
    model's maximum length. The model runs on the GPU if there is one, and stays loaded until another one is used.

    bert-score makes the tokenizers of RoBERTa and GPT-2 treat the first word like any other, with an argument that
    transformers 5 ignores; here the tokenizer is loaded with this setting.

    Attributes:
        model: The name or folder of an encoder that transformers can load; by default bert-score's choice for English.
        num_layers: The layer whose hidden states are compared, counted from 1. Optional for models for which
            bert-score has a recommended layer.

    References:
        Zhang, Kishore, Wu, Weinberger and Artzi, "BERTScore: Evaluating Text Generation with BERT", arXiv:1904.09675.

    Example:
        >>> BertScore("answerdotai/ModernBERT-base", num_layers=14)
        BertScore(model='answerdotai/ModernBERT-base', num_layers=14)
    """

    name: ClassVar[str] = "bert-score"

    model: str = "roberta-large"
    num_layers: int | None = None

    def values(self, answers: MetricInput) -> NDArray[np.float64]:
        """The F1 of each answer, at most 1; below 0 only for unusual models.

        Raises:
            MetricError: If the model cannot be loaded or has no such layer, or if `num_layers` is needed.
            MissingExtraError: If bert-score is not installed.
        """
        scorer = _scorer(self.model, self.num_layers)
        scores = f1_scores(scorer, list(zip(answers.predictions, answers.references, strict=True)))
        return np.minimum(scores, 1.0)  # rounding can put equal texts slightly above 1


@functools.lru_cache(maxsize=1)
def _scorer(model: str, num_layers: int | None) -> Any:
    return load_scorer(model, num_layers)


def load_scorer(model: str, num_layers: int | None, *, batch_size: int = 64, device: str | None = None) -> Any:
    """Load the package's scorer with its model, and with the tokenizer settings that bert-score intends.

    Args:
        model: The name or folder of an encoder.
        num_layers: The layer whose hidden states are compared; None for bert-score's choice.
        batch_size: Texts per batch.
        device: Where the model runs; None for the GPU if there is one.

    Raises:
        MetricError: If the model cannot be loaded or has no such layer, or if `num_layers` is needed.
        MissingExtraError: If bert-score is not installed.
    """
    bert_score = require_bert_score()
    if num_layers is None and model not in bert_score.utils.model2layers:
        remedy = "bert-score recommends a layer for some models only: pass num_layers=."
        raise MetricError(f"num_layers for the model {model}", "none", remedy)
    try:
        scorer = bert_score.BERTScorer(model, num_layers=num_layers, batch_size=batch_size, device=device)
    except _NOT_LOADED as error:
        remedy = "Give the name or folder of an encoder that transformers can load, and one of its layers."
        raise MetricError(f"a model for bert-score in {model}", first_sentence(error), remedy) from error
    _fix_tokenizer(scorer)
    return scorer


def f1_scores(scorer: Any, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the F1 of each pair of texts; 0 if one of them is blank, which bert-score does not accept."""
    with_text = [index for index, pair in enumerate(pairs) if all(text.strip() for text in pair)]
    scores = [0.0] * len(pairs)
    if with_text:
        candidates, references = zip(*(pairs[index] for index in with_text), strict=True)
        found = scorer.score(list(candidates), list(references))[2].tolist()
        for index, score in zip(with_text, found, strict=True):
            scores[index] = score
    return scores


def require_bert_score() -> Any:
    """Import the package.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import bert_score.utils  # optional
    except ImportError as error:
        raise MissingExtraError("bert-score", "metrics") from error
    return bert_score


def needs_prefix_space(tokenizer: Any) -> bool:
    """Return whether bert-score makes this tokenizer treat the first word like any other: RoBERTa's and GPT-2's."""
    from transformers import GPT2Tokenizer, RobertaTokenizer

    return isinstance(tokenizer, GPT2Tokenizer | RobertaTokenizer)


def _fix_tokenizer(scorer: Any) -> None:
    """Apply the settings that bert-score passes to tokenizers and transformers 5 ignores."""
    from transformers import AutoTokenizer

    if needs_prefix_space(scorer._tokenizer):  # noqa: SLF001
        scorer._tokenizer = AutoTokenizer.from_pretrained(scorer.model_type, add_prefix_space=True)  # noqa: SLF001
    tokenizer, config = scorer._tokenizer, scorer._model.config  # noqa: SLF001
    if tokenizer.model_max_length > 1_000_000:  # a placeholder for "unknown", too large for tokenizers
        # RoBERTa's positions start at 2.
        tokenizer.model_max_length = getattr(config, "max_position_embeddings", 514) - 2
