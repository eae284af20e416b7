"""The singular values of an adapter: how much of each module's update its first ranks hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from rankselect.adapters.adapter_folder import read_adapter
from rankselect.errors import ArgumentError, MissingExtraError
from rankselect.models.low_rank import low_rank_svd

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from rankselect.adapters.adapter_folder import AdapterFolder

__all__ = ["AdapterSpectra", "adapter_spectra", "spectra_of", "square_root"]

_ENERGIES = (0.9, 0.95, 0.99)


@final
@dataclass(frozen=True, eq=False)
class AdapterSpectra:
    r"""The singular values of each module's update :math:`\Delta W = s\,B A`.

    The sum of their squares is the squared Frobenius norm, here called energy. The best update of rank k keeps the k
    largest (Eckart and Young), so they tell what a smaller adapter would lose.

    Attributes:
        values: ``{full module name: singular values, the largest first}``, as many as the module's rank.
        sizes: ``{full module name: (d_in, d_out)}``.

    Example:
        >>> spectra = AdapterSpectra({"layers.0.q": np.array([3.0, 1.0, 0.0])}, {"layers.0.q": (8, 8)})
        >>> spectra.rank_at_energy(0.9), spectra.rank_at_energy(0.99)
        ({'layers.0.q': 1}, {'layers.0.q': 2})
    """

    values: Mapping[str, NDArray[np.float64]]
    sizes: Mapping[str, tuple[int, int]]

    @property
    def parameters(self) -> int:
        """The parameters of the adapter."""
        return self.parameters_of({name: len(values) for name, values in self.values.items()})

    def parameters_of(self, ranks: Mapping[str, int]) -> int:
        """The parameters of an adapter with these ranks."""
        return sum(rank * sum(self.sizes[name]) for name, rank in ranks.items())

    def rank_at_energy(self, energy: float) -> dict[str, int]:
        """The least rank of each module that holds a share of its energy; 0 for a module that changes nothing.

        Raises:
            ArgumentError: If the share is not above 0 and at most 1.
        """
        if isinstance(energy, bool) or not isinstance(energy, (int, float)) or not 0 < energy <= 1:
            raise ArgumentError("an energy above 0 and at most 1", repr(energy), "0.9 keeps 90 % of each module.")
        return {name: _least_rank(values, float(energy)) for name, values in self.values.items()}

    def energy_kept(self, ranks: Mapping[str, int]) -> float:
        """The share of the energy, over all modules, that these ranks hold; 1 if there is none."""
        total = sum(float(values @ values) for values in self.values.values())
        lost = sum(float((values[ranks[name] :] ** 2).sum()) for name, values in self.values.items())
        return 1.0 - lost / total if total else 1.0

    def plot(self, kept: Mapping[str, int] | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw the singular values of every module, coloured by its type.

        Args:
            kept: Ranks to mark with a dot, for example those of a `ResizeReport`.
            ax: Axes to draw into; a new figure otherwise.

        Raises:
            MissingExtraError: If matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("matplotlib", "plot") from error
        axes: Axes = Figure(figsize=(7.2, 4.6), layout="constrained").subplots() if ax is None else ax
        colors: dict[str, str] = {}
        for name, values in self.values.items():
            kind = name.rpartition(".")[2]
            label = None if kind in colors else kind
            colors.setdefault(kind, f"C{len(colors) % 10}")
            shown = values[values > 0]
            axes.plot(np.arange(1, len(shown) + 1), shown, color=colors[kind], lw=0.8, alpha=0.6, label=label)
            if kept is not None and 0 < kept.get(name, 0) <= len(shown):
                axes.plot(kept[name], shown[kept[name] - 1], "o", color=colors[kind], markersize=3)
        if any((values > 0).any() for values in self.values.values()):
            axes.set_yscale("log")
        axes.set_xlabel("rank")
        axes.set_ylabel("singular value of the update")
        axes.set_title("Each module's update" + ("" if kept is None else "; a dot marks the rank kept"), fontsize=10)
        axes.legend(fontsize=8)
        return axes

    def to_dict(self) -> dict[str, Any]:
        """The spectra as JSON values."""
        modules = {
            name: {"d_in": self.sizes[name][0], "d_out": self.sizes[name][1], "singular_values": values.tolist()}
            for name, values in self.values.items()
        }
        return {
            "format": "rankselect.adapter_spectra",
            "version": 1,
            "parameters": self.parameters,
            "rank_at_energy": {str(energy): self.rank_at_energy(energy) for energy in _ENERGIES},
            "modules": modules,
        }

    def __str__(self) -> str:
        """A table with a row for each type of module: its ranks, and those at 90, 95 and 99 % of the energy."""
        levels = {"now": {name: len(values) for name, values in self.values.items()}}
        levels |= {f"{energy:.0%}": self.rank_at_energy(energy) for energy in _ENERGIES}
        kinds = list(dict.fromkeys(name.rpartition(".")[2] for name in self.values))
        rows = [["rank of", *levels]]
        for kind in kinds:
            names = [name for name in self.values if name.rpartition(".")[2] == kind]
            rows.append([kind, *(_range([ranks[name] for name in names]) for ranks in levels.values())])
        rows.append(["parameters", *(f"{self.parameters_of(ranks):,}" for ranks in levels.values())])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join(lines)


def adapter_spectra(adapter: str | os.PathLike[str]) -> AdapterSpectra:
    """Compute the singular values of an adapter's updates, to look at before it is resized.

    Of the thin matrices only: the update itself, as large as the base weight, is never built. Scales (alpha, patterns,
    rank stabilisation) are those that PEFT applies. Memory is that of one module's factors.

    Args:
        adapter: A folder that PEFT's `save_pretrained` wrote, of plain or rank-stabilised LoRA.

    Raises:
        AdapterError: If the folder is incomplete or damaged, or no plain LoRA (DoRA, fused experts).

    Example:
        >>> import tempfile
        >>> from peft import LoraConfig, get_peft_model
        >>> from rankselect.testing import tiny_model
        >>> folder = tempfile.mkdtemp()
        >>> config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
        >>> get_peft_model(tiny_model(), config).save_pretrained(folder)
        >>> spectra = adapter_spectra(folder)
        >>> [len(values) for values in spectra.values.values()]
        [2, 2]
    """
    return spectra_of(read_adapter(adapter))


def spectra_of(adapter: AdapterFolder, moments: Mapping[str, torch.Tensor] | None = None) -> AdapterSpectra:
    """The singular values of the updates; with moments, of what the updates add to the outputs of modules on rows.

    Args:
        adapter: The adapter.
        moments: ``{full module name: second moment of the output of A, (r, r)}``, or None.
    """
    values = {}
    for module in adapter.modules:
        a, b = adapter.factors(module)
        sigma = low_rank_svd(b, a if moments is None else square_root(moments[module.name]))[1]
        values[module.name] = np.zeros(module.rank)
        values[module.name][: len(sigma)] = abs(module.scale) * sigma.numpy()
    return AdapterSpectra(values, {module.name: (module.d_in, module.d_out) for module in adapter.modules})


def square_root(moment: torch.Tensor) -> torch.Tensor:
    """A matrix R with R Rᵀ = moment, in float32.

    Example:
        >>> import torch
        >>> square_root(torch.diag(torch.tensor([4.0, 9.0]))).abs()
        tensor([[2., 0.],
                [0., 3.]])
    """
    values, vectors = torch.linalg.eigh(moment.double())
    root: torch.Tensor = vectors * values.clamp_min(0.0).sqrt()
    return root.float()


def _least_rank(values: NDArray[np.float64], energy: float) -> int:
    held = np.cumsum(values**2)
    if not held[-1]:
        return 0
    return min(int(np.searchsorted(held, energy * held[-1] * (1 - 1e-12))) + 1, int(np.count_nonzero(values)))


def _range(ranks: list[int]) -> str:
    least, greatest = min(ranks), max(ranks)
    return str(least) if least == greatest else f"{least}-{greatest}"
