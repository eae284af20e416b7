"""BERTScore: how near the words of the answer and of the reference are in a language model's hidden states."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from rankselect.errors import MetricError, MissingExtraError, first_sentence
from rankselect.metrics._base import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rankselect.metrics._base import Answers

__all__ = ["BertScore"]


@final
@dataclass(frozen=True)
class BertScore(Metric):
    """The F1 of best cosine similarities between tokens, as the package bert-score computes it.

    Every token of the answer is matched with the nearest token of the reference and the other way round, in the
    hidden states of one layer. There is no weighting by frequency and no rescaling with a baseline, so unrelated texts
    score far above 0 (often 0.8): look at differences. An answer or reference without text scores 0. Texts are cut at
    the model's length. The model runs on the GPU if there is one, and stays loaded until another one is used.

    bert-score asks RoBERTa's and GPT-2's tokenizers to treat the first word as any other, by an argument that
    transformers 5 no longer heeds; here the tokenizer is loaded that way.

    Attributes:
        model: The name or folder of an encoder that transformers can load; bert-score's choice for English if none is
            given.
        num_layers: The layer whose states are compared, counted from 1. May be left out for the models for which
            bert-score knows the best one.

    References:
        Zhang, Kishore, Wu, Weinberger and Artzi, "BERTScore: Evaluating Text Generation with BERT", arXiv:1904.09675.

    Example:
        >>> BertScore("answerdotai/ModernBERT-base", num_layers=14)
        BertScore(model='answerdotai/ModernBERT-base', num_layers=14)
    """

    name: ClassVar[str] = "bert-score"

    model: str = "roberta-large"
    num_layers: int | None = None

    def values(self, answers: Answers) -> NDArray[np.float64]:
        """The F1 of each answer, at most 1; below 0 only for odd models.

        Raises:
            MetricError: If the model cannot be loaded or has no such layer, or if `num_layers` is needed.
            MissingExtraError: If bert-score is not installed.
        """
        scorer = _scorer(self.model, self.num_layers)
        pairs = zip(answers.predictions, answers.references, strict=True)
        with_text = [index for index, pair in enumerate(pairs) if all(text.strip() for text in pair)]
        scores = np.zeros(len(answers.predictions))
        if with_text:
            predictions = [answers.predictions[index] for index in with_text]
            references = [answers.references[index] for index in with_text]
            scores[with_text] = scorer.score(predictions, references)[2].double().numpy()
        return np.minimum(scores, 1.0)  # equal texts come out a rounding error above 1


@functools.lru_cache(maxsize=1)
def _scorer(model: str, num_layers: int | None) -> Any:
    """The package's scorer with the model loaded."""
    try:
        from bert_score import BERTScorer  # optional
        from bert_score.utils import model2layers
    except ImportError as error:
        raise MissingExtraError("bert-score", "metrics") from error
    if num_layers is None and model not in model2layers:
        remedy = "bert-score knows the best layer of some models only: pass num_layers=."
        raise MetricError(f"num_layers for the model {model}", "none", remedy)
    try:
        scorer = BERTScorer(model, num_layers=num_layers)
        _mend_tokenizer(scorer)
    except Exception as error:  # whatever another package may raise
        remedy = "Give the name or folder of an encoder that transformers can load, and one of its layers."
        raise MetricError(f"a model for bert-score in {model}", first_sentence(error), remedy) from error
    return scorer


def _mend_tokenizer(scorer: Any) -> None:
    """What bert-score passes to tokenizers and transformers 5 does not take."""
    from transformers import AutoTokenizer, GPT2Tokenizer, RobertaTokenizer

    if isinstance(scorer._tokenizer, GPT2Tokenizer | RobertaTokenizer):  # noqa: SLF001
        scorer._tokenizer = AutoTokenizer.from_pretrained(scorer.model_type, add_prefix_space=True)  # noqa: SLF001
    tokenizer, config = scorer._tokenizer, scorer._model.config  # noqa: SLF001
    if tokenizer.model_max_length > 1_000_000:  # not known, and too large a number for tokenizers
        # RoBERTa's positions start at 2.
        tokenizer.model_max_length = getattr(config, "max_position_embeddings", 514) - 2
