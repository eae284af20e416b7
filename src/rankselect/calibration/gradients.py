"""Gradient spectra: how many directions of each weight's gradient are more than noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch
from tqdm.auto import tqdm

from rankselect.calibration.gradient_sums import GradientSums
from rankselect.calibration.loss_batches import loss_batches
from rankselect.calibration.module_spectra import ModuleSpectra, described_model
from rankselect.errors import ArgumentError
from rankselect.memory.sizes import in_bytes
from rankselect.models.layers import require_model, unwrapped, widths
from rankselect.plan import _peft
from rankselect.plan.targets import find_targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

    from rankselect.calibration.evidence import Calibration

__all__ = ["GradientSpectra"]

_OVERSAMPLED = 16  # further directions of the randomized decomposition
_SMALL = 2  # a decomposition of all directions, where at least half of them are wanted


@final
@dataclass(frozen=True, eq=False)
class GradientSpectra(ModuleSpectra):
    r"""Singular values of each module's gradient, with the noise removed, and three scores.

    The gradient of the mean loss on some rows is that of the task plus the noise of these rows, and noise has singular
    values too. The rows are split into two halves at random. With :math:`\sigma_i, u_i, v_i` the decomposition of the
    first half's gradient, :math:`\sigma_i u_i^\top G_2 v_i` estimates the squared value without the noise, which is
    independent in the second half; negative estimates count as 0.

    Scores: ``"fisher"``, the mean over rows and weights of the squared gradient of the row's mean loss (experts of a
    mixture see tokens without their rows; there the batch stands for its rows); ``"weight_gradient"``,
    :math:`\|W \circ G\|_F`; ``"norm"``, :math:`\|G\|_F`.

    Cost: a forward and a backward pass over the rows for each group of modules whose gradients fit into `memory`.

    References:
        Wang et al., *LoRA-GA: Low-rank adaptation with gradient approximation*, 2024, arXiv:2407.05000; Halko et al.,
        *Finding structure with randomness*, 2011, doi:10.1137/090771806.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> calibration = rs.Calibration(tiny_model(), tiny_tokenizer(), tiny_texts(20), progress=False)
        >>> spectra = GradientSpectra.measure(calibration)
        >>> len(spectra.modules), sorted(spectra.scores)
        (4, ['fisher', 'norm', 'weight_gradient'])
    """

    file_format: ClassVar[str] = "rankselect.gradient_spectra"
    about: ClassVar[str] = "gradient"

    @classmethod
    def measure(cls, calibration: Calibration, *, n_values: int = 128, memory: float | str = "4GiB") -> GradientSpectra:
        """Measure the gradients of a calibration's model on its rows or texts; the model is left as it was.

        Args:
            calibration: The model, with question-answer rows or texts.
            n_values: Keep so many singular values of each module. A plan's larger ranks count as without gain.
            memory: Keep the gradients of as many modules at once as fit into it, at least of one. Each group of modules
                is one pass over the rows.

        Raises:
            TextsError: If there are fewer than two rows, or none that are texts.
            ModelError: If the model is not causal, its loss is not finite, or it passes no gradients on.
            TargetError: If `target_modules` match nothing.
            ArgumentError: If an argument is out of its range.
        """
        if isinstance(n_values, bool) or not isinstance(n_values, int) or n_values < 1:
            raise ArgumentError("n_values of at least 1", repr(n_values), "Use 128.")
        require_model(calibration.model)
        targets = find_targets(calibration.model, calibration.target_modules)
        modules = {target.name: unwrapped(calibration.model).get_submodule(target.name) for target in targets}
        groups = list(_groups(modules, in_bytes(memory, "memory")))
        batches = loss_batches(calibration)
        values: dict[str, NDArray[np.float64]] = {}
        scores: dict[str, dict[str, float]] = {"fisher": {}, "weight_gradient": {}, "norm": {}}
        total = len(groups) * batches.n_rows
        with tqdm(total=total, unit="row", desc="gradients", disable=not calibration.progress) as bar:
            for group in groups:
                found = GradientSums(calibration.model, group)
                found.read(batches, bar.update)
                for name, module in group.items():
                    first, second = found.sums.pop(name)
                    values[name] = _without_noise(first, second, n_values, calibration.seed)
                    mean = (first + second).div_(2)
                    scores["fisher"][name] = found.squares[name] / mean.numel()
                    scores["norm"][name] = float(mean.norm())
                    scores["weight_gradient"][name] = float((_weight(module, mean) * mean).norm())
        measurement = {**described_model(calibration.model), **batches.described(calibration)}
        return cls(values, {t.name: (t.d_in, t.d_out) for t in targets}, scores, measurement)


def _groups(modules: dict[str, nn.Module], room: float) -> Iterator[dict[str, nn.Module]]:
    """The modules in groups whose gradients of two halves fit into so many bytes."""
    group: dict[str, nn.Module] = {}
    used = 0
    for name, module in modules.items():
        d_in, d_out = widths(module)
        needed = 2 * 4 * d_in * d_out
        if group and used + needed > room:
            yield group
            group, used = {}, 0
        group[name] = module
        used += needed
    yield group


def _without_noise(first: torch.Tensor, second: torch.Tensor, n_values: int, seed: int) -> NDArray[np.float64]:
    """The singular values of the first matrix that the second confirms, the largest first."""
    u, sigma, v = _largest(first, n_values, seed)
    confirmed = ((u.T @ second) * v.T).sum(dim=1)
    squares = (sigma * confirmed).clamp_min(0.0)
    return np.sort(squares.double().sqrt().cpu().numpy())[::-1].copy()


def _largest(matrix: torch.Tensor, n_values: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The largest singular values with their vectors: exactly, or by a randomized decomposition of large matrices."""
    wanted, smaller = min(n_values, *matrix.shape), min(matrix.shape)
    if wanted * _SMALL >= smaller:
        u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u[:, :wanted], sigma[:wanted], vh[:wanted].T
    generator = torch.Generator().manual_seed(seed)
    width = min(wanted + _OVERSAMPLED, smaller)
    sketch = matrix @ torch.randn(matrix.shape[1], width, generator=generator).to(matrix.device)
    basis = torch.linalg.qr(sketch).Q
    for _ in range(2):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    u, sigma, vh = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return (basis @ u)[:, :wanted], sigma[:wanted], vh[:wanted].T


def _weight(module: nn.Module, like: torch.Tensor) -> torch.Tensor:
    """The weight as it computes, (d_out, d_in)."""
    return _peft.weight(module).to(device=like.device, dtype=like.dtype)
