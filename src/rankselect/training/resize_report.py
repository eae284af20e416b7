"""What resizing an adapter has done to its size and its loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankselect.adapters.spectra import AdapterSpectra
    from rankselect.training.loss_change import LossChange

__all__ = ["ResizeReport"]


@final
@dataclass(frozen=True, eq=False)
class ResizeReport:
    """The result of resizing.

    Attributes:
        out: The folder written.
        adapter: The adapter's folder.
        ranks: ``{full module name: rank}`` after; 0 for a module that was left out.
        spectra: The singular values before, by which the ranks were chosen.
        parameters_before: The parameters of the adapter as it was.
        parameters_after: Those of the adapter written.
        energy_kept: The share of the squared singular values that is kept.
        rounding: The difference that the adapter's dtype makes, as a share of the update's norm; 0 in float32.
        loss_before: The mean loss on the rows before; None without rows.
        loss_after: The loss after; None without rows.
        loss_recovered: The loss after further training; None without it.

    Example:
        >>> import numpy as np
        >>> from rankselect.adapters.spectra import AdapterSpectra
        >>> spectra = AdapterSpectra({"layers.0.q": np.array([3.0, 1.0])}, {"layers.0.q": (8, 8)})
        >>> print(ResizeReport("out", "adapter", {"layers.0.q": 1}, spectra, 32, 16, 0.9, 0.0))
        resized adapter to rank 1 in out
        32 -> 16 parameters (50.0%), 90.00% of the energy kept
    """

    out: str
    adapter: str
    ranks: Mapping[str, int]
    spectra: AdapterSpectra
    parameters_before: int
    parameters_after: int
    energy_kept: float
    rounding: float
    loss_before: float | None = None
    loss_after: LossChange | None = None
    loss_recovered: LossChange | None = None

    def __str__(self) -> str:
        used = [rank for rank in self.ranks.values() if rank]
        left_out = len(self.ranks) - len(used)
        least, greatest = min(used), max(used)
        ranks = f"rank {least}" if least == greatest else f"ranks {least} to {greatest}"
        without = f", {left_out} modules left out" if left_out else ""
        size = f"{self.parameters_before:,} -> {self.parameters_after:,} parameters"
        lines = [
            f"resized {self.adapter} to {ranks}{without} in {self.out}",
            f"{size} ({self.parameters_after / self.parameters_before:.1%}), {self.energy_kept:.2%} of the energy kept",
        ]
        if self.rounding:
            lines.append(f"rounding: {self.rounding:.1e} of the update's norm")
        losses = {"before": self.loss_before, "after": self.loss_after, "recovered": self.loss_recovered}
        for name, loss in losses.items():
            if loss is not None:
                lines.append(f"loss {name}: {loss:.4f}" if isinstance(loss, float) else f"loss {name}: {loss}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, without the spectra."""
        losses = {"loss_after": self.loss_after, "loss_recovered": self.loss_recovered}
        return {
            "format": "rankselect.resize_report",
            "version": 1,
            "out": self.out,
            "adapter": self.adapter,
            "ranks": dict(self.ranks),
            "parameters_before": self.parameters_before,
            "parameters_after": self.parameters_after,
            "energy_kept": self.energy_kept,
            "rounding": self.rounding,
            "loss_before": self.loss_before,
            **{name: None if loss is None else asdict(loss) for name, loss in losses.items()},
        }
