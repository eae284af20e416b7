"""BERTScore on tiny random encoders: the formula, texts that the package cannot handle, and missing models."""

from __future__ import annotations

import re
import sys

import bert_score as bert_score_package
import numpy as np
import pytest
import torch

from rankselect.errors import MetricError, MissingExtraError
from rankselect.metrics import bert_score
from rankselect.metrics.bert_score import BertScore
from rankselect.metrics.questeval import BertSimilarity

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "heart", "lung", "fever", "a", "rare", "cell"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a random BERT with three layers, 64 positions and words as tokens."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(WORDS)}, model_max_length=64)
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **sizes))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """The folder of a random RoBERTa, whose tokenizer has neither a maximum length nor add_prefix_space."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special, alphabet = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokens.train_from_iterator(["a heart and the heart and the lung"] * 5, trainer)
    tokens.model.save(str(folder))
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    tokenizer = RobertaTokenizerFast.from_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RobertaModel(RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=66, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(folder, num_layers, prediction, reference, **options):
    """The formula of the paper, on the hidden states of one layer."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder, **options), AutoModel.from_pretrained(folder).eval()
    states = []
    for text in (prediction, reference):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[num_layers]
        states.append(torch.nn.functional.normalize(hidden[0], dim=-1))
    similarity = states[0] @ states[1].T
    # The first and last tokens can be matched, but are not averaged over.
    precision, recall = (similarity.max(dim=dim).values[1:-1].mean() for dim in (1, 0))
    return float(2 * precision * recall / (precision + recall))


def test_the_formula_of_the_paper(bert):
    predictions, references = ["the rare heart", "a fever"], ["the rare lung", "a rare fever cell"]
    values = BertScore(str(bert), num_layers=2).evaluate(predictions, references).values
    expected = [by_hand(bert, 2, *pair) for pair in zip(predictions, references, strict=True)]
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_equal_texts_score_1_and_texts_without_words_0(bert):
    values = BertScore(str(bert), 3).evaluate(["the heart", "", " \n", "a", ""], ["the heart", "a", "a", "", ""]).values
    assert values.tolist() == [pytest.approx(1, abs=1e-6), 0, 0, 0, 0]
    assert values.max() <= 1


def test_texts_longer_than_the_model_are_cut(bert):
    texts = ["heart " * 80 + "lung", "heart " * 80 + "fever"]
    assert BertScore(str(bert), 2).evaluate(texts[:1], texts[1:]).mean == pytest.approx(1, abs=1e-6)


def test_robertas_first_word_is_tokenized_like_any_other(roberta):
    """The package requests this with an argument that transformers 5 ignores."""
    pair = "heart and the lung", "the heart"
    [value] = BertScore(str(roberta), 2).evaluate(*([text] for text in pair)).values
    assert value == pytest.approx(by_hand(roberta, 2, *pair, add_prefix_space=True), abs=1e-5)
    assert value != pytest.approx(by_hand(roberta, 2, *pair), abs=1e-3)


def test_questevals_similarity_is_the_same_score(bert, roberta):
    pairs = [("heart and the lung", "the heart"), ("a fever", " ")]
    for folder in (bert, roberta):
        values = BertScore(str(folder), 2).evaluate(*zip(*pairs, strict=True)).values
        assert BertSimilarity(str(folder), layer=2).compare(pairs) == values.tolist()
    assert BertSimilarity(str(roberta)).identity().endswith(" add_prefix_space")  # differs from the identity without it
    assert not BertSimilarity(str(bert)).identity().endswith(" add_prefix_space")


def test_an_error_in_the_package_is_not_reported_as_a_missing_model(bert, monkeypatch):
    bert_score._scorer.cache_clear()
    monkeypatch.delattr(bert_score_package.BERTScorer, "model_type")
    with pytest.raises(AttributeError, match="model_type"):
        BertScore(str(bert), 2).evaluate(["a"], ["b"])


def test_a_tokenizer_without_a_maximum_length(roberta):
    texts = ["lung " * 300, "lung " * 299]
    assert BertScore(str(roberta), 2).evaluate(texts[:1], texts[1:]).mean == pytest.approx(1, abs=1e-6)


def test_missing_models_and_layers(bert, tmp_path):
    for metric, message in (
        (BertScore(str(bert)), f"expected num_layers for the model {bert}, got none. bert-score recommends a layer"),
        (BertScore(str(bert), 9), f"expected a model for bert-score in {bert}, got Invalid num_layers: num_layers"),
        (BertScore(str(tmp_path), 2), f"expected a model for bert-score in {tmp_path}, got"),
    ):
        with pytest.raises(MetricError, match=re.escape(message)):
            metric.evaluate(["the heart"], ["the lung"])


def test_the_default_model_without_a_network(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    bert_score._scorer.cache_clear()
    message = "expected a model for bert-score in no-such-owner/no-such-model, got"
    with pytest.raises(MetricError, match=message) as caught:
        BertScore("no-such-owner/no-such-model", 2).evaluate(["a"], ["b"])
    assert caught.value.remedy.startswith("Give the name or folder of an encoder")


def test_without_bert_score(monkeypatch):
    bert_score._scorer.cache_clear()
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(MissingExtraError, match=re.escape('Run: pip install "rankselect[metrics]"')):
        BertScore("any", 1).evaluate(["a"], ["b"])
