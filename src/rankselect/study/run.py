"""A run of a study (one training and its scores) and its result, which is saved atomically in one file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

from rankselect.errors import FileFormatError
from rankselect.files import field as checked_field
from rankselect.files import read_document, read_fields, write_document

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Run", "RunResult"]

# File formats still call a run a "unit", as the first version did: in the name of this format, its field "unit", the
# folder "units", and results.json.
_FORMAT, _VERSION = "rankselect.study_unit", 1
_OF_TRAINING: dict[str, Any] = {"seconds": (int, float), "tokens": int, "peak_memory_bytes": int, "losses": list}


@final
@dataclass(frozen=True)
class Run:
    """One training of an arm: with one point of its grid, or with the chosen point.

    Attributes:
        kind: ``"grid"`` or ``"final"``.
        arm: The arm's name.
        seed: The training seed.
        learning_rate: The peak learning rate; 0 for the base model.
        alpha_ratio: Alpha divided by rank; 0 for the base model, and for an arm with another rule for alpha.

    Example:
        >>> Run("grid", "rank-8", 0, 0.0003, 8.0).id
        'grid.rank-8.seed0.lr0.0003.alpha8'
        >>> Run("final", "rank-8", 0, 0.0003, 8.0).id
        'final.rank-8.seed0'
    """

    kind: Literal["grid", "final"]
    arm: str
    seed: int
    learning_rate: float
    alpha_ratio: float

    @property
    def id(self) -> str:
        """The name of the run, from kind, arm and seed, and for a grid run also the grid point."""
        name = f"{self.kind}.{self.arm}.seed{self.seed}"
        return name if self.kind == "final" else f"{name}.lr{self.learning_rate:g}.alpha{self.alpha_ratio:g}"


@final
@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        run: The run.
        status: ``"done"`` or ``"failed"``.
        error: Why it failed, in one line; empty if it did not.
        ranks: ``{module: rank}``; empty for the base model.
        alphas: ``{module: alpha}``.
        trainable_parameters: The number of the adapter's parameters.
        base_parameters: The number of the base model's parameters.
        stored_parameters: The number of elements in which the base model is stored: a 4-bit model packs two weights
            into one element.
        selection_seconds: The time to measure the strategy's evidence and to choose the ranks.
        training: The training record from `TrainingRecord.to_dict`; None for the base model.
        validation_loss: Mean loss on the validation rows, nats per token; None if it was not needed.
        test_losses: Mean loss of each test answer, nats per token; empty for a grid run.
        answers: For each condition, the generated answers: ``{"text", "seconds", "n_tokens", "stopped_by"}``.
        scores: For each condition, ``{metric: [score of each answer]}``; a metric that combines several averages has
            one such list for each of them.
        profile_after: The profile after training: ``{"layers", "values", "stderr"}``, or None.
    """

    run: Run
    status: Literal["done", "failed"] = "done"
    error: str = ""
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    trainable_parameters: int = 0
    base_parameters: int = 0
    stored_parameters: int = 0
    selection_seconds: float = 0.0
    training: dict[str, Any] | None = None
    validation_loss: float | None = None
    test_losses: list[float] = field(default_factory=list)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    scores: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    profile_after: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write the result as JSON, atomically."""
        values = asdict(self)
        write_document(path, {"format": _FORMAT, "version": _VERSION, "unit": values.pop("run"), **values})

    @classmethod
    def load(cls, path: Path) -> RunResult:
        """Load a result that `save` wrote.

        Raises:
            FileFormatError: If the file is damaged or has a newer version.
        """
        document = read_document(path, _FORMAT, _VERSION)
        run = checked_field(document, "unit", dict[str, Any], path)
        return read_fields({**document, "run": run}, cls, path)

    def require_complete(self, n_questions: int, file: str) -> None:
        """Check that a finished final run has losses, scores and answers for every question.

        Args:
            n_questions: The number of test questions.
            file: The file it was read from, for the message.

        Raises:
            FileFormatError: If something is missing or not finite.
        """
        if self.status == "failed" or self.run.kind == "grid":
            return
        remedy = "Run the study again: damaged runs are repeated."
        columns = [self.test_losses, *(values for scores in self.scores.values() for values in scores.values())]
        for values in columns:
            parts = values if values and isinstance(values[0], list) else [values]
            for part in parts:
                if len(part) != n_questions or not all(math.isfinite(value) for value in part):
                    raise FileFormatError(f"{n_questions} finite scores", f"a different list in {file}", remedy)
        if any(len(answers) != n_questions for answers in self.answers.values()):
            raise FileFormatError(f"{n_questions} answers", f"a different number in {file}", remedy)
        if self.training is not None:
            for name, kind in _OF_TRAINING.items():
                checked_field(self.training, name, kind, file)
