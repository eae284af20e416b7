"""Every registered strategy keeps the contract, and the contract's own check finds those that do not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import rankselect as rs
from rankselect.registry import available, create
from rankselect.testing import check_strategy

ARGUMENTS = {
    "fixed": "fixed:rank=4",
    "same-parameters": "same-parameters:strategy=per-layer-id",
    "by-type": "by-type:strategy=fisher",
    "shuffled": "shuffled:strategy=per-layer-id,seed=1",
    "tilted": "tilted:strategy=fixed:rank=4,towards=late",
}


@pytest.mark.parametrize("name", available("strategy"))
def test_every_registered_strategy_keeps_the_contract(name):
    check_strategy(create("strategy", ARGUMENTS.get(name, name)))


def test_all_of_ours_are_registered():
    ours = {"fixed", "intrinsic-min", "intrinsic-max", "intrinsic-mean", "per-layer-id", "gelora"}
    ours |= {"gradient-spectrum", "fisher", "gora", "probe", "eva", "by-size", "effective-rank", "capacity", "by-type"}
    ours |= {"same-parameters", "shuffled", "tilted"}
    assert ours <= available("strategy").keys()


@dataclass(frozen=True)
class Sound(rs.RankStrategy):
    def ranks(self, targets, evidence):
        return {target.name: 2.5 for target in targets}


@dataclass(frozen=True)
class MissesOne(Sound):
    def ranks(self, targets, evidence):
        return super().ranks(targets[1:], evidence)


@dataclass(frozen=True)
class AddsOne(Sound):
    def ranks(self, targets, evidence):
        return {**super().ranks(targets, evidence), "lm_head": 2}


@dataclass(frozen=True)
class NotANumber(Sound):
    def ranks(self, targets, evidence):
        return {target.name: float("nan") for target in targets}


@dataclass(frozen=True)
class Moody(Sound):
    def ranks(self, targets, evidence, calls=itertools.count(1)):  # noqa: B008
        return dict.fromkeys((target.name for target in targets), next(calls))


class Nameless(Sound):
    __repr__ = object.__repr__


@dataclass(frozen=True)
class TheModel(rs.Evidence):
    model: Any

    @classmethod
    def measure(cls, calibration):
        return cls(calibration.model)


@dataclass(frozen=True)
class Meddling(Sound):
    """It changes the weights of the model while planning."""

    evidence: ClassVar = TheModel

    def ranks(self, targets, evidence):
        with torch.no_grad():
            next(evidence.model.parameters()).add_(1.0)
        return super().ranks(targets, evidence)


@dataclass(frozen=True)
class Destructive(TheModel):
    @classmethod
    def measure(cls, calibration):
        with torch.no_grad():
            next(calibration.model.parameters()).add_(1.0)
        return cls(calibration.model)


@dataclass(frozen=True)
class MeasuredToPieces(Sound):
    """Its evidence changes the model while measuring it."""

    evidence: ClassVar = Destructive


@dataclass(frozen=True)
class EasilyPleased(Sound):
    """It plans without the evidence that it says it needs."""

    evidence: ClassVar = TheModel

    def plan(self, model, evidence=None, **arguments):
        return super().plan(model, evidence or TheModel(model), **arguments)


def test_a_sound_strategy_passes():
    check_strategy(Sound())


@pytest.mark.parametrize(
    ("strategy", "broken"),
    [
        (MissesOne(), "a rank for every target and no other"),
        (AddsOne(), "a rank for every target and no other"),
        (NotANumber(), "finite ranks"),
        (Moody(), "the same ranks for the same evidence"),
        (Nameless(), "a repr that shows how it was created"),
        (Meddling(), "a model that is left as it was"),
        (MeasuredToPieces(), "a model that is left as it was"),
        (EasilyPleased(), "EvidenceError for plan without evidence"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, rs.RankStrategy) else "",
)
def test_a_broken_one_is_told_what_it_breaks(strategy, broken):
    with pytest.raises(rs.errors.ContractError, match=f"expected {broken}"):
        check_strategy(strategy)
