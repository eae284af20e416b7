"""The small Phi model: its architecture, its training, and no change of global state."""

import logging

import pytest
import torch

from rankselect.data.medical_qa import medical_qa
from rankselect.errors import ArgumentError
from rankselect.training.small_phi import _batches, _share_of_peak, small_phi

TEXTS = [pair.text for pair in medical_qa()]


@pytest.fixture(scope="module")
def untrained():
    return small_phi(steps=0, progress=False)


@pytest.fixture(scope="module")
def trained():
    return small_phi(steps=12, progress=False)


def loss_on(model, tokenizer, texts):
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.no_grad():
        return model(**batch, labels=labels).loss.item()


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_untrained_model_is_a_valid_phi(untrained):
    model, tokenizer = untrained
    assert model.config.model_type == "phi"
    assert (model.config.num_hidden_layers, model.config.hidden_size, model.config.num_attention_heads) == (8, 128, 4)
    assert model.name_or_path == model.config._name_or_path == tokenizer.name_or_path == "rankselect/small-phi"
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.isfinite(weights_of(model)).all()


def test_special_tokens_of_model_and_tokenizer_agree(untrained):
    model, tokenizer = untrained
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for config in (model.config, model.generation_config):
        assert (config.pad_token_id, config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert len(tokenizer) == model.config.vocab_size == model.get_output_embeddings().out_features


def test_the_tokenizer_gives_back_every_text(untrained):
    _, tokenizer = untrained
    assert tokenizer.batch_decode(tokenizer(TEXTS)["input_ids"]) == TEXTS


@pytest.mark.parametrize("text", ["naïve façade — 漢字 🙂", " two  spaces\tand\nlines ", "don't , stop !"])
def test_the_tokenizer_gives_back_other_texts(untrained, text):
    _, tokenizer = untrained
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_text_fits_into_the_context(untrained):
    model, tokenizer = untrained
    assert max(map(len, tokenizer(TEXTS)["input_ids"])) < model.config.max_position_embeddings


def test_the_loss_falls(untrained, trained):
    before, after = (loss_on(*pair, TEXTS[::64]) for pair in (untrained, trained))
    assert before == pytest.approx(7.6, abs=0.4)  # near log 1500: untrained
    assert after < before - 1


def test_the_model_can_write(trained):
    model, tokenizer = trained
    start = tokenizer("### Instruction: What is asthma?", return_tensors="pt")
    written = model.generate(**start, max_new_tokens=4, do_sample=False)
    assert start["input_ids"].shape[1] < written.shape[1] <= start["input_ids"].shape[1] + 4


def test_the_same_seed_gives_the_same_model_on_any_number_of_threads(trained):
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        again, tokenizer = small_phi(steps=12, progress=False)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights_of(again), weights_of(trained[0]))
    assert tokenizer.get_vocab() == trained[1].get_vocab()


def test_another_seed_gives_another_model(untrained):
    other, tokenizer = small_phi(seed=1, steps=0, progress=False)
    assert not torch.equal(weights_of(other), weights_of(untrained[0]))
    assert tokenizer.get_vocab() == untrained[1].get_vocab()


def test_global_state_is_left_alone():
    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        model, _ = small_phi(steps=1, progress=False)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_progress_can_be_shown_and_hidden(capsys):
    small_phi(steps=1, progress=False)
    assert "Training" not in capsys.readouterr().err
    small_phi(steps=1, progress=True)
    assert "Training small-phi" in capsys.readouterr().err


def test_the_losses_are_logged(caplog):
    with caplog.at_level(logging.INFO, logger="rankselect"):
        small_phi(steps=1, progress=False)
    assert "unigram baseline 5.99 nats per token" in caplog.text


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"steps": -1}, "expected an integer of at least 0 for steps, got -1"),
        ({"steps": 2.5}, "expected an integer of at least 0 for steps, got 2.5"),
        ({"seed": -5}, "expected an integer of at least 0 for seed, got -5"),
    ],
)
def test_bad_arguments_are_refused(argument, message):
    with pytest.raises(ArgumentError, match=message):
        small_phi(progress=False, **argument)


def test_each_round_sees_every_row_once():
    rows = torch.arange(10).view(10, 1)
    batches = _batches(rows, 5, torch.Generator().manual_seed(0))
    assert [len(batch) for batch in batches] == [4] * 5
    seen = torch.cat(batches).flatten()
    assert sorted(seen[:10].tolist()) == sorted(seen[10:].tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_the_learning_rate_rises_to_its_peak_and_falls_to_almost_nothing():
    shares = [_share_of_peak(step, 100) for step in range(100)]
    assert max(shares) == shares[9] == shares[10] == 1
    assert shares[:10] == sorted(shares[:10])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[-1] < 0.001
