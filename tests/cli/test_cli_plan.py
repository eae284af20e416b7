"""`rankselect plan`: from a profile to the adapter that PEFT builds, reading only the model's config."""

from __future__ import annotations

import json
import shutil

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import rankselect as rs
from rankselect.cli.options import split_target_modules


def test_a_peft_config_builds_exactly_the_plan(run, model, profile, tmp_path):
    config = tmp_path / "adapter_config.json"
    arguments = ("--strategy", "per-layer-id", "--profile", profile, "--target-modules", "all-linear")
    result = run("plan", model, *arguments, "--format", "peft", "--out", config)
    assert result.exit_code == 0
    loaded = AutoModelForCausalLM.from_pretrained(model)
    expected = rs.PerLayerID().plan(loaded, rs.IDProfile.load(profile), target_modules="all-linear")
    expected.verify(get_peft_model(loaded, LoraConfig.from_pretrained(tmp_path)))
    assert LoraConfig.from_pretrained(tmp_path).base_model_name_or_path == str(model)


def test_the_plan_is_that_of_python_on_the_model_with_weights(run, model, profile, tmp_path):
    out = tmp_path / "plan.json"
    options = "--alpha-ratio 2.5 --min-rank 3 --max-rank 6 --target-modules q_proj,up_proj"
    result = run("plan", model, "--strategy", "gelora", "--profile", profile, "--out", out, *options.split())
    assert result.exit_code == 0
    assert rs.RankPlan.load(out) == rs.GeLoRA().plan(
        AutoModelForCausalLM.from_pretrained(model),
        rs.IDProfile.load(profile),
        target_modules=["q_proj", "up_proj"],
        alpha_ratio=2.5,
        min_rank=3,
        max_rank=6,
    )


def test_needs_no_weights(run, model, tmp_path):
    shutil.copy(model / "config.json", tmp_path)
    result = run("plan", tmp_path, "--strategy", "fixed:rank=4")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["model_name"] == str(tmp_path)


def test_the_table_goes_to_stderr_and_the_plan_to_stdout(run, model, profile, tmp_path):
    arguments = ("plan", model, "--strategy", "intrinsic-mean", "--profile", profile)
    shown, saved = run(*arguments), run(*arguments, "--out", tmp_path / "plan.json")
    assert shown.stdout == (tmp_path / "plan.json").read_text()
    assert saved.stdout == ""
    for word in ("model.layers.1", "alpha", "modules in every layer: q_proj v_proj", "IntrinsicMean()"):
        assert word in shown.stderr
    assert f"Wrote {tmp_path / 'plan.json'}" in saved.stderr


def test_a_column_of_modules_where_they_differ(run, model):
    result = run(
        "plan", model, "--strategy", "fixed:rank=4", "--target-modules", r".*0\.self_attn\.q_proj|.*fc|.*o_proj"
    )
    assert result.exit_code == 0
    assert "modules in every layer" not in result.stderr
    assert "q_proj o_proj" in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (None, None),
        ("all-linear", "all-linear"),
        ("q_proj", ["q_proj"]),
        ("q_proj, attention.output.dense,", ["q_proj", "attention.output.dense"]),
        (r".*layers\.[0-3]\..*", r".*layers\.[0-3]\..*"),
        ("", []),
    ],
)
def test_target_modules_as_typed(typed, meant):
    assert split_target_modules(typed) == meant
