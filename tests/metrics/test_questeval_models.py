"""The parts of QuestEval that use spaCy and BERTScore."""

from __future__ import annotations

import sys

import pytest
import spacy
import torch
from spacy.language import Language
from transformers import BertConfig, BertModel, BertTokenizer

from rankselect.errors import ArgumentError, MissingExtraError, ModelError, UnknownNameError
from rankselect.metrics.questeval import BertSimilarity, SpacySelector


@Language.component("rankselect_toy_parse")
def toy_parse(doc):
    """Parses the second word as the verb, and every capitalised word as a noun that depends on it."""
    for token in doc:
        token.pos_ = "PROPN" if token.text[0].isupper() else "VERB" if token.i == 1 else "X"
        token.dep_ = "nsubj" if token.pos_ == "PROPN" else "ROOT" if token.i == 1 else "dep"
        token.head = doc[min(1, len(doc) - 1)]
    return doc


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A pipeline with two entities and a toy parser."""
    folder = tmp_path_factory.mktemp("pipeline")
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "GPE", "pattern": name} for name in ("Paris", "Rome")])
    nlp.add_pipe("rankselect_toy_parse")
    nlp.to_disk(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("types", "answers"),
    [
        (("NER", "NOUN"), ["Paris", "Curie", "Paris"]),
        (("NOUN", "NER"), ["Curie", "Paris", "Paris"]),
        (("NER",), ["Paris"]),
    ],
)
def test_entities_and_noun_chunks_are_selected_in_order(pipeline, types, answers):
    assert SpacySelector(pipeline, answer_types=types).select(["Curie left Paris."]) == [answers]


@pytest.mark.parametrize(
    ("limit", "answers"), [(0, []), (1, ["Paris"]), (2, ["Paris", "Rome"]), (None, ["Paris", "Rome"])]
)
def test_answers_come_from_the_first_sentences(pipeline, limit, answers):
    selector = SpacySelector(pipeline, answer_types=("NER",), limit_sentences=limit)
    assert selector.select(["In Paris. In Rome.", ""]) == [answers, []]


def test_identity_names_the_pipeline_and_its_version(pipeline):
    identity = SpacySelector(pipeline).identity()
    assert "limit_sentences=5" in identity
    assert spacy.__version__ in identity
    assert SpacySelector(pipeline, limit_sentences=1).identity() != identity


def test_a_pipeline_that_is_not_installed_is_named():
    with pytest.raises(ModelError, match=r"Run: python -m spacy download en_core_web_none\. Or use .* questeval-cloze"):
        SpacySelector("en_core_web_none").select(["Curie left Paris."])


def test_a_pipeline_without_parser_is_named(tmp_path):
    spacy.blank("en").to_disk(tmp_path)
    assert SpacySelector(str(tmp_path), answer_types=("NER",)).select(["Curie left Paris."]) == [[]]
    with pytest.raises(ModelError, match="a spaCy pipeline with noun chunks"):
        SpacySelector(str(tmp_path)).select(["Curie left Paris."])


def test_without_spacy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rankselect\[questeval\]"'):
        SpacySelector().select(["Curie left Paris."])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"answer_types": "NER"}, ArgumentError, "a tuple of answer types, got 'NER'"),
        ({"answer_types": ()}, ArgumentError, "a tuple of answer types"),
        ({"answer_types": ("VERB",)}, UnknownNameError, "Known: NER, NOUN"),
        ({"limit_sentences": -1}, ArgumentError, "at least 0 sentences, got -1"),
    ],
)
def test_unknown_selections_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        SpacySelector(**settings)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A random BERT with letters as tokens."""
    folder = tmp_path_factory.mktemp("bert")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return str(folder)


def test_similar_answers_are_more_similar(tiny_bert):
    part = BertSimilarity(tiny_bert, layer=1)
    same, near, blank, nothing = part.compare([("fever", "fever"), ("fever", "fevers"), (" ", "fever"), ("", "")])
    assert same == pytest.approx(1, abs=1e-5)
    assert 0 < near < same
    assert (blank, nothing) == (0.0, 0.0)


def test_similarity_is_bert_score_s_f1(tiny_bert):
    from bert_score import score

    found, wanted = ["high fever", "a rash"], ["fever", "rash on the skin"]
    expected = score(found, wanted, model_type=tiny_bert, num_layers=1)[2].tolist()
    assert BertSimilarity(tiny_bert, layer=1).compare(list(zip(found, wanted, strict=True))) == expected


def test_similarity_is_identified_by_its_weights_and_layer(tiny_bert):
    one = BertSimilarity(tiny_bert, layer=1).identity()
    assert BertSimilarity(tiny_bert, layer=1, batch_size=2).identity() == one
    assert BertSimilarity(tiny_bert, layer=2).identity() != one


def test_a_missing_encoder_is_named():
    with pytest.raises(ModelError, match="the model bert-base-multilingual-cased, got none that can be loaded"):
        BertSimilarity().compare([("fever", "fever")])


def test_without_bert_score_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bert_score", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rankselect\[metrics\]"'):
        BertSimilarity().compare([("fever", "fever")])
