"""Adapters that get no gradient are reported once; those that only start late are not."""

from __future__ import annotations

import warnings

import pytest
from transformers import TrainingArguments

import rankselect as rs
from rankselect.testing import tiny_model, tiny_tokenizer

ROWS = [rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 32


def train(tmp_path, steps, from_step):
    """Train; the second layer's query projection passes no gradient back before a step."""
    arguments = TrainingArguments(tmp_path, max_steps=steps, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(
        tiny_model(),
        arguments,
        strategy=rs.Fixed(2),
        train_dataset=ROWS,
        processing_class=tiny_tokenizer(),
        plan_arguments={"target_modules": ["q_proj", "v_proj"]},
    )
    projection = trainer.model.base_model.model.model.layers[1].self_attn.q_proj

    def detached(module, inputs, output):
        return output if trainer.state.global_step >= from_step else output.detach()

    projection.register_forward_hook(detached)
    trainer.train()


@pytest.mark.parametrize(("steps", "said"), [(8, "first 5 steps"), (2, "first 2 steps")])
def test_a_module_that_does_not_run_is_named(tmp_path, steps, said):
    with pytest.warns(
        rs.RankSelectWarning, match=f"1 adapters got no gradient in the {said}, .*layers.1.self_attn.q_proj"
    ):
        train(tmp_path, steps, from_step=10**9)


@pytest.mark.parametrize("from_step", [0, 3])
def test_a_module_that_runs_at_some_step_is_not(tmp_path, from_step):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path, 6, from_step)
    assert not [each for each in caught if "got no gradient" in str(each.message)]
