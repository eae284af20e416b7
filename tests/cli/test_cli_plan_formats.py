"""Every format can be read by its program, and means the same plan there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

import rankselect as rs
from rankselect.cli.plan import _yaml, as_text, reader
from rankselect.testing import tiny_model

PROFILE = rs.IDProfile.from_values({"model.layers.0": 3.0, "model.layers.1": 7.0})


@pytest.fixture
def plan():
    return rs.PerLayerID().plan(tiny_model(), PROFILE, target_modules="all-linear")


def test_json_is_the_saved_plan(plan, tmp_path):
    (tmp_path / "plan.json").write_text(as_text(plan, "json"))
    assert rs.RankPlan.load(tmp_path / "plan.json") == plan


def test_peft_is_what_peft_saves(plan, tmp_path):
    text = as_text(plan, "peft")
    assert json.loads(text)["peft_type"] == "LORA"
    (tmp_path / "adapter_config.json").write_text(text)
    plan.verify(get_peft_model(tiny_model(), LoraConfig.from_pretrained(tmp_path)))


def test_axolotl_keys_mean_the_plan(plan):
    keys = yaml.safe_load(as_text(plan, "axolotl"))
    assert list(keys) == [
        "adapter",
        "lora_r",
        "lora_alpha",
        "lora_target_modules",
        "lora_rank_pattern",
        "lora_alpha_pattern",
    ]
    assert keys["adapter"] == "lora"
    alphas = [keys["lora_alpha"], *keys["lora_alpha_pattern"].values()]
    assert all(type(alpha) is int and alpha > 0 for alpha in alphas)
    config = LoraConfig(
        r=keys["lora_r"],
        lora_alpha=keys["lora_alpha"],
        target_modules=keys["lora_target_modules"],
        rank_pattern=keys["lora_rank_pattern"],
        alpha_pattern=keys["lora_alpha_pattern"],
    )
    plan.verify(get_peft_model(tiny_model(), config))


def test_axolotl_has_no_empty_patterns():
    keys = yaml.safe_load(as_text(rs.Fixed(4).plan(tiny_model(), target_modules=r".*0\..*q_proj"), "axolotl"))
    assert "lora_rank_pattern" not in keys
    assert "lora_alpha_pattern" not in keys
    assert keys["lora_target_modules"] == r"^model\.layers\.0\.self_attn\.q_proj"


def test_axolotl_takes_integer_alphas_only():
    plan = rs.PerLayerID().plan(tiny_model(), PROFILE, alpha_ratio=1.5)
    with pytest.raises(rs.errors.ArgumentError, match=r"an alpha of 4\.5\. Use an integer for --alpha-ratio"):
        as_text(plan, "axolotl")


@given(st.dictionaries(st.text(min_size=1, max_size=300), st.integers(1, 999)))
def test_yaml_keeps_any_key(pattern):
    keys = {"adapter": "lora", "lora_rank_pattern": pattern}
    assert yaml.safe_load(_yaml(keys)) == keys


def test_a_peft_config_with_another_name_must_be_renamed():
    assert reader("peft", Path("adapter_config.json")).startswith("LoraConfig.from_pretrained")
    assert reader("peft", Path("lora.json")).startswith("name it adapter_config.json")
