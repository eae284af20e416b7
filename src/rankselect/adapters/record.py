"""The training record: the settings and the cost of a training run, in a file in the adapter's folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rankselect.data.prompts import CHAT, PromptTemplate
from rankselect.files import NEWER, read_document, read_fields, write_document

if TYPE_CHECKING:
    import os

__all__ = ["RECORD_FILE", "RECORD_FORMAT", "RECORD_VERSION", "TrainingRecord"]

RECORD_FILE = "rankselect.json"
"""The record's name in an adapter folder."""

RECORD_FORMAT, RECORD_VERSION = "rankselect.training_record", 1


@final
@dataclass(frozen=True)
class TrainingRecord:
    """The settings and the cost of one training run.

    Attributes:
        strategy: The strategy that chose the ranks, as Python would write it.
        base_model: The base model's name or path; None for a model that was built in memory.
        quantization: How the base model's weights were stored in training: ``"none"``, ``"nf4"`` or ``"int8"``.
        dtype: The base model's floating-point type, for example ``"bfloat16"``.
        device: Where it was trained, for example ``"cpu"`` or ``"cuda"``.
        trainable_parameters: The number of the adapter's parameters.
        base_parameters: The number of the base model's parameters.
        steps: Optimizer steps, those before a resumed checkpoint included.
        first_step: The step at which this run began: 0, or that of the checkpoint from which it resumed.
        seconds: Wall-clock time of this run's training loop, evaluations in it included.
        selection_seconds: Wall-clock time of measuring evidence and choosing ranks.
        tokens: Input tokens of this run, padding not counted.
        peak_memory_bytes: The most memory in use at once while training: allocated tensors on a GPU, the process's
            resident memory on a CPU.
        micro_batch_size: Rows in one forward pass at the end: less than requested if memory ran out.
        losses: (step, training loss) pairs, as logged.
        evaluation_losses: (step, evaluation loss) pairs.
        seed: The training seed.
        versions: The versions of the libraries.
        template: The prompt template that the rows were written with; ``"chat"`` for the tokenizer's own. None if it
            is not known: no rows were given, or the record is of a release before 0.3.
        stop: The stop texts of the template.
        system: The system message of the chat template, if there was one.
        max_length: The maximum number of tokens in a row, if rows were given.
        loss_on: ``"answer"`` or ``"all"``, if rows were given.
        rows_digest: SHA-256 of the training rows, if rows were given.

    Example:
        >>> record = TrainingRecord("Fixed(rank=8)", "phi", "nf4", "float32", "cpu", 10, 1000, seconds=2.0, tokens=500)
        >>> record.tokens_per_second
        250.0
    """

    strategy: str
    base_model: str | None
    quantization: str
    dtype: str
    device: str
    trainable_parameters: int
    base_parameters: int
    steps: int = 0
    first_step: int = 0
    seconds: float = 0.0
    selection_seconds: float = 0.0
    tokens: int = 0
    peak_memory_bytes: int = 0
    micro_batch_size: int = 0
    losses: tuple[tuple[int, float], ...] = ()
    evaluation_losses: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    template: str | None = field(default=None, metadata=NEWER)
    stop: tuple[str, ...] = field(default=(), metadata=NEWER)
    system: str | None = field(default=None, metadata=NEWER)
    max_length: int | None = field(default=None, metadata=NEWER)
    loss_on: str | None = field(default=None, metadata=NEWER)
    rows_digest: str | None = field(default=None, metadata=NEWER)

    @property
    def tokens_per_second(self) -> float:
        """Input tokens per second of training; 0 if nothing was trained."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def prompt_template(self, tokenizer: Any) -> PromptTemplate | None:
        """The prompt template that the adapter was trained with; None if it is not known.

        Args:
            tokenizer: The tokenizer, whose own template ``"chat"`` means.
        """
        if self.template is None:
            return None
        if self.template == CHAT:
            return PromptTemplate.chat(tokenizer, self.system)
        return PromptTemplate(self.template, self.stop)

    def to_dict(self) -> dict[str, Any]:
        """The record in JSON values, as `save` writes it."""
        head = {"format": RECORD_FORMAT, "version": RECORD_VERSION}
        return {**head, **vars(self), "tokens_per_second": self.tokens_per_second}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the record into an adapter folder, as `RECORD_FILE`."""
        write_document(Path(folder) / RECORD_FILE, self.to_dict())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TrainingRecord:
        """Read the record of an adapter folder.

        Raises:
            FileFormatError: If the file is damaged, of another kind or of a newer version.
            FileNotFoundError: If there is none.
        """
        path = Path(folder) / RECORD_FILE
        return read_fields(read_document(path, RECORD_FORMAT, RECORD_VERSION), cls, path)

    def __str__(self) -> str:
        last = f", last loss {self.losses[-1][1]:.4f}" if self.losses else ""
        return (
            f"{self.strategy}: {self.trainable_parameters:,} trainable parameters, steps {self.first_step} to "
            f"{self.steps} in {self.seconds:.1f} s ({self.tokens_per_second:,.0f} tokens per second), "
            f"peak memory {self.peak_memory_bytes / 2**20:,.0f} MiB{last}"
        )
