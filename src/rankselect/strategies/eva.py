"""EVA: ranks by how much of the variance of each module's input few directions explain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from rankselect.calibration.inputs import InputSpectra, eva_ranks
from rankselect.plan.allocation import allocate
from rankselect.strategies._base import RankStrategy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankselect.calibration.evidence import Evidence
    from rankselect.plan.targets import Target

__all__ = ["EVA"]


@final
@dataclass(frozen=True)
class EVA(RankStrategy):
    r"""Rank by rank to the module whose input has most variance left to explain.

    The shares of variance that the principal components of each module's input explain are put into one pool, and the
    largest are taken: as many as a uniform rank of 8 has (or the rank that the evidence was measured with), and at most
    twice that rank for a module. These are the ranks that PEFT's ``init_lora_weights="eva"`` gives on the same batches.
    A budget is spent on the largest shares per parameter.

    Only the ranks are EVA's: its first weights of A, the components themselves, are not used. PEFT scales alpha with
    the rank, as `AlphaRatio` does.

    Cost: forward passes over some tens of batches, and small decompositions.

    For it: cheap, without gradients, and in PEFT. Against it: its authors never tested the ranks without the first
    weights. On SmolLM2-135M (five paired seeds, equal parameters, rates tuned) the ranks alone made no difference:
    -.001 ± .002 of loss against uniform ranks.

    Raises:
        EvidenceError: From `plan`, if a target was not measured.

    References:
        Paischer et al., *One initialization to rule them all: Fine-tuning via explained variance adaptation*, 2024,
        arXiv:2410.07170.

    Example:
        >>> import rankselect as rs
        >>> from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer
        >>> model = tiny_model()
        >>> calibration = rs.Calibration(model, tiny_tokenizer(), tiny_texts(40), progress=False)
        >>> sum(EVA().plan(model, calibration).ranks.values())
        32
    """

    evidence: ClassVar[type[Evidence] | None] = InputSpectra

    def ranks(self, targets: Sequence[Target], evidence: InputSpectra) -> Mapping[str, float]:
        """EVA's ranks of the targets, of which the sum is that of the uniform rank."""
        evidence.of(targets)
        explained = {target.name: evidence.explained(target.name).tolist() for target in targets}
        shared: dict[str, str] = {}
        first: dict[str, str] = {}
        for target in targets:  # a plan for some of the modules that were measured
            group = str(evidence.measurement.get("shared_with", {}).get(target.name, target.name))
            shared[target.name] = first.setdefault(group, target.name)
        return eva_ranks(explained, shared, int(evidence.measurement.get("rank", 8)))

    def integer_ranks(
        self, targets: Sequence[Target], evidence: InputSpectra, parameters: int | None = None
    ) -> dict[str, int]:
        """EVA's ranks; within a budget, those that explain most."""
        if parameters is None:
            return super().integer_ranks(targets, evidence)
        evidence.of(targets)
        gains = []
        for target in targets:
            most = target.clipped(target.max_rank)
            shares = evidence.explained(target.name)[:most] / target.parameters(1)
            gains.append(np.pad(shares, (0, most - len(shares))))
        return allocate(targets, gains, parameters)
