"""The loss of each reference answer equals the training loss, in any batch."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from rankselect.data.encoding import AnswerCollator, encode_rows
from rankselect.data.medical_qa import medical_qa
from rankselect.data.prompts import QuestionAnswer
from rankselect.data.rows import load_rows
from rankselect.errors import ArgumentError, DataError, OutOfMemoryError, RankSelectWarning
from rankselect.models.loading import load_model, load_tokenizer
from rankselect.testing import tiny_model, tiny_tokenizer
from rankselect.training.answer_losses import answer_losses
from rankselect.training.small_phi import small_phi

ROWS = medical_qa()[:9:2]


@pytest.fixture(scope="module")
def untrained():
    return small_phi(steps=0, progress=False)


def training_losses(model, tokenizer, rows, **arguments):
    """The losses that transformers computes from labels, row by row."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = encode_rows(rows, tokenizer, **arguments)
        return [model(**AnswerCollator(0)([row])).loss.item() for row in encoded]


def test_it_is_the_training_loss_in_any_batch(untrained):
    expected = training_losses(*untrained, ROWS)
    for batch_size in (1, 2, 8):
        np.testing.assert_allclose(answer_losses(*untrained, ROWS, batch_size=batch_size), expected, rtol=1e-5)
    assert len(set(expected)) == len(ROWS)


@pytest.mark.assets
def test_real_weights_and_cut_rows(assets):
    name = assets / "models" / "stories260k"
    model, tokenizer = load_model(name, device_map="cpu"), load_tokenizer(name)
    rows = load_rows(assets / "data" / "medquad" / "eval.jsonl")[:8]
    with pytest.warns(RankSelectWarning, match="answers of 8 rows were cut at the end"):
        losses = answer_losses(model, tokenizer, rows, max_length=256)
    np.testing.assert_allclose(losses, training_losses(model, tokenizer, rows, max_length=256), rtol=1e-5)


def test_an_untrained_model_has_the_loss_of_a_uniform_guess(untrained):
    model, tokenizer = small_phi(steps=0, progress=False)
    torch.nn.init.zeros_(model.lm_head.weight)
    torch.nn.init.zeros_(model.lm_head.bias)
    np.testing.assert_allclose(answer_losses(model, tokenizer, ROWS), math.log(1500), rtol=1e-6)


def test_the_question_does_not_count_in_the_loss(untrained):
    model, tokenizer = untrained
    one_token = QuestionAnswer("What is acne? " * 8, "a")
    [row] = encode_rows([one_token], tokenizer)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
    expected = -torch.log_softmax(logits.float(), -1)[[-3, -2], row["input_ids"][-2:]].mean()
    np.testing.assert_allclose(answer_losses(model, tokenizer, [one_token]), [expected], rtol=1e-5)


def test_dropout_is_off_and_the_mode_is_restored(untrained):
    model, tokenizer = small_phi(steps=0, progress=False)
    model.model.embed_dropout.p = 0.5
    model.train()
    np.testing.assert_allclose(answer_losses(model, tokenizer, ROWS), answer_losses(*untrained, ROWS), rtol=1e-6)
    assert model.training
    assert model.model.embed_dropout.training


def test_running_out_of_memory_halves_the_batch(untrained, monkeypatch):
    model, tokenizer = untrained
    expected, forward = answer_losses(model, tokenizer, ROWS), model.forward

    def limited(most):
        def run(*args, **kwargs):
            if len(kwargs["input_ids"]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(*args, **kwargs)

        return run

    monkeypatch.setattr(model, "forward", limited(2))
    np.testing.assert_allclose(answer_losses(model, tokenizer, ROWS), expected, rtol=1e-5)
    monkeypatch.setattr(model, "forward", limited(0))
    with pytest.raises(OutOfMemoryError, match="memory for one row at a time"):
        answer_losses(model, tokenizer, ROWS)


def test_bad_input(untrained):
    with pytest.raises(DataError, match="at least one question with its answer, got none"):
        answer_losses(*untrained, [])
    with pytest.raises(ArgumentError, match="max_length of at most 512"):
        answer_losses(*untrained, ROWS, max_length=1024)
    with pytest.raises(ArgumentError, match="a batch size of at least 1, got 0"):
        answer_losses(*untrained, ROWS, batch_size=0)


def test_mappings_are_rows(untrained):
    mappings = [{"question": row.question, "answer": row.answer} for row in ROWS]
    assert answer_losses(*untrained, mappings) == answer_losses(*untrained, ROWS)


def test_rows_are_cut_at_the_models_maximum():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    assert model.config.max_position_embeddings == 128
    assert answer_losses(model, tokenizer, ROWS) == answer_losses(model, tokenizer, ROWS, max_length=128)
