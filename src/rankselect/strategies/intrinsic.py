"""Ranks from the intrinsic dimension: of each layer, or one for all layers."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from rankselect.calibration.id_profile import IDProfile
from rankselect.errors import TargetError
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["IntrinsicMax", "IntrinsicMean", "IntrinsicMin", "PerLayerID", "layer_of_target"]


class _OneForAll(RankStrategy):
    """One number of the profile, for every module."""

    evidence: ClassVar[type[Evidence] | None] = IDProfile

    @abstractmethod
    def of(self, profile: IDProfile) -> float:
        """The rank to use everywhere."""

    def ranks(self, targets: Sequence[Target], evidence: IDProfile) -> Mapping[str, float]:
        """The same number for every target."""
        return dict.fromkeys((target.name for target in targets), self.of(evidence))


@final
@dataclass(frozen=True)
class IntrinsicMin(_OneForAll):
    """The least ID of any layer, as the rank of every module: the most frugal choice that a profile supports.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.4, "model.layers.1": 7.6})
        >>> set(IntrinsicMin().plan(tiny_model(), profile).ranks.values())
        {3}
    """

    def of(self, profile: IDProfile) -> float:
        """The least ID."""
        return float(profile.values.min())


@final
@dataclass(frozen=True)
class IntrinsicMax(_OneForAll):
    """The greatest ID of any layer, as the rank of every module.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.4, "model.layers.1": 7.6})
        >>> set(IntrinsicMax().plan(tiny_model(), profile).ranks.values())
        {8}
    """

    def of(self, profile: IDProfile) -> float:
        """The greatest ID."""
        return float(profile.values.max())


@final
@dataclass(frozen=True)
class IntrinsicMean(_OneForAll):
    """The mean ID over the layers, as the rank of every module: the fair uniform control for `PerLayerID`.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.4, "model.layers.1": 7.6})
        >>> set(IntrinsicMean().plan(tiny_model(), profile).ranks.values())
        {6}
    """

    def of(self, profile: IDProfile) -> float:
        """The mean ID."""
        return float(profile.values.mean())


@final
@dataclass(frozen=True)
class PerLayerID(RankStrategy):
    """Each layer's own ID, as the rank of the modules in it.

    Where layers hardly differ in ID, it hardly differs from `IntrinsicMean`; see the profile's intervals.

    Raises:
        TargetError: From `plan`, if a target lies outside the layers.
        EvidenceError: From `plan`, if the profile lacks a layer.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model
        >>> profile = rs.IDProfile.from_values({"model.layers.0": 3.4, "model.layers.1": 7.5})
        >>> plan = PerLayerID().plan(tiny_model(), profile, target_modules=["q_proj"])
        >>> plan.ranks
        {'model.layers.0.self_attn.q_proj': 3, 'model.layers.1.self_attn.q_proj': 8}
    """

    evidence: ClassVar[type[Evidence] | None] = IDProfile

    def ranks(self, targets: Sequence[Target], evidence: IDProfile) -> Mapping[str, float]:
        """The ID of the layer that each target is in."""
        return {target.name: evidence.value_of(layer_of_target(target)) for target in targets}


def layer_of_target(target: Target) -> str:
    """The name of the layer a target is in.

    Raises:
        TargetError: If it is in none.
    """
    if target.layer is None:
        raise TargetError(
            "target modules inside the model's layers",
            f"{target.name}, which is not in a layer",
            "Leave it out of target_modules, or use a strategy with one rank for all (Fixed, IntrinsicMean).",
        )
    return target.layer
