"""The config of a study: everything that determines its results, with a hash."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast, final

from rankselect.data.prompts import PromptTemplate
from rankselect.data.row_formats import ANSWER, QUESTION, TEXT
from rankselect.errors import ArgumentError
from rankselect.estimators._base import estimator
from rankselect.files import require_path
from rankselect.study.arm import Arm, grid_from
from rankselect.study.recorded import metric_from, metric_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.metrics._base import Metric

__all__ = ["Hyperparameters", "StudyConfig"]

Value = TypeVar("Value")

_ADDED = {
    "question",
    "answer",
    "text",
    "skip_faulty",
    "pooling",
    "estimator",
}  # left out unless set: older studies keep their hashes
_POSITIVE = ("batch_size", "accumulation", "max_new_tokens", "generation_batch_size", "epochs")


@final
class Hyperparameters(NamedTuple):
    """The hyperparameters that are chosen for each arm from its grid.

    Attributes:
        learning_rate: The peak learning rate; 0 for the base model.
        alpha_ratio: Alpha divided by rank; 0 for the base model, and for an arm with another rule for alpha.

    Example:
        >>> Hyperparameters(3e-4, 8.0)._asdict()
        {'learning_rate': 0.0003, 'alpha_ratio': 8.0}
    """

    learning_rate: float
    alpha_ratio: float


@final
@dataclass(frozen=True)
class StudyConfig:
    """The config of a study: what it compares, and how.

    Attributes:
        model: A model's folder or its name on the hub, or ``"small-phi"`` for a small model that the study trains
            itself.
        train: Training rows: a file or a data set that `load_rows` accepts, or ``"medical-qa"``.
        test: Test rows, used only for scoring. ``"medical-qa"`` has a test split of its own. None holds out a tenth of
            the training questions, each with all its rows.
        arms: The arms to compare.
        seeds: The training seeds, or their number: 3 means 0, 1 and 2. Each arm is trained once with each seed.
        metrics: Metrics, or their names as on the command line. The first one decides the verdict.
        n_train: The number of training rows to use; None for all.
        n_test: The number of test rows to use; None for all.
        validation_share: The share of the training rows on which learning rates and alpha ratios are chosen.
        template: The prompt template that turns a row into a text.
        max_length: The maximum number of tokens in a row; None for 512 or the model's maximum, if that is smaller.
        quantization: How the base model is stored: ``"none"``, ``"nf4"`` or ``"int8"``.
        dtype: The dtype of the base model, as in `load_model`.
        device_map: The device map of the base model, as in `load_model`.
        target_modules: As in PEFT; None for PEFT's default for the model family.
        learning_rates: The grid from which each arm's learning rate is chosen.
        alpha_ratios: The grid from which each arm's alpha ratio is chosen.
        epochs: The number of passes over the training rows.
        max_steps: The number of training steps, instead of `epochs`.
        batch_size: Rows per forward pass.
        accumulation: Forward passes per optimizer step.
        lora_dropout: Dropout of the adapter during training.
        gradient_checkpointing: Recompute activations in the backward pass instead of storing them.
        profile_samples: The number of training texts to profile; None for all.
        pooling: The pooling of the profile: ``"mean"`` or ``"last"``.
        estimator: The estimator of the profile, as on the command line (``"mle:n_neighbors=10"``).
        profile_after: Profile again after training, for every arm and seed.
        max_new_tokens: The maximum length of an answer in tokens.
        generation_batch_size: The number of answers that are generated at once.
        dropout_too: Generate and score the answers a second time with dropout left on.
        question: The column of the question, as in `load_rows`.
        answer: The column of the answer.
        text: The column of both in one text.
        skip_faulty: Leave faulty rows out, with a warning.

    Raises:
        ArgumentError: If a value is out of range, a name occurs twice, or there are no arms.

    Example:
        >>> config = StudyConfig("small-phi", "medical-qa", arms=[Arm("base"), Arm("r8", "fixed:rank=8")], seeds=2)
        >>> config.training_seeds, config.to_dict()["arms"][1]["strategy"], len(config.hash)
        ((0, 1), 'Fixed(rank=8)', 64)
        >>> StudyConfig.from_dict(config.to_dict()) == config
        True
    """

    model: str
    train: str
    test: str | None = None
    arms: Sequence[Arm] = ()
    seeds: int | Sequence[int] = (0, 1, 2)
    metrics: Sequence[Metric | str] = ("token-f1", "questeval-cloze", "perplexity")
    n_train: int | None = None
    n_test: int | None = None
    validation_share: float = 0.1
    template: str = PromptTemplate().template
    max_length: int | None = None
    quantization: Literal["none", "nf4", "int8"] = "none"
    dtype: str = "auto"
    device_map: str = "auto"
    target_modules: str | Sequence[str] | None = None
    learning_rates: Sequence[float] = (1e-4, 3e-4, 1e-3)
    alpha_ratios: Sequence[float] = (8.0,)
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
    question: str = QUESTION
    answer: str = ANSWER
    text: str = TEXT
    skip_faulty: bool = False
    pooling: Literal["mean", "last"] = "mean"
    estimator: str = "twonn"

    def __post_init__(self) -> None:
        for name in ("model", "train", "test"):
            if name != "test" or self.test is not None:
                require_path(getattr(self, name), f"{name} as a path or a name")
        kept = {name: os.fspath(getattr(self, name)) for name in ("model", "train", "test") if getattr(self, name)}
        kept["arms"] = _distinct("arms", self.arms, "For example arms=[Arm('base'), Arm('rank-8', Fixed(8))].")
        kept["seeds"] = _seeds(self.seeds)
        kept["metrics"] = _distinct("metrics", self.metrics, "For example metrics=['token-f1'].")
        for name in ("learning_rates", "alpha_ratios"):
            grid = grid_from(getattr(self, name), name.replace("_", " "))
            kept[name] = _distinct(name, grid, "Give at least one value, and each value only once.")
        if self.target_modules is not None and not isinstance(self.target_modules, str):
            kept["target_modules"] = tuple(self.target_modules)
        for name, value in kept.items():
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if not all(isinstance(arm, Arm) for arm in self.arms):
            raise ArgumentError(
                "a list of Arm objects", repr(self.arms), "For example [Arm('rank-8', 'fixed:rank=8')]."
            )
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ArgumentError("arms with different names", ", ".join(names), "Rename one of them.")
        self._check_references()
        if self.pooling not in {"mean", "last"}:
            raise ArgumentError('pooling "mean" or "last"', repr(self.pooling), "Choose one of them.")
        if not isinstance(self.estimator, str):
            raise ArgumentError("the name of an estimator", repr(self.estimator), 'For example "mle:n_neighbors=10".')
        estimator(self.estimator)
        for metric in self.metrics:
            if not isinstance(metric, str):  # names are looked up on use: the metric may be missing on this machine
                metric_from(metric)
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ArgumentError(f"{name} above 0", repr(getattr(self, name)), "Give a positive number.")
        if not 0 < self.validation_share < 1:
            raise ArgumentError("a validation_share between 0 and 1", repr(self.validation_share), "For example 0.1.")
        PromptTemplate(self.template)

    def _check_references(self) -> None:
        by_name = {arm.name: arm for arm in self.arms}
        for arm in self.arms:
            if arm.other is None:
                continue
            other = by_name.get(arm.other)
            if other is None or other.strategy is None or other.other is not None:
                raise ArgumentError(
                    f"an arm with ranks of its own, for {arm.name}", repr(arm.other), f"Arms: {', '.join(by_name)}."
                )

    @property
    def training_seeds(self) -> tuple[int, ...]:
        """The training seeds, also if `seeds` was given as a number."""
        return cast("tuple[int, ...]", self.seeds)

    def rates_of(self, arm: Arm) -> Sequence[float]:
        """The arm's grid of learning rates: its own, or else the study's."""
        return arm.learning_rates or self.learning_rates

    def ratios_of(self, arm: Arm) -> Sequence[float]:
        """The arm's grid of alpha ratios: its own, or else the study's."""
        return arm.alpha_ratios or self.alpha_ratios

    def grid_of(self, arm: Arm) -> tuple[Hyperparameters, ...]:
        """All points of an arm's grid; none for the base model."""
        if arm.strategy is None:
            return ()
        rates, ratios = self.rates_of(arm), (0.0,) if arm.alpha is not None else self.ratios_of(arm)
        return tuple(Hyperparameters(float(rate), float(ratio)) for rate in rates for ratio in ratios)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StudyConfig:
        """Rebuild a config from `to_dict`; missing fields get their defaults.

        Raises:
            ArgumentError: If a field is unknown, or a value is out of range.
        """
        unknown = sorted(values.keys() - {each.name for each in fields(cls)})
        if unknown:
            raise ArgumentError("fields of StudyConfig", ", ".join(unknown), "Upgrade rankselect, or remove them.")
        return cls(**{**values, "arms": [Arm.from_dict(arm) for arm in values.get("arms", ())]})

    def to_dict(self) -> dict[str, Any]:
        """The config in JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values["arms"] = [arm.to_dict() for arm in self.arms]
        values["metrics"] = [metric_text(metric) for metric in self.metrics]
        for each in fields(self):
            if each.name in _ADDED and values[each.name] == each.default:
                del values[each.name]
        plain: dict[str, Any] = json.loads(json.dumps(values))  # tuples become lists
        return plain

    @property
    def hash(self) -> str:
        """SHA-256 of the config. Studies with the same hash answer the same question."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _distinct(name: str, given: Iterable[Value], remedy: str) -> tuple[Value, ...]:
    """Return the values as a tuple, after checking that there is at least one and no duplicate."""
    listed = isinstance(given, Iterable) and not isinstance(given, str)
    values = tuple(given) if listed else ()
    if not values or len(set(map(repr, values))) < len(values):
        raise ArgumentError(f"a list of {name}, at least one and no duplicates", repr(given), remedy)
    return values


def _seeds(given: int | Iterable[int]) -> tuple[int, ...]:
    """Return the given seeds, or 0 to n - 1 for a number n."""
    seeds = tuple(range(given)) if isinstance(given, int) else _distinct("seeds", given, "For example seeds=3.")
    if not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise ArgumentError("a list of non-negative seeds, or their number", repr(given), "For example seeds=3.")
    return seeds
