"""Adapters that get no gradient are reported once; those that only start late are not."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

import rankselect as rs
from rankselect.testing import tiny_model, tiny_tokenizer

ROWS = [rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 32


def train(model, tmp_path, steps):
    arguments = TrainingArguments(tmp_path, max_steps=steps, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(
        model, arguments, strategy=rs.Fixed(2), train_dataset=ROWS, processing_class=tiny_tokenizer(),
        plan_arguments={"target_modules": ["q_proj", "v_proj"]},
    )  # fmt: skip
    trainer.train()


class Skipping(nn.Module):
    """A projection that is replaced by zeros for the first calls, or for good."""

    def __init__(self, inner, from_call):
        super().__init__()
        self.q_proj, self.from_call, self.calls = inner, from_call, 0

    def forward(self, x):
        self.calls += self.training
        return self.q_proj(x) if self.calls > self.from_call else torch.zeros_like(x)


def with_skipped(from_call):
    model = tiny_model()
    attention = model.model.layers[1].self_attn
    attention.q_proj = Skipping(attention.q_proj, from_call)
    return model


@pytest.mark.parametrize(("steps", "said"), [(8, "first 5 steps"), (2, "first 2 steps")])
def test_a_module_that_does_not_run_is_named(tmp_path, steps, said):
    with pytest.warns(
        rs.RankSelectWarning, match=f"1 adapters got no gradient in the {said}, .*layers.1.self_attn.q_proj"
    ):
        train(with_skipped(10**9), tmp_path, steps)


@pytest.mark.parametrize("from_call", [0, 3])
def test_a_module_that_runs_at_some_step_is_not(tmp_path, from_call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(with_skipped(from_call), tmp_path, 6)
    assert not [each for each in caught if "got no gradient" in str(each.message)]
