"""Ranks from a profile: one for all layers, or each layer's own; and profiles of other models are refused."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rankselect as rs
from architectures import FAMILIES
from rankselect.testing import tiny_model

LLAMA = tiny_model()
FIRST, SECOND = rs.layer_names(LLAMA)
IDS = st.floats(0.01, 60.0)

SETTINGS = rs.ProfileSettings(
    estimator="TwoNN()",
    pooling="mean",
    max_length=512,
    seed=0,
    n_texts=100,
    n_duplicates=0,
    n_truncated=0,
    texts_digest="0",
    model_name="",
    model_type="llama",
    width=(32,),
    order_agreement=1.0,
    versions={},
)


def profile(**ids):
    return rs.IDProfile.from_values({FIRST: 3.4, SECOND: 7.5, **ids})


def measured(**changes):
    return dataclasses.replace(profile(), measurement=dataclasses.replace(SETTINGS, **changes))


@pytest.mark.parametrize(
    ("strategy", "first", "second"),
    [
        (rs.IntrinsicMin(), 3, 3),
        (rs.IntrinsicMax(), 8, 8),
        (rs.IntrinsicMean(), 5, 5),  # 5.45
        (rs.PerLayerID(), 3, 8),
    ],
)
def test_ranks_are_what_the_name_says(strategy, first, second):
    plan = strategy.plan(LLAMA, profile(), target_modules="all-linear")
    assert len(plan.ranks) == 14
    assert {rank for name, rank in plan.ranks.items() if name.startswith(FIRST)} == {first}
    assert {rank for name, rank in plan.ranks.items() if name.startswith(SECOND)} == {second}
    assert plan.strategy == f"{type(strategy).__name__}()"


@given(first=IDS, second=IDS, max_rank=st.none() | st.integers(1, 20))
def test_a_layer_of_higher_dimension_never_gets_a_lower_rank(first, second, max_rank):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rs.RankSelectWarning)
        values = rs.IDProfile.from_values({FIRST: first, SECOND: second})
        ranks = rs.PerLayerID().plan(LLAMA, values, target_modules=["q_proj"], max_rank=max_rank).ranks
        uniform = [
            next(iter(s.plan(LLAMA, values, target_modules=["q_proj"], max_rank=max_rank).ranks.values()))
            for s in (rs.IntrinsicMin(), rs.IntrinsicMean(), rs.IntrinsicMax())
        ]
    low, high = ranks[f"{FIRST}.self_attn.q_proj"], ranks[f"{SECOND}.self_attn.q_proj"]
    assert (first <= second) <= (low <= high)
    assert (first >= second) <= (low >= high)
    assert 1 <= min(low, high) <= max(low, high) <= (max_rank or 32)
    assert uniform == sorted(uniform)
    assert (uniform[0], uniform[2]) == (min(low, high), max(low, high))


@pytest.mark.parametrize("path", ["profile.json", Path("profile.json")])
def test_the_path_of_a_profile_is_no_profile(path):
    with pytest.raises(rs.errors.EvidenceError, match=r"for PerLayerID\(\), got 'profile\.json'\. Read the file first"):
        rs.PerLayerID().plan(LLAMA, path)


class TestAnotherModel:
    def test_a_profile_with_more_layers(self):
        longer = rs.IDProfile.from_values({f"model.layers.{i}": 3.0 for i in range(3)})
        with pytest.raises(rs.errors.EvidenceError) as caught:
            rs.IntrinsicMean().plan(LLAMA, longer)
        assert str(caught.value) == (
            "expected a profile of this model (2 layers, model.layers.0 to model.layers.1), got one of another model "
            "(3 layers, model.layers.0 to model.layers.2). "
            "Measure this model with id_profile: names and number of the layers must agree."
        )

    def test_a_profile_with_other_names(self):
        other = rs.IDProfile.from_values({"transformer.h.0": 3.0, "transformer.h.1": 4.0})
        with pytest.raises(rs.errors.EvidenceError, match=r"got one of another model \(2 layers, transformer\.h\.0 to"):
            rs.PerLayerID().plan(LLAMA, other)

    def test_a_profile_of_another_width(self):
        rs.PerLayerID().plan(LLAMA, measured())
        with pytest.raises(
            rs.errors.EvidenceError, match=r"this model \(llama, width 32\), got one of another \(llama, width 64\)"
        ):
            rs.PerLayerID().plan(LLAMA, measured(width=(64,)))

    def test_a_profile_of_another_architecture(self):
        with pytest.raises(
            rs.errors.EvidenceError, match=r"got one of another \(mistral, width 32\)\. Measure this model"
        ):
            rs.PerLayerID().plan(LLAMA, measured(model_type="mistral"))

    def test_another_name_alone_is_fine(self):
        rs.PerLayerID().plan(LLAMA, measured(model_name="elsewhere/llama"))

    def test_a_profile_that_lacks_a_layer_serves_the_others(self):
        partial = rs.IDProfile.from_values({SECOND: 5.0})
        plan = rs.PerLayerID().plan(LLAMA, partial, target_modules=["layers.1.self_attn.q_proj"])
        assert plan.ranks == {f"{SECOND}.self_attn.q_proj": 5}
        with pytest.raises(
            rs.errors.EvidenceError, match=rf"a profile with the layer {FIRST}, got one of 1 layers without"
        ):
            rs.PerLayerID().plan(LLAMA, partial)


def test_a_module_outside_the_layers_has_no_dimension_of_its_own():
    bert = FAMILIES["bert"]()
    values = rs.IDProfile.from_values(dict.fromkeys(rs.layer_names(bert), 4.0))
    with pytest.raises(rs.errors.TargetError) as caught:
        rs.PerLayerID().plan(bert, values, target_modules=["dense"])
    assert str(caught.value) == (
        "expected target modules inside the model's layers, got pooler.dense, which is not in a layer. "
        "Leave it out of target_modules, or use a strategy with one rank for all (Fixed, IntrinsicMean)."
    )
    assert rs.IntrinsicMean().plan(bert, values, target_modules=["dense"]).ranks["pooler.dense"] == 4
    assert "pooler.dense" not in rs.PerLayerID().plan(bert, values, target_modules="all-linear").ranks


def test_a_profile_measured_on_an_adapted_model_serves_its_base():
    values = rs.IDProfile.from_values({FIRST: np.float64(3.0), SECOND: np.float64(4.0)})
    plan = rs.PerLayerID().plan(LLAMA, values)
    assert all(type(rank) is int for rank in plan.ranks.values())
    assert all(type(alpha) is float for alpha in plan.alphas.values())
