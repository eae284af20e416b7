"""Weight spectra: the singular values of the base model's own weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch
from tqdm.auto import tqdm

from rankselect.calibration.module_spectra import ModuleSpectra, described_model
from rankselect.errors import ModelError
from rankselect.models.layers import require_model, unwrapped
from rankselect.plan import _peft
from rankselect.plan.targets import find_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rankselect.calibration.evidence import Calibration

__all__ = ["WeightSpectra"]


@final
@dataclass(frozen=True, eq=False)
class WeightSpectra(ModuleSpectra):
    """All singular values of each module's weight, as it computes: quantized weights are dequantized, one at a time.

    Cost: one decomposition for each module, no texts.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> spectra = WeightSpectra.measure(rs.Calibration(tiny_model(), None, [], progress=False))
        >>> len(spectra.modules), len(spectra.values[spectra.modules[0]])
        (4, 32)
    """

    file_format: ClassVar[str] = "rankselect.weight_spectra"
    about: ClassVar[str] = "weight"

    @classmethod
    def measure(cls, calibration: Calibration) -> WeightSpectra:
        """Decompose the weights of a calibration's target modules; its texts are not read.

        Raises:
            ModelError: If a weight is on the meta device, or not finite.
            TargetError: If `target_modules` match nothing.
        """
        require_model(calibration.model)
        targets = find_targets(calibration.model, calibration.target_modules)
        values = {}
        for target in tqdm(targets, unit="module", desc="weights", disable=not calibration.progress):
            module = unwrapped(calibration.model).get_submodule(target.name)
            values[target.name] = _singular_values(_peft.weight(module), target.name)
        sizes = {target.name: (target.d_in, target.d_out) for target in targets}
        return cls(values, sizes, {}, described_model(calibration.model))


def _singular_values(weight: torch.Tensor, name: str) -> NDArray[np.float64]:
    if weight.is_meta:
        raise ModelError("a model with weights", "one on the meta device", "Load it with from_pretrained first.")
    weight = weight.float()
    if not weight.isfinite().all():
        raise ModelError("finite weights", f"NaN or infinity in {name}", "Download the model again.")
    return np.asarray(torch.linalg.svdvals(weight).cpu(), dtype=np.float64)
