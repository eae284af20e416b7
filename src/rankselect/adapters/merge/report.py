"""What a merge has done, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from rankselect.adapters.merge.logits import LogitDifference

__all__ = ["MergeReport"]


@final
@dataclass(frozen=True)
class MergeReport:
    """What a merge has done.

    Attributes:
        out: The merged model's folder.
        adapter: The adapter's folder.
        base: The base model.
        onto: ``"dequantized"``, ``"original"`` or ``"requantized"``.
        quantization: What the base was quantized to in training: ``"none"``, ``"nf4"`` or ``"int8"``.
        quantization_source: How that is known.
        n_modules: Modules merged.
        n_replaced: Parameters put in the place of the base's: modules to save, biases.
        n_files: Files of weights.
        untied: Whether tied embeddings had to be written as two weights.
        difference: How far the logits are from those of the unmerged adapter on the base that it was trained on; None
            if not measured.
        not_measured: Why not, if the measurement was asked for.

    Example:
        >>> from rankselect.adapters.merge.logits import LogitDifference
        >>> difference = LogitDifference(max_abs=1e-6, relative=1e-7, same_token=1.0, n_tokens=128)
        >>> report = MergeReport("merged", "adapter", "base", "original", "none", "as you said", 8, 0, 1, False,
        ...                      difference, "")
        >>> print(report)
        merged 8 modules of adapter onto base (original weights) in merged
        trained on: none (as you said)
        logits, to the unmerged adapter: at most 1e-06 (1e-07 of the greatest logit), same next token at 100.0% of 128 \
positions
    """

    out: str
    adapter: str
    base: str
    onto: str
    quantization: str
    quantization_source: str
    n_modules: int
    n_replaced: int
    n_files: int
    untied: bool
    difference: LogitDifference | None
    not_measured: str

    def __str__(self) -> str:
        lines = [
            f"merged {self.n_modules} modules of {self.adapter} onto {self.base} ({self.onto} weights) in {self.out}",
            f"trained on: {self.quantization} ({self.quantization_source})",
        ]
        if self.n_replaced:
            lines.append(f"replaced: {self.n_replaced} whole parameters")
        if self.untied:
            lines.append("tied embeddings are two weights now, as the adapter changes one of them")
        reason = f" ({self.not_measured})" if self.not_measured else ""
        lines.append(f"logits, to the unmerged adapter: {self.difference or f'not measured{reason}'}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"format": "rankselect.merge_report", "version": 1, **asdict(self)}
