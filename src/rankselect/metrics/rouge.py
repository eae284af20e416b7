"""ROUGE-L: the longest sequence of words that the answer and the reference share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from rankselect.errors import MetricError, MissingExtraError
from rankselect.metrics._base import Metric

if TYPE_CHECKING:
    from rankselect.metrics.metric_input import MetricInput

__all__ = ["RougeL"]


@final
@dataclass(frozen=True)
class RougeL(Metric):
    """The F-measure of the longest common subsequence of words, as the package rouge-score computes it.

    Words are runs of the letters a to z and digits, in lower case. Texts in other scripts have no such words and would
    score 0 with any answer, so a reference with only other letters is an error. An answer without words scores 0, even
    if the reference has none either.

    Attributes:
        stemming: Whether words are stemmed (Porter's stemmer, for English) before they are compared.

    Raises:
        MissingExtraError: On evaluation, if rouge-score is not installed.

    References:
        Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004, https://aclanthology.org/W04-1013/.

    Example:
        >>> print(RougeL().evaluate(["the heart beats"], ["the heart slowly beats"]))
        rouge-l 0.8571 (95% interval 0.8571 to 0.8571)
    """

    name: ClassVar[str] = "rouge-l"

    stemming: bool = False

    def values(self, answers: MetricInput) -> list[float]:
        """The F-measure of each answer, from 0 to 1.

        Raises:
            MetricError: If a reference has letters, but none that rouge-score supports.
            MissingExtraError: If rouge-score is not installed.
        """
        scorer = _scorer(self.stemming)
        for index, reference in enumerate(answers.references):
            if any(letter.isalpha() for letter in reference) and not any(map(_is_supported, reference.lower())):
                got = f"{reference[:40]!r} at index {index}"
                remedy = "rouge-score ignores all others and would score 0: use another metric."
                raise MetricError("references with letters a to z or digits", got, remedy)
        pairs = zip(answers.references, answers.predictions, strict=True)
        return [float(scorer.score(reference, prediction)["rougeL"].fmeasure) for reference, prediction in pairs]


def _scorer(stemming: bool) -> Any:  # noqa: FBT001
    try:
        from rouge_score.rouge_scorer import RougeScorer  # optional
    except ImportError as error:
        raise MissingExtraError("rouge-score", "metrics") from error
    return RougeScorer(["rougeL"], use_stemmer=stemming)


def _is_supported(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()
