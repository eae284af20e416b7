"""Everything that decides the results of a study, in one versioned, hashed file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, final

from rankselect.data.prompts import PromptTemplate
from rankselect.errors import ArgumentError

if TYPE_CHECKING:
    from rankselect.study.arm import Arm

__all__ = ["StudyConfig"]

_AT_LEAST_ONE = ("seeds", "metrics", "learning_rates", "alpha_ratios", "arms")
_POSITIVE = ("batch_size", "accumulation", "max_new_tokens", "generation_batch_size", "epochs")


@final
@dataclass(frozen=True)
class StudyConfig:
    """What a study compares, and how.

    Attributes:
        model: A model's folder or its name on the hub, or ``"small-phi"`` for the small model that is trained on the
            spot.
        train: Rows to train on, as `load_rows` takes them (a file or a data set), or ``"medical-qa"``.
        test: Rows to score on, never used to choose anything; ``"medical-qa"`` holds out a part of its own. None holds
            out a tenth of the training questions, each with all its rows.
        arms: What is compared.
        seeds: The training seeds; each arm is trained once with each.
        metrics: Names of metrics, as the command line takes them.
        n_train: Use so many training rows only; None for all.
        n_test: Likewise for the test.
        validation_share: The part of the training rows on which learning rates and alpha ratios are chosen.
        template: How a row becomes a text.
        max_length: Tokens in a row; None for 512 or what the model reads.
        quantization: How the base is stored: ``"none"``, ``"nf4"`` or ``"int8"``.
        dtype: The base's type, as `load_model` takes it.
        device_map: Where the weights go.
        target_modules: As PEFT takes it; None for its choice for the model family.
        learning_rates: The grid each arm's learning rate is chosen from.
        alpha_ratios: The grid each arm's alpha ratio is chosen from.
        epochs: Rounds through the training rows.
        max_steps: Stop after so many steps instead.
        batch_size: Rows in one forward pass.
        accumulation: Forward passes in one step.
        lora_dropout: Dropout in training.
        gradient_checkpointing: Compute activations twice instead of keeping them.
        profile_samples: So many training texts are profiled; None for all.
        profile_after: Profile again after training, for every arm and seed.
        max_new_tokens: The longest answer.
        generation_batch_size: Answers that are written at once.
        dropout_too: Generate and score once more with dropout left on.

    Raises:
        ArgumentError: If a value is out of range, a name is there twice, or there is nothing to compare.

    Example:
        >>> from rankselect.study.arm import Arm
        >>> config = StudyConfig("small-phi", "medical-qa", "medical-qa", arms=(Arm("base"), Arm("r8", "fixed:rank=8")))
        >>> len(config.hash), config.to_dict()["arms"][1]["strategy"]
        (64, 'Fixed(rank=8)')
    """

    model: str
    train: str
    test: str | None
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    metrics: tuple[str, ...] = ("token-f1", "questeval-cloze", "perplexity")
    n_train: int | None = None
    n_test: int | None = None
    validation_share: float = 0.1
    template: str = PromptTemplate().template
    max_length: int | None = None
    quantization: Literal["none", "nf4", "int8"] = "none"
    dtype: str = "auto"
    device_map: str = "auto"
    target_modules: str | tuple[str, ...] | None = None
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    alpha_ratios: tuple[float, ...] = (8.0,)
    epochs: float = 1.0
    max_steps: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    lora_dropout: float = 0.0
    gradient_checkpointing: bool = False
    profile_samples: int | None = None
    profile_after: bool = False
    max_new_tokens: int = 128
    generation_batch_size: int = 8
    dropout_too: bool = False

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            values = getattr(self, name)
            if not isinstance(values, tuple) or not values or len(set(map(repr, values))) < len(values):
                raise ArgumentError(f"a tuple of {name}, each once", repr(values), "Name each once.")
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ArgumentError("arms of different names", ", ".join(names), "Rename one of them.")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} above 0", repr(getattr(self, name)), "Raise it.")
        for grid in (self.learning_rates, self.alpha_ratios):
            if not all(value > 0 for value in grid):
                raise ArgumentError("learning rates and alpha ratios above 0", repr(grid), "For example 3e-4.")
        if not 0 < self.validation_share < 1:
            raise ArgumentError("a validation_share between 0 and 1", repr(self.validation_share), "For example 0.1.")
        PromptTemplate(self.template)

    def grid_of(self, arm: Arm) -> tuple[tuple[float, float], ...]:
        """The (learning rate, alpha ratio) pairs from which an arm's is chosen; none for the base model."""
        if arm.strategy is None:
            return ()
        rates, ratios = arm.learning_rates or self.learning_rates, arm.alpha_ratios or self.alpha_ratios
        return tuple((float(rate), float(ratio)) for rate in rates for ratio in ratios)

    def to_dict(self) -> dict[str, Any]:
        """The config in JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["arms"] = [arm.to_dict() for arm in self.arms]
        plain: dict[str, Any] = json.loads(json.dumps(values))  # tuples become lists
        return plain

    @property
    def hash(self) -> str:
        """SHA-256 of the config. Two studies with the same one answer the same question."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
