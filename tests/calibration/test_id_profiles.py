"""Several profiles in one pass, and profiles under autocast."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import rankselect as rs
from architectures import FAMILIES, inputs_for
from rankselect.errors import ArgumentError, FileFormatError
from rankselect.testing import tiny_model, tiny_texts, tiny_tokenizer

TEXTS = tiny_texts(60)
ESTIMATORS = (rs.TwoNN(), rs.MLE(n_neighbors=5), "gride:range_max=4")


def test_each_is_the_profile_measured_alone():
    profiles = rs.id_profiles(tiny_model(), tiny_tokenizer(), TEXTS, estimators=ESTIMATORS, progress=False)
    assert len(profiles) == 6
    for (pooling, name), profile in profiles.items():
        by = next(each for each in map(rs.estimator, ESTIMATORS) if repr(each) == name)
        alone = rs.id_profile(tiny_model(), tiny_tokenizer(), TEXTS, pooling=pooling, estimator=by, progress=False)
        assert profile.measurement == alone.measurement
        np.testing.assert_array_equal(profile.values, alone.values)
        np.testing.assert_array_equal(profile.stderr, alone.stderr)
        assert profile.input_values == alone.input_values


def test_the_model_runs_once_over_the_texts():
    model, rows = tiny_model(), []
    model.model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    rs.id_profiles(model, tiny_tokenizer(), TEXTS, estimators=ESTIMATORS, progress=False)
    assert sum(rows) == len(TEXTS)


@pytest.mark.parametrize("family", ["t5", "albert", "vit"])
def test_stacks_and_shared_layers(family):
    inputs = inputs_for(family, 30)
    several = rs.id_profiles(FAMILIES[family](), None, inputs, progress=False)
    for (pooling, _), profile in several.items():
        alone = rs.id_profile(FAMILIES[family](), None, inputs, pooling=pooling, progress=False)
        np.testing.assert_array_equal(profile.values, alone.values)
        assert profile.input_values == alone.input_values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"poolings": ()}, r"at least one of poolings, each once, got \[\]"),
        ({"poolings": ("mean", "mean")}, "at least one of poolings, each once"),
        ({"poolings": ("max",)}, "pooling 'mean' or 'last', got 'max'"),
        ({"estimators": (rs.TwoNN(), "twonn")}, "at least one of estimators, each once"),
        ({"tolerance": 1.0}, "no tolerance for several profiles, got 1.0"),
        ({"autocast": "float16"}, "autocast 'bfloat16' or None, got 'float16'"),
    ],
)
def test_what_cannot_be(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        rs.id_profiles(tiny_model(), tiny_tokenizer(), TEXTS, progress=False, **arguments)


def test_autocast_changes_ids_by_less_than_half(tmp_path):
    texts = tiny_texts(300)
    exact = rs.id_profile(tiny_model(), tiny_tokenizer(), texts, progress=False)
    cast = rs.id_profile(tiny_model(), tiny_tokenizer(), texts, autocast="bfloat16", progress=False)
    assert (cast.values != exact.values).any()
    assert np.abs(cast.values - exact.values).max() < 0.5
    assert (exact.measurement.autocast, cast.measurement.autocast) == (None, "bfloat16")
    cast.save(tmp_path / "profile.json")
    assert rs.IDProfile.load(tmp_path / "profile.json").measurement == cast.measurement
    exact.save(tmp_path / "exact.json")
    assert "autocast" not in json.loads((tmp_path / "exact.json").read_text())["measurement"]  # as before


def test_matrices_are_multiplied_in_bfloat16():
    model, seen = tiny_model(), set()
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda _, __, output: seen.add(output.dtype))
    rs.id_profile(model, tiny_tokenizer(), TEXTS, autocast="bfloat16", progress=False)
    assert seen == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_fields_of_a_later_release_are_ignored(tmp_path):
    profile = rs.id_profile(tiny_model(), tiny_tokenizer(), TEXTS, progress=False)
    profile.save(tmp_path / "profile.json")
    document = json.loads((tmp_path / "profile.json").read_text())
    document["measurement"]["later"] = 3
    (tmp_path / "profile.json").write_text(json.dumps(document))
    assert rs.IDProfile.load(tmp_path / "profile.json").measurement == profile.measurement
    del document["measurement"]["width"]
    (tmp_path / "profile.json").write_text(json.dumps(document))
    with pytest.raises(FileFormatError):
        rs.IDProfile.load(tmp_path / "profile.json")


def test_patterns_of_a_plan_are_computed_once(monkeypatch):
    from rankselect.plan import rank_plan

    calls = []
    real = rank_plan.value_patterns
    monkeypatch.setattr(rank_plan, "value_patterns", lambda values: calls.append(1) or real(values))
    profile = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 9.0})
    plan = rs.PerLayerID().plan(tiny_model(), profile)
    for _ in range(3):
        config = plan.to_lora_config()
        assert (config.rank_pattern, config.alpha_pattern) == (plan.rank_pattern, plan.alpha_pattern)
    assert len(calls) == 2
    plan.rank_pattern["x"] = 3  # a copy
    assert "x" not in plan.rank_pattern
