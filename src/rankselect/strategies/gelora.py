"""GeLoRA: ranks from how much the intrinsic dimension grows across a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import EvidenceError
from rankselect.strategies._base import RankStrategy
from rankselect.strategies.intrinsic import layer_of_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["GeLoRA"]


@final
@dataclass(frozen=True)
class GeLoRA(RankStrategy):
    r"""The growth of the intrinsic dimension across each layer, plus one.

    .. math:: r_i = \max(d_i - d_{i-1}, 0) + 1

    with :math:`d_i` the ID of the output of block i and :math:`d_{i-1}` that of its input. The paper shows that a block
    whose update is to raise the dimension from one to the other needs at least the difference as its rank; the one
    added keeps every block trainable.

    Raises:
        EvidenceError: From `plan`, if the profile lacks a layer or the ID of a stack's input.
        TargetError: From `plan`, if a target lies outside the layers.

    References:
        Ed-dib et al., *GeLoRA: Geometric adaptive ranks for efficient LoRA fine-tuning*, 2024, arXiv:2412.09250.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> values = {"model.layers.0": 7.0, "model.layers.1": 5.0}
        >>> profile = rs.IDProfile.from_values(values, input_values={"model.layers.0": 3.0})
        >>> GeLoRA().plan(tiny_model(), profile, target_modules=["q_proj"]).ranks
        {'model.layers.0.self_attn.q_proj': 5, 'model.layers.1.self_attn.q_proj': 1}
    """

    evidence: ClassVar[type[Evidence] | None] = IDProfile

    def ranks(self, targets: Sequence[Target], evidence: IDProfile) -> Mapping[str, float]:
        """The growth of the ID across the layer that each target is in, plus one."""
        layers = dict.fromkeys(layer_of_target(target) for target in targets)
        growth = {layer: max(evidence.value_of(layer) - _entering(layer, evidence), 0.0) + 1 for layer in layers}
        return {target.name: growth[layer_of_target(target)] for target in targets}


def _entering(layer: str, profile: IDProfile) -> float:
    """The ID of the input of a layer: the output of the one before it in the same stack, or the stack's input."""
    if layer in profile.input_values:
        return profile.input_values[layer]
    stack = layer.rpartition(".")[0]
    before = [name for name in profile.layers[: profile.layers.index(layer)] if name.rpartition(".")[0] == stack]
    if not before:
        raise EvidenceError(
            f"a profile with the ID of the input of {layer}",
            "one without it",
            "Measure it with id_profile and mean pooling, or give input_values to IDProfile.from_values.",
        )
    return profile.value_of(before[-1])
