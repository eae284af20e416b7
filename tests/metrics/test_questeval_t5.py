"""The T5 parts: the original wrapper's ids, texts and scores on a tiny model, and models that are missing."""

from __future__ import annotations

import json
import shutil

import pytest
import sentencepiece
import torch
from transformers import T5Config, T5ForConditionalGeneration

from rankselect.data.medical_qa import medical_qa
from rankselect.errors import ArgumentError, MissingExtraError, ModelError
from rankselect.metrics.questeval import FoundAnswer, QuestEval, T5QuestionAnswerer, T5QuestionGenerator
from rankselect.metrics.questeval.t5 import T5, T5Vocabulary


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory):
    """A random T5 with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("t5")
    texts = [row.answer for row in medical_qa()[:200]] + ["unanswerable"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "spiece"),
        vocab_size=300,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    torch.manual_seed(0)
    config = T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, initializer_factor=2.0)
    config.decoder_start_token_id = 0
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recorded(request):
    folder = request.getfixturevalue("assets") / "golden" / "t5"
    return folder, json.loads((folder / "golden.json").read_text(encoding="utf-8"))


@pytest.mark.assets
def test_ids_are_the_original_s(recorded):
    folder, golden = recorded
    vocabulary = T5Vocabulary.read(folder / "spiece.model")
    for item in golden["items"]:
        assert vocabulary.encode(item["input"], 512) == item["input_ids"]
    for item in golden["decode"]:
        assert vocabulary.decode(item["ids"]) == item["out"]


@pytest.mark.assets
@pytest.mark.parametrize("batch_size", [1, 4, 13])
def test_texts_and_scores_are_the_original_s(recorded, batch_size):
    folder, golden = recorded
    inputs = [item["input"] for item in golden["items"]]
    t5 = T5.load(str(folder), "main", "cpu")
    found = t5.texts_unless(inputs, 73, batch_size=batch_size, max_new_tokens=19)
    assert [text for text, _ in found] == [item["text"] for item in golden["items"]]
    assert [score for _, score in found] == pytest.approx([item["score"] for item in golden["items"]], abs=1e-6)
    assert t5.texts(inputs, batch_size=batch_size, max_new_tokens=19) == [text for text, _ in found]


@pytest.mark.assets
def test_the_parts_write_the_original_s_inputs(recorded):
    folder, golden = recorded
    by_input = {item["input"]: item for item in golden["items"]}
    asked = by_input["What is Paris? </s> Paris"]
    (found,) = T5QuestionAnswerer(str(folder), unanswerable_id=73).answer([("What is Paris?", "Paris")])
    assert found == FoundAnswer(asked["text"], pytest.approx(asked["score"], abs=1e-6))
    text = "Marie Curie moved to Paris. In 1903 she won the award."
    (question,) = T5QuestionGenerator(str(folder)).generate([("Marie Curie", text)])
    assert question == by_input[f"sv1 </s> Marie Curie </s> {text}"]["text"]


def test_a_question_and_a_text_are_encoded_as_each_alone(tiny_t5):
    vocabulary = T5Vocabulary.read(tiny_t5 / "spiece.model")
    question, text = vocabulary.encode("What is fever?", 512), vocabulary.encode("Fever is a symptom.", 512)
    assert vocabulary.encode("What is fever? </s> Fever is a symptom.", 512) == question + text
    assert vocabulary.encode("What is fever? </s>", 512) == question
    assert vocabulary.encode("", 512) == vocabulary.encode("…"[:0], 1) == [1]


def test_long_inputs_lose_their_tail_and_keep_their_end(tiny_t5):
    vocabulary = T5Vocabulary.read(tiny_t5 / "spiece.model")
    whole = vocabulary.encode("fever " * 600, 10_000)
    assert vocabulary.encode("fever " * 600, 512) == [*whole[:511], 1]


def test_questions_and_answers_end_after_so_many_tokens(tiny_t5):
    t5 = T5.load(str(tiny_t5), "main", "cpu")
    (text,) = t5.texts(["fever"], batch_size=1, max_new_tokens=3)
    (longer,) = t5.texts(["fever"], batch_size=1, max_new_tokens=19)
    assert longer.startswith(text)
    assert len(pieces_of(t5, text)) <= 4


def pieces_of(t5, text):
    return t5.vocabulary.encode(text, 512)


def test_order_and_batches_do_not_matter(tiny_t5):
    pairs = [("What is fever?" * n, "Fever is a symptom. " * (7 - n)) for n in range(1, 7)]
    one = T5QuestionAnswerer(str(tiny_t5), batch_size=1).answer(pairs)
    many = T5QuestionAnswerer(str(tiny_t5), batch_size=4).answer(pairs[::-1])[::-1]
    assert [each.text for each in one] == [each.text for each in many]
    assert [each.answerability for each in one] == pytest.approx([each.answerability for each in many], abs=1e-5)
    assert all(0 < each.answerability < 1 for each in one)


def test_weights_stored_in_half_precision_run_in_float32(tiny_t5, tmp_path):
    folder = tmp_path / "half"
    model = T5ForConditionalGeneration.from_pretrained(tiny_t5, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    shutil.copy(tiny_t5 / "spiece.model", folder)
    loaded = T5.load(str(folder), "main", "cpu").model
    assert loaded.dtype == torch.float32
    assert not loaded.training


def test_the_first_token_of_unanswerable_is_from_the_vocabulary(tiny_t5):
    vocabulary = T5Vocabulary.read(tiny_t5 / "spiece.model")
    assert vocabulary.unanswerable() == vocabulary.processor.encode("unanswerable")[0]


def test_a_vocabulary_of_the_size_of_t5_must_be_t5s():
    class Other(list):
        def encode(self, text):
            return [74]

    with pytest.raises(
        ModelError, match=r"expected id 73 at the beginning of 'unanswerable', got 74. .*unanswerable_id="
    ):
        T5Vocabulary(Other(range(32_000))).unanswerable()


def test_it_scores_with_models_from_folders(tiny_t5):
    from rankselect.metrics.questeval import ContentSpans

    metric = QuestEval(
        answerer=str(tiny_t5), generator=str(tiny_t5), selector=ContentSpans(), scores=("answerability", "f1")
    )
    result = metric.score(["Fever is a symptom.", "Insulin."], references=[["Fever and rash."], [""]])
    assert 0 < result.values[0] < 1
    assert result.values[1] == 0


def test_identity_follows_weights_and_settings(tiny_t5, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_t5, copy)
    one = T5QuestionGenerator(str(tiny_t5)).identity()
    assert T5QuestionGenerator(str(copy), batch_size=2, device="cpu").identity() == one
    assert T5QuestionGenerator(str(copy), prefix="").identity() != one
    assert T5QuestionGenerator(str(copy), max_new_tokens=5).identity() != one
    torch.manual_seed(1)
    T5ForConditionalGeneration(T5Config.from_pretrained(copy)).save_pretrained(copy)
    assert T5QuestionGenerator(str(copy)).identity() != one


@pytest.mark.parametrize("part", [T5QuestionGenerator, T5QuestionAnswerer])
def test_a_missing_model_is_named_with_the_alternative(part):
    remedy = "Download it while online.*questeval-cloze needs no model; its scores are on a different scale"
    with pytest.raises(ModelError, match=f"the model {part.model}, got none that can be loaded .*{remedy}"):
        part().identity()
    metric = part()
    call = metric.generate if part is T5QuestionGenerator else metric.answer
    with pytest.raises(ModelError, match=remedy):
        call([("fever", "The fever rose.")])


def test_a_folder_without_vocabulary_is_named(tiny_t5, tmp_path):
    shutil.copy(tiny_t5 / "config.json", tmp_path)
    with pytest.raises(ModelError, match=r"spiece\.model"):
        T5QuestionGenerator(str(tmp_path)).generate([("fever", "The fever rose.")])


def test_a_damaged_vocabulary_is_named(tmp_path):
    (tmp_path / "spiece.model").write_bytes(b"garbage")
    with pytest.raises(ModelError, match=r"a sentencepiece vocabulary, got the damaged .*spiece\.model"):
        T5Vocabulary.read(tmp_path / "spiece.model")


def test_a_vocabulary_of_another_family_is_refused(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the fever rose at night"] * 9),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=20,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(ModelError, match=r"T5's ids 0, 1, 2 for pad, end, unknown, got \(-1, 2, 0\)"):
        T5Vocabulary.read(tmp_path / "spiece.model")


def test_a_missing_device_is_named(tiny_t5):
    with pytest.raises(ArgumentError, match='a device that can hold the model, got cuda:99 .*Set device="cpu"'):
        T5.load(str(tiny_t5), "main", "cuda:99")


def test_without_sentencepiece_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rankselect\[questeval\]"'):
        T5Vocabulary.read(tmp_path)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"max_new_tokens": 0}])
@pytest.mark.parametrize("part", [T5QuestionGenerator, T5QuestionAnswerer])
def test_sizes_must_be_positive(part, settings):
    with pytest.raises(ArgumentError, match="max_new_tokens and batch_size of at least 1"):
        part(**settings)
