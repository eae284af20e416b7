"""What the model reads: distinct texts, cut and padded, every problem named."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankselect.calibration.batches import encode, padded_batches
from rankselect.errors import ArgumentError, TextsError
from rankselect.testing import tiny_texts, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def encoded(texts, max_length=128, max_samples=None, seed=0):
    return encode(TOKENIZER, texts, max_length, max_samples, seed)


def test_equal_texts_are_used_once_and_the_first_stays():
    samples = encoded(["heart pain", "lung", "heart pain", "lung", "fever"])
    assert len(samples) == 3
    assert samples.n_duplicates == 2
    assert samples.lengths.tolist() == [2, 1, 1]


def test_texts_that_become_equal_when_cut_are_used_once():
    samples = encoded(["heart pain fever", "heart pain risk", "lung"], max_length=2)
    assert len(samples) == 2
    assert (samples.n_duplicates, samples.n_truncated) == (1, 2)


def test_a_text_exactly_as_long_as_the_limit_does_not_count_as_cut():
    assert encoded(["heart pain", "lung"], max_length=2).n_truncated == 0


def test_a_subsample_is_drawn_by_its_seed_and_keeps_the_order():
    texts = tiny_texts(50)
    first, again, other = (
        encoded(texts, max_samples=20),
        encoded(texts, max_samples=20),
        encoded(texts, max_samples=20, seed=1),
    )
    rows = np.arange(20)
    assert first.digest_of(rows) == again.digest_of(rows) != other.digest_of(rows)
    positions = [
        next(i for i, t in enumerate(texts) if TOKENIZER(t)["input_ids"] == s["input_ids"].tolist())
        for s in first.inputs
    ]
    assert positions == sorted(positions)


def test_the_digest_tells_texts_apart_and_does_not_depend_on_duplicates():
    rows = np.arange(2)
    digest = encoded(["heart", "lung"]).digest_of(rows)
    assert digest == encoded(["heart", "lung", "heart"]).digest_of(rows)
    assert digest != encoded(["heart", "pain"]).digest_of(rows)
    assert len(digest) == 64


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 8))
def test_every_row_comes_once_padded_on_the_right_and_masked(lengths, batch_size):
    words = ["heart", "lung", "liver", "pain", "fever", "cell", "blood", "drug", "risk"]
    texts = [" ".join([words[i % 9]] * n + [words[(i // 9) % 9]]) for i, n in enumerate(lengths)]
    samples = encoded(texts)
    seen = []
    for rows, batch in padded_batches(samples, np.arange(len(samples)), batch_size, pad_id=7):
        assert len(rows) <= batch_size
        seen += rows.tolist()
        for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            length = samples.lengths[row]
            assert ids[:length].tolist() == samples.inputs[row]["input_ids"].tolist()
            assert ids[length:].eq(7).all()
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
    assert sorted(seen) == list(range(len(samples)))


def test_batches_come_longest_first():
    samples = encoded(tiny_texts(40))
    widths = [batch["input_ids"].shape[1] for _, batch in padded_batches(samples, np.arange(40), 8, 0)]
    assert widths == sorted(widths, reverse=True)


def test_model_inputs_as_mappings_are_stacked_and_deduplicated():
    images = [{"pixel_values": torch.full((3, 4, 4), float(i % 5))} for i in range(8)]
    samples = encode(None, images, 512, None, 0)
    assert (len(samples), samples.n_duplicates) == (5, 3)
    (_, batch), *rest = padded_batches(samples, np.arange(5), 5, 0)
    assert batch["pixel_values"].shape == (5, 3, 4, 4)
    assert "attention_mask" not in batch
    assert not rest


def test_mappings_with_token_ids_of_different_length_are_padded():
    samples = encode(None, [{"input_ids": torch.tensor([1, 2, 3])}, {"input_ids": torch.tensor([4])}], 512, None, 0)
    ((_, batch),) = padded_batches(samples, np.arange(2), 2, pad_id=9)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "expected texts to measure the model on, got none"),
        ("one long string", "expected a sequence of texts"),
        (None, "expected a sequence of texts"),
        (["heart", "  ", ""], "2 empty, the first at index 1"),
        (["heart", {"input_ids": [1]}], "all strings, or all mappings"),
        ([b"heart"], "got bytes"),
        ({"text": ["heart"]}, "expected a sequence of texts, got {"),
        (str, "expected a sequence of texts, got <class"),
        ([{"text": "heart", "id": 1}], r"got mappings of text: text, id\. Take the texts out of them: load_texts\("),
        (
            ["heart", "lung \ud83d"],
            r"texts in Unicode, got a lone surrogate \(\\ud83d, half of a character\) \(text 1\)",
        ),
        ([{"input_ids": [1]}, {"pixel_values": [1.0]}], r"got \('input_ids',\) and \('pixel_values',\)"),
    ],
)
def test_unusable_texts_are_refused(texts, message):
    with pytest.raises(TextsError, match=message):
        encoded(texts)


@pytest.mark.parametrize("tokenizer", [None, "microsoft/phi-2"])
def test_strings_need_a_tokenizer(tokenizer):
    message = f"a tokenizer for texts that are strings, got {tokenizer!r}. Pass the model's tokenizer, for example from"
    with pytest.raises(TextsError, match=re.escape(message)):
        encode(tokenizer, ["heart"], 512, None, 0)


def test_max_samples_must_be_positive():
    with pytest.raises(ArgumentError, match="max_samples of at least 1"):
        encoded(["heart", "lung"], max_samples=0)


def test_images_of_different_size_are_refused():
    samples = encode(
        None, [{"pixel_values": torch.zeros(3, 4, 4)}, {"pixel_values": torch.zeros(3, 8, 8)}], 512, None, 0
    )
    with pytest.raises(TextsError, match="inputs 'pixel_values' of one shape"):
        list(padded_batches(samples, np.arange(2), 2, 0))


def test_mappings_longer_than_the_model_reads_are_refused():
    with pytest.raises(TextsError, match="model inputs of at most 4 tokens, got one of 5. Cut them"):
        encode(None, [{"input_ids": torch.arange(5)}, {"input_ids": torch.arange(3)}], 4, None, 0)
