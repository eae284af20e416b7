"""Evidence: what strategies use, measured from a model and texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, cast, final

from rankselect.data.chat_tokens import prompt_tokens
from rankselect.data.prompts import template_of
from rankselect.estimators._base import estimator
from rankselect.estimators.twonn import TwoNN
from rankselect.models.suitability import require_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from typing_extensions import Self

    from rankselect.data.prompts import PromptTemplate, QuestionAnswer
    from rankselect.estimators._base import Estimator
    from rankselect.neighbors.near_duplicates import NearDuplicates

__all__ = ["Calibration", "Evidence"]


@final
@dataclass(frozen=True)
class Calibration:
    """A model and the texts to measure it on: pass it to `RankStrategy.plan`, which measures what it needs.

    The arguments are those of `id_profile`, which describes them, and two more, for evidence about the loss and about
    single modules.

    Attributes:
        texts: Texts, model inputs, or question-answer rows. A loss is that of the answers of rows, and of all tokens
            of texts.
        template: The form of the prompt, for rows; None for the default `PromptTemplate`.
        target_modules: The modules to measure, as PEFT takes them. If it is None, `RankStrategy.plan` fills in its own.

    Raises:
        UnknownNameError: If the estimator is a name that is not installed.
        ArgumentError: If it is neither an estimator nor a name.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> calibration = rs.Calibration(tiny_model(), tiny_tokenizer(), tiny_texts(40), progress=False)
        >>> plan = rs.PerLayerID().plan(calibration.model, calibration)
    """

    model: nn.Module
    tokenizer: Any
    texts: Sequence[str] | Sequence[Mapping[str, Any]] | Sequence[QuestionAnswer]
    estimator: Estimator | str = field(default=TwoNN(), kw_only=True)
    pooling: Literal["mean", "last"] = field(default="mean", kw_only=True)
    max_length: int = field(default=512, kw_only=True)
    batch_size: int = field(default=8, kw_only=True)
    max_samples: int | None = field(default=None, kw_only=True)
    tolerance: float | None = field(default=None, kw_only=True)
    near_duplicates: NearDuplicates = field(default="drop", kw_only=True)
    seed: int = field(default=0, kw_only=True)
    autocast: Literal["bfloat16"] | None = field(default=None, kw_only=True)
    progress: bool = field(default=True, kw_only=True)
    template: PromptTemplate | None = field(default=None, kw_only=True)
    target_modules: str | Sequence[str] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "estimator", estimator(self.estimator))
        if self.tokenizer is not None:  # model inputs need none
            object.__setattr__(self, "tokenizer", require_tokenizer(self.tokenizer))

    @property
    def has_rows(self) -> bool:
        """Whether the texts are question-answer rows."""
        return isinstance(self.texts, Sequence) and bool(self.texts) and hasattr(self.texts[0], "answer")

    @property
    def plain_texts(self) -> Sequence[str] | Sequence[Mapping[str, Any]]:
        """The texts; each row as one text, in the form of the template, all turns of a conversation included."""
        if not self.has_rows:
            return cast("Sequence[str]", self.texts)
        return prompt_tokens(self.tokenizer, template_of(self.template)).texts(self.texts)

    @property
    def settings(self) -> dict[str, Any]:
        """How to measure, by name: all but the model, the tokenizer and the texts."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.kw_only}


class Evidence(ABC):
    """The base of everything a strategy can base ranks on.

    A new kind of evidence is a subclass with `measure`. A strategy requests it by naming the class in its attribute
    ``evidence``. `check` may be overridden to refuse evidence about another model.

    Example:
        >>> from dataclasses import dataclass
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> @dataclass(frozen=True)
        ... class Vocabulary(rs.Evidence):
        ...     n_words: int
        ...     @classmethod
        ...     def measure(cls, calibration):
        ...         return cls(len({word for text in calibration.texts for word in text.split()}))
        >>> Vocabulary.measure(rs.Calibration(tiny_model(), tiny_tokenizer(), ["a pain", "a fever"])).n_words
        3
    """

    @classmethod
    @abstractmethod
    def measure(cls, calibration: Calibration) -> Self:
        """Measure this evidence on the calibration's model and texts; leave the model as it was."""

    def check(self, model: nn.Module) -> None:  # noqa: B027  (optional)
        """Raise `EvidenceError` if this is evidence about another model. The default accepts every model."""
