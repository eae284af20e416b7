"""One run of a study, a training and its scores, and what came of it: one file each, written whole or not at all."""

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

# Files call a run a unit, as the first version did: in this format's name and its field "unit", in the folder "units",
# and in results.json.
_FORMAT, _VERSION = "rankselect.study_unit", 1
_OF_TRAINING: dict[str, Any] = {"seconds": (int, float), "tokens": int, "peak_memory_bytes": int, "losses": list}


@final
@dataclass(frozen=True)
class Run:
    """One training: of a point of an arm's grid, or of an arm with what the grid chose.

    Attributes:
        kind: ``"grid"`` or ``"final"``.
        arm: The arm's name.
        seed: The training seed.
        learning_rate: The peak learning rate; 0 for the base model.
        alpha_ratio: Alpha divided by rank; 0 for the base model.

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
        """Its name, what it is, and for a point of the grid, which."""
        name = f"{self.kind}.{self.arm}.seed{self.seed}"
        return name if self.kind == "final" else f"{name}.lr{self.learning_rate:g}.alpha{self.alpha_ratio:g}"


@final
@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        run: Which.
        status: ``"done"`` or ``"failed"``.
        error: Why it failed, in one line; empty if it did not.
        ranks: ``{module: rank}``; empty for the base model.
        alphas: ``{module: alpha}``.
        trainable_parameters: The number of the adapter's parameters.
        base_parameters: The number of the base's parameters.
        stored_parameters: The number of elements in which the base is stored: in 4 bits two weights to an element.
        selection_seconds: Time to measure what the ranks rest on, and to choose them.
        training: The training record as `TrainingRecord.to_dict` gives it; None for the base model.
        validation_loss: Mean loss on the validation rows, nats per token; None if it was not needed.
        test_losses: Mean loss of each test answer, nats per token; empty for a point of the grid.
        answers: For each condition the generated answers: ``{"text", "seconds", "n_tokens", "stopped_by"}``.
        scores: For each condition ``{metric: [score of each answer]}``; of a metric that combines averages, several
            such lists.
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
        """Write it as JSON, whole or not at all."""
        values = asdict(self)
        write_document(path, {"format": _FORMAT, "version": _VERSION, "unit": values.pop("run"), **values})

    @classmethod
    def load(cls, path: Path) -> RunResult:
        """Read what `save` wrote.

        Raises:
            FileFormatError: If the file is damaged or of a newer version.
        """
        document = read_document(path, _FORMAT, _VERSION)
        run = checked_field(document, "unit", dict[str, Any], path)
        return read_fields({**document, "run": run}, cls, path)

    def require_whole(self, n_questions: int, file: str) -> None:
        """See that a final run that is done has what results are computed from, of every question.

        Args:
            n_questions: The number of the test's questions.
            file: Where it was read, for the message.

        Raises:
            FileFormatError: If something is missing or not finite.
        """
        if self.status == "failed" or self.run.kind == "grid":
            return
        remedy = "Run the study again: what is damaged is done anew."
        columns = [self.test_losses, *(values for scores in self.scores.values() for values in scores.values())]
        for values in columns:
            parts = values if values and isinstance(values[0], list) else [values]
            for part in parts:
                if len(part) != n_questions or not all(math.isfinite(value) for value in part):
                    raise FileFormatError(f"{n_questions} finite scores", f"others in {file}", remedy)
        if any(len(answers) != n_questions for answers in self.answers.values()):
            raise FileFormatError(f"{n_questions} answers", f"others in {file}", remedy)
        if self.training is not None:
            for name, kind in _OF_TRAINING.items():
                checked_field(self.training, name, kind, file)
