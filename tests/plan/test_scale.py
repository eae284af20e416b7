"""Alpha rules: in the plan, its file, PEFT's config, what PEFT builds, and what merging and exporting make of it."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

import rankselect as rs
from rankselect.errors import ArgumentError, FileFormatError, PlanMismatchError, TargetError
from rankselect.plan.scale import alpha_rule
from rankselect.testing import tiny_model

RULES = [rs.AlphaRatio(2), rs.FixedAlpha(32), rs.RankStabilized(6)]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def profile():
    return rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 9.0})


def expected_scale(rule, rank):
    if isinstance(rule, rs.AlphaRatio):
        return rule.ratio
    return rule.value / (math.sqrt(rank) if isinstance(rule, rs.RankStabilized) else rank)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_peft_builds_the_scales_of_the_plan(model, profile, rule, tmp_path):
    plan = rs.PerLayerID().plan(model, profile, alpha=rule, target_modules="all-linear")
    assert plan.scales == {name: pytest.approx(expected_scale(rule, rank)) for name, rank in plan.ranks.items()}
    plan.save(tmp_path / "plan.json")
    loaded = rs.RankPlan.load(tmp_path / "plan.json")
    assert loaded == plan
    peft_model = get_peft_model(copy.deepcopy(model), loaded.to_lora_config())
    loaded.verify(peft_model)
    layer = peft_model.base_model.model.model.layers[1].mlp.up_proj
    assert layer.scaling["default"] == pytest.approx(plan.scales["model.layers.1.mlp.up_proj"])


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_scaled_plan_follows_its_rule(model, rule):
    plan = rs.Fixed(4).plan(model, alpha=rule).scaled(2)
    assert set(plan.ranks.values()) == {8}
    assert list(plan.scales.values()) == [pytest.approx(expected_scale(rule, 8))] * len(plan.ranks)
    assert plan.alpha_rule == rule.kind


def test_the_file_of_a_plan_with_a_ratio_has_not_changed(model, tmp_path):
    rs.Fixed(4).plan(model, alpha=rs.AlphaRatio(8)).save(tmp_path / "new.json")
    document = json.loads((tmp_path / "new.json").read_text())
    assert document["version"] == 1
    assert "alpha_rule" not in document
    assert rs.Fixed(4).plan(model) == rs.RankPlan.load(tmp_path / "new.json")


def test_a_file_with_an_unknown_rule(model, tmp_path):
    plan = rs.Fixed(4).plan(model, alpha=rs.RankStabilized(8))
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan.to_dict() | {"alpha_rule": "square"}))
    with pytest.raises(FileFormatError, match="a field 'alpha_rule' .* got 'square' in "):
        rs.RankPlan.load(path)


def test_a_config_without_rank_stabilized_scales_is_found(model):
    plan = rs.Fixed(4).plan(model, alpha=rs.RankStabilized(8), target_modules=["q_proj"])
    other = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"])
    with pytest.raises(PlanMismatchError, match="use_rslora is False, not True"):
        plan.verify(get_peft_model(copy.deepcopy(model), other))
    with pytest.raises(ArgumentError, match="use_rslora=True for a plan with rank-stabilized scales, got False"):
        plan.to_lora_config(use_rslora=False)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_trained_and_merged_model_have_the_same_scales(model, profile, rule, tmp_path):
    plan = rs.PerLayerID().plan(model, profile, alpha=rule, target_modules="all-linear")
    peft_model = get_peft_model(copy.deepcopy(model), plan.to_lora_config(task_type="CAUSAL_LM"))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    tokens = torch.arange(3, 24)[None]
    with torch.no_grad():
        expected = peft_model.eval()(tokens).logits
    model.save_pretrained(tmp_path / "base")
    peft_model.save_pretrained(tmp_path / "adapter")
    rs.merge_adapter(tmp_path / "adapter", tmp_path / "merged", base=tmp_path / "base")
    with torch.no_grad():
        merged = rs.load_model(tmp_path / "merged").eval()(tokens).logits
    assert torch.allclose(merged, expected, atol=1e-4)


def test_uniform_ranks_can_have_the_scales_of_another_plan(model, profile):
    other = rs.PerLayerID().plan(model, profile, alpha=rs.FixedAlpha(36))
    plan = rs.Fixed(6).plan(model, alpha=rs.ScalesOf(other))
    assert plan.scales == pytest.approx(other.scales)
    assert set(plan.ranks.values()) == {6}


def test_scales_of_a_plan_with_other_modules(model):
    other = rs.Fixed(4).plan(model, target_modules=["q_proj"])
    with pytest.raises(
        TargetError, match=r"a plan with all target modules, for ScalesOf\(Fixed\(rank=4\)\), got one with"
    ):
        rs.Fixed(6).plan(model, alpha=rs.ScalesOf(other), target_modules=["q_proj", "v_proj"])
    with pytest.raises(ArgumentError, match="a RankPlan whose scales to use, got a str"):
        rs.ScalesOf("plan.json")


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "8"])
@pytest.mark.parametrize("rule", [rs.AlphaRatio, rs.FixedAlpha, rs.RankStabilized])
def test_values_that_are_no_scale(rule, value):
    with pytest.raises(ArgumentError, match="above 0, got"):
        rule(value)


def test_texts_of_rules():
    assert [alpha_rule(text) for text in ("ratio:2", "fixed:16", "rank-stabilized:4", "fixed")] == [
        rs.AlphaRatio(2.0),
        rs.FixedAlpha(16.0),
        rs.RankStabilized(4.0),
        rs.FixedAlpha(32.0),
    ]
    for text in ("fixed:many", "square:2", ""):
        with pytest.raises(ArgumentError, match='expected an alpha rule, or "ratio:NUMBER" or "fixed:NUMBER"'):
            alpha_rule(text)
    with pytest.raises(ArgumentError, match=r"got 32. For the same alpha everywhere, use FixedAlpha\(32\)"):
        alpha_rule(32)


def test_two_rules_at_once(model):
    with pytest.raises(ArgumentError, match=r"alpha or alpha_ratio, got both \(FixedAlpha\(value=32\) and 2.0\)"):
        rs.Fixed(4).plan(model, alpha=rs.FixedAlpha(32), alpha_ratio=2.0)
