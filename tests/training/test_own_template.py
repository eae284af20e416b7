"""An adapter is used with the prompt template that it was trained with."""

from __future__ import annotations

import warnings

import pytest
from transformers import TrainingArguments

import rankselect as rs
from rankselect.testing import tiny_model, tiny_tokenizer
from rankselect.training.answer_losses import answer_losses

ROWS = [rs.QuestionAnswer("What is a fever?", "A fever is heat.")] * 8


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own-template")
    arguments = TrainingArguments(folder / "run", max_steps=2, report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = rs.RankSelectTrainer(
        tiny_model(),
        arguments,
        strategy=rs.Fixed(2),
        train_dataset=ROWS,
        processing_class=tiny_tokenizer(),
        template=rs.PromptTemplate("what {question} the {answer}"),
        max_length=64,
    )
    trainer.train()
    trainer.save_adapter(folder / "adapter")
    return folder / "adapter"


def test_the_record_holds_the_prompt(adapter):
    record = rs.TrainingRecord.load(adapter)
    assert (record.template, record.max_length, record.loss_on) == ("what {question} the {answer}", 64, "answer")
    assert record.prompt_template(tiny_tokenizer()) == rs.PromptTemplate("what {question} the {answer}")
    assert len(record.rows_digest) == 64


def test_losses_and_answers_use_it(adapter):
    model, tokenizer = rs.attach_adapter(tiny_model(), adapter), tiny_tokenizer()
    own = rs.PromptTemplate("what {question} the {answer}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", rs.RankSelectWarning)
        assert answer_losses(model, tokenizer, ROWS[:1]) == answer_losses(model, tokenizer, ROWS[:1], template=own)
        [answer], [same] = (
            rs.generate_answers(model, tokenizer, ["What?"], template=each, max_new_tokens=4, progress=False)
            for each in (None, own)
        )
    assert answer.text == same.text


def test_another_template_is_a_warning(adapter):
    model, tokenizer = rs.attach_adapter(tiny_model(), adapter), tiny_tokenizer()
    with pytest.warns(rs.RankSelectWarning, match="trained with the template 'what {question} the {answer}', not '###"):
        other = answer_losses(model, tokenizer, ROWS[:1], template=rs.PromptTemplate())
    assert other != answer_losses(model, tokenizer, ROWS[:1])


def test_a_merged_model_keeps_the_prompt(adapter, tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    rs.merge_adapter(adapter, tmp_path / "merged", base=tmp_path / "base", measure=False, progress=False)
    model, tokenizer = rs.load_model(tmp_path / "merged"), tiny_tokenizer()
    own = rs.PromptTemplate("what {question} the {answer}")
    losses = answer_losses(model, tokenizer, ROWS[:1])
    assert losses == answer_losses(model, tokenizer, ROWS[:1], template=own)
    with pytest.warns(rs.RankSelectWarning, match="trained with the template"):
        assert losses != answer_losses(model, tokenizer, ROWS[:1], template=rs.PromptTemplate())
